"""normal: Box–Muller on two 24-bit words, in float64 and in straight-line code that LLVM can vectorise.

    radius = √(−2 ln u),  u = (2a + 1) 2⁻²⁵ in (0, 1)
    cos 2πv, sin 2πv,     v = b 2⁻²⁴ in [0, 1)                  v = q/4 + f, |f| ≤ ⅛: Taylor in 2πf, turned by q

u and f are exact: radius, cosine and sine are good to 2 ulp (tests/test_math.py), near their zeros too.
"""

import math

import numpy as np

from ._math import log, polynomial, scalar

_SIN = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(7, 0, -1))
_COS = tuple((-1) ** k / math.factorial(2 * k) for k in range(8, 0, -1))


@scalar
def radius(a):
    """√(−2 ln u) of the word a, from 0 to 2²⁴ − 1."""
    return math.sqrt(-2.0 * log(np.float64(2 * a + 1) * 2.0**-25))


@scalar
def cos_sin_of_turn(b):
    """cos and sin of b 2⁻²⁴ turns, b a whole number from 0 to 2²⁴ − 1."""
    quarter = (b + np.int64(1 << 21)) >> np.int64(22)
    t = np.float64(b - (quarter << np.int64(22))) * (2 * math.pi * 2.0**-24)
    q = t * t
    s = t + t * q * polynomial(q, _SIN)
    c = 1.0 + q * polynomial(q, _COS)
    odd = (quarter & np.int64(1)) == 1
    x = s if odd else c
    y = c if odd else s
    minus_x = ((quarter + np.int64(1)) & np.int64(2)) == 2
    minus_y = (quarter & np.int64(2)) == 2
    return (-x if minus_x else x), (-y if minus_y else y)
