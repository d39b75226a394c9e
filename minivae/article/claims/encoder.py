"""The exact posterior (eq. 14), its Gaussian approximation (eq. 15), and the KL (eq. 16)."""

from __future__ import annotations

import math

import numpy as np

from .. import bayes
from .claim import INTEGRAL, ROUNDING, Checks, above, at_least, at_most, claim, equals, near
from .models import all_bits, float64_vae, perturbed, standard_error


@claim("best-posterior", (14,), "Given the decoder, p(x|z) p(z) / ∫ p(x|z) p(z) dz is the best q(z|x).")
def best_posterior() -> Checks:
    toy = bayes.DiscreteJoint.random(seed=14)
    best = bayes.DiscreteJoint(toy.data, toy.posterior, toy.decoder, toy.prior)
    others = [bayes.DiscreteJoint.random(seed=seed).encoder for seed in range(300)]
    mixed = [0.99 * toy.posterior + 0.01 * other for other in others]
    losses = [bayes.DiscreteJoint(toy.data, p, toy.decoder, toy.prior).loss() for p in mixed]
    return [
        above("smallest rise of 𝓛, 300 other encoders", min(losses) - best.loss(), 0),
        equals("𝓛 with it, which is −E[ln p(x)]", best.loss(), -float(toy.data @ np.log(toy.marginal))),
    ]


@claim("encoder-gap", (14, 15), "A network may miss the best posterior, and is still a usable approximation.")
def encoder_gap() -> Checks:
    """Its loss is the slack of a bound, KL(q(z|x) ‖ p(z|x)), measured separately for each of its two causes."""
    found = bayes.small_encoder_gaps(rows=8)
    return [
        at_most("largest |ln p(x) + 𝓛 − KL(encoder ‖ exact)|", found.residual, INTEGRAL),
        above("lost by the Gaussian form, nats per row", found.approximation, 0),
        above("… by one network for all rows", found.amortisation, 0),
        at_least("smallest gap of any row", found.smallest, -INTEGRAL),
    ]


@claim("two-points-vae", (13, 15), "A network for μ(x), σ²(x) learns the best Gaussian there is: two points, D = 8.")
def two_points_vae() -> Checks:
    found = bayes.two_points_by_vae(8)
    return [
        at_least("𝓛 of the trained VAE minus the optimum's 1.127", found.loss - found.optimum, 0),
        at_most("… the same", found.loss - found.optimum, 1e-3),
    ]


@claim("gaussian-encoder", (15,), "q(z|x) is a Gaussian, its mean and variance outputs of a network of x.")
def gaussian_encoder() -> Checks:
    """Compare the moments of the engine's z with the result of `encode` in every row; the worst row counts."""
    vae, X, S = perturbed(float64_vae(6, hidden=())), all_bits(6)[::9], 20_000
    mean, logvar = vae.encode(X)
    vae.objective(X, np.random.default_rng(15).standard_normal((S, len(X), 2)))
    Z, variance = vae.posterior.Z, np.exp(logvar)
    off_mean = (Z.mean(axis=0) - mean) / np.sqrt(variance / S)
    off_variance = (Z.var(axis=0, ddof=1) - variance) / (variance * math.sqrt(2 / S))
    across = np.mean((Z - Z.mean(axis=0)).prod(axis=2), axis=0) / np.sqrt(variance.prod(axis=1) / S)
    return [
        at_most("largest error of a mean, in standard errors", float(np.abs(off_mean).max()), 4),
        at_most("… of a variance", float(np.abs(off_variance).max()), 4),
        at_most("… of a covariance, which is 0", float(np.abs(across).max()), 4),
    ]


@claim("kl-formula", (16,), "KL(q(z|x) ‖ p(z)) = ½ Σ (μ² + σ² − ln σ² − 1), known in closed form.")
def kl_formula() -> Checks:
    vae, X = perturbed(float64_vae(6)), all_bits(6)
    terms, (mean, logvar) = vae.objective(X), vae.encode(X)
    by_determinants = [
        bayes.kl_gaussian(m, np.exp(v), [0, 0], [1, 1]) for m, v in zip(mean, logvar, strict=True)
    ]  # the general formula, by matrices
    z = mean[0] + np.exp(0.5 * logvar[0]) * np.random.default_rng(16).standard_normal((100_000, 2))
    ratio = -0.5 * ((z - mean[0]) ** 2 / np.exp(logvar[0]) + logvar[0] - z**2).sum(axis=1)
    return [
        at_most(
            "largest error of the engine's, 64 rows", float(np.abs(terms.kl_rows - by_determinants).max()), ROUNDING
        ),
        near("one row's, sampled by eq. 4", ratio.mean(), terms.kl_rows[0], standard_error(ratio)),
    ]
