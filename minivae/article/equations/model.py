"""model: equations 15–24, the trained model, and the importance-weighted bound. The engine computes them."""

from __future__ import annotations

from . import toys
from .equation import Equation

BERNOULLI, GAUSSIAN = "kernels.bernoulli:reference", "kernels.gaussian:reference"
NLL = "tests/test_likelihoods.py::test_nll_matches_scipy"

MODEL = (
    Equation(
        number=15,
        names=("encoder",),
        title="the encoder",
        formula="q(z|x) = N( z; μ(x), diag σ²(x) )",
        words="The posterior is approximated by a Gaussian of independent components. A network computes its mean and "
        "its logvar = ln σ² from x; in general this is not the exact posterior of eq. 14.",
        gradient="dH = [ dμ | d ln σ² ] comes from eq. 16 and 23; the encoder's layers\npass it on: dW = Xᵀ dY, "
        "db = Σ dY, dX = dY Wᵀ",
        forward=("model:Model.forward", "evaluation.latents:encode"),
        backward=("model:Model.backward",),
        test="tests/test_latent.py::test_reparameterised_samples_have_the_posteriors_moments",
        toy=toys.encoder,
    ),
    Equation(
        number=16,
        names=("kl", "gaussian-kl"),
        title="KL of the encoder from the prior",
        formula="""\
                      1   L
KL(q(z|x) ‖ p(z)) =  ───  Σ  (μₖ² + σₖ² − ln σₖ² − 1)
                      2  k=1""",
        words="Both are Gaussian, N(μ, σ²) and N(0, I), so this term of eq. 13 needs no sampling. It is 0 for μ = 0 "
        "and σ = 1 and grows with every nat that z carries. Summed over latent dimensions, averaged over rows.",
        gradient="dμ = (β/B) μ;   d ln σ² = (β/B) ½ (σ² − 1)",
        forward=("kernels.latent:forward_reference", "latent:GaussianPosterior.forward"),
        backward=("kernels.latent:backward_reference", "latent:GaussianPosterior.backward"),
        test="tests/test_latent.py::test_kl_matches_scipys_integral",
        toy=toys.gaussian_kl,
    ),
    Equation(
        number=17,
        names=("sigmoid", "bernoulli-variable"),
        title="a Bernoulli variable",
        formula="""\
          ⎧ ρ         x = 1
p(x|z) =  ⎨                    ρ = sigmoid(logit) = 1 / (1 + e^(−logit))
          ⎩ 1 − ρ     x = 0,""",
        words="A value that is 0 or 1, as a pixel of a binary image. The decoder computes a logit, any real number, "
        "and the sigmoid turns it into a probability.",
        gradient="d logit = w (ρ − x)",
        forward=("likelihoods.bernoulli:Bernoulli.mean", BERNOULLI),
        backward=(BERNOULLI,),
        test="tests/test_likelihoods.py::test_draws_have_the_mean_and_the_spread_of_scipys_distribution",
        toy=toys.probability,
    ),
    Equation(
        number=18,
        names=("bernoulli", "bernoulli-decoder"),
        title="the Bernoulli decoder",
        formula="""\
           D
p(x|z) =   Π   ρₖ(z)^xₖ (1 − ρₖ(z))^(1−xₖ)
          k=1""",
        words="Given z, the features of x are independent Bernoulli variables: the decoder for 0/1 data.",
        gradient="that of its logarithm: eq. 19",
        forward=("likelihoods.bernoulli:Bernoulli", BERNOULLI),
        backward=(BERNOULLI,),
        test=NLL,
        toy=toys.bernoulli,
    ),
    Equation(
        number=19,
        names=("cross-entropy", "bernoulli-nll"),
        title="its logarithm: cross-entropy",
        formula="""\
               D
−ln p(x|z) =   Σ   [ −xₖ ln ρₖ − (1 − xₖ) ln(1 − ρₖ) ]
              k=1""",
        words="The reconstruction loss for 0/1 data. The code computes it from the logits l, as max(l, 0) − l x + ln(1 "
        "+ e^(−|l|)), which is finite for every logit.",
        gradient="d logit = w (ρ − x),  w = 1/(B·S)",
        forward=(BERNOULLI,),
        backward=(BERNOULLI,),
        test=NLL,
        toy=toys.cross_entropy,
    ),
    Equation(
        number=20,
        names=("gaussian", "gaussian-decoder"),
        title="the Gaussian decoder",
        formula="p(x|z) = N( x; μ̃(z), diag σ̃²(z) )",
        words="Given z, the features of x are independent Gaussians; the decoder computes a mean and a log-variance "
        "for each. This is a density: it may exceed 1, so its −ln may be negative.",
        gradient="that of its logarithm: eq. 21",
        forward=("likelihoods.real:Gaussian", GAUSSIAN),
        backward=(GAUSSIAN,),
        test=NLL,
        toy=toys.gaussian,
    ),
    Equation(
        number=21,
        names=("gaussian-nll",),
        title="its logarithm, a learned variance",
        formula="""\
              1  ‖ x − μ̃ ‖²    D           1   D
−ln p(x|z) = ─── ‖ ───── ‖  + ─── ln 2π + ───  Σ  ln σ̃ₖ²
              2  ‖   σ̃   ‖     2           2  k=1""",
        words="Squared error, each feature in units of its own σ̃, and a term that grows with σ̃. The code clamps "
        "ln σ̃² to [−10, 10] and counts the clamped values.",
        gradient="dμ̃ = w (μ̃ − x)/σ̃²;   d ln σ̃² = w ½ [1 − (x − μ̃)²/σ̃²]",
        forward=(GAUSSIAN,),
        backward=(GAUSSIAN,),
        test=NLL,
        toy=toys.gaussian_nll,
    ),
    Equation(
        number=22,
        names=("mse", "fixed-gaussian", "squared-error"),
        title="one fixed σ: squared error",
        formula="""\
              ‖x − μ̃‖²    D
−ln p(x|z) = ────────── + ─── ln 2πσ²
                2σ²        2""",
        words="The MSE loss; σ² sets its weight against the KL. To minimise 'squared error averaged over D, plus "
        "w·KL' is to choose σ² = wD/2 (`minivae.bayes.balance`).",
        gradient="dμ̃ = w (μ̃ − x)/σ²",
        forward=("kernels.gaussian:fixed_reference", "article.bayes.weighing:balance"),
        backward=("kernels.gaussian:fixed_reference",),
        test="tests/test_likelihoods.py::test_squared_error_and_kl_weight_are_the_fixed_gaussian",
        toy=toys.fixed_gaussian,
    ),
    Equation(
        number=23,
        names=("reparameterisation", "reparameterization", "samples"),
        title="S samples, by reparameterisation",
        formula="""\
                               1   S
E_{z~q(z|x)}[ −ln p(x|z) ] ≈ −───  Σ  ln p(x|z_s)
                               S  s=1

z_s = μ + σ ⊙ ε_s,     ε_s ~ N(0, I)""",
        words="The reconstruction term is estimated by sampling (eq. 4). The noise does not depend on μ and σ, so the "
        "sample is a smooth function of both and has gradients with respect to them. σ is e^(½ logvar).",
        gradient="dμ = Σₛ dz_s;   d ln σ² = Σₛ ½ σ ε_s dz_s",
        forward=("kernels.latent:forward_reference", "latent:GaussianPosterior.forward"),
        backward=("kernels.latent:backward_reference", "latent:GaussianPosterior.backward"),
        test="tests/test_vae.py::test_more_samples_average_the_reconstruction_and_leave_the_kl",
        toy=toys.samples,
    ),
    Equation(
        number=24,
        names=("one-sample", "vae"),
        title="one sample: what is trained",
        formula="𝓛 = E_{x~p̃}[ −ln p(x|z) + KL(q(z|x) ‖ p(z)) ],     z = μ + σ ⊙ ε",
        words="Eq. 23 with S = 1 in eq. 13: the usual VAE. The article argues that one sample a step is enough, "
        "because every epoch draws new noise.",
        gradient="all of it, backward: eq. 19, 21 or 22, then 23 and 16, then 15",
        forward=("model:Model.objective", "model:Model.train_step"),
        backward=("model:Model.objective_and_grad", "model:Model.backward"),
        test="tests/test_vae.py::test_terms_add_up",
        toy=toys.one_sample,
    ),
    Equation(
        number=None,
        names=("iwae", "importance-weighted"),
        title="the importance-weighted bound",
        cited="Burda et al. 2016",
        formula="""\
                  1   K   p(x|z_k) p(z_k)
𝓛 = E_{x~p̃}[ −ln ───  Σ  ───────────────── ],     z_k ~ q(z|x)
                  K  k=1      q(z_k|x)""",
        words="Not in the article. −ln of a mean of K importance weights: eq. 12 for K = 1; it approaches −ln of the "
        'marginal (eq. 7) as K grows. To train with it, set objective="iwae", samples=K.',
        gradient="that of each −ln wₖ, weighed by softmaxₖ(ln w)/B",
        forward=("objectives.iwae:IWAE.forward", "kernels.importance:forward_reference"),
        backward=("objectives.iwae:IWAE.backward", "kernels.importance:backward_reference"),
        test="tests/test_objectives.py::test_the_bound_is_scipys_log_mean_of_the_weights",
        toy=toys.importance_weighted,
    ),
)
