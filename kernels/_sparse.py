"""sparse: products with a batch of few non-zeros, X M and Xᵀ M, by gathering rows of M.

    X M    out_i ← Σ_k x_ik M_k     over the non-zeros of row i, in the order of their columns
    Xᵀ M   out_k ← Σ_i x_ik M_i     over the non-zeros of column k, in the order of their rows

Eight non-zeros at a time: one load and one store of `out` for eight rows of M. Nothing is reassociated or contracted:
an element of `out` is the sum, by plain multiplications and additions in that order, whatever the number of threads.
Xᵀ M takes the batch in blocks of BLOCK_ROWS rows, whose part of M stays in the cache.

Shapes: X (B, D); M, out (·, H), C-contiguous. X by rows: values (n,), columns (n,) int32, starts (B + 1,) int64. X by
columns, `transpose`: in each block, values (n,), rows (n,) int32, starts (blocks, D + 1) int64. `values` is None where
all are 1. dtype: float32 or float64, all the same.
"""

from typing import Any

import numpy as np
from numba import njit

from ._cache import CACHE
from ._math import like
from ._threads import _OPTIONS, run, share

BLOCK_ROWS = 256
GRAIN = 1 << 17  # additions worth a share

_EXACT: dict[str, Any] = {**_OPTIONS, "fastmath": False}
_exact = njit(**_EXACT, cache=CACHE)
_inline = njit(**_EXACT)


@_inline
def _add_rows(out, values, at, M, first, last):
    """out (H,) += Σ_k values_k M[at_k], k = first … last − 1, in this order."""
    H = out.shape[0]
    k = first
    while k + 8 <= last:
        a, b, c, d = M[at[k]], M[at[k + 1]], M[at[k + 2]], M[at[k + 3]]
        e, f, g, h = M[at[k + 4]], M[at[k + 5]], M[at[k + 6]], M[at[k + 7]]
        if values is None:
            for j in range(H):
                out[j] = (((((((out[j] + a[j]) + b[j]) + c[j]) + d[j]) + e[j]) + f[j]) + g[j]) + h[j]
        else:
            u, v, w, x = values[k], values[k + 1], values[k + 2], values[k + 3]
            p, q, r, s = values[k + 4], values[k + 5], values[k + 6], values[k + 7]
            for j in range(H):
                y = (((out[j] + u * a[j]) + v * b[j]) + w * c[j]) + x * d[j]
                out[j] = (((y + p * e[j]) + q * f[j]) + r * g[j]) + s * h[j]
        k += 8
    while k + 2 <= last:
        a, b = M[at[k]], M[at[k + 1]]
        if values is None:
            for j in range(H):
                out[j] = (out[j] + a[j]) + b[j]
        else:
            u, v = values[k], values[k + 1]
            for j in range(H):
                out[j] = (out[j] + u * a[j]) + v * b[j]
        k += 2
    if k < last:
        a = M[at[k]]
        if values is None:
            for j in range(H):
                out[j] += a[j]
        else:
            u = values[k]
            for j in range(H):
                out[j] += u * a[j]


@_exact
def _times(out, values, columns, starts, M, t, shares):
    start, stop = share(t, shares, out.shape[0], 1)
    for i in range(start, stop):
        out[i, :] = like(M, 0.0)
        _add_rows(out[i], values, columns, M, starts[i], starts[i + 1])


@_exact
def _transposed_times(out, values, rows, starts, M, t, shares):
    start, stop = share(t, shares, out.shape[0], 1)
    for block in range(starts.shape[0]):
        for d in range(start, stop):
            if block == 0:
                out[d, :] = like(M, 0.0)
            _add_rows(out[d], values, rows, M, starts[block, d], starts[block, d + 1])


@_exact
def _transpose(to_values, to_rows, to_starts, values, columns, starts, t, shares):
    """A counting sort of each block: how many a column has, where it begins, then each to its place."""
    first, last = share(t, shares, to_starts.shape[0], 1)
    D = to_starts.shape[1] - 1
    B = starts.shape[0] - 1
    for block in range(first, last):
        own = to_starts[block]
        begin, end = block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, B)
        own[:] = 0
        for k in range(starts[begin], starts[end]):
            own[columns[k] + 1] += 1
        total = starts[begin]
        for d in range(1, D + 1):  # own[d]: where column d − 1 begins; after the sort where it ends
            count = own[d]
            own[d] = total
            total += count
        own[0] = starts[begin]
        for i in range(begin, end):
            for k in range(starts[i], starts[i + 1]):
                place = own[columns[k] + 1]
                own[columns[k] + 1] = place + 1
                to_rows[place] = i
                if values is not None:
                    to_values[place] = values[k]


@_exact
def _count(starts, X, t, shares):
    """starts[i + 1] ← the number of non-zeros in row i."""
    start, stop = share(t, shares, X.shape[0], 1)
    for i in range(start, stop):
        count = 0
        for j in range(X.shape[1]):
            count += X[i, j] != like(X, 0.0)
        starts[i + 1] = count


@_exact
def _fill(values, columns, starts, X, t, shares):
    start, stop = share(t, shares, X.shape[0], 1)
    for i in range(start, stop):
        k = starts[i]
        last = starts[i + 1]
        for j in range(X.shape[1]):
            if k == last:
                break
            columns[k] = j
            if values is not None:
                values[k] = X[i, j]
            k += X[i, j] != like(X, 0.0)


@_exact
def _gather(values, columns, starts, data, indices, pointers, rows, t, shares):
    first, last = share(t, shares, len(rows), 1)
    for r in range(first, last):
        to, start = starts[r], pointers[rows[r]]
        for k in range(pointers[rows[r] + 1] - start):
            columns[to + k] = indices[start + k]
            if data is not None:
                values[to + k] = data[start + k]


def blocks(B, D):
    """The shape of `starts` of the transpose of a batch (B, D)."""
    return -(-B // BLOCK_ROWS), D + 1


def count(starts, X):
    """starts (B + 1,) ← where the non-zeros of each row of a dense X (B, D) begin, and where the last one's end."""
    starts[0] = 0
    run(_count, X.size, starts, X)
    np.cumsum(starts, out=starts)


def fill(values, columns, starts, X):
    """values (None: all are 1) and columns ← the non-zeros of a dense X (B, D), whose `count` is starts."""
    run(_fill, X.size, values, columns, starts, X)


def gather(values, columns, starts, data, indices, pointers, rows):
    """values, columns ← those of some rows of a larger matrix; starts (B + 1,) say where each begins."""
    run(_gather, columns.size, values, columns, starts, data, indices, pointers, rows)


def times(out, values, columns, starts, M):
    """out ← X M."""
    run(_times, columns.size * M.shape[1], out, values, columns, starts, M, grain=GRAIN)


def transpose(to_values, to_rows, to_starts, values, columns, starts):
    """X by rows → by columns, block by block."""
    run(_transpose, columns.size, to_values, to_rows, to_starts, values, columns, starts)


def transposed_times(out, values, rows, starts, M):
    """out ← Xᵀ M, of the transpose."""
    run(_transposed_times, rows.size * M.shape[1] + out.size, out, values, rows, starts, M, grain=GRAIN)
