"""linear: the linear-Gaussian model, a VAE whose ln p(x) and posterior are known in closed form.

    p(z) = N(0, I),   p(x|z) = N(W z + b, σ² I)      a linear decoder of fixed σ (eq. 22)
    p(x)    = N(b, W Wᵀ + σ² I)                                                                     (eq. 7)
    p(z|x) = N(M⁻¹ Wᵀ (x − b), σ² M⁻¹),   M = Wᵀ W + σ² I                                           (eq. 14)

Only L × L systems are solved, whatever D is (Bishop 2006, §12.2). Shapes: X (N, D), W (D, L), b (D,). Nats, float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import checks
from ...errors import UsageError
from ...evaluation.passes import nll_of
from ...inputs import as_batch
from ...vae import VAE
from .inputs import numbers, same_shape, unscaled


class LinearGaussian:
    """x = W z + b + σ ε, z and ε standard normal (eq. 7, 22). W (D, L), b (D,), sigma2 = σ² > 0."""

    def __init__(self, W: Any, b: Any, sigma2: float):
        self.W, self.b = numbers("W", W, 2), numbers("b", b, 1)
        if self.W.shape[0] != self.b.size:
            raise UsageError(f"expected W (D, L) and b (D,); got {self.W.shape} and {self.b.shape}")
        self.sigma2 = checks.positive("sigma2", sigma2, "a variance σ² > 0")
        self.M = self.W.T @ self.W + self.sigma2 * np.eye(self.W.shape[1])

    @classmethod
    def of(cls, vae: VAE) -> LinearGaussian:
        """Return the model of a linear VAE, hidden=(), with a Gaussian of one σ, given or learned (eq. 22)."""
        unscaled(vae)
        likelihood, D = vae.likelihood, vae.features
        if vae.hidden or not likelihood.is_density or likelihood.width != D or "gaussian" not in likelihood.name:
            raise UsageError(
                f"hidden={vae.hidden}, likelihood={likelihood.name!r}: expected a linear model, hidden=(), "
                "and a Gaussian of one σ, such as 'gaussian:0.5'"
            )
        # σ follows from the likelihood at x = m: −ln N(0; 0, σ² I) = D/2 ln 2πσ² (eq. 22)
        zeros = vae.backend.zeros((1, D))
        nll = nll_of(vae, zeros, as_batch(vae, zeros))
        sigma2 = math.exp(2 * float(vae.backend.to_host(nll)[0]) / D) / (2 * math.pi)
        W, b = (vae.backend.to_host(vae.parameters[f"decoder.0.{name}"]) for name in ("W", "b"))
        return cls(W.T, b, sigma2)

    @property
    def latent_dim(self) -> int:
        return self.W.shape[1]

    def log_px(self, X: Any) -> np.ndarray:
        """ln p(x) of each row, (N,) (eq. 7)."""
        centred = self._centred(X)
        D, L = self.W.shape
        mean, _ = self.posterior(X)
        # the squared Mahalanobis distance as a sum of two squares, so that nothing cancels for small σ
        distance = ((centred - mean @ self.W.T) ** 2).sum(axis=1) / self.sigma2 + (mean**2).sum(axis=1)
        log_det = (D - L) * math.log(self.sigma2) + np.linalg.slogdet(self.M)[1]
        return -0.5 * (distance + log_det + D * math.log(2 * math.pi))

    def posterior(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """(means (N, L), covariance (L, L)) of p(z|x); the covariance is the same for every row (eq. 14)."""
        mean = np.linalg.solve(self.M, self.W.T @ self._centred(X).T).T
        return mean, self.sigma2 * np.linalg.inv(self.M)

    def elbo(self, X: Any, mean: Any, logvar: Any) -> np.ndarray:
        """−𝓛 of each row, (N,), for encoders N(mean, diag e^logvar), (N, L) each, without sampling (eq. 13, 16, 22).

        E‖x − b − W z‖² = ‖x − b − W μ‖² + Σ_l σ_l² ‖W_l‖².
        """
        centred, mean, logvar = self._centred(X), numbers("mean", mean, 2), numbers("logvar", logvar, 2)
        same_shape(mean=mean, logvar=logvar, latents=np.empty((centred.shape[0], self.latent_dim)))
        variance = np.exp(logvar)
        error = ((centred - mean @ self.W.T) ** 2).sum(axis=1) + variance @ (self.W**2).sum(axis=0)
        nll = 0.5 * (error / self.sigma2 + self.b.size * math.log(2 * math.pi * self.sigma2))
        return -nll - 0.5 * (mean**2 + variance - logvar - 1).sum(axis=1)

    def _centred(self, X: Any) -> np.ndarray:
        return checks.array("X", numbers("X", X, 2), self.b.size) - self.b
