"""adagrad: each parameter's step shrinks with the squares of its gradients so far, one pass over the flat buffers.

    g ← G + λ P;   A ← A + g²;   P ← P − η g/(√A + ε)

Shapes: P, A, G (n,). dtype: float32 or float64, all the same.
Source: Duchi, Hazan & Singer 2011, in the form of torch.optim.Adagrad.
"""

import math

import numpy as np

from . import _cuda
from ._op import Op, parameters
from ._threads import LINE, run, share, shared


def reference(xp, P, A, G, lr, eps, weight_decay):
    """One update.

    P          (n,)  in and out: parameters
    A          (n,)  in and out: sum of squared gradients
    G          (n,)  gradients
    lr, eps, weight_decay: numbers
    """
    g = G + weight_decay * P
    A += g * g
    P -= lr * g / (xp.sqrt(A) + eps)


@shared
def _adagrad(all_P, all_A, all_G, lr, eps, weight_decay, t, shares):
    start, stop = share(t, shares, all_P.size, LINE)
    P, A, G = all_P[start:stop], all_A[start:stop], all_G[start:stop]
    for i in range(P.size):
        g = G[i] + weight_decay * P[i]
        a = A[i] + g * g
        A[i] = a
        P[i] -= lr * g / (math.sqrt(a) + eps)


def fused(P, A, G, lr, eps, weight_decay):
    """The fused `reference`."""
    number = P.dtype.type
    run(_adagrad, P.size, P, A, G, number(lr), number(eps), number(weight_decay))


cuda = _cuda.optimiser("adagrad")


def example(rng, dtype, S, B, D, case):
    """A sum of squares of order 1."""
    P, A, G = parameters(rng, dtype, S * B * D, 1)
    return P, np.abs(A), G, 0.05, 1e-10, 0.01


OPS = {
    "adagrad": Op(reference, fused, cuda, example, outputs=(), updated=("P", "A"), flops=lambda P, *_: 8 * P.size),
}
