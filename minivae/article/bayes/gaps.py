"""gaps: measure how far the encoder is from the exact posterior, separately for each cause. L ≤ 2.

For a row x, with ELBO = −𝓛 of that row (eq. 13) and p(z|x) the exact posterior (eq. 14):

    ln p(x) − ELBO(encoder) = KL(q(z|x) ‖ p(z|x))
                            = [ln p(x) − ELBO(best)] + [ELBO(best) − ELBO(encoder)]
                                approximation gap        amortisation gap                  (Cremer et al. 2018)

where `best` is the diagonal Gaussian with the largest ELBO for this row: the first gap is caused by eq. 15, the second
by one network for all rows.

Shapes: N rows, D features, L latent dimensions. Nats, float64. Nothing is sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import checks
from ...optim import Adam
from ...vae import VAE
from .posterior import GridPosterior, posterior_of
from .quadrature import ExactModel, Rule, grid_points

LOGVAR_BOUNDS = (-30.0, 5.0)  # of the best Gaussian, so that no step of the descent overflows
DESCENT = {"maxfun": 400, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-8}
POLISH = DESCENT | {"maxfun": 40}  # evaluations by the fine rule


@dataclass(frozen=True)
class Gaps:
    """The gaps between an encoder and the exact posterior, for each of N rows, in nats.

    log_px         ln p(x)
    elbo           of the encoder's Gaussian;  best_elbo: of the best diagonal Gaussian
    kl             KL(encoder ‖ exact), integrated directly (eq. 5); equals log_px − elbo
    reverse_kl     KL(exact ‖ encoder)
    approximation  log_px − best_elbo: out of reach of a diagonal Gaussian
    amortisation   best_elbo − elbo: within reach of one, but not reached by the network
    best_mean, best_logvar   (N, L)
    """

    log_px: np.ndarray
    elbo: np.ndarray
    best_elbo: np.ndarray
    kl: np.ndarray
    reverse_kl: np.ndarray
    best_mean: np.ndarray
    best_logvar: np.ndarray

    @property
    def approximation(self) -> np.ndarray:
        return self.log_px - self.best_elbo

    @property
    def amortisation(self) -> np.ndarray:
        return self.best_elbo - self.elbo


def encoder_gaps(vae: VAE, X: Any, reach: float = 10.0, points: int | None = None) -> Gaps:
    """The encoder's suboptimality on the rows of X (N, D), split in two (eq. 13–15; Cremer et al. 2018).

    The best Gaussian of a row is found by descent on its exact 𝓛, from the encoder's, from the posterior's moments and
    from its peak; nothing is sampled. A second or so a row for L = 2. Arguments and errors as in `exact_posterior`.
    """
    model = ExactModel(vae)
    X = model.rows(X)
    posterior, H = posterior_of(model, X, reach, points), model.encode(X)
    nll, kl, _ = model.losses(X, H)
    moments = np.hstack([posterior.mean, np.log(np.einsum("nll->nl", posterior.cov))])
    best_loss, best = _best_gaussians(model, X, (H, moments, _peaks(posterior)))
    forward, reverse = _distances(model, X, H, posterior)
    best_mean, best_logvar = np.hsplit(best, 2)
    return Gaps(posterior.log_px, -(nll + kl), -best_loss, forward, reverse, best_mean, best_logvar)


def _distances(
    model: ExactModel, X: np.ndarray, H: np.ndarray, posterior: GridPosterior
) -> tuple[np.ndarray, np.ndarray]:
    """(KL(encoder ‖ exact) (N,), by the nodes of its Gaussian; KL(exact ‖ encoder) (N,), on the grid) (eq. 5)."""
    (N, _), L = X.shape, model.latent_dim
    forward, reverse = np.empty(N), np.empty(N)
    for n, h in enumerate(H):
        Z = h[:L] + np.exp(0.5 * h[L:]) * model.fine.nodes
        log_exact = model.log_joint(Z, X[n : n + 1])[0] - posterior.log_px[n]
        forward[n] = model.fine.weights @ (_log_gaussian(Z, h) - log_exact)
        log_exact = posterior.log_density[n].ravel()
        ratio = log_exact - _log_gaussian(grid_points(posterior.axes[n]), h)
        reverse[n] = np.exp(log_exact) @ ratio * posterior.cell[n]
    return forward, reverse


def _best_gaussians(model: ExactModel, X: np.ndarray, starts: Any) -> tuple[np.ndarray, np.ndarray]:
    """Minimise 𝓛 → (𝓛 (N,), H (N, 2L)): descend from every start with the coarse rule, from the best with the fine one.

    All rows descend together, because their loss is a sum of independent terms.
    """
    descents = [_descend(model, X, start, model.coarse, DESCENT) for start in starts]
    _, best = _best_of(model, X, [*starts, *descents])  # with the starts, so that no gap is negative
    return _best_of(model, X, [best, _descend(model, X, best, model.fine, POLISH)])


def _best_of(model: ExactModel, X: np.ndarray, candidates: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Choose for each row the candidate (N, 2L) with the smallest 𝓛, by the fine rule → (𝓛 (N,), H (N, 2L))."""
    losses = np.array([sum(model.losses(X, H)[:2]) for H in candidates])
    first = losses.argmin(axis=0)
    rows = np.arange(X.shape[0])
    return losses[first, rows], np.array(candidates)[first, rows]


