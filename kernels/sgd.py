"""sgd: stochastic gradient descent with momentum (heavy ball) or Nesterov's, one pass over the flat buffers.

    g ← G + λ P;   V ← μ V + g;   P ← P − η V          Nesterov: P ← P − η (g + μ V)

Shapes: P, V, G (n,). Without momentum V is None. dtype: float32 or float64, all the same.
Source: Sutskever et al. 2013, in the form of torch.optim.SGD (dampening 0).
"""

from . import _cuda
from ._math import TINY, like
from ._op import Op, parameters
from ._threads import LINE, run, share, shared


def reference(xp, P, V, G, lr, momentum, nesterov, weight_decay):
    """One update.

    P          (n,)  in and out: parameters
    V          (n,)  in and out: velocity; None if momentum is 0
    G          (n,)  gradients
    lr, momentum, weight_decay: numbers; nesterov: bool
    """
    g = G + weight_decay * P
    if V is not None:
        V[...] = momentum * V + g
        V[xp.abs(V) < TINY] = 0
        g = g + momentum * V if nesterov else V
    P -= lr * g


@shared
def _plain(all_P, all_G, lr, weight_decay, t, shares):
    start, stop = share(t, shares, all_P.size, LINE)
    P, G = all_P[start:stop], all_G[start:stop]
    for i in range(P.size):
        P[i] -= lr * (G[i] + weight_decay * P[i])


@shared
def _momentum(all_P, all_V, all_G, lr, momentum, nesterov, weight_decay, t, shares):
    tiny, zero, one = like(all_P, TINY), like(all_P, 0.0), like(all_P, 1.0)
    start, stop = share(t, shares, all_P.size, LINE)
    P, V, G = all_P[start:stop], all_V[start:stop], all_G[start:stop]
    for i in range(P.size):
        g = G[i] + weight_decay * P[i]
        v = momentum * V[i] + g
        v = zero if abs(v) < tiny else v
        V[i] = v
        P[i] -= lr * (g * nesterov + (nesterov * momentum + (one - nesterov)) * v)


def fused(P, V, G, lr, momentum, nesterov, weight_decay):
    """The fused `reference`."""
    number = P.dtype.type
    if V is None:
        run(_plain, P.size, P, G, number(lr), number(weight_decay))
    else:
        numbers = (number(lr), number(momentum), number(nesterov), number(weight_decay))
        run(_momentum, P.size, P, V, G, *numbers)


cuda = _cuda.optimiser("sgd")


def example(rng, dtype, S, B, D, case):
    """With and without momentum; moments that are to be flushed."""
    P, V, G = parameters(rng, dtype, S * B * D, 1)
    if case == "plain":
        return P, None, G, 0.05, 0.0, False, 0.01
    return P, V, G, 0.05, 0.9, case == "nesterov", 0.01


OPS = {
    "sgd": Op(
        reference, fused, cuda, example,
        outputs=(), updated=("P", "V"), cases=("plain", "momentum", "nesterov"), flops=lambda P, *_: 6 * P.size,
    )
}  # fmt: skip
