"""expectations: numerical integration and sampling (eq. 1–4), and the mistake of mixing them up.

    E[f(x)] = ∫ f(x) p(x) dx                                                             (eq. 1, 4)
            ≈ Σᵢ f(xᵢ) p(xᵢ) (xᵢ − xᵢ₋₁)       points that we choose: p is a factor      (eq. 2)
            ≈ (1/n) Σᵢ f(xᵢ),  xᵢ ~ p          points drawn from p: p is not a factor    (eq. 3, 4)

Likely values occur more often in a sample, which accounts for p(xᵢ). To multiply by p(xᵢ) again is to estimate
∫ f(x) p(x)² dx, which is not an expectation under p: even its unit is wrong.

The first functions take any density and any sample; `two_ways` and `sampling_rate` measure the article's claims.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import checks
from ...errors import UsageError
from .inputs import numbers

Function = Callable[[np.ndarray], Any]  # applied to an array elementwise


@dataclass(frozen=True)
class Estimate:
    """An estimate from n samples: `value` with `error`, one standard error (NaN for n = 1) (eq. 3)."""

    value: float
    error: float
    n: int


def by_quadrature(density: Function, points: Any, f: Function | None = None) -> float:
    """E[f(x)] ≈ Σᵢ f(xᵢ) p(xᵢ) (xᵢ − xᵢ₋₁), i = 1 … n (eq. 2; without f, eq. 1).

    density   p, of an array of points
    points    (n + 1,) ascending: x₀ < x₁ < … < xₙ, which should cover nearly all of p
    f         None for f(x) = x
    For a smooth p that vanishes at both ends, the error with evenly spaced points falls faster than any power of n.
    """
    x = numbers("points", points, 1)
    steps = np.diff(x)
    if x.size < 2 or (steps <= 0).any():
        raise UsageError("points: expected at least two, each larger than the one before")
    return float(np.sum(_at(f, x[1:]) * _at(density, x[1:]) * steps))


def by_sampling(samples: Any, f: Function | None = None) -> Estimate:
    """E[f(x)] ≈ (1/n) Σᵢ f(xᵢ) for xᵢ ~ p, with its standard error s/√n (eq. 3; with f, eq. 4).

    samples   (n,) draws from p; f: None for f(x) = x
    """
    x = numbers("samples", samples, 1)
    return mean_and_error(_at(f, x))


def weighted_again(samples: Any, density: Function, f: Function | None = None) -> Estimate:
    """The mistake: (1/n) Σᵢ f(xᵢ) p(xᵢ) for xᵢ ~ p. It converges to ∫ f(x) p(x)² dx, not to E[f(x)] (against eq. 4)."""
    x = numbers("samples", samples, 1)
    return mean_and_error(_at(f, x) * _at(density, x))


def mean_and_error(values: np.ndarray) -> Estimate:
    """Return the mean of independent values (n,) and its standard error."""
    n = values.size
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(values.mean()), error, n)


def _at(f: Function | None, x: np.ndarray) -> np.ndarray:
    if f is None:
        return x
    values = np.asarray(f(x), np.float64)
    if values.shape not in ((), x.shape):
        raise UsageError(f"expected functions that give a number for each of {x.shape} points; got {values.shape}")
    return np.broadcast_to(values, x.shape)


# ---- the claims -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoWays:
    """E[x] under N(mean, std²), which is `mean`, by each method; the result of weighting again, and its limit."""

    exact: float
    quadrature: float
    sampled: Estimate
    weighted_again: Estimate
    weighted_again_limit: float


def two_ways(mean: float = 1.5, std: float = 0.5, points: int = 101, samples: int = 100_000, seed: int = 0) -> TwoWays:
    """The expectation of a Gaussian by integration and by sampling, and the mistake of weighting again (eq. 1–3).

    The mistake converges to ∫ x p(x)² dx = mean / (2 std √π).
    """
    mean = checks.finite_float("mean", mean, lambda x: True, "a number")
    std = checks.positive("std", std, "a standard deviation > 0")
    points, samples = checks.integer("points", points, 2), checks.integer("samples", samples, 2)

    def density(x: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))

    drawn = mean + std * np.random.default_rng(seed).standard_normal(samples)
    return TwoWays(
        exact=mean,
        quadrature=by_quadrature(density, np.linspace(mean - 9 * std, mean + 9 * std, points)),
        sampled=by_sampling(drawn),
        weighted_again=weighted_again(drawn, density),
        weighted_again_limit=mean / (2 * std * math.sqrt(math.pi)),
    )


@dataclass(frozen=True)
class Rate:
    """Root mean square errors (k,) of sampling at `sizes` (k,), and the fitted power of n with its error."""

    sizes: np.ndarray
    errors: np.ndarray
    exponent: float
    exponent_error: float


def sampling_rate(
    draw: Callable[[np.random.Generator, Any], Any] = np.random.Generator.standard_exponential,
    exact: float = 1.0,
    sizes: Any = (16, 64, 256, 1024, 4096),
    repeats: int = 1000,
    seed: int = 0,
) -> Rate:
    """Measure how the error of eq. 3 falls with n: fit a line through (ln n, ln error). Its slope is −½.

    draw      (generator, shape) → independent draws of p; here of the exponential distribution
    exact     E[x]
    sizes     n: at least two
    repeats   independent estimates for each n, over which the square of the error is averaged
    """
    if not hasattr(sizes, "__iter__"):
        raise UsageError(f"sizes={sizes!r}: expected at least two numbers of samples, as in (16, 64, 256)")
    sizes = np.array([checks.integer(f"sizes[{i}]", n) for i, n in enumerate(sizes)])
    if len(set(sizes)) < 2:
        raise UsageError("sizes: expected at least two different numbers of samples")
    repeats = checks.integer("repeats", repeats, 2)
    rng = np.random.default_rng(seed)
    estimates = np.array([np.asarray(draw(rng, (repeats, n))).mean(axis=1) for n in sizes])
    errors = np.sqrt(((estimates - exact) ** 2).mean(axis=1))
    log_n = np.log(sizes) - np.log(sizes).mean()
    slope = float(log_n @ np.log(errors) / (log_n @ log_n))
    # the squared error is nearly χ² with `repeats` degrees of freedom: the error of its logarithm is √(1 / 2 repeats)
    return Rate(sizes, errors, slope, math.sqrt(0.5 / repeats / float(log_n @ log_n)))
