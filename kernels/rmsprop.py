"""rmsprop: gradients divided by a running root mean square of theirs, one pass over the flat buffers.

    g ← G + λ P;   A ← ρ A + (1−ρ) g²;   V ← μ V + g/(√A + ε);   P ← P − η V

Shapes: P, A, V, G (n,). Without momentum V is None and its g/(√A + ε) is used. dtype: float32 or float64, all the same.
Source: Tieleman & Hinton 2012 (lecture 6.5), in the form of torch.optim.RMSprop (not centered).
"""

import math

import numpy as np

from . import _cuda
from ._math import TINY, like
from ._op import Op, parameters
from ._threads import LINE, run, share, shared


def reference(xp, P, A, V, G, lr, rho, eps, momentum, weight_decay):
    """One update.

    P          (n,)  in and out: parameters
    A          (n,)  in and out: running mean of squared gradients
    V          (n,)  in and out: velocity; None if momentum is 0
    G          (n,)  gradients
    lr, rho, eps, momentum, weight_decay: numbers
    """
    g = G + weight_decay * P
    A[...] = rho * A + (1 - rho) * (g * g)
    A[A < TINY] = 0
    step = g / (xp.sqrt(A) + eps)
    if V is not None:
        V[...] = momentum * V + step
        V[xp.abs(V) < TINY] = 0
        step = V
    P -= lr * step


@shared
def _plain(all_P, all_A, all_G, lr, rho, rest, eps, weight_decay, t, shares):
    tiny, zero = like(all_P, TINY), like(all_P, 0.0)
    start, stop = share(t, shares, all_P.size, LINE)
    P, A, G = all_P[start:stop], all_A[start:stop], all_G[start:stop]
    for i in range(P.size):
        g = G[i] + weight_decay * P[i]
        a = rho * A[i] + rest * (g * g)
        a = zero if a < tiny else a
        A[i] = a
        P[i] -= lr * (g / (math.sqrt(a) + eps))


@shared
def _momentum(all_P, all_A, all_V, all_G, lr, rho, rest, eps, momentum, weight_decay, t, shares):
    tiny, zero = like(all_P, TINY), like(all_P, 0.0)
    start, stop = share(t, shares, all_P.size, LINE)
    P, A, V, G = all_P[start:stop], all_A[start:stop], all_V[start:stop], all_G[start:stop]
    for i in range(P.size):
        g = G[i] + weight_decay * P[i]
        a = rho * A[i] + rest * (g * g)
        a = zero if a < tiny else a
        A[i] = a
        v = momentum * V[i] + g / (math.sqrt(a) + eps)
        v = zero if abs(v) < tiny else v
        V[i] = v
        P[i] -= lr * v


def fused(P, A, V, G, lr, rho, eps, momentum, weight_decay):
    """The fused `reference`."""
    number = P.dtype.type
    rest = number(1 - rho)  # in float64, and outside the kernel: see adam.py
    if V is None:
        run(_plain, P.size, P, A, G, number(lr), number(rho), rest, number(eps), number(weight_decay))
    else:
        numbers = (number(lr), number(rho), rest, number(eps), number(momentum), number(weight_decay))
        run(_momentum, P.size, P, A, V, G, *numbers)


cuda = _cuda.optimiser("rmsprop")


def example(rng, dtype, S, B, D, case):
    """With and without momentum; moments that are to be flushed."""
    P, A, V, G = parameters(rng, dtype, S * B * D, 2)
    if case == "plain":
        return P, np.abs(A), None, G, 0.01, 0.99, 1e-8, 0.0, 0.01
    return P, np.abs(A), V, G, 0.01, 0.99, 1e-8, 0.5, 0.01


OPS = {
    "rmsprop": Op(
        reference, fused, cuda, example,
        outputs=(), updated=("P", "A", "V"), cases=("plain", "momentum"), flops=lambda P, *_: 9 * P.size,
    )
}  # fmt: skip
