"""logsumexp: a running ln Σ w and ln Σ w² over importance weights, which come in tiles and never all at once.

    m′ = max(m, max_k ln w_k);   t ← t e^{m − m′} + Σ_k e^{ln w_k − m′};   q ← q e^{2(m − m′)} + Σ_k e^{2(ln w_k − m′)}

so that ln Σ w = m + ln t and ln Σ w² = 2m + ln q over all tiles so far. It begins at m = −∞, t = q = 0.

Shapes: largest m, total t, squares q (b,); log_w (K, b). dtype: float32 or float64, all the same.
Source: the one-pass form of Milakov & Gimelshein 2018.
"""

import numpy as np

from . import _cuda
from ._math import kernel
from ._op import Op, normal


def reference(xp, largest, total, squares, log_w):
    """One tile more.

    largest    (b,)    in and out: m
    total      (b,)    in and out: t
    squares    (b,)    in and out: q
    log_w      (K, b)  ln w
    """
    highest = xp.maximum(largest, log_w.max(axis=0))
    shrink, w = xp.exp(largest - highest), xp.exp(log_w - highest)
    total[...] = total * shrink + w.sum(axis=0)
    squares[...] = squares * (shrink * shrink) + (w * w).sum(axis=0)
    largest[...] = highest


@kernel
def fused(largest, total, squares, log_w):
    """The fused `reference`."""
    for i in range(largest.size):
        highest = largest[i]
        for k in range(log_w.shape[0]):
            highest = max(highest, log_w[k, i])
        shrink = np.exp(largest[i] - highest)
        t, q = total[i] * shrink, squares[i] * (shrink * shrink)
        for k in range(log_w.shape[0]):
            w = np.exp(log_w[k, i] - highest)
            t += w
            q += w * w
        largest[i], total[i], squares[i] = highest, t, q


def cuda(largest, total, squares, log_w):
    """The kernel of `logsumexp.cu`; arguments as `reference`."""
    K, b = log_w.shape
    _cuda.launch("logsumexp", "log_sum_exp", _cuda.warps(b), largest, total, squares, log_w, K, b)


def example(rng, dtype, S, B, D, case):
    """Weights many orders of magnitude apart, in the first tile or a later one."""
    running = np.full(D, -np.inf, dtype), np.zeros(D, dtype), np.zeros(D, dtype)
    if case == "later tile":
        reference(np, *running, 30 * normal(rng, dtype, 5, D))
    return *running, 30 * normal(rng, dtype, B, D)


OPS = {
    "log_sum_exp": Op(
        reference, fused, cuda, example,
        outputs=(), updated=("largest", "total", "squares"), cases=("first tile", "later tile"),
        scale=lambda largest, total, squares, log_w: len(log_w),
        flops=lambda largest, total, squares, log_w: 5 * log_w.size,
    )
}  # fmt: skip
