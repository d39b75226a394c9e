"""dense: what a dense layer does around its matrix product. Bias and activation; their gradients.

    forward     Y = f(A),  A = XW + b                 the product XW is the backend's `gemm`, and comes in as Y
    backward    dA = dY ⊙ f′(A),  db = Σ_rows dA      dY comes in as dA

    f           f(a)                  f′(a), from what is kept
    identity    a                     1
    relu        max(a, 0)             1 where y > 0, else 0
    tanh        tanh a                1 − y²
    sigmoid     1/(1 + e^{−a})        y (1 − y)
    softplus    ln(1 + e^{a})         1 − e^{−y}  (= sigmoid a)
    silu        a sigmoid a           s + y (1 − s),  s = sigmoid a     needs A itself: y is not one-to-one

Both work in place, because a second array of this size would cost more than the arithmetic.

Shapes: Y, A, dA (B, H); b, db (H,); partial (P·H,). dtype: float32 or float64, all the same, C-contiguous.
Source of the stable forms: `_math.py`. At a = 0 relu's gradient is 0, the convention of torch and JAX.
"""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from . import _cuda
from ._math import like, point
from ._op import Op, normal, poison
from ._specialise import specialised
from ._threads import run, share, shared

ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "softplus", "silu")
KEEPS_A = frozenset({"silu"})  # the activations whose gradient needs A beside Y

# db is added up over blocks of rows, then over blocks: in float32 a plain sum over thousands of rows would lose
# two digits more.
BLOCK_ROWS = 64


