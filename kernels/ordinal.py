"""ordinal: raw decoder outputs in, per-row loss and gradient out, for features that are one of K classes in an order.

One η from the decoder, K − 1 rising thresholds a feature, learned: c_0 = t_0, c_k = c_{k−1} + Δ_k, Δ_k = e^{t_k}, t_k
clamped to [−10, 10] for k ≥ 1. P(x ≤ k|z) = sigmoid(c_k − η). For the class x, with a = c_x − η and b = c_{x−1} − η:

    −ln p(x|z) = Σ_d  ln(1 + e^{−a}) [x < K−1] + ln(1 + e^b) [x > 0] − ln(1 − e^{−Δ_x}) [0 < x < K−1]
                 since sigmoid(a) − sigmoid(b) = sigmoid(a) sigmoid(−b) (1 − e^{b−a}): nothing cancels
    dη         = w (σ_a − σ_b),   σ_a = sigmoid(−a) [x < K−1],  σ_b = sigmoid(b) [x > 0]
    dc_k       = Σ_r w_r (σ_b [x = k+1] − σ_a [x = k])
    dt_0       = Σ_k dc_k
    dt_k       = Δ_k [Σ_{m ≥ k} dc_m − Σ_r w_r [x = k]/(e^{Δ_k} − 1)]  where −10 ≤ t_k ≤ 10, else 0; no second term
                 for the last class

The clamp is counted. Computed in float64 whatever the dtype.

Shapes: rows R = S·B, sample by sample; eta, d_eta (R, D); steps, d_steps (K − 1, D), t; X (B, D) whole numbers held as
floats, row r of η belongs to row r mod B of X; nll_rows (R,); weight a number, or (R,) or (S, B); clamped (1,) int64;
table (4K, D) float64. Nats. dtype: float32 or float64, all the same but `clamped` and `table`, C-contiguous.
Source: McCullagh, "Regression models for ordinal data", 1980; the steps as in statsmodels' OrderedModel.
"""

import math

import numpy as np

from . import _cuda
from ._math import exp, expm1_negative, kernel, log, log1p_unit
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column, as_vector
from .gaussian import LOGVAR_MAX, LOGVAR_MIN

LOGSTEP_MIN, LOGSTEP_MAX = LOGVAR_MIN, LOGVAR_MAX
TABLE_PARTS = 4  # of K rows each: c, ln(1 − e^{−Δ}), dc, and the weight of each class


def reference(xp, nll_rows, d_eta, d_steps, clamped, table, eta, steps, X, weight):
    """Per-row −ln p(x|z), its weighted gradient, and that of the thresholds.

    nll_rows  (R,)        out: nats, summed over D, not weighted
    d_eta     (R, D)      out: weight × ∂nll/∂eta; None: nll_rows alone is written
    d_steps   (K − 1, D)  out: Σ_r weight_r ∂nll_r/∂steps
    clamped   (1,)        in and out: the number of clamped steps is added
    table     (4K, D)     float64, for what depends on the feature alone; unused here
    eta       (R, D)
    steps     (K − 1, D)  t
    X         (B, D)      whole numbers from 0 to K − 1; B divides R
    weight                the weight of each row in the loss
    """
    (B, D), K = X.shape, steps.shape[0] + 1
    eta, t = eta.reshape(-1, B, D).astype("float64"), steps.astype("float64")
    t[1:] = xp.clip(t[1:], LOGSTEP_MIN, LOGSTEP_MAX)
    step = xp.exp(t)
    step[0] = t[0]
    c, column = step.copy(), xp.arange(D)
    for k in range(1, K - 1):
        c[k] += c[k - 1]
    inner = xp.zeros((K, D))
    inner[1:-1] = xp.log(-xp.expm1(-step[1:]))
    x = X.astype("int64")
    below_last, above_first = X < K - 1, X > 0
    a, b = c[xp.minimum(x, K - 2), column] - eta, c[xp.maximum(x - 1, 0), column] - eta
    nll = below_last * _softplus(xp, -a) + above_first * _softplus(xp, b) - inner[x, column]
    nll_rows.reshape(-1, B)[...] = nll.sum(axis=2)
    if d_eta is None:
        return
    inside = t == steps
    clamped += (~inside).sum()
    sigma_a, sigma_b = below_last * _sigmoid(xp, -a), above_first * _sigmoid(xp, b)
    weight = as_column(weight, B) * xp.ones(eta.shape)
    d_eta.reshape(-1, B, D)[...] = weight * (sigma_a - sigma_b)
    total = xp.zeros(D)
    for k in range(K - 2, -1, -1):
        here, above = k == X, k + 1 == X
        total = total + (weight * (sigma_b * above - sigma_a * here)).sum(axis=(0, 1))
        if k:
            rate = xp.exp(-step[k]) / -xp.expm1(-step[k])  # 1/(e^Δ − 1)
            d_steps[k] = inside[k] * step[k] * (total - rate * (weight * here).sum(axis=(0, 1)))
        else:
            d_steps[0] = total


def _softplus(xp, v):
    return xp.maximum(v, 0) + xp.log1p(xp.exp(-xp.abs(v)))


def _sigmoid(xp, v):
    e = xp.exp(-xp.abs(v))
    return xp.where(v >= 0, 1, e) / (1 + e)


