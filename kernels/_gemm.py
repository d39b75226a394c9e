"""gemm: out ← A B on several cores. Each computes a share of `out` by a BLAS's own routine, on one thread.

    out (m, n) = A (m, k) B (k, n)      a share is a range of rows of `out`, or of columns where it has few rows

A BLAS's own threads would do the same, but then two pools would meet on the same cores (`_threads.py`); and a product
that is split by us is split alike whichever BLAS computes it.

Shapes: out C-contiguous; A and B C-contiguous, or transposed views of such arrays. dtype: float32 or float64, all the
same. The routines are `cblas_sgemm` and `cblas_dgemm`, given by their addresses. Their integers have 32 or 64 bits:
all are passed in 64, of which a routine reads what it needs, where a place for an argument has 64 bits (not on Apple's
ARM, where no product comes here).
"""

import ctypes

import numpy as np

from ._math import like
from ._pool import call
from ._threads import LINE, run, share, shared

ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112  # the numbers of cblas.h
FEW_ROWS = 256  # below it a share is columns, if these are more: a few rows of A would not pay for reading all of B
GRAIN = 1 << 19  # multiplications worth a share: some 10 µs; a thread has one, for each share packs A or B anew (8 %)


def reference(xp, out, A, B):
    """out ← A B by the array module: out (m, n), A (m, k), B (k, n)."""
    xp.dot(A, B, out=out)


@shared
def _gemm(routine, out, A, B, order_A, order_B, t, shares):
    """A and B as they are stored: (k, m) and (n, k) where they are transposed."""
    rows, columns = m, n = out.shape
    k = A.shape[1] if order_A == AS_IT_IS else A.shape[0]
    step_A, step_B, size = A.shape[1], B.shape[1], out.itemsize
    by_rows = m >= FEW_ROWS or m > n
    start, stop = share(t, shares, m if by_rows else n, 8 if by_rows else LINE)
    a, b, c = np.int64(A.ctypes.data), np.int64(B.ctypes.data), np.int64(out.ctypes.data)
    if by_rows:
        rows = stop - start
        a += size * start * (step_A if order_A == AS_IT_IS else 1)
        c += size * start * n
    else:
        columns = stop - start
        b += size * start * (1 if order_B == AS_IT_IS else step_B)
        c += size * start
    if stop > start:
        one, zero = like(out, 1.0), like(out, 0.0)
        call(routine, (ROW_MAJOR, order_A, order_B, rows, columns, k, one, a, step_A, b, step_B, zero, c, n))


class Gemm:
    """out ← A B by the routines of a BLAS: its cblas_sgemm and cblas_dgemm, functions of ctypes."""

    def __init__(self, sgemm, dgemm):
        routines = {np.dtype(np.float32): sgemm, np.dtype(np.float64): dgemm}
        self.address = {dtype: ctypes.cast(routine, ctypes.c_void_p).value for dtype, routine in routines.items()}

    def __call__(self, out, A, B):
        """out ← A B."""
        order_A, A = _stored(A)
        order_B, B = _stored(B)
        address, products = self.address[out.dtype], out.shape[1] * A.size
        run(_gemm, products, address, out, A, B, order_A, order_B, grain=GRAIN, per_thread=1)


def _stored(A):
    """Whether A is a transposed view, and the C-contiguous array that it shows."""
    if A.flags.c_contiguous:
        return AS_IT_IS, A
    return TRANSPOSED, np.ascontiguousarray(A.T)  # no copy, unless A is neither
