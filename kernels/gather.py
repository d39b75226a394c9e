"""gather: rows of a data set into a batch.

    out_r ← X[rows_r], converted to out's dtype

Shapes: out (B, D), X (N, D), rows (B,) integers in 0 … N − 1; out and X may be (B,) and (N,). No index is looked at:
a row that is not there is undefined. dtype: X any real dtype; on a GPU uint8, float32, float64 and, for row numbers of
rows, int64 to int64 are read in place, others through a copy of the batch.
"""

import numpy as np

from . import _cuda
from ._math import kernel
from ._op import Op, poison


def reference(xp, out, X, rows):
    """out ← X[rows].

    out        (B, D)  out
    X          (N, D)
    rows       (B,)    integers
    """
    out[...] = xp.take(X, rows, axis=0)


@kernel
def _gather(out, X, rows):
    for r in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[r, j] = X[rows[r], j]


def fused(out, X, rows):
    """The fused `reference`."""
    _gather(out.reshape(out.shape[0], -1), X.reshape(X.shape[0], -1), rows)


# ---- CUDA -----------------------------------------------------------------------------------------------------------

ON_DEVICE = ("uint8", "float32", "float64")


def cuda(out, X, rows):
    """The kernels of `gather.cu`; arguments as `reference`."""
    integers = out.dtype == np.int64
    if (X.dtype != np.int64) if integers else (X.dtype.name not in ON_DEVICE):
        reference(_cuda.cupy(), out, X, rows)
        return
    B, D = out.shape[0], out.size // max(out.shape[0], 1)
    _cuda.launch("gather", f"gather_{X.dtype.name}", _cuda.rows(B, D), out, X, rows, B, D)


def example(rng, dtype, S, B, D, case):
    """Rows of several dtypes, some more than once; "integers": row numbers of rows."""
    N = 2 * B + 27
    rows = rng.integers(0, N, B)
    if case == "integers":
        return np.full(B, -1), rng.integers(0, 2**40, N), rows
    return poison(dtype, B, D), (100 * rng.random((N, D), np.float32)).astype(case), rows


OPS = {
    "gather": Op(
        reference, fused, cuda, example,
        outputs=("out",), cases=("uint8", "int16", "float32", "float64", "integers"),
        moved=lambda out, X, rows: out.nbytes + out.size * X.itemsize + rows.nbytes,  # of X, the rows that are taken
    )
}  # fmt: skip
