"""models: the small models and data of the claims, in float64, on the host, with fixed seeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...vae import VAE
from ..bayes.quadrature import ExactModel

SIGMA = 0.7


def float64_vae(features: int, latent_dim: int = 2, hidden: tuple[int, ...] = (8,), **more: Any) -> VAE:
    """Make a VAE on NumPy in float64, with seed 0 by default."""
    return VAE(features, latent_dim, hidden, **{"activation": "tanh", "backend": "numpy", "dtype": "float64"} | more)


def perturbed(vae: VAE, seed: int = 1) -> VAE:
    """Draw its parameters again, of order 1, so that no bias is 0 and nothing is symmetric."""
    rng = np.random.default_rng(seed)
    for view in vae.parameters.values():
        view[...] = rng.normal(size=view.shape)
    return vae


def exact_loss(vae: VAE, X: np.ndarray) -> float:
    """𝓛 (eq. 13), the mean over rows X (N, D), by quadrature over z; L ≤ 2."""
    model = ExactModel(vae)
    nll, kl, _ = model.losses(X, model.encode(X))
    return float((nll + kl).mean())


def all_bits(features: int) -> np.ndarray:
    """Return all rows of 0s and 1s, (2^D, D)."""
    return (np.arange(2**features)[:, None] >> np.arange(features) & 1).astype(np.float64)


def bumps(rows: int, features: int = 16, seed: int = 0) -> np.ndarray:
    """Make 0/1 rows (N, D), each with a bump at a random place on a circle. Two latent dimensions explain them."""
    rng = np.random.default_rng(seed)
    angles, places = rng.uniform(0, 2 * np.pi, (rows, 1)), np.linspace(0, 2 * np.pi, features, endpoint=False)
    return (rng.random((rows, features)) < 1 / (1 + np.exp(-6 * np.cos(angles - places)))).astype(np.float64)


def linear_gaussian(latent_dim: int = 2, objective: str = "elbo", rows: int = 400) -> tuple[VAE, Any]:
    """Return (a linear VAE, rows (N, 5) drawn from it): ln p(x) is known, and its encoder is near the posterior.

    The encoder has the exact posterior's means and e^0.8 times its diagonal's variances, so its bound is not tight.
    """
    D, L, rng = 5, latent_dim, np.random.default_rng(5)
    W, b = 0.8 * rng.normal(size=(L, D)), rng.normal(size=D)
    vae = float64_vae(D, L, (), likelihood=f"gaussian:{SIGMA}", objective=objective)
    cov = np.linalg.inv(np.eye(L) + W @ W.T / SIGMA**2)
    p = vae.parameters
    p["decoder.0.W"][...], p["decoder.0.b"][...], p["encoder.0.W"][...] = W, b, 0
    p["encoder.0.W"][:, :L] = (cov @ W).T / SIGMA**2
    p["encoder.0.b"][:L] = -cov @ W @ b / SIGMA**2
    p["encoder.0.b"][L:] = np.log(np.diag(cov)) + 0.8
    X = rng.multivariate_normal(b, W.T @ W + SIGMA**2 * np.eye(D), rows)
    return vae, X


def standard_error(values: np.ndarray) -> float:
    """Return the standard error of the mean of independent values."""
    return float(values.std(ddof=1)) / math.sqrt(values.size)
