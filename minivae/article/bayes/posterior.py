"""posterior: the exact posterior of eq. 14, on a grid. L ≤ 2.

    p(z|x) = p(x|z) p(z) / p(x),   p(x) = ∫ p(x|z) p(z) dz                                           (eq. 14, 7)

The article calls the integral nearly impossible. In one or two dimensions it is a sum over a grid (eq. 2): a coarse
grid finds the posterior, and finer ones resolve it. The error is estimated from the sum over every other point, which
should be the same. `gaps.py` compares the encoder with the exact posterior.

Shapes: N rows, D features, L latent dimensions, n points of an axis. Nats, float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import checks
from ...errors import UsageError
from ...vae import VAE
from .quadrature import ExactModel, grid_points

SEARCH_POINTS = {1: 2001, 2: 161}  # points on each axis of the search grid
POINTS = {1: 1001, 2: 161}  # points on each axis of the final grid
DEPTH = 36.0  # a grid may end where the density is this many nats below its peak: e^{−36} ≈ 2·10⁻¹⁶
ROUNDS = 20  # largest number of times that a grid moves or shrinks
RESOLVED = 3e-3  # largest `error` accepted, nats: kinks of a ReLU give about 10⁻⁴; on the full grid a quarter
SEARCH_ROWS = 64


@dataclass(frozen=True)
class GridPosterior:
    """p(z|x) of N rows, each on its own grid, which covers all but about 10⁻¹⁴ of it (eq. 14).

    axes          (N, L, n)  evenly spaced
    log_density   (N, n), or (N, n, n) for L = 2: ln p(z|x); [i, j, k] is z = (axes[i, 0, j], axes[i, 1, k])
    log_px        (N,)       ln p(x)
    error         (N,)       the change of ln p(x) without every other point, ≤ 0.003
    mean, cov     (N, L), (N, L, L)
    """

    axes: np.ndarray
    log_density: np.ndarray
    log_px: np.ndarray
    error: np.ndarray
    mean: np.ndarray
    cov: np.ndarray

    @property
    def cell(self) -> np.ndarray:
        """(N,): dz, the length or area of a point."""
        return (self.axes[:, :, 1] - self.axes[:, :, 0]).prod(axis=1)


def exact_posterior(vae: VAE, X: Any, reach: float = 10.0, points: int | None = None) -> GridPosterior:
    """Compute the exact posterior of each row of X (N, D) under the model's decoder and prior, and ln p(x) (eq. 14, 7).

    reach    the search covers |z| ≤ reach, in the prior's standard deviations
    points   n points on each axis; None: 1001 for L = 1, 161 for L = 2. A thin diagonal ridge needs more
    Raises UsageError for L > 2, for data outside the likelihood's domain, if a posterior extends beyond `reach`, and if
    `error` exceeds 0.003 nats.
    """
    model = ExactModel(vae)
    return posterior_of(model, model.rows(X), reach, points)


def posterior_of(model: ExactModel, X: np.ndarray, reach: float = 10.0, points: int | None = None) -> GridPosterior:
    """`exact_posterior` for a float64 copy of a model and checked rows."""
    reach = checks.positive("reach", reach)
    N, L = X.shape[0], model.latent_dim
    n = POINTS[L] if points is None else checks.integer("points", points, 3)
    axes, log_density = np.empty((N, L, n)), np.empty((N,) + L * (n,))
    log_px, error, mean, cov = np.empty(N), np.empty(N), np.empty((N, L)), np.empty((N, L, L))
    wide = np.linspace(np.full(L, -reach), np.full(L, reach), SEARCH_POINTS[L], axis=1)
    Z = grid_points(wide)
    for start in range(0, N, SEARCH_ROWS):
        searched = model.log_joint(Z, X[start : start + SEARCH_ROWS])
        for row, found in enumerate(searched, start):
            low, high = _support(wide, found.reshape(L * (SEARCH_POINTS[L],)))
            if (low < -reach).any() or (high > reach).any():
                raise UsageError(f"row {row}: its posterior reaches beyond |z| = {reach:g}; give a larger reach=")
            axes[row], log_joint = _close_in(model, X[row : row + 1], low, high, n)
            log_px[row] = _log_integral(axes[row], log_joint)
            every_other = (slice(None, None, 2),) * L
            error[row] = abs(log_px[row] - _log_integral(axes[row, :, ::2], log_joint[every_other]))
            if not error[row] < RESOLVED:
                raise UsageError(
                    f"row {row}: {n} points of an axis do not resolve its posterior: ln p(x) changes by "
                    f"{error[row]:.2g} nats when every other one is left out; give points={4 * n}, say"
                )
            log_density[row] = log_joint - log_px[row]
            mean[row], cov[row] = _moments(axes[row], log_joint)
    return GridPosterior(axes, log_density, log_px, error, mean, cov)


def _support(axes: np.ndarray, log_joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (L,), (L,) of the box outside which p(x, z) is negligible, one grid point wider.

    If it is not negligible at an edge of the grid, the box extends beyond that edge by the width of the grid.
    """
    L, n = axes.shape
    alive = log_joint > log_joint.max() - DEPTH
    low, high = np.empty(L), np.empty(L)
    for dim, axis in enumerate(axes):
        where = np.flatnonzero(alive.any(axis=tuple(d for d in range(L) if d != dim)))
        width = axis[-1] - axis[0]
        low[dim] = axis[where[0] - 1] if where[0] > 0 else axis[0] - width
        high[dim] = axis[where[-1] + 1] if where[-1] < n - 1 else axis[-1] + width
    return low, high


def _close_in(
    model: ExactModel, x: np.ndarray, low: np.ndarray, high: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Move and shrink grids until one covers the posterior and is half full → (axes (L, n), ln p(x, z) on it)."""
    for _ in range(ROUNDS):
        axes = np.linspace(low, high, n, axis=1)
        log_joint = model.log_joint(grid_points(axes), x)[0].reshape(model.latent_dim * (n,))
        inner_low, inner_high = _support(axes, log_joint)
        inside = (inner_low >= low).all() and (inner_high <= high).all()
        if inside and (inner_high - inner_low >= 0.5 * (high - low)).all():
            break
        low, high = inner_low, inner_high
    return axes, log_joint


def _log_integral(axes: np.ndarray, log_values: np.ndarray) -> float:
    """ln Σ e^{log_values} dz (eq. 2)."""
    from scipy.special import logsumexp

    return float(logsumexp(log_values) + np.log(axes[:, 1] - axes[:, 0]).sum())


def _moments(axes: np.ndarray, log_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (L,) and covariance (L, L) of the density proportional to e^{log_values}."""
    p, z = np.exp(log_values - log_values.max()).ravel(), grid_points(axes)
    p /= p.sum()
    mean = p @ z
    return mean, (p[:, None] * (z - mean)).T @ (z - mean)