@kernel
def _features(table, clamped, steps):
    """c and ln(1 − e^{−Δ}) of each class, then zeros for the sums over the rows."""
    K = steps.shape[0] + 1
    table[K:] = 0.0
    for j in range(steps.shape[1]):
        c = float(steps[0, j])
        table[0, j] = c
        for k in range(1, K - 1):
            t = float(steps[k, j])
            t = LOGSTEP_MIN if t < LOGSTEP_MIN else t  # NaN stays NaN
            t = LOGSTEP_MAX if t > LOGSTEP_MAX else t
            if clamped is not None:
                clamped[0] += t != float(steps[k, j])
            step = exp(t)
            c += step
            table[k, j] = c
            table[K + k, j] = log(-expm1_negative(-step))


# On one thread: the sums over the rows are one for each class and feature.
@kernel
def _ordinal(nll_rows, d_eta, table, eta, X, weight, weight_step):
    B, D = X.shape
    K = table.shape[0] // TABLE_PARTS
    for r in range(eta.shape[0]):
        b = r % B
        w = float(weight[r * weight_step])
        nll = 0.0
        for j in range(D):
            value, e = float(X[b, j]), float(eta[r, j])
            known = 0.0 <= value < K
            x = int(value) if known else 0
            sigma_a, sigma_b = 0.0, 0.0
            if x < K - 1:
                a = table[x, j] - e
                u = exp(-abs(a))
                nll += (-a if a < 0.0 else 0.0) + log1p_unit(u)
                sigma_a = (u if a >= 0.0 else 1.0) / (1.0 + u)
            if x > 0:
                a = table[x - 1, j] - e
                u = exp(-abs(a))
                nll += (a if a > 0.0 else 0.0) + log1p_unit(u)
                sigma_b = (1.0 if a >= 0.0 else u) / (1.0 + u)
            nll -= table[K + x, j] if known else np.nan
            if d_eta is not None:
                d_eta[r, j] = w * (sigma_a - sigma_b)
                table[2 * K + x, j] -= w * sigma_a
                table[2 * K + max(x - 1, 0), j] += w * sigma_b
                table[3 * K + x, j] += w
        nll_rows[r] = nll


@kernel
def _steps(d_steps, table, steps):
    """The slopes by t, from dc and the weight of each class."""
    K = steps.shape[0] + 1
    for j in range(steps.shape[1]):
        total = 0.0
        for k in range(K - 2, 0, -1):
            total += table[2 * K + k, j]
            t = float(steps[k, j])
            step = exp(t)
            rate = exp(-step) / -expm1_negative(-step)
            slope = step * (total - rate * table[3 * K + k, j])
            d_steps[k, j] = slope if LOGSTEP_MIN <= t <= LOGSTEP_MAX else 0.0
        d_steps[0, j] = total + table[2 * K, j]


def fused(nll_rows, d_eta, d_steps, clamped, table, eta, steps, X, weight):
    """The fused `reference`."""
    weight, step = as_vector(weight, X.dtype)
    _features(table, None if d_eta is None else clamped, steps)
    _ordinal(nll_rows, d_eta, table, eta, X, weight, step)
    if d_eta is not None:
        _steps(d_steps, table, steps)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(nll_rows, d_eta, d_steps, clamped, table, eta, steps, X, weight):
    """The kernels of `ordinal.cu`; arguments as `reference`."""
    R, (B, D), K, gradient = eta.shape[0], X.shape, steps.shape[0] + 1, d_eta is not None
    _cuda.launch("ordinal", "ordinal_features", _cuda.flat(D), table, clamped if gradient else None, steps, K, D)
    _cuda.launch("ordinal", "ordinal", _cuda.rows(R, D), nll_rows, d_eta, table, eta, X, weight, R, B, D, K)
    if gradient:
        _cuda.launch("ordinal", "ordinal_sums", _cuda.columns(K * D), table, eta, X, weight, R, B, D, K)
        _cuda.launch("ordinal", "ordinal_steps", _cuda.flat(D), d_steps, table, steps, K, D)


def example(rng, dtype, S, B, D, case):
    """Classes near their thresholds; "far" reaches beyond the clamp and far from every threshold."""
    K, far = 2 if case == "two classes" else 5, case == "far"
    eta, steps = (30 if far else 2) * normal(rng, dtype, S * B, D), (8 if far else 1) * normal(rng, dtype, K - 1, D)
    X, weight = rng.integers(0, K, (B, D)).astype(dtype), row_weight(rng, dtype, S, B, case)
    outputs = poison(dtype, S * B), poison(dtype, S * B, D), poison(dtype, K - 1, D), counter()
    return *outputs, poison("float64", TABLE_PARTS * K, D), eta, steps, X, weight


def _scale(nll_rows, d_eta, d_steps, clamped, table, eta, steps, X, weight):
    most = float(np.exp(np.clip(steps[1:], LOGSTEP_MIN, LOGSTEP_MAX)).sum(axis=0).max()) if len(steps) > 1 else 0.0
    return X.shape[1] * max(1.0, most, float(np.abs(eta).max())) * max(1.0, math.sqrt(eta.shape[0]))


OPS = {
    "ordinal": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_eta", "d_steps"), updated=("clamped",), optional=("d_eta",), scratch=("table",),
        double=("table",), cases=(*WEIGHTS, "two classes", "far"), scale=_scale,
        flops=lambda nll_rows, d_eta, d_steps, clamped, table, eta, *_: 45 * eta.size,
    )
}  # fmt: skip
