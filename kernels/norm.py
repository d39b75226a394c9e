"""norm: clipping by the global norm of the gradient.

    n = √Σ G²;   G ← G · min(1, c/(n + 10⁻⁶))

Shapes: G (n,), norm (1,). The sum is in float64 whatever the dtype. A non-finite norm leaves a non-finite gradient,
for the guard of the training loop to find.
Source: Pascanu, Mikolov & Bengio 2013; the 10⁻⁶ is torch.nn.utils.clip_grad_norm_'s.
"""

import math

from . import _cuda
from ._math import kernel, like
from ._op import Op, normal, poison


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


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(G, norm, max_norm):
    """The kernels of `norm.cu`; arguments as `reference`. max_norm may be a device array of one float64."""
    n, ((blocks,), block) = G.size, _cuda.flat(G.size, G.dtype)
    partial = _cuda.empty(blocks, "float64")  # the squares that each block adds up
    _cuda.launch("norm", "squares", ((blocks,), block), partial, G, n)
    _cuda.launch("norm", "clip_norm", ((blocks,), block), G, norm, max_norm, partial, blocks, n)


def example(rng, dtype, S, B, D, case):
    """A norm far above the largest, or far below it."""
    return normal(rng, dtype, S * B * D), poison("float64", 1), 1e-3 if case == "clips" else 1e6


OPS = {
    "clip_norm": Op(
        reference, fused, cuda, example,
        outputs=("norm",), updated=("G",), double=("norm",), cases=("clips", "does not clip"),
        scale=lambda G, norm, max_norm: G.size**0.5,
        flops=lambda G, norm, max_norm: 3 * G.size,
        moved=lambda G, norm, max_norm: G.nbytes,  # which is all there is where nothing is clipped
    )
}  # fmt: skip