def scratch(B, H):
    """The elements that `partial` needs: H for each block of rows."""
    return -(-B // BLOCK_ROWS) * H


@point
def _relu(a):
    return like(a, 0.0) if a < like(a, 0.0) else a  # NaN stays NaN


@point
def _relu_slope(d, y, a):
    return d if y > like(y, 0.0) else like(y, 0.0)


# f(A), f′ from what is kept; the same as points: f(a), and d f′ of d, y = f(a) and a itself where it is kept;
# operations for each element, forward and backward. The identity runs the loops of relu.
_STRAIGHT = {
    "identity": (lambda xp, A: A, lambda xp, Y, A: 1, _relu, _relu_slope, (0, 0)),
    "relu": (lambda xp, A: xp.maximum(A, 0), lambda xp, Y, A: Y > 0, _relu, _relu_slope, (1, 1)),
}


def _formulas(activation):
    return _STRAIGHT.get(activation) or import_module(f"{__package__}._curved").CURVED[activation]


def forward_reference(xp, Y, A, b, activation):
    """Y ← f(Y + b), in place.

    Y          (B, H)  in: XW; out: f(A)
    A          (B, H)  out: XW + b, for the activations in KEEPS_A; else None
    b          (H,)
    activation         one of ACTIVATIONS
    """
    Y += b
    if A is not None:
        A[...] = Y
    Y[...] = _formulas(activation)[0](xp, Y)


def backward_reference(xp, dA, db, partial, Y, A, activation):
    """dA ← dA ⊙ f′(A), in place; db ← Σ_rows dA.

    dA         (B, H)  in: dY; out: dA
    db         (H,)    out, overwritten
    partial    (P·H,)  scratch for the sums of P blocks of rows, `scratch(B, H)` elements; unused here
    Y, A       (B, H)  what forward left; A is None unless the activation is in KEEPS_A
    activation         one of ACTIVATIONS
    """
    dA *= _formulas(activation)[1](xp, Y, A)
    db[...] = dA.sum(axis=0)


# ---- fused: one pass forward, one pass backward -----------------------------------------------------------------

f: Any = None  # in each copy of `_forward`, the activation
slope: Any = None  # in each copy of `_backward`, d f′


def _forward(Y, A, b, bends, t, shares):
    start, stop = share(t, shares, Y.shape[0], 1)
    for i in range(start, stop):
        for j in range(Y.shape[1]):
            a = Y[i, j] + b[j]
            if A is not None:
                A[i, j] = a
            Y[i, j] = f(a) if bends else a


def _backward(dA, partial, Y, A, bends, t, shares):
    """partial (P, H). A share is whole blocks of rows, so that the sums do not depend on the number of shares."""
    (B, H), blocks = dA.shape, partial.shape[0]
    first, last = share(t, shares, blocks, 1)
    for block in range(first, last):
        start, stop = block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS if block + 1 < blocks else B
        for i in range(start, stop if bends else start):
            for j in range(H):
                y = Y[i, j]
                dA[i, j] = slope(dA[i, j], y, y if A is None else A[i, j])
        for j in range(H):
            partial[block, j] = like(partial, 0.0)
        for i in range(start, stop):
            for j in range(H):
                partial[block, j] += dA[i, j]


@cache
def loops(activation):
    """The copies of both loops for this activation; those of relu for the identity too, which does not bend."""
    if activation == "identity":
        return loops("relu")
    _, _, f, slope, _ = _formulas(activation)
    both = [specialised(loop, loop, f"{activation}{loop.__name__}", f=f, slope=slope) for loop in (_forward, _backward)]
    return tuple(map(shared, both))


def forward(Y, A, b, activation):
    """The fused `forward_reference`."""
    run(loops(activation)[0], Y.size, Y, A, b, activation != "identity")


def backward(dA, db, partial, Y, A, activation):
    """The fused `backward_reference`."""
    B, H = dA.shape
    loop, db = loops(activation)[1], db.reshape(1, H)
    sums = partial[: scratch(B, H)].reshape(-1, H) if B > BLOCK_ROWS else db  # of one block
    run(loop, dA.size, dA, sums, Y, A, activation != "identity")
    if B > BLOCK_ROWS:
        loop(sums, db, Y, A, False, 0, 1)  # which adds up rows alone


# ---- CUDA -----------------------------------------------------------------------------------------------------------


PART_ROWS, PARTS = 256, 128  # rows that a part of db's sum has at the least; and how many parts at the most


def cuda_forward(Y, A, b, activation):
    """The kernel of `dense.cu`; arguments as `forward_reference`."""
    B, H = Y.shape
    _cuda.launch("dense", "dense_forward", _cuda.rows(B, H), Y, A, b, ACTIVATIONS.index(activation), B, H)


def cuda_backward(dA, db, partial, Y, A, activation):
    """The kernels of `dense.cu`; arguments as `backward_reference`, partial (P·H,): rows are added up in P parts."""
    B, H = dA.shape
    parts = max(1, min(partial.size // H, -(-B // PART_ROWS), PARTS))
    sums, f = (db if parts == 1 else partial), ACTIVATIONS.index(activation)
    _cuda.launch("dense", "dense_backward", _cuda.strips(H, parts, dA.dtype), dA, sums, Y, A, f, B, H)
    if parts > 1:
        _cuda.launch("dense", "dense_add_partial", _cuda.strips(H, 1, dA.dtype), db, partial, parts, H)


def forward_example(rng, dtype, S, B, D, case):
    """Pre-activations of several units; the case is the activation."""
    A = poison(dtype, B, D) if case in KEEPS_A else None
    return 4 * normal(rng, dtype, B, D), A, normal(rng, dtype, D), case


def backward_example(rng, dtype, S, B, D, case):
    """Y = f(A) of such pre-activations."""
    A = 4 * normal(rng, dtype, B, D)
    Y = _formulas(case)[0](np, A).astype(dtype)
    partial, kept = poison(dtype, scratch(B, D)), A if case in KEEPS_A else None
    return normal(rng, dtype, B, D), poison(dtype, D), partial, Y, kept, case


def _backward_moved(dA, db, partial, Y, A, activation):
    if activation == "identity":  # dA is dY already, and f′ needs no Y
        return dA.nbytes + db.nbytes
    return 2 * dA.nbytes + Y.nbytes + (A.nbytes if activation in KEEPS_A else 0) + db.nbytes


OPS = {
    "dense_forward": Op(
        forward_reference, forward, cuda_forward, forward_example,
        outputs=("A",), updated=("Y",), cases=ACTIVATIONS,
        flops=lambda Y, A, b, activation: Y.size * (1 + _formulas(activation)[4][0]),
    ),
    "dense_backward": Op(
        backward_reference, backward, cuda_backward, backward_example,
        outputs=("db",), updated=("dA",), scratch=("partial",), cases=ACTIVATIONS,
        scale=lambda dA, *_: max(len(dA) ** 0.5, len(dA) / 20),  # of NumPy's sum, row by row: its partial sums round
        flops=lambda dA, db, partial, Y, A, activation: dA.size * (1 + _formulas(activation)[4][1]),
        moved=_backward_moved,
    ),
}  # fmt: skip
