"""gaussian_optimal: squared error under the σ that explains this very batch best (eq. 22 with σ̂; Rybkin et al. 2021).

For means m and values x, weighed as the rows are:

    σ̂²         = Σ_r w_r Σ_d (x − m)² / (D Σ_r w_r)             the mean squared error
    −ln p(x|z) = Σ_d  ½ [(x − m)²/σ̂² + ln 2πσ̂²]                on average D/2 (ln 2πσ̂² + 1)
    dm         = w (m − x)/σ̂²

σ̂ depends on m, and yet dm is the whole derivative: at σ̂² the weighted sum of the losses is least, and its derivative
by σ² is 0. ln σ̂² is clamped to [−10, 10], as in `gaussian.py`; where it is, σ² is a constant, and dm is right again.

This is a loss of a batch and no distribution: p(x|z) may not depend on the other rows. What is evaluated and sampled
from is `gaussian_shared` with a σ² that is kept.

Shapes: rows R = S·B, sample by sample; mean, d_mean (R, D); squared_error (1,); X (B, D), row r of the mean belongs to
row r mod B of X; nll_rows (R,); weight a number, or (R,) or (S, B), its sum > 0; clamped (1,) int64: 1 is added where
ln σ̂² is clamped. Nats. dtype: float32 or float64, all the same but `clamped` and `squared_error`, which is float64.
Source: Rybkin, Daniilidis & Levine, "Simple and effective VAE training with calibrated decoders", ICML 2021.
"""

import math

import numpy as np

from . import _cuda
from ._math import kernel, like, point
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column, as_vector
from ._threads import run, share, shared
from .gaussian import LN_2PI, LOGVAR_MAX, LOGVAR_MIN

VARIANCE_MIN, VARIANCE_MAX = math.exp(LOGVAR_MIN), math.exp(LOGVAR_MAX)


def reference(xp, nll_rows, d_mean, squared_error, clamped, mean, X, weight):
    """Per-row loss under the batch's own σ̂², and its weighted gradient.

    nll_rows       (R,)    out: nats, summed over D, not weighted
    d_mean         (R, D)  out: ∂/∂mean of Σ_r weight_r nll_r, σ̂'s part included
    squared_error  (1,)    out: the weighted mean of (x − m)², not clamped
    clamped        (1,)    in and out: 1 is added if ln σ̂² is clamped
    mean           (R, D)
    X              (B, D)  any real; B divides R
    weight                 the weight of each row in the loss
    """
    B, D = X.shape
    weight = as_column(weight, B)
    delta = mean.reshape(-1, B, D) - X
    squared = (delta * delta).sum(axis=2, keepdims=True)
    share = weight / weight.sum(dtype="float64") if getattr(weight, "ndim", 0) else 1 / nll_rows.size
    squared_error[...] = (share * squared).sum(dtype="float64") / D
    variance = xp.clip(squared_error, VARIANCE_MIN, VARIANCE_MAX)
    clamped += variance != squared_error
    precision = (1 / variance).astype(mean.dtype)
    constant = (D * (LN_2PI + xp.log(variance))).astype(mean.dtype)
    nll_rows.reshape(-1, B, 1)[...] = 0.5 * (squared * precision + constant)
    d_mean.reshape(-1, B, D)[...] = weight * delta * precision


@point
def _mean_squared_error(squared_rows, weight, weight_step, D):
    """Σ_r w_r squared_r / (D Σ_r w_r), by one thread: the number of threads is not to change its order."""
    total, weights = 0.0, 0.0
    for r in range(squared_rows.size):
        w = weight[r * weight_step] if weight_step else like(weight, 1.0)
        total += w * squared_rows[r]
        weights += w
    return total / (weights * D)


@shared
def _differences(squared_rows, d_mean, mean, X, t, shares):
    """d_mean ← μ − x and squared_rows ← Σ_d (μ − x)²."""
    B, D = X.shape
    zero = like(X, 0.0)
    start, stop = share(t, shares, mean.shape[0], 1)
    for r in range(start, stop):
        b = r % B
        squared = zero
        for j in range(D):
            delta = mean[r, j] - X[b, j]
            squared += delta * delta
            d_mean[r, j] = delta
        squared_rows[r] = squared


@kernel
def _variance(squared_error, clamped, squared_rows, weight, weight_step, D):
    """σ² in float64, clamped; squared_error ← what it was before."""
    error = _mean_squared_error(squared_rows, weight, weight_step, D)
    variance = VARIANCE_MIN if error < VARIANCE_MIN else error  # NaN stays NaN
    variance = VARIANCE_MAX if variance > VARIANCE_MAX else variance
    squared_error[0] = error
    clamped[0] += variance != error
    return variance


@shared
def _divide(nll_rows, d_mean, weight, weight_step, precision, constant, t, shares):
    """nll_rows from Σ_d (μ − x)², and d_mean from μ − x."""
    half = like(d_mean, 0.5)
    start, stop = share(t, shares, d_mean.shape[0], 1)
    for r in range(start, stop):
        nll_rows[r] = half * (nll_rows[r] * precision + constant)
        scale = weight[r * weight_step] * precision
        for j in range(d_mean.shape[1]):
            d_mean[r, j] *= scale


def fused(nll_rows, d_mean, squared_error, clamped, mean, X, weight):
    """The fused `reference`."""
    weight, step = as_vector(weight, X.dtype)
    run(_differences, mean.size, nll_rows, d_mean, mean, X)
    number, D = X.dtype.type, X.shape[1]
    variance = _variance(squared_error, clamped, nll_rows, weight, step, D)
    numbers = number(1 / variance), number(D * (LN_2PI + math.log(variance)))
    run(_divide, mean.size, nll_rows, d_mean, weight, step, *numbers)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(nll_rows, d_mean, squared_error, clamped, mean, X, weight):
    """The kernels of `gaussian_optimal.cu`; arguments as `reference`."""
    R, (B, D) = mean.shape[0], X.shape
    (blocks,), block = _cuda.rows(R, D)
    partial = _cuda.empty(2 * blocks, "float64")
    _cuda.launch(
        "gaussian_optimal", "gaussian_optimal_errors", ((blocks,), block), nll_rows, partial, mean, X, weight, R, B, D
    )
    _cuda.launch(
        "gaussian_optimal", "gaussian_optimal", ((blocks,), block),
        nll_rows, d_mean, squared_error, clamped, partial, mean, X, weight, blocks, R, B, D,
    )  # fmt: skip


def example(rng, dtype, S, B, D, case):
    """Means whose mean squared error lies inside the range of σ², or below or above it."""
    error = {"clamped from below": 1e-3, "clamped from above": 1e3}.get(case, 0.3)
    X, weight = normal(rng, dtype, B, D), row_weight(rng, dtype, S, B, case)
    mean = np.tile(X, (S, 1)) + np.asarray(error, dtype) * normal(rng, dtype, S * B, D)
    return poison(dtype, S * B), poison(dtype, S * B, D), poison("float64", 1), counter(), mean, X, weight


OPS = {
    "gaussian_optimal": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_mean", "squared_error"), updated=("clamped",), double=("squared_error",),
        cases=(*WEIGHTS, "clamped from below", "clamped from above"),
        scale=lambda nll_rows, d_mean, squared_error, clamped, mean, X, weight: 4 * X.shape[1],
        flops=lambda nll_rows, d_mean, *_: 4 * d_mean.size,
    )
}  # fmt: skip
