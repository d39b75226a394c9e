"""sparse: products with a batch of few non-zeros, X M and Xᵀ M, by gathering rows of M.

    X M    out_i ← Σ_k x_ik M_k     over the non-zeros of row i, in the order of their columns
    Xᵀ M   out_k ← Σ_i x_ik M_i     over the non-zeros of column k, in the order of their rows

A strip of 16 to 128 columns of an output's row stays in registers while rows of M are added to it. Nothing is
reassociated or contracted: an element of `out` is the sum, by plain multiplications and additions in that order,
whatever the strip and the number of threads. X is taken in blocks, of BLOCK_COLUMNS columns for X M and of BLOCK_ROWS
rows for Xᵀ M, so that the strip of M that belongs to one stays in the cache.

Shapes: X (B, D); M, out (·, H), C-contiguous. X by rows: values, columns (·,), int32, ascending in a row, and bounds
(2, 1, B) int64: row i has the places bounds[0, 0, i] … bounds[1, 0, i] − 1. X by columns, `transpose`: values, rows
(n,) and bounds (2, blocks, D), in each block. `values` is None where all are 1. dtype: float32 or float64, all alike.
"""

from functools import cache

import numpy as np
from llvmlite import binding, ir
from numba import njit, types

from ._cache import CACHE
from ._math import intrinsic, like
from ._nonzeros import LOOK, differ, lowest
from ._threads import _OPTIONS, run, share

BLOCK_ROWS = 512
BLOCK_COLUMNS = 256
GRAIN = 1 << 17  # additions worth a share
NARROWEST = 64  # bytes of a strip: 16 floats

_exact = njit(**{**_OPTIONS, "fastmath": False}, cache=CACHE)


def _summing(width):
    """The intrinsic out ← [out +] Σ_k value_k M[at_k] for a strip of `width` bytes, held in registers.

    Its arguments: a number of the dtype; the addresses of the strip in `out`, in M's first row, and of `at`; `values`;
    M's bytes a row; the first k and the one behind the last; whether what `out` holds is left out of the sum.
    """

    def call(context, real, out, M, at, values, step, first, last, afresh):
        size, weighted = real.bitwidth // 8, values != types.none
        lanes, word, index = width // size, ir.IntType(64), ir.IntType(32)

        def generate(context, builder, signature, arguments):
            _, out, M, at, given, step, first, last, afresh = arguments
            scalar = context.get_value_type(real)
            strip = ir.VectorType(scalar, lanes)

            def load(kind, base, offset):
                found = builder.load(builder.inttoptr(builder.add(base, offset), kind.as_pointer()))
                found.align = min(size, 4)
                return found

            def times(x, bytes_):
                return builder.mul(x, ir.Constant(word, bytes_))

            if weighted:
                held = context.make_array(values)(context, builder, given)
                weights = builder.ptrtoint(held.data, word)
            zero = ir.Constant(word, 0)
            begin = builder.select(afresh, ir.Constant(strip, [0.0] * lanes), load(strip, out, zero))
            entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
            builder.position_at_end(loop)
            k, total = builder.phi(word), builder.phi(strip)
            row = builder.sext(load(index, at, times(k, 4)), word)
            term = load(strip, M, builder.mul(row, step))
            if weighted:
                undefined = ir.Constant(strip, ir.Undefined)
                value = builder.insert_element(undefined, load(scalar, weights, times(k, size)), ir.Constant(index, 0))
                everywhere = ir.Constant(ir.VectorType(index, lanes), [0] * lanes)
                term = builder.fmul(builder.shuffle_vector(value, undefined, everywhere), term)
            more, after = builder.fadd(total, term), builder.add(k, ir.Constant(word, 1))
            for phi, start, following in ((k, first, after), (total, begin, more)):
                phi.add_incoming(start, entry)
                phi.add_incoming(following, loop)
            builder.cbranch(builder.icmp_signed("<", after, last), loop, done)
            builder.position_at_end(done)
            result = builder.phi(strip)
            result.add_incoming(begin, entry)
            result.add_incoming(more, loop)
            builder.store(result, builder.inttoptr(out, strip.as_pointer()), align=size)
            return context.get_dummy_value()

        addresses = types.int64, types.int64, types.int64, values
        return types.void(real, *addresses, types.int64, types.int64, types.int64, types.boolean), generate

    return intrinsic(call)


_sum_64, _sum_128, _sum_256, _sum_512 = map(_summing, (64, 128, 256, 512))


@njit(inline="always")
def _strip(width, zero, out, M, at, values, step, first, last, afresh):
    """One strip of one row of `out`, by addresses."""
    if width == 512:
        _sum_512(zero, out, M, at, values, step, first, last, afresh)
    elif width == 256:
        _sum_256(zero, out, M, at, values, step, first, last, afresh)
    elif width == 128:
        _sum_128(zero, out, M, at, values, step, first, last, afresh)
    else:
        _sum_64(zero, out, M, at, values, step, first, last, afresh)


