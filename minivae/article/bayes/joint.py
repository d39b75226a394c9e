"""joint: the article's view of the VAE as two joint distributions, small enough to be summed (eq. 7–14).

    q(x, z) = p̃(x) q(z|x)      the data, and the encoder
    p(x, z) = p(z) p(x|z)      the prior, and the decoder: the model
    KL(q(x,z) ‖ p(x,z)) = 𝓛 + E_{x~p̃}[ln p̃(x)]                                          (eq. 8–11)

The last term depends on the data alone, so minimising 𝓛 minimises the KL. Here x and z take finitely many values and
every expectation is a sum: nothing is estimated, and eq. 11 holds to rounding.

These models do not learn; `minivae.VAE` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import checks
from ...errors import UsageError
from .inputs import probabilities


class DiscreteJoint:
    """Data, encoder, decoder and prior as tables, for X values of x and Z of z; each row sums to 1 (eq. 7–14).

    data      (X,)     p̃(x)
    encoder   (X, Z)   q(z|x)
    decoder   (Z, X)   p(x|z)
    prior     (Z,)     p(z)
    """

    def __init__(self, data: Any, encoder: Any, decoder: Any, prior: Any):
        self.data, self.prior = probabilities("data", data), probabilities("prior", prior)
        self.encoder, self.decoder = probabilities("encoder", encoder, 2), probabilities("decoder", decoder, 2)
        X, Z = self.data.size, self.prior.size
        if self.encoder.shape != (X, Z) or self.decoder.shape != (Z, X):
            raise UsageError(
                f"with {X} values of x and {Z} of z, expected an encoder ({X}, {Z}) and a decoder ({Z}, {X}); "
                f"got {self.encoder.shape} and {self.decoder.shape}"
            )

    @classmethod
    def random(cls, x: int = 5, z: int = 3, seed: int = 0) -> DiscreteJoint:
        """Draw four independent random tables for `x` values of x and `z` of z."""
        x, z = checks.integer("x", x), checks.integer("z", z)
        rng = np.random.default_rng(seed)
        tables = (rng.dirichlet(np.ones(n), rows) for n, rows in ((x, 1), (z, x), (x, z), (z, 1)))
        data, encoder, decoder, prior = tables
        return cls(data[0], encoder, decoder, prior[0])

    def perfect(self) -> DiscreteJoint:
        """Return the same model with data from it, p̃(x) = p(x), and the exact posterior: 𝓛 = H(p̃)."""
        return DiscreteJoint(self.marginal, self.posterior, self.decoder, self.prior)

    @property
    def data_joint(self) -> np.ndarray:
        """q(x, z) = p̃(x) q(z|x), (X, Z) (eq. 8)."""
        return self.data[:, None] * self.encoder

    @property
    def model_joint(self) -> np.ndarray:
        """p(x, z) = p(x|z) p(z), (X, Z) (eq. 7)."""
        return self.decoder.T * self.prior

    @property
    def marginal(self) -> np.ndarray:
        """p(x) = Σ_z p(x|z) p(z), (X,) (eq. 7)."""
        return self.model_joint.sum(axis=1)

    @property
    def posterior(self) -> np.ndarray:
        """p(z|x) = p(x|z) p(z) / p(x), (X, Z), the best encoder for this decoder (eq. 14); the prior where p(x) = 0."""
        joint, marginal = self.model_joint, self.marginal[:, None]
        return np.where(marginal > 0, joint / np.where(marginal > 0, marginal, 1), self.prior)

    @property
    def entropy(self) -> float:
        """H(p̃) = −E[ln p̃(x)], nats: the constant of eq. 10 with the other sign, and the floor of 𝓛."""
        return _expect(self.data, -_log(self.data))

    def kl_joint(self) -> float:
        """KL(q(x,z) ‖ p(x,z)), summed over all pairs (eq. 8); ∞ if the model excludes a pair that the data have."""
        p, q = self.data_joint, self.model_joint
        return _expect(p, _minus(_log(p), _log(q)))

    def kl_nested(self) -> float:
        """E_{x~p̃}[Σ_z q(z|x) ln(p̃(x) q(z|x) / p(x,z))]: the same as an expectation over the data (eq. 9)."""
        ratio = _minus(_log(self.data)[:, None] + _log(self.encoder), _log(self.model_joint))
        return _expect(self.data, np.array([_expect(p, r) for p, r in zip(self.encoder, ratio, strict=True)]))

    def loss(self) -> float:
        """𝓛 = E_{x~p̃}[E_{z~q(z|x)}[−ln p(x|z) + ln q(z|x)/p(z)]] (eq. 12)."""
        inner = _minus(_minus(_log(self.encoder), _log(self.prior)), _log(self.decoder.T))
        return _expect(self.data_joint, inner)

    def loss_parts(self) -> tuple[float, float]:
        """(E[−ln p(x|z)], E[KL(q(z|x) ‖ p(z))]), whose sum is 𝓛 (eq. 13)."""
        nll = _expect(self.data_joint, -_log(self.decoder.T))
        kl_rows = [_expect(p, _minus(_log(p), _log(self.prior))) for p in self.encoder]
        return nll, _expect(self.data, np.array(kl_rows))


def _log(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(p)


def _minus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a − b; −∞ − (−∞) is NaN, which occurs only at probability 0."""
    with np.errstate(invalid="ignore"):
        return a - b


def _expect(p: np.ndarray, values: np.ndarray) -> float:
    """Σ p · values; terms with p = 0 add 0, whatever their value."""
    return float(np.multiply(p, values, where=p > 0, out=np.zeros_like(p)).sum())


# ---- the claims -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JointIdentity:
    """Each side of eq. 8–13, summed independently, and `residual`: the largest difference between equal sides."""

    kl_joint: float  # eq. 8
    kl_nested: float  # eq. 9
    constant: float  # eq. 10: E[ln p̃(x)]
    loss: float  # eq. 12
    nll: float  # eq. 13, its first term
    kl: float  # eq. 13, its second
    residual: float


def joint_identity(toy: DiscreteJoint | None = None) -> JointIdentity:
    """KL(joint) = 𝓛 + E[ln p̃(x)] (eq. 8–11), and both forms of 𝓛 (eq. 12, 13), by summation; None: a random toy."""
    toy = DiscreteJoint.random() if toy is None else checks.instance_of("toy", toy, DiscreteJoint, "a DiscreteJoint")
    kl_joint, kl_nested, constant, loss = toy.kl_joint(), toy.kl_nested(), -toy.entropy, toy.loss()
    nll, kl = toy.loss_parts()
    pairs = ((kl_joint, kl_nested), (kl_joint, loss + constant), (loss, nll + kl))
    residual = max(0.0 if a == b else abs(a - b) for a, b in pairs)  # ∞ on both sides is equal
    return JointIdentity(kl_joint, kl_nested, constant, loss, nll, kl, residual)
