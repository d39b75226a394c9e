"""drop_in: show that the Bhattacharyya distance cannot replace KL in eq. 8–11.

In KL the logarithm separates p̃(x) as a term of its own; the rest, 𝓛, needs only samples of x. In

    D_B(q(x,z), p(x,z)) = −ln E_{x~p̃}[ p̃(x)^{−½} Σ_z √(q(z|x) p(x,z)) ]                     (eq. 6 in eq. 8's place)

the unknown p̃(x) remains as a weight of each row. Without it, one minimises another quantity,

    𝓑 = −ln E_{x~p̃}[ Σ_z √(q(z|x) p(x,z)) ],

and D_B − 𝓑 is not constant: it differs between models. With the exact posterior as encoder (eq. 14), Σ_z √(…) is √p(x),
and 𝓑 is smallest not for p = p̃, but for p(x) = p̃(x)²/Σ p̃²: likely rows are weighted twice, as in `weighted_again`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import checks
from .divergences import bhattacharyya_discrete
from .inputs import probabilities
from .joint import DiscreteJoint


def bhattacharyya_joint(toy: DiscreteJoint) -> float:
    """D_B(q(x,z), p(x,z)), summed over all pairs (eq. 6 in eq. 8's place)."""
    return bhattacharyya_discrete(toy.data_joint.ravel(), toy.model_joint.ravel())


def bhattacharyya_loss(toy: DiscreteJoint) -> float:
    """𝓑: D_B without the weight p̃(x)^{−½}, so that samples of x suffice."""
    overlap = np.sqrt(toy.encoder * toy.model_joint).sum(axis=1)
    return -math.log(float(toy.data @ overlap))


@dataclass(frozen=True)
class NoDropIn:
    """The effects of leaving p̃(x) out of KL and of D_B.

    kl_spread               spread of KL − 𝓛 between models of the same data, nats: 0, a constant
    bhattacharyya_spread    spread of D_B − 𝓑
    kl_minimiser            the p(x) with the smallest 𝓛, (X,): p̃ itself
    bhattacharyya_minimiser the p(x) with the smallest 𝓑, (X,): p̃²/Σ p̃²
    misled                  D_B between the data and the model with the smallest 𝓑; 0 would be right
    """

    kl_spread: float
    bhattacharyya_spread: float
    kl_minimiser: np.ndarray
    bhattacharyya_minimiser: np.ndarray
    misled: float


def no_drop_in(data: Any = (0.5, 0.3, 0.15, 0.05), models: int = 20, seed: int = 0) -> NoDropIn:
    """Use the Bhattacharyya distance in place of KL in eq. 8–11, on data whose p̃ (X,) is known.

    The minimisers are over all models with the exact posterior (eq. 14) as encoder, found by gradient descent.
    """
    p = probabilities("data", data)
    models = checks.integer("models", models, 2)
    kl_rest, bhattacharyya_rest = [], []
    for other in range(models):
        toy = DiscreteJoint.random(p.size, 3, seed + other)
        toy = DiscreteJoint(p, toy.encoder, toy.decoder, toy.prior)
        kl_rest.append(toy.kl_joint() - toy.loss())
        bhattacharyya_rest.append(bhattacharyya_joint(toy) - bhattacharyya_loss(toy))
    best_kl, best_b = _least(_cross_entropy, p), _least(_overlap, p)
    return NoDropIn(
        kl_spread=max(kl_rest) - min(kl_rest),
        bhattacharyya_spread=max(bhattacharyya_rest) - min(bhattacharyya_rest),
        kl_minimiser=best_kl,
        bhattacharyya_minimiser=best_b,
        misled=bhattacharyya_discrete(p, best_b),
    )


def _cross_entropy(ln_q: np.ndarray, p: np.ndarray) -> tuple[float, np.ndarray]:
    """𝓛 = −E_{x~p̃}[ln p(x)] with the exact posterior (eq. 12, 14), and its gradient with respect to ln p."""
    return -float(p @ ln_q), -p


def _overlap(ln_q: np.ndarray, p: np.ndarray) -> tuple[float, np.ndarray]:
    """𝓑 = −ln E_{x~p̃}[√p(x)] with the exact posterior, and its gradient with respect to ln p."""
    terms = p * np.exp(0.5 * ln_q)
    return -math.log(float(terms.sum())), -0.5 * terms / terms.sum()


def _least(objective: Any, p: np.ndarray) -> np.ndarray:
    """Return the q (X,) that minimises the objective; q = softmax(a), starting at a = 0."""
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    def of_logits(a: np.ndarray) -> tuple[float, np.ndarray]:
        ln_q = log_softmax(a)
        value, slope = objective(ln_q, p)
        return value, slope - np.exp(ln_q) * slope.sum()

    found = minimize(of_logits, np.zeros(p.size), jac=True, method="BFGS", options={"gtol": 1e-10})
    return np.exp(log_softmax(found.x))