@_exact
def _gathered(out, values, at, bounds, M, width, t, shares):
    """out_i ← Σ_k value_k M[at_k], k from bounds[0, b, i] to bounds[1, b, i] − 1, for b = 0, then 1 …

    width   of a strip in bytes; 0 where the rows are narrower than one. The last strip lies over the one before it
            where H is no multiple: it is computed anew, to the same bits
    """
    start, stop = share(t, shares, out.shape[0], 1)
    H, size, zero = out.shape[1], out.itemsize, like(M, 0.0)
    step = H * size
    strips = (step + width - 1) // width if width > 0 else 0
    for strip in range(strips):
        offset = min(strip * width, step - width)
        for b in range(bounds.shape[1]):
            for i in range(start, stop):
                to, source = out.ctypes.data + i * step + offset, M.ctypes.data + offset
                first, last = bounds[0, b, i], bounds[1, b, i]
                _strip(width, zero, to, source, at.ctypes.data, values, step, first, last, b == 0)
    for b in range(bounds.shape[1] if width == 0 else 0):
        for i in range(start, stop):
            if b == 0:
                out[i, :] = zero
            for k in range(bounds[0, b, i], bounds[1, b, i]):
                for j in range(H):
                    out[i, j] += M[at[k], j] if values is None else values[k] * M[at[k], j]


@_exact
def _transpose(to_values, to_rows, to_bounds, values, columns, bounds, places, t, shares):
    """A counting sort of each block: how many a column has, where it begins, then each to its place."""
    first, last = share(t, shares, to_bounds.shape[1], 1)
    for block in range(first, last):
        begins, ends = to_bounds[0, block], to_bounds[1, block]
        begin, end = block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, bounds.shape[2])
        ends[:] = 0
        for i in range(begin, end):
            for k in range(bounds[0, 0, i], bounds[1, 0, i]):
                ends[columns[k]] += 1
        place = places[block]
        for d in range(len(ends)):
            begins[d] = place
            place += ends[d]
            ends[d] = begins[d]
        for i in range(begin, end):
            for k in range(bounds[0, 0, i], bounds[1, 0, i]):
                place = ends[columns[k]]
                ends[columns[k]] = place + 1
                to_rows[place] = i
                if values is not None:
                    to_values[place] = values[k]


@_exact
def _list(values, columns, bounds, to_values, to_rows, to_bounds, X, t, shares):
    """A share is blocks of rows and columns. In each, a row and a column have places for all that they may hold."""
    (B, D), zero, size = X.shape, like(X, 0.0), X.itemsize
    across = bounds.shape[1]
    first, last = share(t, shares, to_bounds.shape[1] * across, 1)
    for block in range(first, last):
        down, strip = block // across, block % across
        begin, left = down * BLOCK_ROWS, strip * BLOCK_COLUMNS
        end, right = min(begin + BLOCK_ROWS, B), min(left + BLOCK_COLUMNS, D)
        ends = to_bounds[1, down]
        for d in range(left, right):
            to_bounds[0, down, d] = ends[d] = begin * D + d * (end - begin)
        for i in range(begin, end):
            k = i * D + left
            bounds[0, strip, i] = k
            for start in range(left, right, LOOK):
                bits = np.uint64(0)
                if start + LOOK <= right:
                    bits = differ(zero, X.ctypes.data + (i * D + start) * size)
                else:
                    for d in range(start, right):
                        bits |= np.uint64(X[i, d] != zero) << np.uint64(d - start)
                while bits != np.uint64(0):
                    d = start + lowest(bits)
                    bits &= bits - np.uint64(1)
                    place = ends[d]
                    ends[d] = place + 1
                    columns[k] = d
                    to_rows[place] = i
                    if values is not None:
                        values[k] = to_values[place] = X[i, d]
                    k += 1
            bounds[1, strip, i] = k


@_exact
def _split(to_bounds, columns, bounds, t, shares):
    start, stop = share(t, shares, bounds.shape[2], 1)
    for i in range(start, stop):
        k, end = bounds[0, 0, i], bounds[1, 0, i]
        for block in range(to_bounds.shape[1]):
            to_bounds[0, block, i] = k
            k += np.searchsorted(columns[k:end], (block + 1) * BLOCK_COLUMNS)
            to_bounds[1, block, i] = k


def column_blocks(B, D):
    """The shape of the bounds of a batch (B, D), block by block of BLOCK_COLUMNS columns."""
    return 2, -(-D // BLOCK_COLUMNS), B


def split(to_bounds, columns, bounds):
    """to_bounds ← the bounds of each row's places (2, 1, B), block by block of columns."""
    run(_split, columns.size, to_bounds, columns, bounds)


def blocks(B, D):
    """The shape of the bounds of the transpose of a batch (B, D)."""
    return 2, -(-B // BLOCK_ROWS), D


def fill(values, columns, bounds, to_values, to_rows, to_bounds, X):
    """All ← the non-zeros of a dense X (B, D), by rows and by columns, block by block; the values None: all are 1.

    bounds (2, blocks of columns, B) and to_bounds (2, blocks of rows, D) tell the places in arrays of B·D.
    """
    run(_list, X.size, values, columns, bounds, to_values, to_rows, to_bounds, X)


def transpose(to_values, to_rows, to_bounds, values, columns, bounds, counts):
    """X by rows → by columns, block by block; counts (B,): how many non-zeros each row has."""
    ends = np.cumsum(np.add.reduceat(counts, np.arange(0, len(counts), BLOCK_ROWS)))
    places = np.concatenate((np.zeros(1, np.int64), ends))
    run(_transpose, to_rows.size, to_values, to_rows, to_bounds, values, columns, bounds, places)


def times(out, values, at, bounds, M):
    """out ← X M by the rows of X, or Xᵀ M by its columns."""
    width, row = _widest(), out.shape[1] * out.itemsize
    while width > row:
        width //= 2
    width = width if width >= NARROWEST else 0
    run(_gathered, at.size * M.shape[1] + out.size, out, values, at, bounds, M, width, grain=GRAIN)


@cache
def _widest():
    """The widest strip in bytes that this processor's vector registers hold with room to spare."""
    return 512 if binding.get_host_cpu_features().get("avx512vl") else 256
