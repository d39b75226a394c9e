"""divergences: of a distribution q from a distribution p: KL (eq. 5) and Bhattacharyya (eq. 6).

    KL(p‖q)   = ∫ p ln(p/q) = E_p[ln p/q]     ≥ 0, 0 only for p = q, not symmetric; +∞ where q = 0 < p          (eq. 5)
    D_B(p, q) = −ln ∫ √(p q)                  ≥ 0, 0 only for p = q, symmetric; +∞ if supports are disjoint     (eq. 6)

For probabilities, for samples, and for Gaussians. Nats. `drop_in.py` shows why the second cannot replace the first in
eq. 8–11.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UsageError
from .expectations import Estimate, Function, mean_and_error
from .inputs import covariance, depth, numbers, probabilities, same_shape


def kl_discrete(p: Any, q: Any) -> float:
    """KL(p‖q) = Σᵢ pᵢ ln(pᵢ/qᵢ), +∞ where qᵢ = 0 < pᵢ; a term with pᵢ = 0 is 0 (eq. 5). p, q (n,): probabilities."""
    from scipy.special import rel_entr

    p, q = _pair(p, q)
    return float(rel_entr(p, q).sum())


def kl_sampled(samples: Any, log_p: Function, log_q: Function) -> Estimate:
    """KL(p‖q) ≈ (1/n) Σᵢ [ln p(xᵢ) − ln q(xᵢ)], xᵢ ~ p (eq. 5 by eq. 4); +∞, error NaN, once a q(xᵢ) is 0.

    samples        (n,), or (n, L): draws from p
    log_p, log_q   the logarithms of the densities, of all samples at once: (n,)
    """
    x = numbers("samples", samples, 2 if depth(samples) == 2 else 1)
    ln_p, ln_q = np.asarray(log_p(x), np.float64), np.asarray(log_q(x), np.float64)
    same_shape(samples=x[..., 0] if x.ndim > 1 else x, log_p=ln_p, log_q=ln_q)
    if np.isneginf(ln_p).any():
        raise UsageError("samples: expected draws from p; p is 0 at one of them")
    if np.isneginf(ln_q).any():
        return Estimate(math.inf, math.nan, ln_q.size)
    return mean_and_error(ln_p - ln_q)


def kl_gaussian(mean_p: Any, cov_p: Any, mean_q: Any, cov_q: Any) -> float:
    """KL(N(μ_p, Σ_p) ‖ N(μ_q, Σ_q)) = ½ [tr(Σ_q⁻¹ Σ_p) + δᵀ Σ_q⁻¹ δ − L + ln(|Σ_q|/|Σ_p|)], δ = μ_q − μ_p (eq. 5).

    mean (L,); cov (L, L), or (L,): the variances of a diagonal one. With μ_q = 0 and Σ_q = I it is eq. 16.
    """
    delta, cov_p, cov_q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    trace = np.trace(np.linalg.solve(cov_q, cov_p))
    distance = delta @ np.linalg.solve(cov_q, delta)
    return float(0.5 * (trace + distance - delta.size + _log_det(cov_q) - _log_det(cov_p)))


def bhattacharyya_discrete(p: Any, q: Any) -> float:
    """D_B(p, q) = −ln Σᵢ √(pᵢ qᵢ), +∞ only if no i has both (eq. 6). p, q (n,): probabilities."""
    p, q = _pair(p, q)
    overlap = float(np.sqrt(p * q).sum())
    return max(0.0, -math.log(overlap)) if overlap > 0 else math.inf  # overlap ≤ 1, but for rounding


def bhattacharyya_gaussian(mean_p: Any, cov_p: Any, mean_q: Any, cov_q: Any) -> float:
    """D_B = ⅛ δᵀ Σ⁻¹ δ + ½ ln(|Σ| / √(|Σ_p| |Σ_q|)), Σ = ½ (Σ_p + Σ_q), δ = μ_q − μ_p (eq. 6; Kailath 1967).

    Arguments as in `kl_gaussian`.
    """
    delta, cov_p, cov_q = _gaussians(mean_p, cov_p, mean_q, cov_q)
    middle = 0.5 * (cov_p + cov_q)
    determinants = _log_det(middle) - 0.5 * (_log_det(cov_p) + _log_det(cov_q))
    return float(0.125 * delta @ np.linalg.solve(middle, delta) + 0.5 * determinants)


def _pair(p: Any, q: Any) -> tuple[np.ndarray, np.ndarray]:
    p, q = probabilities("p", p), probabilities("q", q)
    same_shape(p=p, q=q)
    return p, q


def _gaussians(mean_p: Any, cov_p: Any, mean_q: Any, cov_q: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean_p, mean_q = numbers("mean_p", mean_p, 1), numbers("mean_q", mean_q, 1)
    same_shape(mean_p=mean_p, mean_q=mean_q)
    dims = mean_p.size
    return mean_q - mean_p, covariance("cov_p", cov_p, dims), covariance("cov_q", cov_q, dims)


def _log_det(cov: np.ndarray) -> float:
    return float(np.linalg.slogdet(cov)[1])


# ---- the claim ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DifferentSupports:
    """A narrow p inside a broad q: KL in both directions, and D_B; then D_B of two without common support."""

    kl_narrow_broad: float
    kl_broad_narrow: float
    bhattacharyya: float
    bhattacharyya_apart: float


def different_supports() -> DifferentSupports:
    """p on two of four states, q on all (eq. 5, 6): KL(p‖q) = ln 2, KL(q‖p) = +∞, and D_B = ½ ln 2 either way.

    The article says that D_B has no problem with infinity. One remains: D_B = +∞ if p and q have no common support.
    """
    narrow, broad = [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]
    return DifferentSupports(
        kl_narrow_broad=kl_discrete(narrow, broad),
        kl_broad_narrow=kl_discrete(broad, narrow),
        bhattacharyya=bhattacharyya_discrete(narrow, broad),
        bhattacharyya_apart=bhattacharyya_discrete(narrow, narrow[::-1]),
    )
