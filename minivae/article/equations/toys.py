"""toys: compute the value of each equation on an example, with the code that the equation names.

Three examples: a density whose moments are known (eq. 1–4); two distributions, and two joint ones, on two values (eq.
5–14); and a linear VAE of one latent dimension and two features, with weights that permit a check with a pocket
calculator (eq. 15–24): x = (1, 0) has μ = ½ and σ = ½, and ε = 1 gives z = 1, logits (1, −1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...vae import VAE
from .. import bayes
from ..bayes.expectations import mean_and_error
from .equation import Number

if TYPE_CHECKING:
    from ..bayes import DiscreteJoint

# ---- eq. 1–4: p(x) = ½ x² e^{−x}, x > 0, whose mean is 3 and whose E[x²] is 12 --------------------------------------

GAMMA = "p(x) = ½ x² e⁻ˣ for x > 0"
DRAWS = 10_000


def density(x: np.ndarray) -> np.ndarray:
    return 0.5 * x**2 * np.exp(-x)


def drawn() -> np.ndarray:
    return np.random.default_rng(0).gamma(3, size=DRAWS)


def expectation() -> Number:
    value = bayes.by_quadrature(density, np.linspace(0, 60, 6001))
    return Number(f"{GAMMA}; 6,000 steps of 0.01, in place of the integral", "E[x]", value)


def quadrature() -> Number:
    return Number(f"{GAMMA}; the points 0, 1, 2, …, 20", "E[x]", bayes.by_quadrature(density, np.arange(21.0)))


def sampling() -> Number:
    estimate = bayes.by_sampling(drawn())
    return Number(f"{GAMMA}; {DRAWS:,} draws; exact: 3", "E[x]", estimate.value, error=estimate.error)


def function() -> Number:
    estimate = bayes.by_sampling(drawn(), np.square)
    return Number(f"{GAMMA}; f(x) = x²; {DRAWS:,} draws; exact: 12", "E[f(x)]", estimate.value, error=estimate.error)


# ---- eq. 5, 6: two distributions on two values ----------------------------------------------------------------------

P, Q = (0.5, 0.5), (0.9, 0.1)
COINS = "p = (0.5, 0.5), q = (0.9, 0.1)"


def divergence() -> Number:
    return Number(COINS, "KL(p‖q)", bayes.kl_discrete(P, Q), "nats")


def bhattacharyya() -> Number:
    return Number(COINS, "D_B(p, q)", bayes.bhattacharyya_discrete(P, Q), "nats")


# ---- eq. 7–14: data, encoder, decoder and prior as tables -----------------------------------------------------------

TABLES: dict[str, Any] = {
    "data": [0.7, 0.3],
    "encoder": [[0.8, 0.2], [0.3, 0.7]],
    "decoder": [[0.9, 0.1], [0.2, 0.8]],
    "prior": [0.6, 0.4],
}
JOINT = "data (0.7, 0.3); encoder (0.8, 0.2 | 0.3, 0.7)\ndecoder (0.9, 0.1 | 0.2, 0.8); prior (0.6, 0.4)"


def _difference(toy: DiscreteJoint) -> float:
    sides = bayes.joint_identity(toy)
    return sides.kl_joint - sides.constant


def _joint(symbol: str, unit: str, value: Callable[[DiscreteJoint], float]) -> Number:
    return Number(JOINT, symbol, float(value(bayes.DiscreteJoint(**TABLES))), unit)


marginal = partial(_joint, "the model's probability of x = 0", "", lambda toy: toy.marginal[0])
joint_kl = partial(_joint, "KL of the joint distributions", "nats", lambda toy: toy.kl_joint())
nested_kl = partial(_joint, "the same, as an expectation over the data", "nats", lambda toy: toy.kl_nested())
constant = partial(_joint, "E[ln p̃(x)]", "nats", lambda toy: -toy.entropy)
difference = partial(_joint, "𝓛 = eq. 8 − eq. 10", "nats", _difference)
loss = partial(_joint, "𝓛", "nats", lambda toy: toy.loss())
two_terms = partial(_joint, "𝓛, the sum of its two terms", "nats", lambda toy: sum(toy.loss_parts()))
posterior = partial(_joint, "the posterior of z = 0 given x = 0", "", lambda toy: toy.posterior[0, 0])


# ---- eq. 15–24: one row through a linear VAE ----------------------------------------------------------------

X = np.array([[1.0, 0.0]])
ONE = np.ones((1, 1))  # ε
PARAMETERS: dict[str, Any] = {
    "encoder.0.W": [[0.5, 0.0], [-0.5, 0.0]],  # μ = ½ (x₁ − x₂)
    "encoder.0.b": [0.0, math.log(0.25)],  # σ = ½
    "decoder.0.W": [[1.0, -1.0]],  # (z, −z), as logits or as means
}
ROW = "x = (1, 0), μ = ½, σ = ½"
AT_ONE = f"{ROW}, ε = 1: z = 1"
SAMPLES = 1000


def model(likelihood: str = "bernoulli", **options: Any) -> VAE:
    """Make the linear VAE of PARAMETERS. "gaussian": its decoder adds log-variances (ln ¼, 0) that ignore z."""
    vae = VAE(2, 1, (), likelihood=likelihood, backend="numpy", kernels="reference", dtype="float64", **options)
    for name, value in PARAMETERS.items():
        vae.parameters[name][...] = 0
        vae.parameters[name][..., : np.shape(value)[-1]] = value
    if likelihood == "gaussian":
        vae.parameters["decoder.0.b"][2] = math.log(0.25)
    return vae


def encoder() -> Number:
    mean, logvar = model().encode(X)
    value = -0.5 * ((0 - mean) ** 2 / np.exp(logvar) + logvar + math.log(2 * math.pi))
    return Number(ROW, "the encoder's ln density at z = 0", value.item(), "nats")


def gaussian_kl() -> Number:
    return Number(ROW, "KL to the prior", model().objective(X, eps=ONE).kl, "nats")


def probability() -> Number:
    return Number(AT_ONE, "ρ₁ = sigmoid(1)", float(model().decode(ONE)[0, 0]))


def _nll(likelihood: str) -> float:
    return model(likelihood).objective(X, eps=ONE).nll


def bernoulli() -> Number:
    return Number(f"{AT_ONE}, ρ = sigmoid(1, −1)", "the decoder's probability of x", math.exp(-_nll("bernoulli")))


def cross_entropy() -> Number:
    return Number(f"{AT_ONE}, logits (1, −1)", "−ln of the decoder's probability", _nll("bernoulli"), "nats")


def gaussian() -> Number:
    setting = f"{AT_ONE}, μ̃ = (1, −1), σ̃ = (½, 1)"
    return Number(setting, "the decoder's density at x", math.exp(-_nll("gaussian")))


def gaussian_nll() -> Number:
    return Number(f"{AT_ONE}, μ̃ = (1, −1), σ̃ = (½, 1)", "−ln of the density", _nll("gaussian"), "nats")


def fixed_gaussian() -> Number:
    return Number(f"{AT_ONE}, μ̃ = (1, −1), σ = 1", "−ln of the density", _nll("gaussian:1"), "nats")


def samples() -> Number:
    """Use the row many times with one sample each, to measure the spread of the samples."""
    eps = np.random.default_rng(0).standard_normal((SAMPLES, 1))
    estimate = mean_and_error(model().objective(np.repeat(X, SAMPLES, axis=0), eps=eps).nll_rows)
    return Number(
        f"{ROW}; Bernoulli; S = {SAMPLES:,}", "E[−ln of the likelihood]", estimate.value, "nats", estimate.error
    )


def one_sample() -> Number:
    return Number(f"{AT_ONE}; eq. 19 + eq. 16", "𝓛", model().objective(X, eps=ONE).loss, "nats")


def importance_weighted() -> Number:
    eps = np.array([1.0, -1.0]).reshape(2, 1, 1)
    value = model(objective="iwae", samples=2).objective(X, eps=eps).loss
    return Number(f"{ROW}; Bernoulli; K = 2, ε = 1 and −1: z = 1 and 0", "𝓛", value, "nats")
