"""curved: the activations that bend everywhere, as array code and as points of the loops in `dense.py`.

That file has their equations, and imports this one when one of them is used.
"""

from ._math import exp_negative, expm1_negative, like, log1p_unit, point, scalar


def _sigmoid_reference(xp, A):
    e = xp.exp(-xp.abs(A))
    return xp.where(A >= 0, 1, e) / (1 + e)


def _silu_slope_reference(xp, Y, A):
    s = _sigmoid_reference(xp, A)
    return s + Y * (1 - s)


@scalar
def tanh(a):
    """−m/(2 + m) with m = e^{−2|a|} − 1, and the sign of a."""
    m = expm1_negative(like(a, -2.0) * abs(a))
    t = -m / (like(a, 2.0) + m)
    return -t if a < 0 else t


@point
def _tanh_slope(d, y, a):
    return d * (like(y, 1.0) - y * y)


@scalar
def sigmoid(a):
    """1/(1 + e^{−a}), the same as e^{a}/(1 + e^{a}): whichever has no overflow."""
    one = like(a, 1.0)
    e = exp_negative(-abs(a))
    return (one if a >= 0 else e) / (one + e)


@point
def _sigmoid_slope(d, y, a):
    return d * (y * (like(y, 1.0) - y))


@scalar
def softplus(a):
    """ln(1 + e^{a}) = max(a, 0) + ln(1 + e^{−|a|})."""
    positive = like(a, 0.0) if a < 0 else a  # NaN stays NaN
    return positive + log1p_unit(exp_negative(-abs(a)))


@point
def _softplus_slope(d, y, a):
    return d * -expm1_negative(-y)


@point
def _silu(a):
    return a * sigmoid(a)


@point
def _silu_slope(d, y, a):
    s = sigmoid(a)
    return d * (s + y * (like(y, 1.0) - s))


# f(A), f′ from what is kept; the same as points; operations for each element, forward and backward
CURVED = {
    "tanh": (lambda xp, A: xp.tanh(A), lambda xp, Y, A: 1 - Y * Y, tanh, _tanh_slope, (1, 3)),
    "sigmoid": (_sigmoid_reference, lambda xp, Y, A: Y * (1 - Y), sigmoid, _sigmoid_slope, (1, 3)),
    "softplus": (
        lambda xp, A: xp.maximum(A, 0) + xp.log1p(xp.exp(-xp.abs(A))),
        lambda xp, Y, A: -xp.expm1(-Y),
        softplus, _softplus_slope, (1, 3),
    ),
    "silu": (lambda xp, A: A * _sigmoid_reference(xp, A), _silu_slope_reference, _silu, _silu_slope, (2, 5)),
}  # fmt: skip
