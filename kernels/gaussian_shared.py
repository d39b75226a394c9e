"""gaussian_shared: raw decoder outputs in, per-row loss and gradient out, with one learned σ for all features (eq. 22).

For a mean m, the learned s = ln σ² (clamped to c = min(max(s, −10), 10), as in `gaussian.py`) and a value x:

    −ln p(x|z) = Σ_d  ½ [(x − m)² e^{−c} + c + ln 2π]
    dm         = w (m − x) e^{−c}
    ds         = Σ_r w_r Σ_d ½ [1 − (x − m)² e^{−c}]  where −10 ≤ s ≤ 10, else 0

At ds = 0 the variance is the mean squared error: the balance of the squared error against the KL is learned.

Shapes: rows R = S·B, sample by sample; mean, d_mean (R, D); logvar, d_logvar (1,); X (B, D), row r of the mean belongs
to row r mod B of X; nll_rows (R,); weight a number, or (R,) or (S, B); clamped (1,) int64: 1 is added where s is
clamped. Nats. dtype: float32 or float64, all the same but `clamped`, C-contiguous; ds is added up in float64.
"""

import math

import numpy as np

from . import _cuda
from ._math import exp, kernel, like
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column, as_vector
from ._threads import run, share, shared
from .gaussian import LN_2PI, LOGVAR_MAX, LOGVAR_MIN


def reference(xp, nll_rows, d_mean, d_logvar, clamped, mean, logvar, X, weight):
    """Per-row −ln p(x|z), its weighted gradient, and that of the learned ln σ².

    nll_rows   (R,)    out: nats, summed over D, not weighted
    d_mean     (R, D)  out: weight × ∂nll/∂mean; None: nll_rows alone is written
    d_logvar   (1,)    out: Σ_r weight_r ∂nll_r/∂logvar
    clamped    (1,)    in and out: 1 is added if logvar is clamped
    mean       (R, D)
    logvar     (1,)    ln σ²
    X          (B, D)  any real; B divides R
    weight             the weight of each row in the loss
    """
    B, D = X.shape
    c = xp.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)
    precision = xp.exp(-c)
    delta = mean.reshape(-1, B, D) - X
    squared = (delta * delta).sum(axis=2, keepdims=True) * precision
    nll_rows.reshape(-1, B, 1)[...] = 0.5 * (squared + D * (c + LN_2PI))
    if d_mean is None:
        return
    inside = c == logvar
    clamped += ~inside
    weight = as_column(weight, B)
    d_mean.reshape(-1, B, D)[...] = weight * delta * precision
    d_logvar[...] = xp.where(inside, (weight * (0.5 * (D - squared))).sum(dtype="float64"), 0)


@kernel
def _slope(squared_rows, weight, weight_step, features):
    """Σ_r w_r (D − squared_r), by one thread and in float64: the number of threads is not to change its order."""
    total = 0.0
    for r in range(squared_rows.size):
        total += weight[r * weight_step] * (features - squared_rows[r])
    return total


@kernel
def _clamp(s):
    c = like(s, LOGVAR_MIN) if s < like(s, LOGVAR_MIN) else s  # NaN stays NaN
    return like(s, LOGVAR_MAX) if c > like(s, LOGVAR_MAX) else c


@shared
def _gaussian_shared(nll_rows, d_mean, mean, logvar, X, weight, weight_step, t, shares):
    """d_mean, and nll_rows ← Σ_d (μ − x)²/σ²: `_finish` adds the rest."""
    B, D = X.shape
    zero, precision = like(X, 0.0), exp(-_clamp(logvar[0]))
    start, stop = share(t, shares, mean.shape[0], 1)
    for r in range(start, stop):
        b = r % B
        scale = weight[r * weight_step] * precision
        squared = zero
        for j in range(D):
            delta = mean[r, j] - X[b, j]
            squared += delta * delta
            if d_mean is not None:
                d_mean[r, j] = scale * delta
        nll_rows[r] = squared * precision


@kernel
def _finish(nll_rows, d_logvar, clamped, logvar, D, weight, weight_step, gradient):
    half, features, c = like(logvar, 0.5), like(logvar, D), _clamp(logvar[0])
    inside, constant = c == logvar[0], features * (c + like(logvar, LN_2PI))
    if gradient:
        d_logvar[0] = 0.5 * _slope(nll_rows, weight, weight_step, features) if inside else 0.0
        clamped[0] += not inside
    for r in range(nll_rows.size):
        nll_rows[r] = half * (nll_rows[r] + constant)


def fused(nll_rows, d_mean, d_logvar, clamped, mean, logvar, X, weight):
    """The fused `reference`."""
    weight, step = as_vector(weight, X.dtype)
    run(_gaussian_shared, mean.size, nll_rows, d_mean, mean, logvar, X, weight, step)
    _finish(nll_rows, d_logvar, clamped, logvar, X.shape[1], weight, step, d_mean is not None)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(nll_rows, d_mean, d_logvar, clamped, mean, logvar, X, weight):
    """The kernels of `gaussian_shared.cu`; arguments as `reference`."""
    R, (B, D) = mean.shape[0], X.shape
    (blocks,), block = _cuda.rows(R, D)
    partial = _cuda.empty(blocks, "float64")  # what the rows of each block say of ln σ²
    _cuda.launch(
        "gaussian_shared", "gaussian_shared", ((blocks,), block),
        nll_rows, d_mean, partial, mean, logvar, X, weight, R, B, D,
    )  # fmt: skip
    if d_mean is None:
        return
    one_block = (1,), (_cuda.THREADS,)
    _cuda.launch("gaussian_shared", "gaussian_shared_logvar", one_block, d_logvar, clamped, partial, logvar, blocks)


def example(rng, dtype, S, B, D, case):
    """ln σ² inside its range, or clamped."""
    logvar, weight = np.full(1, -10.5 if case == "clamped" else -0.7, dtype), row_weight(rng, dtype, S, B, case)
    outputs = poison(dtype, S * B), poison(dtype, S * B, D), poison(dtype, 1), counter()
    return *outputs, normal(rng, dtype, S * B, D), logvar, normal(rng, dtype, B, D), weight


def _scale(nll_rows, d_mean, d_logvar, clamped, mean, logvar, X, weight):
    return mean.size * math.exp(min(max(-float(logvar[0]), 0), LOGVAR_MAX))


OPS = {
    "gaussian_shared": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_mean", "d_logvar"), updated=("clamped",), optional=("d_mean",),
        cases=(*WEIGHTS, "clamped"), scale=_scale,
        flops=lambda nll_rows, d_mean, d_logvar, clamped, mean, *_: 4 * mean.size,
    )
}  # fmt: skip
