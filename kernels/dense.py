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

from . import _cuda
from ._math import expm1_negative, kernel, like, sigmoid, softplus, tanh

ACTIVATIONS = ("identity", "relu", "tanh", "sigmoid", "softplus", "silu")
KEEPS_A = frozenset({"silu"})  # the activations whose gradient needs A beside Y

# db is added up over blocks of rows, then over blocks: in float32 a plain sum over thousands of rows would lose
# two digits more.
BLOCK_ROWS = 64


def _sigmoid_reference(xp, A):
    e = xp.exp(-xp.abs(A))
    return xp.where(A >= 0, 1, e) / (1 + e)


_F = {
    "identity": lambda xp, A: A,
    "relu": lambda xp, A: xp.maximum(A, 0),
    "tanh": lambda xp, A: xp.tanh(A),
    "sigmoid": _sigmoid_reference,
    "softplus": lambda xp, A: xp.maximum(A, 0) + xp.log1p(xp.exp(-xp.abs(A))),
    "silu": lambda xp, A: A * _sigmoid_reference(xp, A),
}


def _silu_slope(xp, Y, A):
    s = _sigmoid_reference(xp, A)
    return s + Y * (1 - s)


_F_PRIME = {
    "identity": lambda xp, Y, A: 1,
    "relu": lambda xp, Y, A: Y > 0,
    "tanh": lambda xp, Y, A: 1 - Y * Y,
    "sigmoid": lambda xp, Y, A: Y * (1 - Y),
    "softplus": lambda xp, Y, A: -xp.expm1(-Y),
    "silu": _silu_slope,
}


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
    Y[...] = _F[activation](xp, Y)


def backward_reference(xp, dA, db, partial, Y, A, activation):
    """dA ← dA ⊙ f′(A), in place; db ← Σ_rows dA.

    dA         (B, H)  in: dY; out: dA
    db         (H,)    out, overwritten
    partial    (P·H,)  scratch, P ≥ 1, for the sums of blocks of rows; unused here
    Y, A       (B, H)  what forward left; A is None unless the activation is in KEEPS_A
    activation         one of ACTIVATIONS
    """
    dA *= _F_PRIME[activation](xp, Y, A)
    db[...] = dA.sum(axis=0)


# ---- fused: one pass forward, one pass backward -----------------------------------------------------------------
# The same loop stands here once for each activation: a kernel made by a function that takes f would be compiled anew in
# every process, because Numba's cache does not know it again.


@kernel
def _identity_forward(Y, b):
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] += b[j]


@kernel
def _relu_forward(Y, b):
    zero = like(Y, 0.0)
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            a = Y[i, j] + b[j]
            Y[i, j] = zero if a < zero else a  # NaN stays NaN


@kernel
def _tanh_forward(Y, b):
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = tanh(Y[i, j] + b[j])


@kernel
def _sigmoid_forward(Y, b):
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = sigmoid(Y[i, j] + b[j])


@kernel
def _softplus_forward(Y, b):
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            Y[i, j] = softplus(Y[i, j] + b[j])


@kernel
def _silu_forward(Y, A, b):
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            a = Y[i, j] + b[j]
            A[i, j] = a
            Y[i, j] = a * sigmoid(a)


@kernel
def _add_rows(db, partial, dA, start, stop):
    """db += Σ of the rows start … stop−1 of dA, which are still in the cache."""
    partial[:] = like(dA, 0.0)
    for i in range(start, stop):
        for j in range(dA.shape[1]):
            partial[j] += dA[i, j]
    for j in range(dA.shape[1]):
        db[j] += partial[j]


@kernel
def _identity_backward(dA, db, partial):
    db[:] = like(dA, 0.0)
    for start in range(0, dA.shape[0], BLOCK_ROWS):
        _add_rows(db, partial, dA, start, min(start + BLOCK_ROWS, dA.shape[0]))


@kernel
def _relu_backward(dA, db, partial, Y):
    zero = like(dA, 0.0)
    db[:] = zero
    for start in range(0, dA.shape[0], BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, dA.shape[0])
        for i in range(start, stop):
            for j in range(dA.shape[1]):
                dA[i, j] = dA[i, j] if Y[i, j] > zero else zero
        _add_rows(db, partial, dA, start, stop)


