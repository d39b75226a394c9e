"""exp, expm1 and log1p that LLVM can vectorise, for Numba kernels of float32 and float64.

`math.exp` stays a call per element (the Numba wheels carry no vector maths library), ten times slower than the loop
around it. These are straight-line code: range reduction, a polynomial, a bit-cast. Errors: 2 ulp at the most against
a float64 (float32) or 80-bit (float64) oracle, over the whole range (tests/test_math.py).

    exp(x)    x = n ln 2 + r, |r| ≤ ½ ln 2;  eˣ = 2ⁿ Σₖ rᵏ/k!          (Taylor: the first term left out is < ¼ ulp)
    expm1(x)  the same: (2ⁿ − 1) + 2ⁿ (eʳ − 1), so that nothing cancels near 0
    log1p(u)  0 ≤ u ≤ 1: s = u/(2 + u);  ln(1 + u) = 2 artanh s = 2 Σₖ s²ᵏ⁺¹/(2k+1), s ≤ ⅓
    sigmoid(x), tanh(x), softplus(x): their stable forms in e^{−|x|}

The flags: `contract` lets a·b + c become one FMA; never `reassoc` in these scalar functions, which would undo the
two-part ln 2. (The loops of the op files have it, for their sums.)
"""

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from ._cache import CACHE

# For the loops of the op files: division as IEEE has it (Numba's default tests every divisor and vectorises nothing),
# and sums in any order, so that a row's loss is added up in vector lanes. NaN and ±inf keep their meaning.
kernel = njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"}, cache=CACHE, nogil=True)
# For the formulas of one element that a loop calls: part of it, with its flags.
point = njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"}, forceinline=True)
_SCALAR: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract"}}
_scalar = njit(**_SCALAR)

TINY = 1.2e-38  # just above the smallest normal float32: what optimisers flush their moments at

# ln 2 in two parts: HI has so few bits that n·HI is exact for every n that occurs. (fdlibm's split for float64.)
_LN2_HI_64, _LN2_LO_64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LN2_HI_32, _LN2_LO_32 = np.float32(0.693359375), np.float32(math.log(2.0) - 0.693359375)
_LOG2E_64, _LOG2E_32 = 1.4426950408889634, np.float32(1.4426950408889634)


@_scalar
def _expm1_reduced_32(r):
    """eʳ − 1 for |r| ≤ ½ ln 2: r + r²/2! + … + r⁷/7!."""
    p = np.float32(1 / 5040)
    p = p * r + np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    return p * (r * r) + r


@_scalar
def _expm1_reduced_64(r):
    """eʳ − 1 for |r| ≤ ½ ln 2: r + r²/2! + … + r¹³/13!."""
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 0.5
    return p * (r * r) + r


@_scalar
def _power_of_two_32(n):
    """2ⁿ, −126 ≤ n ≤ 127, by writing n into the exponent bits."""
    return np.int32((n + np.int32(127)) << np.int32(23)).view(np.float32)


@_scalar
def _power_of_two_64(n):
    return np.int64((n + np.int64(1023)) << np.int64(52)).view(np.float64)


@_scalar
def _exp_32(x):
    # Below −87.3 the result would be subnormal: 0 instead. Above 88.72 it is infinite. NaN passes both comparisons.
    y = min(max(x, np.float32(-87.3)), np.float32(88.8))
    n = np.floor(y * _LOG2E_32 + np.float32(0.5))
    r = (y - n * _LN2_HI_32) - n * _LN2_LO_32
    k = np.int32(n)
    half = k >> np.int32(1)  # 2ⁿ in two steps: n reaches 128, one more than an exponent holds
    e = (np.float32(1) + _expm1_reduced_32(r)) * _power_of_two_32(half) * _power_of_two_32(k - half)
    e = np.float32(0) if x < np.float32(-87.3) else e
    return e if x == x else x


@_scalar
def _exp_64(x):
    y = min(max(x, -708.3), 709.8)
    n = np.floor(y * _LOG2E_64 + 0.5)
    r = (y - n * _LN2_HI_64) - n * _LN2_LO_64
    k = np.int64(n)
    half = k >> np.int64(1)
    e = (1.0 + _expm1_reduced_64(r)) * _power_of_two_64(half) * _power_of_two_64(k - half)
    e = 0.0 if x < -708.3 else e
    return e if x == x else x


