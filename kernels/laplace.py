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
from ._math import exp, like
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column, as_vector
from ._threads import add, run, share, shared
from .gaussian import LOGVAR_MAX, LOGVAR_MIN

LOGSCALE_MIN, LOGSCALE_MAX = LOGVAR_MIN / 2, LOGVAR_MAX / 2
LN_2 = math.log(2)


def reference(xp, nll_rows, d_out, clamped, out, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient.

    nll_rows   (R,)     out: nats, summed over D, not weighted
    d_out      (R, 2D)  out: weight × ∂nll/∂out
    clamped    (1,)     in and out: the number of clamped log-scales is added
    out        (R, 2D)  mean, then log-scale
    X          (B, D)   any real; B divides R
    weight              the weight of each row in the loss
    """
    B, D = X.shape
    out = out.reshape(-1, B, 2 * D)
    d_out = d_out.reshape(-1, B, 2 * D)
    mean, logscale = out[:, :, :D], out[:, :, D:]
    c = xp.clip(logscale, LOGSCALE_MIN, LOGSCALE_MAX)
    inside = (logscale >= LOGSCALE_MIN) & (logscale <= LOGSCALE_MAX)
    clamped += (~inside).sum()
    rate = xp.exp(-c)
    delta = mean - X
    error = xp.abs(delta) * rate
    nll_rows.reshape(-1, B)[...] = (error + c + LN_2).sum(axis=2)
    weight = as_column(weight, B)
    d_out[:, :, :D] = weight * xp.sign(delta) * rate
    d_out[:, :, D:] = xp.where(inside, weight * (1 - error), 0)


@shared
def _laplace(nll_rows, d_out, clamped, out, X, weight, weight_step, t, shares):
    B, D = X.shape
    zero, one, ln_2 = like(X, 0.0), like(X, 1.0), like(X, LN_2)
    low, high = like(X, LOGSCALE_MIN), like(X, LOGSCALE_MAX)
    count = 0
    start, stop = share(t, shares, out.shape[0], 1)
    for r in range(start, stop):
        b = r % B
        w = weight[r * weight_step]
        nll = zero
        outside = 0
        for j in range(D):
            s = out[r, D + j]
            c = low if s < low else s  # NaN stays NaN
            c = high if c > high else c
            inside = c == s
            rate = exp(-c)
            delta = out[r, j] - X[b, j]
            error = abs(delta) * rate
            nll += error + c + ln_2
            slope = w * rate
            slope = -slope if delta < zero else slope
            d_out[r, j] = zero if delta == zero else slope
            d_out[r, D + j] = w * (one - error) if inside else zero
            outside += not inside
        nll_rows[r] = nll
        count += outside
    add(clamped, count)


def fused(nll_rows, d_out, clamped, out, X, weight):
    """The fused `reference`."""
    weight, step = as_vector(weight, X.dtype)
    run(_laplace, out.size // 2, nll_rows, d_out, clamped, out, X, weight, step)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(nll_rows, d_out, clamped, out, X, weight):
    """The kernel of `laplace.cu`; arguments as `reference`."""
    _cuda.check(X.dtype, nll_rows, d_out, out)
    _cuda.check("int64", clamped)
    R, (B, D) = out.shape[0], X.shape
    _cuda.launch(
        "laplace", "laplace", X.dtype, _cuda.rows(R, D),
        nll_rows, d_out, clamped, out, X, _cuda.row_weight(weight, X.dtype), R, B, D,
    )  # fmt: skip


def example(rng, dtype, S, B, D, case):
    """Log-scales of which some are clamped, and one error of 0, where there is no derivative."""
    out, X = 3 * normal(rng, dtype, S * B, 2 * D), normal(rng, dtype, B, D)
    out[0, 0] = X[0, 0]
    weight = row_weight(rng, dtype, S, B, case)
    return poison(dtype, S * B), poison(dtype, S * B, 2 * D), counter(), out, X, weight


OPS = {
    "laplace": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_out"), updated=("clamped",), cases=WEIGHTS,
        scale=lambda nll_rows, d_out, clamped, out, X, weight: X.shape[1] * math.exp(LOGSCALE_MAX),
        flops=lambda nll_rows, d_out, *_: 5 * d_out.size,
    )
}  # fmt: skip
