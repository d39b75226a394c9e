"""floors: lower bounds of 𝓛, and why its two terms are meaningful only together (eq. 11, 13).

The article says that the constant of eq. 10 is negative, 'probabilities being less than 1', so that 𝓛 stays above some
positive number. For discrete data this is right, and the number is the entropy: 𝓛 ≥ H(p̃) ≥ 0. For a density it is not:
a density may exceed 1, then H(p̃) is negative, and 𝓛 may be negative too. A change of units is enough: x → c x adds ln c
to 𝓛 for each feature.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ... import checks
from .joint import DiscreteJoint


@dataclass(frozen=True)
class DiscreteFloor:
    """H(p̃), the smallest 𝓛 − H(p̃) of the random models, and that of the perfect model (nats)."""

    entropy: float
    smallest_excess: float
    perfect_excess: float


def discrete_floor(models: int = 1000, seed: int = 0) -> DiscreteFloor:
    """𝓛 ≥ H(p̃) > 0 for discrete data (eq. 11): random models are above it, the perfect model reaches it.

    The perfect model has p(x) = p̃(x) and the exact posterior (eq. 14) as its encoder; the others explain the same data.
    """
    models, seed = checks.integer("models", models), checks.integer("seed", seed, 0)
    perfect = DiscreteJoint.random(seed=seed).perfect()
    X, Z = perfect.encoder.shape
    excesses = []
    for other in range(models):
        toy = DiscreteJoint.random(X, Z, seed + 1 + other)
        loss = DiscreteJoint(perfect.data, toy.encoder, toy.decoder, toy.prior).loss()
        excesses.append(loss - perfect.entropy)
    return DiscreteFloor(perfect.entropy, min(excesses), perfect.loss() - perfect.entropy)


@dataclass(frozen=True)
class DensityLoss:
    """The best 𝓛 for Gaussian data, its two terms (eq. 13), the data's entropy, and the std at which 𝓛 crosses 0."""

    loss: float
    nll: float
    kl: float
    entropy: float
    zero_at: float


def density_loss(std: float = 0.01, explained: float = 0.5) -> DensityLoss:
    """𝓛 of a perfect model of N(0, std²): below 0 for std < 1/√(2πe) ≈ 0.242 (eq. 11, 13; not in the article).

    The model is x = w z + σ ε with w² + σ² = std², and its exact posterior N(w x/std², σ²/std²) is the encoder.

    explained   w²/std², the share of the variance that z explains, in [0, 1): it moves nats from one term to the other
    """
    std = checks.positive("std", std, "a standard deviation > 0")
    explained = checks.finite_float("explained", explained, lambda x: 0 <= x < 1, "a share in [0, 1)")
    w2, sigma2 = explained * std**2, (1 - explained) * std**2
    variance = sigma2 / std**2  # of the posterior, whose mean is w x/std²
    error = (sigma2 / std**2) ** 2 * std**2 + w2 * variance  # E[(x − w z)²]: of the mean, and from its spread
    nll = 0.5 * error / sigma2 + 0.5 * math.log(2 * math.pi * sigma2)
    kl = 0.5 * (w2 / std**2 + variance - math.log(variance) - 1)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + math.log(std)
    return DensityLoss(nll + kl, nll, kl, entropy, 1 / math.sqrt(2 * math.pi * math.e))


@dataclass(frozen=True)
class Antagonists:
    """(nll, kl) of two models of the same data, nats: one reconstructs exactly, the other's encoder ignores x."""

    faithful: tuple[float, float]
    collapsed: tuple[float, float]
    entropy: float


def antagonists(states: int = 4) -> Antagonists:
    """Either term of eq. 13 can be 0, but not both: their sum is at least H(p̃) = ln states, and equal to it here.

    The data are uniform over the states. `faithful`: z = x reconstructs without error at a KL of ln states;
    `collapsed`: z is independent of x, with a KL of 0 and a reconstruction of ln states. Only the sum measures quality.
    """
    states = checks.integer("states", states, 2)
    even, identity = np.full(states, 1 / states), np.eye(states)
    blank = np.tile(even, (states, 1))
    faithful, collapsed = DiscreteJoint(even, identity, identity, even), DiscreteJoint(even, blank, blank, even)
    return Antagonists(faithful.loss_parts(), collapsed.loss_parts(), faithful.entropy)
