"""two_points: data of one bit, for which a VAE needs more than one bit (eq. 11, 13, 15).

The rows 0…0 and 1…1, D features, equally likely: H(p̃) = ln 2, so 𝓛 ≥ ln 2 ≈ 0.693 nats. L = 1, a diagonal Gaussian
encoder, the prior N(0, 1), and a decoder of independent bits that may be any function of z. The best such decoder is
known: ρ(z) = q(x = 1…1 | z), for every feature. With it, 𝓛 is exactly

    𝓛 = ln 2 + KL(q(z) ‖ p(z)) + (D − 1) H(x|z),     q(z) = ½ N(μ₀, σ₀²) + ½ N(μ₁, σ₁²)

The second term is 0 only if the mixture is the prior: both Gaussians equal it, and z is independent of x. The third is
0 only if z determines x (or D = 1). Both cannot hold; this is the approximation gap of a Gaussian encoder. An encoder
of any form could cut the prior in halves at 0 and reach ln 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ... import checks
from ...optim import Adam
from ...training.schedules import Schedule
from ...vae import VAE
from .joint import DiscreteJoint
from .quadrature import ExactModel, fine_rule

LN_2 = math.log(2)
LEARNING_RATE = 0.1


@dataclass(frozen=True)
class TwoPoints:
    """The smallest 𝓛 (nats) and the encoder that reaches it.

    loss, nll, kl   𝓛 and its terms (eq. 13)
    floor           H(p̃) = ln 2
    free_encoder    𝓛 with an encoder of any form, which cuts the prior in halves: equals floor
    prior_gap       KL(q(z) ‖ p(z))
    decoder_gap     (D − 1) H(x|z):   loss = floor + prior_gap + decoder_gap
    means, stds     (2,): the encoder's Gaussians for 0…0 and 1…1
    """

    loss: float
    nll: float
    kl: float
    floor: float
    free_encoder: float
    prior_gap: float
    decoder_gap: float
    means: np.ndarray
    stds: np.ndarray


def two_points_optimum(features: int = 8) -> TwoPoints:
    """Minimise 𝓛 over Gaussian encoders on 0…0 and 1…1 with the best decoder, by quadrature (eq. 13, 15).

    features   D ≥ 1. About 0.908 nats at D = 2, 1.127 at D = 8, 1.326 at D = 64; ln 2, by collapse, at D = 1 only.
    """
    from scipy.optimize import minimize

    D = checks.integer("features", features)
    starts = ([-0.9, 0.9, -2.0, -2.0], [-0.3, 1.2, 0.0, -1.0], [0.0, 0.0, 0.0, 0.0])  # the last: collapse
    options = {"gtol": 1e-9}
    found = [minimize(lambda h: sum(_parts(h, D)[:2]), start, method="BFGS", options=options) for start in starts]
    best = min(found, key=lambda result: result.fun).x
    nll, kl, bit, prior_gap = _parts(best, D)
    decoder_gap = (D - 1) * bit
    return TwoPoints(nll + kl, nll, kl, LN_2, _halves(), prior_gap, decoder_gap, best[:2], np.exp(0.5 * best[2:]))


def _parts(h: np.ndarray, D: int) -> tuple[float, float, float, float]:
    """(nll, kl, H(x|z), KL(q(z) ‖ p(z))) for the encoder h = [μ₀, μ₁, ln σ₀², ln σ₁²] and its best decoder."""
    rule = fine_rule(1)
    means, logvars = np.asarray(h)[:2], np.asarray(h)[2:]
    Z = means + np.exp(0.5 * logvars) * rule.nodes  # (K, 2): nodes of either Gaussian
    log_p = -0.5 * (((Z[:, :, None] - means) ** 2) / np.exp(logvars) + logvars)  # (K, 2, 2): by each, without ln 2π
    log_mix = np.logaddexp(log_p[:, :, 0], log_p[:, :, 1]) - LN_2
    own = np.einsum("kii->ki", log_p)
    bit = float(rule.weights @ (LN_2 - own + log_mix).mean(axis=1))  # E[−ln q(x|z)]
    prior_gap = float(rule.weights @ (log_mix + 0.5 * Z**2).mean(axis=1))
    kl = float(0.5 * (means**2 + np.exp(logvars) - logvars - 1).mean())
    return D * bit, kl, bit, prior_gap


def _halves(cells: int = 100) -> float:
    """𝓛 if q(z|x) of 0…0 is the half of N(0, 1) below 0 and that of 1…1 the other; z is cut into cells (eq. 12)."""
    from scipy.special import ndtr

    prior = np.diff(ndtr(np.r_[-np.inf, np.linspace(-4, 4, cells - 1), np.inf]))
    below = np.arange(cells) < cells // 2
    sides = np.array([below, ~below], np.float64)
    return DiscreteJoint([0.5, 0.5], sides * prior / (sides @ prior)[:, None], sides.T, prior).loss()


@dataclass(frozen=True)
class TwoPointsByVAE:
    """Loss of the trained VAE, and the optimum, in nats."""

    loss: float
    nll: float
    kl: float
    optimum: float
    floor: float


def two_points_by_vae(features: int = 8, steps: int = 3000, samples: int = 256, seed: int = 0) -> TwoPointsByVAE:
    """`train_two_points`, and its 𝓛 by quadrature over z, to compare with `two_points_optimum` (eq. 13)."""
    model = ExactModel(train_two_points(features, steps, samples, seed))
    X = two_points(model.vae.features)
    nll, kl, _ = model.losses(X, model.encode(X))
    optimum = two_points_optimum(model.vae.features)
    return TwoPointsByVAE(float((nll + kl).mean()), float(nll.mean()), float(kl.mean()), optimum.loss, LN_2)


def two_points(features: int) -> np.ndarray:
    """The data: 0…0 and 1…1, (2, D)."""
    return np.repeat([[0.0], [1.0]], features, axis=1)


def train_two_points(features: int = 8, steps: int = 3000, samples: int = 256, seed: int = 0) -> VAE:
    """Train a VAE, L = 1, on 0…0 and 1…1 with S new samples a step (eq. 23).

    A linear one is enough: at the optimum both variances are equal, and then the best decoder's logit is linear in z.
    """
    features, steps = checks.integer("features", features), checks.integer("steps", steps)
    vae = VAE(features, 1, (), likelihood="bernoulli", samples=samples, backend="numpy", dtype="float64", seed=seed)
    X, optimizer, cosine = two_points(features), Adam(LEARNING_RATE, beta2=0.95), Schedule("cosine")
    for step in range(steps):
        optimizer.lr = LEARNING_RATE * cosine.factor(step, steps)
        vae.train_step(X, optimizer)
    return vae
