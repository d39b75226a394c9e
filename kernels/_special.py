"""ln x! and ratios of Γ that LLVM can vectorise, for Numba kernels; and where the references find theirs.

    stirling        ln Γ(y) = (y − ½) ln y − y + ½ ln 2π + Σₖ B₂ₖ/(2k(2k−1) y²ᵏ⁻¹) and its derivative
                    ψ(y) = ln y − 1/(2y) − Σₖ B₂ₖ/(2k y²ᵏ): for y ≥ 8 eight terms leave less than 2·10⁻¹⁶
    log_factorial   a table below 256, which small_log_factorial has alone; above it, stirling(x + 1)
    log_rising      Γ(x+θ)/Γ(θ) = θ (θ+1) … (θ+x−1), the first eight factors as they are, Γ(x+θ)/Γ(θ+8) by stirling;
                    its derivative: 1/θ + 1/(θ+1) + … + 1/(θ+x−1)

For float64 alone, with errors below 10⁻¹⁴ of the largest number that comes up on the way (tests/test_special.py).
Source of the series: Abramowitz & Stegun 1964, 6.1.41 and 6.3.18.
"""

import math
from importlib import import_module

import numpy as np

from ._math import log, polynomial, scalar


def special(xp):
    """scipy.special for NumPy, cupyx.scipy.special for CuPy."""
    return import_module("scipy.special" if xp.__name__ == "numpy" else "cupyx.scipy.special")


_HALF_LN_2PI = 0.5 * math.log(2 * math.pi)
_TABLE = np.array([math.lgamma(n + 1) for n in range(256)])
_TABLE[:2] = 0.0


# Of ln Γ and of ψ, the highest power first: B₂ₖ/(2k(2k−1)) and −B₂ₖ/2k.
_LGAMMA = (-3617 / 122400, 1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
_DIGAMMA = (3617 / 8160, -1 / 12, 691 / 32760, -1 / 132, 1 / 240, -1 / 252, 1 / 120, -1 / 12)


@scalar
def stirling(y):
    """(ln Γ(y), ψ(y)) for y ≥ 8."""
    log_y, r = log(y), 1.0 / y
    q = r * r
    lgamma, digamma = polynomial(q, _LGAMMA), polynomial(q, _DIGAMMA)
    return (y - 0.5) * log_y - y + _HALF_LN_2PI + lgamma * r, log_y - 0.5 * r + digamma * q


@scalar
def log_factorial(x):
    """ln x! for a whole x ≥ 0."""
    n = x if x < 255.0 else 255.0  # NaN takes the last, and the series below
    small = _TABLE[int(n if n > 0.0 else 0.0)]
    large, _ = stirling(x + 1.0)
    return small if x < 256.0 else large


@scalar
def small_log_factorial(x):
    """ln x! for a whole x from 0 to 255."""
    return _TABLE[np.uint32(x)]


@scalar
def log_rising(x, theta, lgamma_8, digamma_8):
    """(ln Γ(x+θ) − ln Γ(θ), its derivative by θ) for a whole x ≥ 0 and θ > 0; the last two are stirling(θ + 8)."""
    product, slope = 1.0, 0.0
    for i in range(8):
        factor = theta + i
        product *= factor if i < x else 1.0
        slope += 1.0 / factor if i < x else 0.0
    lgamma, digamma = stirling(x + theta if x > 8.0 else 8.0 + theta)
    return log(product) + (lgamma - lgamma_8), slope + (digamma - digamma_8)
