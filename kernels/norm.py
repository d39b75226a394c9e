"""norm: clipping by the global norm of the gradient.

    n = √Σ G²;   G ← G · min(1, c/(n + 10⁻⁶))

Shapes: G (n,), norm (1,). The sum is in float64 whatever the dtype. A non-finite norm leaves a non-finite gradient,
for the guard of the training loop to find.
Source: Pascanu, Mikolov & Bengio 2013; the 10⁻⁶ is torch.nn.utils.clip_grad_norm_'s.
"""

import math

from ._math import kernel, like


def reference(xp, G, norm, max_norm):
    """Scale G so that its norm is at most max_norm.

    G          (n,)  in and out: gradients
    norm       (1,)  out: the norm before clipping, float64
    max_norm         a number > 0
    """
    norm[...] = xp.sqrt((G.astype("float64") ** 2).sum())
    G *= xp.minimum(1, max_norm / (norm + 1e-6)).astype(G.dtype)


@kernel
def fused(G, norm, max_norm):
    """The fused `reference`."""
    total = 0.0
    for i in range(G.size):
        g = float(G[i])
        total += g * g
    norm[0] = math.sqrt(total)
    factor = max_norm / (norm[0] + 1e-6)
    if not factor >= 1.0:  # NaN clips too, and spreads
        scale = like(G, factor)
        for i in range(G.size):
            G[i] *= scale


OPS = {"clip_norm": (reference, fused)}
