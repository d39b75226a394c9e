"""ppca: probabilistic PCA in closed form, the optimum that training minivae's linear VAE must reach.

The largest likelihood of a linear-Gaussian model with L latent dimensions, on rows whose covariance (1/N) has the
eigenvalues λ₁ ≥ … ≥ λ_D and eigenvectors u₁ … u_D (Tipping & Bishop 1999):

    b = mean of the rows,   σ² = mean of λ_{L+1} … λ_D,   W = [u₁ … u_L] diag(√(λ_l − σ²))
    E[ln p(x)] = −½ [D ln 2π + Σ_{l≤L} ln λ_l + (D − L) ln σ² + D]

The columns of W are orthogonal, so that the exact posterior (eq. 14) is a diagonal Gaussian (eq. 15) whose mean is
linear in x: an encoder without hidden layers can be exact, and the best ELBO is the largest likelihood (Lucas et al.
2019). A VAE determines W up to signs and the order of its columns.

Shapes: X (N, D), W (D, L). Nats, float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import checks
from ...errors import UsageError
from ...optim import Adam
from ...training.schedules import Schedule
from ...vae import VAE
from .inputs import numbers
from .linear import LinearGaussian


class PPCA(LinearGaussian):
    """The linear-Gaussian model of largest likelihood (eq. 7, 22; Tipping & Bishop 1999).

    eigenvalues      (D,), of the rows' covariance, descending
    log_likelihood   E[ln p(x)] over the rows it was fitted to, nats
    """

    def __init__(self, W: Any, b: Any, sigma2: float, eigenvalues: np.ndarray):
        super().__init__(W, b, sigma2)
        self.eigenvalues = eigenvalues

    @classmethod
    def fit(cls, X: Any, latent_dim: int) -> PPCA:
        """Fit the closed form above to X (N, D), 1 ≤ L < D. UsageError if no variance is left for σ²."""
        X = numbers("X", X, 2)
        D = X.shape[1]
        if checks.integer("latent_dim", latent_dim) >= D:
            raise UsageError(f"latent_dim={latent_dim}: expected fewer than the {D} features: σ² needs the rest")
        b = X.mean(axis=0)
        eigenvalues, vectors = np.linalg.eigh((X - b).T @ (X - b) / X.shape[0])
        eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
        sigma2 = float(eigenvalues[latent_dim:].mean())
        if sigma2 <= 1e-12 * eigenvalues[0] or eigenvalues[0] <= 0:
            raise UsageError(
                f"X: its rows lie in {latent_dim} dimensions, so σ² is 0 and the likelihood has no largest value: "
                "take fewer latent dimensions"
            )
        W = vectors[:, :latent_dim] * np.sqrt(np.maximum(eigenvalues[:latent_dim] - sigma2, 0))
        return cls(W, b, sigma2, eigenvalues)

    @property
    def log_likelihood(self) -> float:
        D, L = self.W.shape
        logs = np.log(self.eigenvalues[:L]).sum() + (D - L) * np.log(self.sigma2)
        return float(-0.5 * (D * np.log(2 * np.pi) + logs + D))


@dataclass(frozen=True)
class AgainstPPCA:
    """A linear VAE compared with probabilistic PCA of the same rows.

    elbo, optimum     its exact mean ELBO, and the largest possible mean ln p(x), nats
    gap               optimum − elbo ≥ 0
    angle             the largest angle between the two principal subspaces, degrees
    sigma2, sigma2_optimum   σ² of the VAE and of the optimum
    """

    elbo: float
    optimum: float
    gap: float
    angle: float
    sigma2: float
    sigma2_optimum: float


def against_ppca(vae: VAE, X: Any) -> AgainstPPCA:
    """Compare a linear VAE with a Gaussian of one σ with the optimum for X (N, D), without sampling (eq. 13, 22)."""
    from scipy.linalg import subspace_angles

    model = LinearGaussian.of(vae)
    X = vae.backend.to_host(checks.array("X", X, vae.features))
    exact = PPCA.fit(X, vae.latent_dim)
    elbo = float(model.elbo(X, *vae.encode(X)).mean())
    angle = float(np.degrees(subspace_angles(model.W, exact.W).max()))
    optimum = exact.log_likelihood
    return AgainstPPCA(elbo, optimum, optimum - elbo, angle, model.sigma2, exact.sigma2)


def fit_linear_vae(vae: VAE, X: Any, steps: int = 3000, lr: float = 0.1) -> VAE:
    """Train a linear VAE with a Gaussian decoder on all of X (N, D) at once, with Adam and no noise in the gradient.

    The loss is quadratic in z, so its expectation over ε ~ N(0, I) is the mean over 2L points, ±√L along each axis,
    which have the same mean and covariance. The engine takes them as its samples (eq. 23).
    """
    LinearGaussian.of(vae)  # or UsageError
    if vae.loss_fn.name != "elbo":
        raise UsageError(f"objective={vae.loss_fn.name!r}: expected 'elbo', whose expectation over ε these points give")
    L = vae.latent_dim
    points = np.concatenate([np.eye(L), -np.eye(L)]) * np.sqrt(L)
    eps = np.repeat(points[:, None, :], checks.array("X", X, vae.features).shape[0], axis=1)
    optimizer, cosine = Adam(lr), Schedule("cosine")
    steps, X, eps = checks.integer("steps", steps), vae.backend.asarray(X, vae.backend.dtype), vae.backend.asarray(eps)
    for step in range(steps):
        optimizer.lr = lr * cosine.factor(step, steps)
        vae.train_step(X, optimizer, eps=eps)
    return vae


# ---- the claim ------------------------------------------------------------------------------------------------------


def linear_vae_is_ppca(likelihood: str | None = None, rows: int = 300, seed: int = 0) -> AgainstPPCA:
    """Train a linear VAE, L = 2, on Gaussian rows of D = 6, and compare it with probabilistic PCA (eq. 13, 22).

    likelihood   None: 'gaussian:σ' with the σ of the optimum; or a Gaussian that learns one σ
    """
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    X = rng.standard_normal((checks.integer("rows", rows, 10), 6)) * [2.0, 1.2, 0.5, 0.45, 0.4, 0.35] @ basis + 1.0
    if likelihood is None:
        likelihood = f"gaussian:{np.sqrt(PPCA.fit(X, 2).sigma2)!s}"
    vae = VAE(6, 2, (), likelihood=likelihood, backend="numpy", dtype="float64", seed=seed)
    return against_ppca(fit_linear_vae(vae, X), X)
