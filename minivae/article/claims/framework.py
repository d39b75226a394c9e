"""The joint view: from KL(q(x,z) ‖ p(x,z)) to 𝓛 and its lower bound (eq. 7–13)."""

from __future__ import annotations

import math

import numpy as np

from .. import bayes
from .claim import INTEGRAL, ROUNDING, Checks, above, at_least, at_most, below, claim, equals, near
from .models import all_bits, exact_loss, float64_vae, linear_gaussian, perturbed

TOYS = 50


@claim("marginal", (7,), "p(x) = ∫ p(x|z) p(z) dz is a distribution over x, described by the latent z.")
def marginal() -> Checks:
    X = all_bits(4)
    vae = perturbed(float64_vae(4, latent_dim=1))
    density = np.exp(bayes.exact_posterior(vae, X).log_px)
    model, rows = linear_gaussian(latent_dim=1)
    off = np.abs(bayes.exact_posterior(model, rows[:8]).log_px - bayes.LinearGaussian.of(model).log_px(rows[:8]))
    return [
        equals("Σ p(x) over all 16 rows of 4 bits, a VAE", density.sum(), 1, INTEGRAL),
        at_most("largest error of ln p(x), linear model", float(off.max()), INTEGRAL),
    ]


@claim("nested", (8, 9), "KL(q(x,z)‖p(x,z)) is an expectation over the data, as q(x,z) = p̃(x) q(z|x).")
def nested() -> Checks:
    toys = [bayes.joint_identity(bayes.DiscreteJoint.random(seed=seed)) for seed in range(TOYS)]
    return [at_most(f"largest difference, {TOYS} toys", max(abs(t.kl_joint - t.kl_nested) for t in toys), ROUNDING)]


@claim("constant", (10, 11), "KL(joint) = 𝓛 + E[ln p̃(x)], a constant of the data: least 𝓛 is least KL.")
def constant() -> Checks:
    toys = [bayes.joint_identity(bayes.DiscreteJoint.random(seed=seed)) for seed in range(TOYS)]
    off = max(abs(t.kl_joint - t.loss - t.constant) for t in toys)
    return [
        at_most(f"largest |KL − 𝓛 − E[ln p̃]|, {TOYS} toys", off, ROUNDING),
        at_most("KL − 𝓛 differs between models of the same data by", bayes.no_drop_in().kl_spread, ROUNDING),
    ]


@claim("constant-of-a-vae", (11, 13), "The same of a VAE: 𝓛 + E[ln p̃] = KL(p̃‖p) + E[KL(q(z|x) ‖ p(z|x))].")
def constant_of_a_vae() -> Checks:
    X = all_bits(3)
    data = np.random.default_rng(11).dirichlet(np.ones(len(X)))
    gaps = bayes.encoder_gaps(perturbed(float64_vae(3, latent_dim=1)), X)
    apart = data @ (np.log(data) - gaps.log_px) + data @ gaps.kl
    return [
        equals("𝓛 + E[ln p̃], three bits", float(data @ (np.log(data) - gaps.elbo)), float(apart), INTEGRAL),
        equals("Σ p(x) over all 8 rows", float(np.exp(gaps.log_px).sum()), 1, INTEGRAL),
    ]


@claim("objective", (12, 13), "𝓛 = E[−ln p(x|z) + ln q(z|x)/p(z)] = E[−ln p(x|z)] + KL(q(z|x)‖p(z)).")
def objective() -> Checks:
    toys = [bayes.joint_identity(bayes.DiscreteJoint.random(seed=seed)) for seed in range(TOYS)]
    return [at_most(f"largest difference, {TOYS} toys", max(abs(t.loss - t.nll - t.kl) for t in toys), ROUNDING)]


@claim("engine-loss", (13,), "The loss of a VAE is this 𝓛: the engine's agrees with the integral over z.")
def engine_loss() -> Checks:
    vae, X = perturbed(float64_vae(5, latent_dim=1)), all_bits(5)[:4]
    exact = exact_loss(vae, X)
    eps = np.random.default_rng(13).standard_normal((2000, len(X), 1))
    draws = np.array([vae.objective(X, e).loss for e in eps])
    return [near("𝓛 of the engine, 2000 draws of ε", draws.mean(), exact, draws.std(ddof=1) / math.sqrt(len(draws)))]


@claim("floor", (11,), "𝓛 stays above a positive number: for discrete data, the entropy H(p̃).")
def floor() -> Checks:
    found = bayes.discrete_floor()
    return [
        above("H(p̃), nats", found.entropy, 0),
        at_least("smallest 𝓛 − H(p̃) of 1000 models", found.smallest_excess, 0),
        equals("… of the perfect model", found.perfect_excess, 0),
    ]


@claim(
    "floor-of-a-density",
    (11,),
    "The constant is negative, 'probabilities being below 1', so 𝓛 is above some positive number.",
    loose="a density may be above 1: its 𝓛 may fall below 0",
)
def floor_of_a_density() -> Checks:
    std, found = 0.01, bayes.density_loss(0.01)
    vae = float64_vae(1, 1, hidden=(), likelihood=f"gaussian:{std / math.sqrt(2)!r}")
    p = vae.parameters  # x = w z + σ ε with w² = σ² = std²/2, and its exact posterior
    p["decoder.0.W"][...], p["decoder.0.b"][...] = std / math.sqrt(2), 0
    p["encoder.0.W"][...], p["encoder.0.b"][...] = [[1 / (math.sqrt(2) * std), 0]], [0, math.log(0.5)]
    X = std * np.random.default_rng(14).standard_normal((20_000, 1))
    terms = vae.objective(X)
    rows = terms.nll_rows + terms.kl_rows
    return [
        below("𝓛 of the perfect model of N(0, 0.01²)", found.loss, 0),
        near("… of the VAE with these parameters", rows.mean(), found.loss, rows.std() / math.sqrt(len(rows))),
        equals("and it is the entropy of the data", found.loss, found.entropy),
    ]


@claim(
    "not-to-be-split",
    (13,),
    "Either term can be 0, but not both: they work against each other.",
    loose="of a density both can be 0 at once, for its −ln p(x|z) may be anything; of discrete data never",
)
def not_to_be_split() -> Checks:
    found, density = bayes.antagonists(), bayes.density_loss(1 / math.sqrt(2 * math.pi * math.e), explained=0)
    return [
        equals("reconstruction of a model with z = x", found.faithful[0], 0),
        equals("KL of a model whose encoder ignores x", found.collapsed[1], 0),
        equals("sum of the terms, the first", sum(found.faithful), found.entropy),
        equals("… and the second: H(p̃) = ln 4", sum(found.collapsed), found.entropy),
        equals("of N(0, 1/2πe) with z unused, reconstruction", density.nll, 0),
        equals("… and KL", density.kl, 0),
    ]


@claim("two-points", (11, 15), "Two points, one bit: the lower bound is ln 2, and a Gaussian encoder stays above it.")
def two_points() -> Checks:
    found = bayes.two_points_optimum(8)
    return [
        equals("𝓛 of an encoder of any form", found.free_encoder, math.log(2)),
        equals("best 𝓛 of a Gaussian encoder, D = 8", found.loss, 1.1274, 1e-4),
        equals(
            "minus ln 2: the gaps of prior and decoder",
            found.loss - found.floor,
            found.prior_gap + found.decoder_gap,
            INTEGRAL,
        ),
    ]
