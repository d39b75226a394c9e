"""exp, expm1, log1p and log that LLVM can vectorise, for Numba kernels of float32 and float64.

`math.exp` stays a call per element (the Numba wheels carry no vector maths library), ten times slower than the loop
around it. These are straight-line code: range reduction, a polynomial, a bit-cast. Errors: 2 ulp at the most against
a float64 (float32) or 80-bit (float64) oracle, over the whole range (tests/test_math.py).

    exp(x)    x = n ln 2 + r, |r| ≤ ½ ln 2;  eˣ = 2ⁿ Σₖ rᵏ/k!          (Taylor: the first term left out is < ¼ ulp)
    expm1(x)  the same: (2ⁿ − 1) + 2ⁿ (eʳ − 1), so that nothing cancels near 0
    log1p(u)  0 ≤ u ≤ 1: s = u/(2 + u);  ln(1 + u) = 2 artanh s = 2 Σₖ s²ᵏ⁺¹/(2k+1), s ≤ ⅓
    log(x)    x = 2ᵏ m, √½ ≤ m < √2, s = (m − 1)/(m + 1):  ln x = k ln 2 + 2 artanh s, |s| < 0.172; for normal x > 0

The flags: `contract` lets a·b + c become one FMA; never `reassoc` in these scalar functions, which would undo the
two-part ln 2. (The loops of the op files have it, for their sums.)
"""

import math
from typing import Any

import numpy as np
from numba import extending, njit, types

from ._cache import CACHE

intrinsic: Any = extending.intrinsic  # it takes fewer arguments than the function that it is given

