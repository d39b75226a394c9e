"""evaluation: bounds on ln p(x), importance sampling, annealed importance sampling, use of the latent dimensions."""
