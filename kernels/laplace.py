"""laplace: raw decoder outputs in, per-row loss and gradient out: absolute error, with a scale for each feature.

For a mean m, a log-scale s (clamped to c = min(max(s, −5), 5)) and a value x:

    −ln p(x|z) = Σ_d  |x − m| e^{−c} + c + ln 2
    dm         = w sign(m − x) e^{−c}                      0 at m = x, where there is no derivative
    ds         = w [1 − |x − m| e^{−c}]  where −5 ≤ s ≤ 5, else 0

The clamp is that of `gaussian.py`, in ln of the scale where that is ln of its square; it is counted alike.

Shapes: rows R = S·B, sample by sample; out, d_out (R, 2D): mean, then log-scale; X (B, D), row r of `out` belongs to
row r mod B of X; nll_rows (R,); weight a number, or (R,) or (S, B); clamped (1,) int64. Nats.
dtype: float32 or float64, all the same but `clamped`, C-contiguous.
"""

import math

from . import _cuda
from ._math import exp, like, point
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column
from ._two_outputs import two_clamped_outputs
from .gaussian import LOGVAR_MAX, LOGVAR_MIN

LOGSCALE_MIN, LOGSCALE_MAX = LOGVAR_MIN / 2, LOGVAR_MAX / 2
LN_2 = math.log(2)


def reference(xp, nll_rows, d_out, clamped, out, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient.

    nll_rows   (R,)     out: nats, summed over D, not weighted
    d_out      (R, 2D)  out: weight × ∂nll/∂out; None: nll_rows alone is written
    clamped    (1,)     in and out: the number of clamped log-scales is added
    out        (R, 2D)  mean, then log-scale
    X          (B, D)   any real; B divides R
    weight              the weight of each row in the loss
    """
    B, D = X.shape
    out = out.reshape(-1, B, 2 * D)
    mean, logscale = out[:, :, :D], out[:, :, D:]
    c = xp.clip(logscale, LOGSCALE_MIN, LOGSCALE_MAX)
    rate = xp.exp(-c)
    delta = mean - X
    error = xp.abs(delta) * rate
    nll_rows.reshape(-1, B)[...] = (error + c).sum(axis=2) + D * LN_2
    if d_out is None:
        return
    inside = (logscale >= LOGSCALE_MIN) & (logscale <= LOGSCALE_MAX)
    clamped += (~inside).sum()
    d_out = d_out.reshape(-1, B, 2 * D)
    weight = as_column(weight, B)
    d_out[:, :, :D] = weight * xp.sign(delta) * rate
    d_out[:, :, D:] = xp.where(inside, weight * (1 - error), 0)


@point
def _laplace(m, s, x):
    """(loss less ln 2, slopes by m and s, whether s is not clamped) of one feature."""
    zero, low, high = like(x, 0.0), like(x, LOGSCALE_MIN), like(x, LOGSCALE_MAX)
    c = low if s < low else s  # NaN stays NaN
    c = high if c > high else c
    inside = c == s
    rate, delta = exp(-c), m - x
    error = abs(delta) * rate
    dm = -rate if delta < zero else rate
    ds = like(x, 1.0) - error if inside else zero
    return error + c, zero if delta == zero else dm, ds, inside


fused = two_clamped_outputs(_laplace, LN_2)
cuda = _cuda.likelihood("laplace", "laplace")


def example(rng, dtype, S, B, D, case):
    """Log-scales of which some are clamped, and one error of 0, where there is no derivative."""
    out, X = 3 * normal(rng, dtype, S * B, 2 * D), normal(rng, dtype, B, D)
    out[0, 0] = X[0, 0]
    weight = row_weight(rng, dtype, S, B, case)
    return poison(dtype, S * B), poison(dtype, S * B, 2 * D), counter(), out, X, weight


OPS = {
    "laplace": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_out"), updated=("clamped",), optional=("d_out",), cases=WEIGHTS,
        scale=lambda nll_rows, d_out, clamped, out, X, weight: X.shape[1] * math.exp(LOGSCALE_MAX),
        flops=lambda nll_rows, d_out, clamped, out, *_: 5 * out.size,
    )
}  # fmt: skip
