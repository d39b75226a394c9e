"""normal: Box–Muller on two 24-bit words, in float64 and in straight-line code that LLVM can vectorise.

    radius = √(−2 ln u),  u = (2a + 1) 2⁻²⁵ in (0, 1)
    cos 2πv, sin 2πv,     v = b 2⁻²⁴ in [0, 1)                  v = q/4 + f, |f| ≤ ⅛: Taylor in 2πf, turned by q

u and f are exact: radius, cosine and sine are good to 2 ulp (tests/test_math.py), near their zeros too.
"""

import math

import numpy as np

from ._math import _scalar
from ._special import log


@_scalar
def radius(a):
    """√(−2 ln u) of the word a, from 0 to 2²⁴ − 1."""
    return math.sqrt(-2.0 * log(np.float64(2 * a + 1) * 2.0**-25))


@_scalar
def cos_sin_of_turn(b):
    """cos and sin of b 2⁻²⁴ turns, b a whole number from 0 to 2²⁴ − 1."""
    quarter = (b + np.int64(1 << 21)) >> np.int64(22)
    t = np.float64(b - (quarter << np.int64(22))) * (2 * math.pi * 2.0**-24)
    q = t * t
    s = -1 / 1307674368000
    s = s * q + 1 / 6227020800
    s = s * q - 1 / 39916800
    s = s * q + 1 / 362880
    s = s * q - 1 / 5040
    s = s * q + 1 / 120
    s = s * q - 1 / 6
    s = t + t * q * s
    c = 1 / 20922789888000
    c = c * q - 1 / 87178291200
    c = c * q + 1 / 479001600
    c = c * q - 1 / 3628800
    c = c * q + 1 / 40320
    c = c * q - 1 / 720
    c = c * q + 1 / 24
    c = c * q - 0.5
    c = 1.0 + q * c
    odd = (quarter & np.int64(1)) == 1
    x = s if odd else c
    y = c if odd else s
    minus_x = ((quarter + np.int64(1)) & np.int64(2)) == 2
    minus_y = (quarter & np.int64(2)) == 2
    return (-x if minus_x else x), (-y if minus_y else y)
