"""Sampling in training: the reparameterisation with S samples and with one (eq. 23, 24)."""

from __future__ import annotations

import math

import numpy as np

from .. import bayes
from ..bayes.quadrature import ExactModel
from .claim import ROUNDING, Checks, at_most, claim, near
from .models import all_bits, float64_vae, perturbed, standard_error


@claim("samples", (23,), "E[−ln p(x|z)] is the mean over samples z = μ + σ ⊙ ε, for any S.")
def samples() -> Checks:
    X, checks = all_bits(5)[:4], []
    for S in (1, 8):
        vae = perturbed(float64_vae(5, 1, samples=S))
        model = ExactModel(vae)
        exact = model.losses(X, model.encode(X))[0]
        rng = np.random.default_rng(23)
        draws = np.array([vae.objective(X, rng.standard_normal((S, len(X), 1))).nll_rows for _ in range(2000)])
        errors = draws.std(axis=0, ddof=1) / math.sqrt(len(draws))
        worst = int(np.argmax(np.abs(draws.mean(axis=0) - exact) / errors))
        found = float(draws[:, worst].mean())
        checks.append(near(f"the worst row's nll, S = {S}", found, float(exact[worst]), float(errors[worst])))
    return checks


@claim("one-sample", (24,), "With one sample 𝓛 = −ln p(x|z) + KL: an auto-encoder's loss and a KL, term by term.")
def one_sample() -> Checks:
    vae, X = perturbed(float64_vae(5)), all_bits(5)
    eps = np.random.default_rng(24).standard_normal((len(X), 2))
    terms, (mean, logvar) = vae.objective(X, eps), vae.encode(X)
    rho = vae.decode(mean + np.exp(0.5 * logvar) * eps)
    reconstruction = -(X * np.log(rho) + (1 - X) * np.log1p(-rho)).sum(axis=1)
    kl = 0.5 * (mean**2 + np.exp(logvar) - logvar - 1).sum(axis=1)
    return [at_most("|loss − (eq. 19 + eq. 16)|", abs(terms.loss - float((reconstruction + kl).mean())), ROUNDING)]


@claim("reparameterised", (15, 23), "Reparameterised samples give the gradient of 𝓛 itself, on average.")
def reparameterised() -> Checks:
    """The encoder's last bias shifts all μ, or all ln σ², equally: its gradient is the mean of theirs."""
    X, checks = all_bits(5), []
    for S in (1, 8):
        vae, draws, rng = perturbed(float64_vae(5, 1, samples=S)), [], np.random.default_rng(25)
        model = ExactModel(vae)
        exact = model.losses(X, model.encode(X))[2].mean(axis=0)
        for _ in range(1000):
            vae.objective_and_grad(X, rng.standard_normal((S, len(X), 1)))
            draws.append(vae.gradients["encoder.1.b"].copy())
        found = np.array(draws)
        for k, what in enumerate(("μ", "ln σ²")):
            error = standard_error(found[:, k])
            checks.append(near(f"d𝓛/d{what}, S = {S}, mean of 1000", found[:, k].mean(), exact[k], error))
    return checks


@claim("more-samples", (3, 23), "More samples only make 𝓛 less noisy: its error falls as S^(−½).")
def more_samples() -> Checks:
    vae, x, rng = perturbed(float64_vae(5, 1)), all_bits(5)[11:12], np.random.default_rng(26)
    model = ExactModel(vae)
    exact = float(model.losses(x, model.encode(x))[0][0])

    def draw(_: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Return (repeats, 1): the engine's mean over S samples of one row, `repeats` times."""
        repeats, S = shape
        return vae.objective(x.repeat(repeats, axis=0), rng.standard_normal((S, repeats, 1))).nll_rows[:, None]

    found = bayes.sampling_rate(draw, exact, sizes=(1, 4, 16, 64))
    # a square of a mean of skewed terms spreads wider than χ²: its own kurtosis counts
    nll = draw(rng, (20_000, 1))[:, 0] - exact
    widened = float(np.sqrt(((nll**4).mean() / (nll**2).mean() ** 2 - 1) / 2))
    return [near("exponent, S from 1 to 64", found.exponent, -0.5, found.exponent_error * max(1.0, widened))]
