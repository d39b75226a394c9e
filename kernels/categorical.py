"""categorical: raw decoder outputs in, per-row loss and gradient out, for features that are one of K classes.

For the K logits ℓ_k of a feature and its class x, one of 0 … K − 1:

    −ln p(x|z) = Σ_d  ln Σ_k e^{ℓ_k} − ℓ_x  = Σ_d  max ℓ + ln Σ_k e^{ℓ_k − max ℓ} − ℓ_x
    dℓ_k       = w (ρ_k − [k = x]),   ρ_k = e^{ℓ_k}/Σ e^ℓ

Finite for every finite ℓ. Nothing changes if a number is added to all K logits of a feature.

Shapes: rows R = S·B, sample by sample; logits, d_logits (R, K D): K blocks of D, the logits of one class side by side,
so that loops run along features; X (B, D) whole numbers held as floats, row r of the logits belongs to row r mod B of
X; nll_rows (R,); weight a number, or (R,) or (S, B). Nats. dtype: float32 or float64, all the same, C-contiguous.
"""

import numpy as np

from . import _cuda
from ._math import exp, like, log
from ._op import WEIGHTS, Op, normal, poison, row_weight
from ._rows import as_column, as_vector
from ._threads import run, scratch, share, shared


def reference(xp, nll_rows, d_logits, logits, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient.

    nll_rows   (R,)      out: nats, summed over D, not weighted
    d_logits   (R, K D)  out: weight × ∂nll/∂logits; None: nll_rows alone is written
    logits     (R, K D)
    X          (B, D)    whole numbers from 0 to K − 1; B divides R
    weight               the weight of each row in the loss
    """
    B, D = X.shape
    K = logits.shape[1] // D
    logits = logits.reshape(-1, B, K, D)
    logits = logits - logits.max(axis=2, keepdims=True)
    e = xp.exp(logits)
    total = e.sum(axis=2, keepdims=True)
    here = X.reshape(B, 1, D) == xp.arange(K).reshape(K, 1)
    nll = xp.log(total).sum(axis=(2, 3)) - xp.where(here, logits, 0).sum(axis=(2, 3))
    nll_rows.reshape(-1, B)[...] = nll
    if d_logits is None:
        return
    weight = as_column(weight, B)
    weight = weight.reshape(-1, B, 1, 1) if getattr(weight, "ndim", 0) else weight
    d_logits.reshape(-1, B, K, D)[...] = weight * (e / total - here)


@shared
def _categorical(nll_rows, d_logits, logits, X, weight, weight_step, of_features, t, shares):
    B, D = X.shape
    K = logits.shape[1] // D
    zero = like(X, 0.0)
    start, stop = share(t, shares, logits.shape[0], 1)
    for r in range(start, stop):
        largest, total = of_features[t, :D], of_features[t, D:]  # of one row's features
        b = r % B
        w = weight[r * weight_step]
        nll = zero
        for j in range(D):
            largest[j] = logits[r, j]
            total[j] = zero
        for k in range(1, K):
            for j in range(D):
                l = logits[r, k * D + j]
                largest[j] = largest[j] if l < largest[j] else l  # NaN and +∞ end in the sum
        for k in range(K):
            for j in range(D):
                l = logits[r, k * D + j] - largest[j]
                e = exp(l)
                if d_logits is not None:
                    d_logits[r, k * D + j] = e
                total[j] += e
                nll -= l if X[b, j] == like(X, k) else zero
        for j in range(D):
            nll += log(total[j])
        nll_rows[r] = nll
        if d_logits is not None:
            for j in range(D):
                total[j] = w / total[j]
            for k in range(K):
                for j in range(D):
                    hit = w if X[b, j] == like(X, k) else zero
                    d_logits[r, k * D + j] = total[j] * d_logits[r, k * D + j] - hit


def fused(nll_rows, d_logits, logits, X, weight):
    """The fused `reference`."""
    weight, step = as_vector(weight, X.dtype)
    of_features = scratch("categorical", logits.size, 2 * X.shape[1], X.dtype)
    run(_categorical, logits.size, nll_rows, d_logits, logits, X, weight, step, of_features, most=len(of_features))


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(nll_rows, d_logits, logits, X, weight):
    """The kernel of `categorical.cu`; arguments as `reference`."""
    R, (B, D) = logits.shape[0], X.shape
    _cuda.launch(
        "categorical", "categorical", _cuda.rows(R, D), nll_rows, d_logits, logits, X, weight, R, B, D,
        logits.shape[1] // D,
    )  # fmt: skip


def example(rng, dtype, S, B, D, case):
    """Logits near each other and far apart."""
    K = 2 if case == "two classes" else 6
    logits = rng.choice(np.array([1, 30], dtype), (S * B, K * D)) * normal(rng, dtype, S * B, K * D)
    X, weight = rng.integers(0, K, (B, D)).astype(dtype), row_weight(rng, dtype, S, B, case)
    return poison(dtype, S * B), poison(dtype, S * B, K * D), logits, X, weight


OPS = {
    "categorical": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_logits"), optional=("d_logits",), cases=(*WEIGHTS, "two classes"),
        scale=lambda nll_rows, d_logits, logits, X, weight: 30 * X.shape[1],
        flops=lambda nll_rows, d_logits, logits, *_: 8 * logits.size,
    )
}  # fmt: skip
