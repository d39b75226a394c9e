"""scatter: rows of a sparse matrix into a dense batch.

    out_r ← 0, then out_r,c_k ← v_k     for the non-zeros k of row rows_r

Shapes: out (B, D); values (n,), columns (n,) int32 below D, starts (N + 1,) int64: row i has the non-zeros starts_i …
starts_{i+1} − 1; rows (B,) int64 in 0 … N − 1. No index is looked at. dtype of out and values: float32 or float64.
"""

import numpy as np

from . import _cuda
from ._math import kernel, like
from ._op import Op, poison


def reference(xp, out, values, columns, starts, rows):
    """out ← the rows of the sparse matrix, densely.

    out        (B, D)    out
    values     (n,)
    columns    (n,)      int32
    starts     (N + 1,)  int64
    rows       (B,)      int64
    """
    first, count = starts[rows], starts[rows + 1] - starts[rows]
    ends = xp.cumsum(count)
    place = xp.arange(out.size)  # among the batch's non-zeros, of which there are no more
    r = xp.searchsorted(ends, place, side="right")
    place, r = place[r < rows.shape[0]], r[r < rows.shape[0]]
    k = first[r] + place - (ends - count)[r]
    out[...] = 0
    out[r, columns[k]] = values[k]


@kernel
def _scatter(out, values, columns, starts, rows):
    for r in range(out.shape[0]):
        out[r, :] = like(out, 0.0)
        for k in range(starts[rows[r]], starts[rows[r] + 1]):
            out[r, columns[k]] = values[k]


def fused(out, values, columns, starts, rows):
    """The fused `reference`."""
    _scatter(out, values, columns, starts, rows)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(out, values, columns, starts, rows):
    """The kernel of `scatter.cu`, behind a pass that writes zeros; arguments as `reference`."""
    out[...] = 0
    B, D = out.shape
    _cuda.launch("scatter", "scatter", _cuda.warps(B), out, values, columns, starts, rows, B, D)


def example(rng, dtype, S, B, D, case):
    """Rows with many non-zeros, with few and with none, some more than once."""
    N = B + 3
    X = rng.random((N, D)).astype(dtype) * (rng.random((N, D)) < rng.choice([0.0, 0.1, 0.6], (N, 1)))
    row, column = np.nonzero(X)
    starts = np.searchsorted(row, np.arange(N + 1))
    return poison(dtype, B, D), X[row, column], column.astype(np.int32), starts, rng.integers(0, N, B)


OPS = {
    "scatter": Op(
        reference, fused, cuda, example,
        outputs=("out",),
        moved=lambda out, values, columns, starts, rows: out.nbytes + values.nbytes + columns.nbytes + 16 * len(rows),
    )
}  # fmt: skip
