"""adam: Adam and AdamW, one pass over the flat buffers.

    g ← G + λ P                                        (λ: L2, Adam's weight decay)
    M ← β₁ M + (1−β₁) g;   V ← β₂ V + (1−β₂) g²
    P ← (1 − δ) P − (η/c₁) M/(√V/√c₂ + ε)              (δ = η λ: AdamW's decoupled decay; c₁ = 1−β₁ᵗ, c₂ = 1−β₂ᵗ)

Moments below TINY become 0. A pixel that is rarely on leaves its moments to decay; some 800 steps later they are
subnormal, and arithmetic on subnormals takes many times as long. What is dropped is 30 orders of magnitude below ε.

Shapes: P, M, V, G (n,). dtype: float32 or float64, all the same.
Sources: Kingma & Ba 2015; Loshchilov & Hutter 2019; in the form of torch.optim.Adam and AdamW.
"""

import math

import numpy as np

from . import _cuda
from ._math import TINY, like
from ._op import Op, parameters
from ._threads import LINE, run, share, shared


def reference(xp, P, M, V, G, lr, beta1, beta2, eps, l2, decay, correction1, correction2):
    """One update.

    P          (n,)  in and out: parameters
    M, V       (n,)  in and out: running means of g and g²
    G          (n,)  gradients
    lr, beta1, beta2, eps: numbers
    l2               weight decay added to the gradient (Adam)
    decay            lr × weight decay, taken from P itself (AdamW)
    correction1      1 − beta1ᵗ at step t = 1, 2, …
    correction2      1 − beta2ᵗ
    """
    g = G + l2 * P
    M[...] = beta1 * M + (1 - beta1) * g
    V[...] = beta2 * V + (1 - beta2) * (g * g)
    M[xp.abs(M) < TINY] = 0
    V[V < TINY] = 0
    P -= decay * P + (lr / correction1) * M / (xp.sqrt(V) / math.sqrt(correction2) + eps)


@shared
def _adam(all_P, all_M, all_V, all_G, step, beta1, rest1, beta2, rest2, eps, l2, decay, root2, t, shares):
    tiny, zero = like(all_P, TINY), like(all_P, 0.0)
    start, stop = share(t, shares, all_P.size, LINE)
    P, M, V, G = all_P[start:stop], all_M[start:stop], all_V[start:stop], all_G[start:stop]
    for i in range(P.size):
        p = P[i]
        g = G[i] + l2 * p
        m = beta1 * M[i] + rest1 * g
        v = beta2 * V[i] + rest2 * (g * g)
        m = zero if abs(m) < tiny else m
        v = zero if v < tiny else v
        M[i] = m
        V[i] = v
        P[i] = p - (decay * p + step * m / (math.sqrt(v) * root2 + eps))


def fused(P, M, V, G, lr, beta1, beta2, eps, l2, decay, correction1, correction2):
    """The fused `reference`."""
    step, root2 = lr / correction1, 1 / math.sqrt(correction2)
    # 1 − β is taken in float64: 1 − 0.999 in float32 has lost three digits, and inside the kernel (1 − β) g² may be
    # computed as g² − β g², which loses them again.
    numbers = step, beta1, 1 - beta1, beta2, 1 - beta2, eps, l2, decay, root2
    run(_adam, P.size, P, M, V, G, *map(P.dtype.type, numbers))


cuda = _cuda.optimiser("adam")


def example(rng, dtype, S, B, D, case):
    """The third step; moments that are to be flushed."""
    P, M, V, G = parameters(rng, dtype, S * B * D, 2)
    decays = (0.01, 0.0) if case == "Adam" else (0.0, 1e-4)
    return P, M, np.abs(V), G, 0.01, 0.9, 0.999, 1e-8, *decays, 1 - 0.9**3, 1 - 0.999**3


OPS = {
    "adam": Op(
        reference, fused, cuda, example,
        outputs=(), updated=("P", "M", "V"), cases=("Adam", "AdamW"), flops=lambda P, *_: 15 * P.size,
    )
}  # fmt: skip
