"""evaluation: bounds on ln p(x), importance sampling, annealing, and what the latent dimensions hold."""