def _descend(model: ExactModel, X: np.ndarray, start: np.ndarray, rule: Rule, options: Any) -> np.ndarray:
    """Minimise Σ_rows 𝓛 from H = start (N, 2L)."""
    from scipy.optimize import minimize

    (N, _), L = X.shape, model.latent_dim

    def total(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nll, kl, dH = model.losses(X, flat.reshape(N, 2 * L), rule)
        return float((nll + kl).sum()), dH.ravel()

    bounds = N * (L * [(None, None)] + L * [LOGVAR_BOUNDS])
    found = minimize(total, start.ravel(), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return found.x.reshape(N, 2 * L)


def _peaks(posterior: GridPosterior) -> np.ndarray:
    """Return H (N, 2L) of a Gaussian at each posterior's peak, with its curvature there along each axis."""
    N, L, n = posterior.axes.shape
    H = np.empty((N, 2 * L))
    for row, (axes, density) in enumerate(zip(posterior.axes, posterior.log_density, strict=True)):
        peak = np.clip(np.unravel_index(density.argmax(), density.shape), 1, n - 2)
        for dim in range(L):
            step = np.eye(L, dtype=int)[dim]
            f = [density[tuple(peak + k * step)] for k in (-1, 0, 1)]
            precision = -(f[0] - 2 * f[1] + f[2]) / (axes[dim, 1] - axes[dim, 0]) ** 2
            H[row, dim], H[row, L + dim] = axes[dim, peak[dim]], -math.log(max(precision, 1.0))  # no wider than p(z)
    return H


def _log_gaussian(Z: np.ndarray, h: np.ndarray) -> np.ndarray:
    """ln N(z; μ, diag σ²) for Z (G, L) and h = [μ | ln σ²] (2L,): (G,) (eq. 15)."""
    L = h.size // 2
    return -0.5 * ((Z - h[:L]) ** 2 / np.exp(h[L:]) + h[L:] + math.log(2 * math.pi)).sum(axis=1)


# ---- the claim ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MeanGaps:
    """Means over rows of `Gaps`, the smallest of either gap, and the largest difference of the two sides (nats)."""

    log_px: float
    elbo: float
    approximation: float
    amortisation: float
    smallest: float
    residual: float


def small_encoder_gaps(rows: int = 24, steps: int = 300, seed: int = 0) -> MeanGaps:
    """Train a small VAE whose encoder misses eq. 14 for both causes; means over `rows` of its rows.

    residual   the largest |ln p(x) − ELBO − KL(encoder ‖ exact)|, the ELBO by eq. 13 and 16, the KL by eq. 5
    """
    rows, steps = checks.integer("rows", rows), checks.integer("steps", steps)
    rng = np.random.default_rng(seed)
    angles, places = rng.uniform(0, 2 * np.pi, (max(rows, 128), 1)), np.linspace(0, 2 * np.pi, 12, endpoint=False)
    X = (rng.random((len(angles), 12)) < 1 / (1 + np.exp(-4 * np.cos(angles - places)))).astype(np.float64)  # bumps
    vae = VAE(12, 1, (8,), "tanh", likelihood="bernoulli", backend="numpy", dtype="float64", seed=seed)
    optimizer = Adam(0.02)
    for _ in range(steps):
        vae.train_step(X, optimizer)
    gaps = encoder_gaps(vae, X[:rows])
    return MeanGaps(
        log_px=float(gaps.log_px.mean()),
        elbo=float(gaps.elbo.mean()),
        approximation=float(gaps.approximation.mean()),
        amortisation=float(gaps.amortisation.mean()),
        smallest=float(min(gaps.approximation.min(), gaps.amortisation.min())),
        residual=float(np.abs(gaps.log_px - gaps.elbo - gaps.kl).max()),
    )