@kernel
def _tanh_backward(dA, db, partial, Y):
    one = like(dA, 1.0)
    db[:] = like(dA, 0.0)
    for start in range(0, dA.shape[0], BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, dA.shape[0])
        for i in range(start, stop):
            for j in range(dA.shape[1]):
                dA[i, j] *= one - Y[i, j] * Y[i, j]
        _add_rows(db, partial, dA, start, stop)


@kernel
def _sigmoid_backward(dA, db, partial, Y):
    one = like(dA, 1.0)
    db[:] = like(dA, 0.0)
    for start in range(0, dA.shape[0], BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, dA.shape[0])
        for i in range(start, stop):
            for j in range(dA.shape[1]):
                dA[i, j] *= Y[i, j] * (one - Y[i, j])
        _add_rows(db, partial, dA, start, stop)


@kernel
def _softplus_backward(dA, db, partial, Y):
    db[:] = like(dA, 0.0)
    for start in range(0, dA.shape[0], BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, dA.shape[0])
        for i in range(start, stop):
            for j in range(dA.shape[1]):
                dA[i, j] *= -expm1_negative(-Y[i, j])
        _add_rows(db, partial, dA, start, stop)


@kernel
def _silu_backward(dA, db, partial, Y, A):
    one = like(dA, 1.0)
    db[:] = like(dA, 0.0)
    for start in range(0, dA.shape[0], BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, dA.shape[0])
        for i in range(start, stop):
            for j in range(dA.shape[1]):
                s = sigmoid(A[i, j])
                dA[i, j] *= s + Y[i, j] * (one - s)
        _add_rows(db, partial, dA, start, stop)


_FORWARD = {
    "identity": _identity_forward,
    "relu": _relu_forward,
    "tanh": _tanh_forward,
    "sigmoid": _sigmoid_forward,
    "softplus": _softplus_forward,
}
_BACKWARD = {
    "relu": _relu_backward,
    "tanh": _tanh_backward,
    "sigmoid": _sigmoid_backward,
    "softplus": _softplus_backward,
}


def forward(Y, A, b, activation):
    """The fused `forward_reference`."""
    if activation == "silu":
        _silu_forward(Y, A, b)
    else:
        _FORWARD[activation](Y, b)


def backward(dA, db, partial, Y, A, activation):
    """The fused `backward_reference`."""
    if activation == "identity":
        _identity_backward(dA, db, partial)
    elif activation == "silu":
        _silu_backward(dA, db, partial, Y, A)
    else:
        _BACKWARD[activation](dA, db, partial, Y)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


PART_ROWS = 256  # rows that a part of db's sum has at the least


def cuda_forward(Y, A, b, activation):
    """The kernel of `dense.cu`; arguments as `forward_reference`."""
    _cuda.check(Y.dtype, A, b)
    B, H = Y.shape
    _cuda.launch(
        "dense", "dense_forward", Y.dtype, _cuda.rows(B, H), Y, A, b, ACTIVATIONS.index(activation), B, H
    )  # fmt: skip


def cuda_backward(dA, db, partial, Y, A, activation):
    """The kernels of `dense.cu`; arguments as `backward_reference`, partial (P·H,): rows are added up in P parts."""
    _cuda.check(dA.dtype, db, partial, Y, A)
    B, H = dA.shape
    parts = max(1, min(partial.size // H, -(-B // PART_ROWS)))
    sums, f = (db if parts == 1 else partial), ACTIVATIONS.index(activation)
    _cuda.launch("dense", "dense_backward", dA.dtype, _cuda.strips(H, parts, dA.dtype), dA, sums, Y, A, f, B, H)
    if parts > 1:
        _cuda.launch("dense", "dense_add_partial", dA.dtype, _cuda.strips(H, 1, dA.dtype), db, partial, parts, H)


OPS = {
    "dense_forward": (forward_reference, forward, cuda_forward),
    "dense_backward": (backward_reference, backward, cuda_backward),
}