# Division as IEEE has it (Numba's default tests every divisor and vectorises nothing), and no arrays made, whose
# references would be counted: not even by x[:] = y, which copies where the two might overlap.
_ALL: dict[str, Any] = {"error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False}
# For the loops of the op files: sums in any order, so that a row's loss is added up in vector lanes. NaN and ±inf keep
# their meaning.
LOOP: dict[str, Any] = {**_ALL, "fastmath": {"reassoc", "contract", "nsz"}, "nogil": True}
kernel = njit(**LOOP, cache=CACHE)
# What a loop calls, and Python never: inlined, since no loop with a call in it is vectorised.
_PART: dict[str, Any] = {**_ALL, "no_cpython_wrapper": True, "forceinline": True}
# For the formulas of one element: part of the loop, with its flags.
point = njit(**_PART, fastmath=LOOP["fastmath"])
scalar = njit(**_PART, fastmath={"contract"})

TINY = 1.2e-38  # just above the smallest normal float32: what optimisers flush their moments at


@intrinsic
def polynomial(context, x, coefficients):
    """c₀ xⁿ + c₁ xⁿ⁻¹ + … + cₙ by Horner's rule, in x's dtype; the coefficients are a constant tuple."""

    def generate(context, builder, signature, values):
        x, packed = values
        total, *rest = (
            context.cast(builder, builder.extract_value(packed, i), kind, signature.return_type)
            for i, kind in enumerate(coefficients)
        )
        for coefficient in rest:
            total = builder.fadd(builder.fmul(total, x), coefficient)
        return total

    return x(x, coefficients), generate


@intrinsic
def bits(context, x):
    """The bits of a floating-point number as an integer, or those of an integer as a floating-point number."""
    to_integer: Any = {types.float32: types.int32, types.float64: types.int64}
    other = to_integer.get(x) or (types.float32 if x.bitwidth == 32 else types.float64)

    def generate(context, builder, signature, values):
        return builder.bitcast(values[0], context.get_value_type(other))

    return other(x), generate


def _functions(real, integer, mantissa, bias, lowest, highest, ln2, root_half, terms):
    """exp, exp_negative, expm1_negative, log1p_unit and log of one dtype.

    real, integer    the dtype, and the integer of as many bits
    mantissa, bias   of its representation: 2ⁿ has the bits (n + bias) << mantissa
    lowest, highest  below the one eˣ would be subnormal, above the other it is infinite
    ln2              in two parts: the first has so few bits that n times it is exact for every n that occurs
    root_half        the bits of √½
    terms            of the series of exp, log1p and log
    """
    exp_terms, log1p_terms, log_terms = terms
    lowest, highest, log2e = real(lowest), real(highest), real(1.4426950408889634)
    ln2_high, ln2_low = real(ln2[0]), real(ln2[1])
    zero, half, one, two, infinity = real(0), real(0.5), real(1), real(2), real(math.inf)
    bias, mantissa, root_half, last_bit = integer(bias), integer(mantissa), integer(root_half), integer(1)
    exp_series = tuple(real(1 / math.factorial(k)) for k in range(exp_terms, 1, -1))
    log1p_series = tuple(real(1 / (2 * k + 1)) for k in range(log1p_terms, 0, -1))
    log_series = tuple(real(2 / (2 * k + 1)) for k in range(log_terms, 0, -1))

    @scalar
    def reduced(y):
        """y = n ln 2 + r → n and eʳ − 1 = r + r²/2! + r³/3! + …"""
        n = np.floor(y * log2e + half)
        r = (y - n * ln2_high) - n * ln2_low
        return integer(n), polynomial(r, exp_series) * (r * r) + r

    @scalar
    def power_of_two(n):
        """2ⁿ, by writing n into the exponent bits."""
        return bits(integer((n + bias) << mantissa))

    @scalar
    def exp(x):
        y = x if x > lowest else lowest  # NaN too
        n, e = reduced(y if y < highest else highest)
        first = n >> last_bit  # 2ⁿ in two steps: n reaches one more than an exponent holds
        e = (one + e) * power_of_two(first) * power_of_two(n - first)
        e = zero if x < lowest else e
        return e if x == x else x

    @scalar
    def exp_negative(x):
        """eˣ for x ≤ 0: `exp` in fewer instructions, with the same bits."""
        n, e = reduced(x if x > lowest else lowest)
        e = (one + e) * power_of_two(n)
        e = zero if x < lowest else e
        return e if x == x else x

    @scalar
    def expm1_negative(x):
        """eˣ − 1 for x ≤ 0."""
        n, e = reduced(x if x > lowest else lowest)
        scale = power_of_two(n)
        e = (scale - one) + scale * e
        return e if x == x else x

    @scalar
    def log1p_unit(x):
        """ln(1 + x) for 0 ≤ x ≤ 1."""
        s = x / (two + x)
        q = s * s
        return two * (s + s * q * polynomial(q, log1p_series))

    @scalar
    def log(x):
        i = bits(real(x))
        k = (i - root_half) >> mantissa
        m = bits(integer(i - (k << mantissa)))
        s = (m - one) / (m + one)
        q = s * s
        n = real(k)
        y = n * ln2_high + (two * s + (s * q * polynomial(q, log_series) + n * ln2_low))
        return y if x < infinity else x  # NaN passes too

    return exp, exp_negative, expm1_negative, log1p_unit, log


_LN2_32 = (0.693359375, math.log(2.0) - 0.693359375)
_LN2_64 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # fdlibm's
_SINGLE = _functions(np.float32, np.int32, 23, 127, -87.3, 88.8, _LN2_32, 0x3F3504F3, (7, 7, 4))
_DOUBLE = _functions(np.float64, np.int64, 52, 1023, -708.3, 709.8, _LN2_64, 0x3FE6A09E667F3BCD, (13, 16, 10))


def _by_dtype(single, double):
    """One name for two functions: compiled code calls the one of its first argument's dtype."""

    def dispatch(x):
        raise TypeError("only for compiled code")

    def choose(x):
        return {types.float32: single.py_func, types.float64: double.py_func}.get(x)

    extending.overload(dispatch, jit_options=single.targetoptions)(choose)
    return dispatch


exp, exp_negative, expm1_negative, log1p_unit, log = (_by_dtype(*pair) for pair in zip(_SINGLE, _DOUBLE, strict=True))


@intrinsic
def like(context, x, value):
    """`value` in x's dtype: a bare 0.5 beside a float32 would make the whole expression float64."""
    dtype = getattr(x, "dtype", x)

    def generate(context, builder, signature, values):
        return context.cast(builder, values[1], value, dtype)

    return dtype(x, value), generate
