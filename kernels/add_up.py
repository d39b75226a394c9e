"""add_up: the sum of P arrays in the order of a binary tree, which `distributed/tree.py` fixes.

    out = ((t₀+t₁) + (t₂+t₃)) + …      pairs, and pairs of pairs, while their number is even; then from left to right

Shapes: out (n,), terms (P, n). dtype: float32 or float64, all the same. The bits are those of the reference: there are
additions alone, and their order is fixed.
"""

import numpy as np
from numba import njit

from . import _cuda
from ._cache import CACHE
from ._op import Op, normal, poison

BLOCK = 512  # numbers added up at a time: their partial sums stay in the first cache
LEVELS = 12  # how often P may be halved at the most: the partial sums that a thread of the CUDA kernel holds


def reference(xp, out, terms):
    """The sum.

    out    (n,)    out
    terms  (P, n)
    """
    sums = [terms[p] for p in range(terms.shape[0])]
    while len(sums) % 2 == 0:
        sums = [left + right for left, right in zip(sums[::2], sums[1::2], strict=True)]
    out[...] = sums[0]
    for term in sums[1:]:
        out += term


@njit(error_model="numpy", cache=CACHE, nogil=True)  # no sum in another order
def fused(out, terms):
    """The fused `reference`."""
    P, n = terms.shape
    held = np.empty((P, BLOCK), terms.dtype)
    for start in range(0, n, BLOCK):
        size, step = min(BLOCK, n - start), 1
        if P % 2:
            held[:, :size] = terms[:, start : start + size]
        else:
            for p in range(0, P, 2):
                to, left, right = held[p], terms[p, start : start + size], terms[p + 1, start : start + size]
                for i in range(size):
                    to[i] = left[i] + right[i]
            step = 2
        while P // step % 2 == 0:
            for p in range(0, P, 2 * step):
                to, right = held[p], held[p + step]
                for i in range(size):
                    to[i] += right[i]
            step *= 2
        to = held[0]
        for p in range(step, P, step):
            right = held[p]
            for i in range(size):
                to[i] += right[i]
        out[start : start + size] = to[:size]


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(out, terms):
    """The kernel of `add_up.cu`; arguments as `reference`."""
    P, n = terms.shape
    halvings = (P & -P).bit_length() - 1
    if halvings > LEVELS:
        raise ValueError(f"{P} terms can be halved {halvings} times, and the kernel adds up {LEVELS} levels")
    _cuda.launch("add_up", "add_up", _cuda.flat(n, out.dtype), out, terms, P, halvings, n)


def example(rng, dtype, S, B, D, case):
    """P terms, S·B·D numbers together: one alone, a whole tree, three trees side by side, and no tree."""
    P = int(case.split()[0])
    n = -(-S * B * D // P)
    return poison(dtype, n), normal(rng, dtype, P, n)


OPS = {
    "add_up": Op(
        reference, fused, cuda, example,
        outputs=("out",), cases=("1 term", "8 terms", "12 terms", "5 terms"),
        scale=lambda out, terms: float(np.abs(terms).sum(axis=0).max()),
        flops=lambda out, terms: (terms.shape[0] - 1) * out.size,
    )
}  # fmt: skip
