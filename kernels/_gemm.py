"""gemm: out ← A B on several cores. Each computes a share of `out` by a BLAS's own routine, on one thread.

    out (m, n) = A (m, k) B (k, n)      a share is a range of rows of `out`, or of columns where it has few rows

A BLAS's own threads would do the same, but then two pools would meet on the same cores (`_threads.py`); and a product
that is split by us is split alike whichever BLAS computes it.

Shapes: out C-contiguous; A and B C-contiguous, or transposed views of such arrays. dtype: float32 or float64, all the
same. The routines are `cblas_sgemm` and `cblas_dgemm`, given by their addresses; their integers have 32 or 64 bits.
"""

import ctypes

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ._math import like
from ._threads import LINE, run, share, shared

ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112  # the numbers of cblas.h
FEW_ROWS = 256  # below it a share is columns: a few rows of A would not pay for reading all of B
GRAIN = 1 << 19  # multiplications worth a share: some 10 µs; a thread has one, for each share packs A or B anew (8 %)


def reference(xp, out, A, B):
    """out ← A B by the array module: out (m, n), A (m, k), B (k, n)."""
    xp.dot(A, B, out=out)


def _calling(bits):
    """The intrinsic that calls cblas_?gemm at an address: out ← A B, its integers `bits` wide."""

    def call(typing_context, address, order_A, order_B, m, n, k, one, a, step_A, b, step_B, out, step_out):
        signature = types.void(*[types.int64] * 6, one, *[types.int64] * 6)

        def generate(context, builder, _, arguments):
            address, order_A, order_B, m, n, k, one_, a, step_A, b, step_B, out, step_out = arguments
            real, enum, whole = context.get_value_type(one), ir.IntType(32), ir.IntType(bits)
            pointer = ir.IntType(64)

            def cut(value, kind):
                return builder.trunc(value, kind) if kind.width < 64 else value

            function = ir.FunctionType(
                ir.VoidType(),
                [enum] * 3 + [whole] * 3 + [real, pointer, whole, pointer, whole, real, pointer, whole],
            )
            builder.call(
                builder.inttoptr(address, function.as_pointer()),
                [
                    ir.Constant(enum, ROW_MAJOR), cut(order_A, enum), cut(order_B, enum),
                    cut(m, whole), cut(n, whole), cut(k, whole),
                    one_, a, cut(step_A, whole), b, cut(step_B, whole),
                    ir.Constant(real, 0.0), out, cut(step_out, whole),
                ],
            )  # fmt: skip
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(call)


_call_32, _call_64 = _calling(32), _calling(64)


@shared
def _gemm(address, wide, out, A, B, order_A, order_B, t, shares):
    """A and B as they are stored: (k, m) and (n, k) where they are transposed."""
    m, n = out.shape
    k = A.shape[1] if order_A == AS_IT_IS else A.shape[0]
    step_A, step_B, size = A.shape[1], B.shape[1], out.itemsize
    by_rows = m >= FEW_ROWS
    one = like(out, 1.0)
    start, stop = share(t, shares, m if by_rows else n, 8 if by_rows else LINE)
    a, b, c = A.ctypes.data, B.ctypes.data, out.ctypes.data
    rows, columns = m, n
    if by_rows:
        rows = stop - start
        a += size * start * (step_A if order_A == AS_IT_IS else 1)
        c += size * start * n
    else:
        columns = stop - start
        b += size * start * (1 if order_B == AS_IT_IS else step_B)
        c += size * start
    if stop > start and wide:
        _call_64(address, order_A, order_B, rows, columns, k, one, a, step_A, b, step_B, c, n)
    elif stop > start:
        _call_32(address, order_A, order_B, rows, columns, k, one, a, step_A, b, step_B, c, n)


class Gemm:
    """out ← A B by the routines of a BLAS.

    sgemm, dgemm   its cblas_sgemm and cblas_dgemm, functions of ctypes
    wide           whether their integers have 64 bits
    """

    def __init__(self, sgemm, dgemm, wide):
        routines = {np.dtype(np.float32): sgemm, np.dtype(np.float64): dgemm}
        self.address = {dtype: ctypes.cast(routine, ctypes.c_void_p).value for dtype, routine in routines.items()}
        self.wide = wide

    def __call__(self, out, A, B):
        """out ← A B."""
        order_A, A = _stored(A)
        order_B, B = _stored(B)
        address, products = self.address[out.dtype], out.shape[1] * A.size
        run(_gemm, products, address, self.wide, out, A, B, order_A, order_B, grain=GRAIN, per_thread=1)


def _stored(A):
    """Whether A is a transposed view, and the C-contiguous array that it shows."""
    if A.flags.c_contiguous:
        return AS_IT_IS, A
    return TRANSPOSED, np.ascontiguousarray(A.T)  # no copy, unless A is neither
