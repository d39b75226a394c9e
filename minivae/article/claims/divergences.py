"""Divergences of q from p: KL (eq. 5) and Bhattacharyya (eq. 6)."""

from __future__ import annotations

import math

import numpy as np

from .. import bayes
from .claim import ROUNDING, Checks, above, at_least, at_most, claim, equals, infinite, near

PAIRS = 300


@claim("kl-not-negative", (5,), "KL(p‖q) ≥ 0, and it is 0 only where p = q.")
def kl_not_negative() -> Checks:
    rng = np.random.default_rng(5)
    discrete = [bayes.kl_discrete(*rng.dirichlet(np.ones(4), 2)) for _ in range(PAIRS)]
    gaussian = [bayes.kl_gaussian(*_gaussian(rng), *_gaussian(rng)) for _ in range(PAIRS)]
    p, g = rng.dirichlet(np.ones(4)), _gaussian(rng)
    return [
        above(f"smallest of {2 * PAIRS} pairs p ≠ q", min(discrete + gaussian), 0),
        equals("KL(p‖p), discrete", bayes.kl_discrete(p, p), 0),
        equals("KL(p‖p), Gaussian", bayes.kl_gaussian(*g, *g), 0),
    ]


def _gaussian(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=2), rng.uniform(0.3, 2, 2)


@claim("kl-both-fixed", (5,), "With p or q fixed, minimising KL makes the other equal to it.")
def kl_both_fixed() -> Checks:
    """KL is smallest at p = q on straight lines through that point; each argument is moved along 50 lines."""
    rng = np.random.default_rng(6)
    held, steps = rng.dirichlet(np.ones(4)), np.linspace(0, 1, 21)
    towards = rng.dirichlet(np.ones(4), 50)
    moved = [[(1 - t) * held + t * other for t in steps] for other in towards]
    q_moves = np.array([[bayes.kl_discrete(held, q) for q in line] for line in moved])
    p_moves = np.array([[bayes.kl_discrete(p, held) for p in line] for line in moved])
    return [
        above("smallest rise with each step away, p fixed", float(np.diff(q_moves, axis=1).min()), 0),
        above("… and q fixed", float(np.diff(p_moves, axis=1).min()), 0),
        equals("KL where they are equal", max(q_moves[:, 0].max(), p_moves[:, 0].max()), 0),
    ]


@claim("kl-infinite", (5,), "KL(p‖q) is infinite where q = 0 < p.")
def kl_infinite() -> Checks:
    found = bayes.different_supports()
    return [
        infinite("KL(broad ‖ narrow)", found.kl_broad_narrow),
        equals("KL(narrow ‖ broad), the other direction", found.kl_narrow_broad, math.log(2)),
    ]


@claim("gaussian-prior", (5,), "Hence a Gaussian prior and not a uniform one: KL(encoder ‖ prior) stays finite.")
def gaussian_prior() -> Checks:
    mean, std, drawn = 0.3, 0.5, np.random.default_rng(7).standard_normal(100_000)
    z = mean + std * drawn
    exact = bayes.kl_gaussian([mean], [std**2], [0], [1])

    def log_p(x: np.ndarray) -> np.ndarray:
        return -0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))

    def log_normal(x: np.ndarray) -> np.ndarray:
        return -0.5 * x**2 - 0.5 * math.log(2 * math.pi)

    def log_uniform(x: np.ndarray) -> np.ndarray:
        return np.where(np.abs(x) <= math.sqrt(3), -math.log(2 * math.sqrt(3)), -np.inf)  # of variance 1 too

    normal = bayes.kl_sampled(z, log_p, log_normal)
    return [
        near("KL to N(0, 1)", normal.value, exact, normal.error),
        infinite("KL to a uniform of the same variance", bayes.kl_sampled(z, log_p, log_uniform).value),
    ]


@claim("kl-sampled", (4, 5), "KL is an expectation, and so it can be sampled.")
def kl_sampled() -> Checks:
    rng = np.random.default_rng(8)
    means, variances = rng.normal(size=(2, 2)), rng.uniform(0.3, 2, (2, 2))

    def log_density(k: int):
        return lambda x: -0.5 * ((x - means[k]) ** 2 / variances[k] + np.log(2 * np.pi * variances[k])).sum(axis=1)

    drawn = means[0] + np.sqrt(variances[0]) * rng.standard_normal((100_000, 2))
    found = bayes.kl_sampled(drawn, log_density(0), log_density(1))
    exact = bayes.kl_gaussian(means[0], variances[0], means[1], variances[1])
    return [near(f"KL of two Gaussians, {found.n:,} samples", found.value, exact, found.error)]


@claim("bhattacharyya", (6,), "The Bhattacharyya distance is symmetric, as KL is not, and finite where KL is infinite.")
def bhattacharyya() -> Checks:
    rng = np.random.default_rng(9)
    pairs = [rng.dirichlet(np.ones(4), 2) for _ in range(PAIRS)]
    there, back = (np.array([bayes.bhattacharyya_discrete(*pair[::s]) for pair in pairs]) for s in (1, -1))
    kl = np.array([bayes.kl_discrete(*pair) - bayes.kl_discrete(*pair[::-1]) for pair in pairs])
    return [
        at_most(f"largest |D_B(p,q) − D_B(q,p)| of {PAIRS} pairs", float(np.abs(there - back).max()), ROUNDING),
        at_least("largest |KL(p‖q) − KL(q‖p)|", float(np.abs(kl).max()), 1e-3),
        equals("D_B where KL is ∞", bayes.different_supports().bhattacharyya, 0.5 * math.log(2)),
    ]


@claim(
    "bhattacharyya-finite",
    (6,),
    "The Bhattacharyya distance has no problem with infinity.",
    loose="one remains: it is infinite where the supports of p and q are disjoint",
)
def bhattacharyya_finite() -> Checks:
    return [infinite("D_B of p and q with disjoint supports", bayes.different_supports().bhattacharyya_apart)]


@claim("no-drop-in", (6, 8, 11), "The Bhattacharyya distance cannot replace KL: p̃(x) does not separate as a constant.")
def no_drop_in() -> Checks:
    found = bayes.no_drop_in()
    return [
        at_most("KL − 𝓛 differs between 20 models by", found.kl_spread, ROUNDING),
        above("D_B minus the part that samples can estimate differs by", found.bhattacharyya_spread, 1e-2),
        above("D_B between the data and the model that is then best", found.misled, 1e-2),
    ]
