"""gaussian: raw decoder outputs in, per-row loss and gradient out, with a variance for each feature (eq. 20–21) or one
fixed σ (eq. 22).

For a mean m, a log-variance s (clamped to c = min(max(s, −10), 10)) and a value x:

    −ln p(x|z) = Σ_d  ½ [(x − m)² e^{−c} + c + ln 2π]
    dm         = w (m − x) e^{−c}
    ds         = w ½ [1 − (x − m)² e^{−c}]  where −10 ≤ s ≤ 10, else 0

    fixed σ    −ln p(x|z) = Σ_d ½ [(x − m)²/σ² + ln 2πσ²];   dm = w (m − x)/σ²

The clamp keeps a feature that is constant from driving σ to 0 and the likelihood to infinity. How often it held is
counted, because a model that lives on the clamp is not the model that was asked for.

Shapes: rows R = S·B, sample by sample; out, d_out (R, 2D): mean, then log-variance; fixed σ: (R, D); X (B, D), row r of
`out` belongs to row r mod B of X; nll_rows (R,); weight a number, or (R,) or (S, B); clamped (1,) int64.
Nats. dtype: float32 or float64, all the same but `clamped`, C-contiguous.
"""

import math

from . import _cuda
from ._likelihood import one_output
from ._math import exp, like, point
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column
from ._two_outputs import two_clamped_outputs

LOGVAR_MIN, LOGVAR_MAX = -10.0, 10.0
LN_2PI = math.log(2 * math.pi)


def reference(xp, nll_rows, d_out, clamped, out, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient, mean and log-variance from the decoder (eq. 20, 21).

    nll_rows   (R,)     out: nats, summed over D, not weighted
    d_out      (R, 2D)  out: weight × ∂nll/∂out; None: nll_rows alone is written
    clamped    (1,)     in and out: the number of clamped log-variances is added
    out        (R, 2D)  mean, then log-variance
    X          (B, D)   any real; B divides R
    weight              the weight of each row in the loss
    """
    B, D = X.shape
    out = out.reshape(-1, B, 2 * D)
    mean, logvar = out[:, :, :D], out[:, :, D:]
    c = xp.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)
    precision = xp.exp(-c)
    delta = mean - X
    squared = delta * delta * precision
    nll_rows.reshape(-1, B)[...] = (0.5 * (squared + c)).sum(axis=2) + D * 0.5 * LN_2PI
    if d_out is None:
        return
    inside = (logvar >= LOGVAR_MIN) & (logvar <= LOGVAR_MAX)
    clamped += (~inside).sum()
    d_out = d_out.reshape(-1, B, 2 * D)
    weight = as_column(weight, B)
    d_out[:, :, :D] = weight * delta * precision
    d_out[:, :, D:] = xp.where(inside, weight * (0.5 * (1 - squared)), 0)


def fixed_reference(xp, nll_rows, d_mean, mean, X, weight, sigma):
    """Per-row −ln p(x|z) and its weighted gradient for one fixed σ (eq. 22).

    nll_rows   (R,)    out: nats, summed over D, not weighted
    d_mean     (R, D)  out: weight × ∂nll/∂mean; None: nll_rows alone is written
    mean       (R, D)
    X          (B, D)  any real; B divides R
    weight             the weight of each row in the loss
    sigma              a number > 0
    """
    B, D = X.shape
    delta = mean.reshape(-1, B, D) - X
    nll_rows.reshape(-1, B)[...] = 0.5 * ((delta * delta) / sigma**2 + (LN_2PI + 2 * math.log(sigma))).sum(axis=2)
    if d_mean is None:
        return
    weight = as_column(weight, B)
    d_mean.reshape(-1, B, D)[...] = weight * delta / sigma**2


@point
def _gaussian(m, s, x):
    """(loss less ½ ln 2π, slopes by m and s, whether s is not clamped) of one feature."""
    half, one = like(x, 0.5), like(x, 1.0)
    low, high = like(x, LOGVAR_MIN), like(x, LOGVAR_MAX)
    c = low if s < low else s  # NaN stays NaN
    c = high if c > high else c
    inside = c == s
    precision, delta = exp(-c), m - x
    squared = delta * delta * precision
    ds = half * (one - squared) if inside else like(x, 0.0)
    return half * (squared + c), delta * precision, ds, inside


@point
def _squared(m, x):
    """(x − m)², and its slope by m."""
    delta = m - x
    return delta * delta, like(x, 2.0) * delta


fused = two_clamped_outputs(_gaussian, 0.5 * LN_2PI)
cuda = _cuda.likelihood("gaussian", "gaussian")
_fixed_fused, _fixed_cuda = one_output(_squared), _cuda.likelihood("gaussian", "gaussian_fixed")


def _numbers(features, sigma):
    """1/2σ² and D ½ ln 2πσ²: the loss of a row is Σ (x − m)² times the one, plus the other."""
    return 0.5 * sigma**-2, features * (0.5 * LN_2PI + math.log(sigma))


def fixed_fused(nll_rows, d_mean, mean, X, weight, sigma):
    """The fused `fixed_reference`."""
    _fixed_fused(nll_rows, d_mean, mean, X, weight, *_numbers(X.shape[1], sigma))


def fixed_cuda(nll_rows, d_mean, mean, X, weight, sigma):
    """The kernel of `gaussian.cu`; arguments as `fixed_reference`."""
    _fixed_cuda(nll_rows, d_mean, mean, X, weight, *_numbers(X.shape[1], sigma))


def example(rng, dtype, S, B, D, case):
    """Log-variances of which some are clamped."""
    out = normal(rng, dtype, S * B, 2 * D)
    out[:, D:] *= 8
    X, weight = normal(rng, dtype, B, D), row_weight(rng, dtype, S, B, case)
    return poison(dtype, S * B), poison(dtype, S * B, 2 * D), counter(), out, X, weight


def fixed_example(rng, dtype, S, B, D, case):
    """Means and values some σ apart."""
    mean, X, weight = normal(rng, dtype, S * B, D), normal(rng, dtype, B, D), row_weight(rng, dtype, S, B, case)
    return poison(dtype, S * B), poison(dtype, S * B, D), mean, X, weight, 0.3


OPS = {
    "gaussian": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_out"), updated=("clamped",), optional=("d_out",), cases=WEIGHTS,
        scale=lambda nll_rows, d_out, clamped, out, X, weight: X.shape[1] * math.exp(LOGVAR_MAX),
        flops=lambda nll_rows, d_out, clamped, out, *_: 8 * out.size,
    ),
    "gaussian_fixed": Op(
        fixed_reference, fixed_fused, fixed_cuda, fixed_example,
        outputs=("nll_rows", "d_mean"), optional=("d_mean",), cases=WEIGHTS,
        scale=lambda nll_rows, d_mean, mean, X, weight, sigma: 10 * X.shape[1] / sigma**2,
        flops=lambda nll_rows, d_mean, mean, *_: 4 * mean.size,
    ),
}  # fmt: skip
