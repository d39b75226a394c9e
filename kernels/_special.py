"""log, ln x! and ratios of Γ that LLVM can vectorise, for Numba kernels; and where the references find theirs.

    log(x)          x = 2ᵏ m, √½ ≤ m < √2, s = (m − 1)/(m + 1):  ln x = k ln 2 + 2 Σₖ s²ᵏ⁺¹/(2k+1),  |s| < 0.172
    stirling        ln Γ(y) = (y − ½) ln y − y + ½ ln 2π + Σₖ B₂ₖ/(2k(2k−1) y²ᵏ⁻¹) and its derivative
                    ψ(y) = ln y − 1/(2y) − Σₖ B₂ₖ/(2k y²ᵏ): for y ≥ 8 eight terms leave less than 2·10⁻¹⁶
    log_factorial   a table below 256; above it, stirling(x + 1)
    log_rising      Γ(x+θ)/Γ(θ) = θ (θ+1) … (θ+x−1), the first eight factors as they are, Γ(x+θ)/Γ(θ+8) by stirling;
                    its derivative: 1/θ + 1/(θ+1) + … + 1/(θ+x−1)

`log` is right to 2 ulp for float32 and float64, for normal x > 0; +∞ and NaN are kept. The others are for float64
alone, with errors below 10⁻¹⁴ of the largest number that comes up on the way (tests/test_special.py).
Source of the series: Abramowitz & Stegun 1964, 6.1.41 and 6.3.18.
"""

import math
from importlib import import_module

import numpy as np
from numba import njit

from ._math import _LN2_HI_32, _LN2_HI_64, _LN2_LO_32, _LN2_LO_64, _SCALAR, _by_dtype

# Too long for LLVM to inline by itself, and with a call in it no loop is vectorised.
_inlined = njit(forceinline=True, **_SCALAR)


def special(xp):
    """scipy.special for NumPy, cupyx.scipy.special for CuPy."""
    return import_module("scipy.special" if xp.__name__ == "numpy" else "cupyx.scipy.special")


# ---- the logarithm --------------------------------------------------------------------------------------------------


@_inlined
def _log_32(x):
    i = np.float32(x).view(np.int32)
    k = (i - np.int32(0x3F3504F3)) >> np.int32(23)  # the bits of √½
    m = np.int32(i - (k << np.int32(23))).view(np.float32)
    s = (m - np.float32(1)) / (m + np.float32(1))
    q = s * s
    p = np.float32(2 / 9)
    p = p * q + np.float32(2 / 7)
    p = p * q + np.float32(2 / 5)
    p = p * q + np.float32(2 / 3)
    n = np.float32(k)
    y = n * _LN2_HI_32 + (np.float32(2) * s + (s * q * p + n * _LN2_LO_32))
    return y if x < np.float32(np.inf) else x  # NaN passes too


@_inlined
def _log_64(x):
    i = np.float64(x).view(np.int64)
    k = (i - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    m = np.int64(i - (k << np.int64(52))).view(np.float64)
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    p = 2 / 21
    p = p * q + 2 / 19
    p = p * q + 2 / 17
    p = p * q + 2 / 15
    p = p * q + 2 / 13
    p = p * q + 2 / 11
    p = p * q + 2 / 9
    p = p * q + 2 / 7
    p = p * q + 2 / 5
    p = p * q + 2 / 3
    n = np.float64(k)
    y = n * _LN2_HI_64 + (2.0 * s + (s * q * p + n * _LN2_LO_64))
    return y if x < np.inf else x


log = _by_dtype(_log_32, _log_64)


# ---- the gamma function, in float64 ---------------------------------------------------------------------------------

_HALF_LN_2PI = 0.5 * math.log(2 * math.pi)
_TABLE = np.array([math.lgamma(n + 1) for n in range(256)])
_TABLE[:2] = 0.0


@_inlined
def stirling(y):
    """(ln Γ(y), ψ(y)) for y ≥ 8."""
    log_y, r = _log_64(y), 1.0 / y
    q = r * r
    p = -3617 / 122400
    p = p * q + 1 / 156
    p = p * q - 691 / 360360
    p = p * q + 1 / 1188
    p = p * q - 1 / 1680
    p = p * q + 1 / 1260
    p = p * q - 1 / 360
    p = p * q + 1 / 12
    d = 3617 / 8160
    d = d * q - 1 / 12
    d = d * q + 691 / 32760
    d = d * q - 1 / 132
    d = d * q + 1 / 240
    d = d * q - 1 / 252
    d = d * q + 1 / 120
    d = d * q - 1 / 12
    return (y - 0.5) * log_y - y + _HALF_LN_2PI + p * r, log_y - 0.5 * r + d * q


@_inlined
def log_factorial(x):
    """ln x! for a whole x ≥ 0."""
    n = x if x < 255.0 else 255.0  # NaN takes the last, and the series below
    small = _TABLE[int(n if n > 0.0 else 0.0)]
    large, _ = stirling(x + 1.0)
    return small if x < 256.0 else large


@_inlined
def log_rising(x, theta, lgamma_8, digamma_8):
    """(ln Γ(x+θ) − ln Γ(θ), its derivative by θ) for a whole x ≥ 0 and θ > 0; the last two are stirling(θ + 8)."""
    product, slope = 1.0, 0.0
    for i in range(8):
        factor = theta + i
        product *= factor if i < x else 1.0
        slope += 1.0 / factor if i < x else 0.0
    lgamma, digamma = stirling(x + theta if x > 8.0 else 8.0 + theta)
    return _log_64(product) + (lgamma - lgamma_8), slope + (digamma - digamma_8)