@_scalar
def _expm1_negative_32(x):
    """eˣ − 1 for x ≤ 0."""
    y = max(x, np.float32(-87.3))
    n = np.floor(y * _LOG2E_32 + np.float32(0.5))
    r = (y - n * _LN2_HI_32) - n * _LN2_LO_32
    scale = _power_of_two_32(np.int32(n))
    e = (scale - np.float32(1)) + scale * _expm1_reduced_32(r)
    return e if x == x else x


@_scalar
def _expm1_negative_64(x):
    y = max(x, -708.3)
    n = np.floor(y * _LOG2E_64 + 0.5)
    r = (y - n * _LN2_HI_64) - n * _LN2_LO_64
    scale = _power_of_two_64(np.int64(n))
    e = (scale - 1.0) + scale * _expm1_reduced_64(r)
    return e if x == x else x


@_scalar
def _log1p_unit_32(u):
    """ln(1 + u) for 0 ≤ u ≤ 1: eight terms of the artanh series."""
    s = u / (np.float32(2) + u)
    q = s * s
    p = np.float32(1 / 15)
    p = p * q + np.float32(1 / 13)
    p = p * q + np.float32(1 / 11)
    p = p * q + np.float32(1 / 9)
    p = p * q + np.float32(1 / 7)
    p = p * q + np.float32(1 / 5)
    p = p * q + np.float32(1 / 3)
    return np.float32(2) * (s + s * q * p)


@_scalar
def _log1p_unit_64(u):
    """The same with seventeen terms."""
    s = u / (2.0 + u)
    q = s * s
    p = 1 / 33
    p = p * q + 1 / 31
    p = p * q + 1 / 29
    p = p * q + 1 / 27
    p = p * q + 1 / 25
    p = p * q + 1 / 23
    p = p * q + 1 / 21
    p = p * q + 1 / 19
    p = p * q + 1 / 17
    p = p * q + 1 / 15
    p = p * q + 1 / 13
    p = p * q + 1 / 11
    p = p * q + 1 / 9
    p = p * q + 1 / 7
    p = p * q + 1 / 5
    p = p * q + 1 / 3
    return 2.0 * (s + s * q * p)


def _by_dtype(single, double):
    """One name for two functions: compiled code calls the one of its first argument's dtype."""

    def dispatch(x):
        raise TypeError("only for compiled code")

    def choose(x):
        if x is types.float32:
            return lambda x: single(x)
        if x is types.float64:
            return lambda x: double(x)
        return None

    overload(dispatch, jit_options=_SCALAR, inline="always")(choose)  # type: ignore[arg-type]
    return dispatch


exp = _by_dtype(_exp_32, _exp_64)
expm1_negative = _by_dtype(_expm1_negative_32, _expm1_negative_64)
log1p_unit = _by_dtype(_log1p_unit_32, _log1p_unit_64)


def like(x, value):
    """`value` in x's dtype: a bare 0.5 beside a float32 would make the whole expression float64."""
    return x.dtype.type(value)


@overload(like, inline="always")
def _like(x, value):
    dtype = getattr(x, "dtype", x)
    if dtype is types.float32:
        return lambda x, value: np.float32(value)
    if dtype is types.float64:
        return lambda x, value: np.float64(value)
    return None


@_scalar
def sigmoid(x):
    """1/(1 + e^{−x}), the same as e^{x}/(1 + e^{x}): whichever has no overflow."""
    one = like(x, 1.0)
    e = exp(-abs(x))
    return (one if x >= 0 else e) / (one + e)


@_scalar
def softplus(x):
    """ln(1 + e^{x}) = max(x, 0) + ln(1 + e^{−|x|})."""
    positive = like(x, 0.0) if x < 0 else x  # NaN stays NaN
    return positive + log1p_unit(exp(-abs(x)))


@_scalar
def tanh(x):
    """−m/(2 + m) with m = e^{−2|x|} − 1, and the sign of x."""
    m = expm1_negative(like(x, -2.0) * abs(x))
    t = -m / (like(x, 2.0) + m)
    return -t if x < 0 else t
