"""sparse: products with a batch of few non-zeros, X M and Xᵀ M, by gathering rows of M.

    X M    out_i ← Σ_k x_ik M_k     over the non-zeros of row i, in the order of their columns
    Xᵀ M   out_k ← Σ_i x_ik M_i     over the non-zeros of column k, in the order of their rows

A strip of 16 to 128 columns of an output's row stays in registers while rows of M are added to it. Nothing is
reassociated or contracted: an element of `out` is the sum, by plain multiplications and additions in that order,
whatever the strip and the number of threads. X is taken in blocks, of at most BLOCK columns for X M and of as many rows
for Xᵀ M, so that the strip of M that belongs to one stays in the cache; and `out` in groups of rows, so that they do.

Shapes: X (B, D); M, out (·, H), C-contiguous. A list of non-zeros by rows, `of` B rows and D columns in `blocks` of
ceil(D/blocks) columns: bounds (2, blocks, B) int64, row i has in block b the places bounds[0, b, i] … bounds[1, b, i] −
1 of `at` (·,), columns in ascending order, as uint8 counted from the first of the block or as int32 from the first of
all; values (·,), or None where all are 1. By columns, it is that of Xᵀ. dtype: float32 or float64, all alike.
"""

from functools import cache

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types

from ._cache import CACHE
from ._math import LOOP, intrinsic, like
from ._nonzeros import LOOK, differ, lowest
from ._threads import PER_THREAD, most, part, run, scratch, share

BLOCK = 128  # rows of M whose strip stays in the cache; at most 256: a place in it is a byte
GROUP = 512  # rows of `out` that are computed together: their strip and lists lie in the next cache
GRAIN = 1 << 17  # additions worth a share
NARROWEST = 64  # bytes of a strip: 16 floats

_exact = njit(**{**LOOP, "fastmath": False}, cache=CACHE)


def _summing(width):
    """The intrinsic out ← [out +] Σ_k value_k M[at_k] for a strip of `width` bytes, held in registers.

    Its arguments: a number of the dtype; the addresses of the strip in `out` and in M's first row; `at`; `values`; M's
    bytes a row; the first k and the one behind the last; whether what `out` holds is left out of the sum.
    """

    def call(context, real, out, M, at, values, step, first, last, afresh):
        size, weighted = real.bitwidth // 8, values != types.none
        lanes, word, index = width // size, ir.IntType(64), ir.IntType(at.dtype.bitwidth)

        def generate(context, builder, signature, arguments):
            _, out, M, places, given, step, first, last, afresh = arguments
            scalar = context.get_value_type(real)
            strip = ir.VectorType(scalar, lanes)

            def load(kind, base, offset):
                found = builder.load(builder.inttoptr(builder.add(base, offset), kind.as_pointer()))
                found.align = 1 if kind is index else size
                return found

            def times(x, bytes_):
                return builder.mul(x, ir.Constant(word, bytes_))

            def start(kind, array):
                return builder.ptrtoint(context.make_array(kind)(context, builder, array).data, word)

            places = start(at, places)
            weights = start(values, given) if weighted else None
            widen = builder.sext if at.dtype.signed else builder.zext
            zero = ir.Constant(word, 0)
            begin = builder.select(afresh, ir.Constant(strip, [0.0] * lanes), load(strip, out, zero))
            entry, loop, done = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed("<", first, last), loop, done)
            builder.position_at_end(loop)
            k, total = builder.phi(word), builder.phi(strip)
            row = widen(load(index, places, times(k, index.width // 8)), word)
            term = load(strip, M, builder.mul(row, step))
            if weighted:
                undefined = ir.Constant(strip, ir.Undefined)
                number = ir.IntType(32)
                value = builder.insert_element(undefined, load(scalar, weights, times(k, size)), number(0))
                everywhere = ir.Constant(ir.VectorType(number, lanes), [0] * lanes)
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

        whole = types.int64
        return types.void(real, whole, whole, at, values, whole, whole, whole, types.boolean), generate

    return intrinsic(call)


_sum_64, _sum_128, _sum_256, _sum_512 = map(_summing, (64, 128, 256, 512))


@njit(inline="always")
def _parts(n, of):
    """How many parts n has, of so many each: the last may have fewer."""
    return (n + of - 1) // of


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
def _gathered(out, all_sums, values, at, bounds, M, width, rows, t, shares):
    """out_i ← Σ_k value_k M[at_k], k from bounds[0, b, i] to bounds[1, b, i] − 1, for b = 0, then 1 …

    A share is pairs of a strip and a group of rows of `out`: no other reads that strip of M for them. Sums of more than
    one block grow in a scratch of its own: another share may have the strip that lies over this one.

    all_sums   (shares, ≥ rows · width/itemsize)
    width      of a strip in bytes; 0 where the rows are narrower than one. The last strip lies over the one before it
               where H is no multiple: it is computed twice, to the same bits
    rows       of a group
    """
    (R, H), size, zero = out.shape, out.itemsize, like(M, 0.0)
    step, groups, block = H * size, _parts(R, rows), _parts(M.shape[0], bounds.shape[1])
    strips = _parts(step, width) if width > 0 else 1
    start, stop = share(t, shares, strips * groups, 1)
    sums, whole = all_sums[t], bounds.shape[1] == 1
    for unit in range(start, stop):
        begin, end = unit % groups * rows, min((unit % groups + 1) * rows, R)
        offset = min(unit // groups * width, step - width)
        to, pitch = (out.ctypes.data + begin * step + offset, step) if whole else (sums.ctypes.data, width)
        for b in range(bounds.shape[1]):
            base = b * block if at.itemsize == 1 else 0
            for i in range(begin, end):
                first, last = bounds[0, b, i], bounds[1, b, i]
                if width > 0:
                    source = M.ctypes.data + base * step + offset
                    _strip(width, zero, to + (i - begin) * pitch, source, at, values, step, first, last, b == 0)
                    continue
                if b == 0:
                    out[i, :] = zero
                for k in range(first, last):
                    row = base + at[k]
                    for j in range(H):
                        out[i, j] += M[row, j] if values is None else values[k] * M[row, j]
        if width > 0 and not whole:
            left, lanes = offset // size, width // size
            for i in range(begin, end):
                own = sums[(i - begin) * lanes : (i - begin + 1) * lanes]
                for j in range((unit // groups * width - offset) // size, lanes):
                    out[i, left + j] = own[j]


@_exact
def _transpose(to_values, to_rows, to_bounds, values, columns, bounds, places, t, shares):
    """A counting sort of each block: how many a column has, where it begins, then each to its place."""
    blocks, B = to_bounds.shape[1], bounds.shape[2]
    first, last = share(t, shares, blocks, 1)
    block = _parts(B, blocks)
    for b in range(first, last):
        begins, ends = to_bounds[0, b], to_bounds[1, b]
        begin, end = b * block, min((b + 1) * block, B)
        ends[:] = 0
        for i in range(begin, end):
            for k in range(bounds[0, 0, i], bounds[1, 0, i]):
                ends[columns[k]] += 1
        place = places[b]
        for d in range(len(ends)):
            begins[d] = place
            place += ends[d]
            ends[d] = begins[d]
        for i in range(begin, end):
            for k in range(bounds[0, 0, i], bounds[1, 0, i]):
                place = ends[columns[k]]
                ends[columns[k]] = place + 1
                to_rows[place] = i - begin
                if values is not None:
                    to_values[place] = values[k]


@_exact
def _list(columns, bounds, to_rows, to_bounds, other, pieces, X, t, shares):
    """A share is blocks of rows, or `pieces` of them, each some blocks of columns, read row after row.

    In a block, a row and a column have places for all that they may hold.
    """
    (B, D), zero, one, size = X.shape, like(X, 0.0), like(X, 1.0), X.itemsize
    down, across = to_bounds.shape[1], bounds.shape[1]
    tall, wide, any_other = _parts(B, down), _parts(D, across), np.uint64(0)
    first, last = share(t, shares, down * pieces, 1)
    for piece in range(first, last):
        row = piece // pieces
        begin, end = row * tall, min((row + 1) * tall, B)
        first_strip, last_strip = part(piece % pieces, pieces, across, 1)
        ends = to_bounds[1, row]
        for d in range(first_strip * wide, min(last_strip * wide, D)):
            to_bounds[0, row, d] = ends[d] = begin * D + d * (end - begin)
        for i in range(begin, end):
            for strip in range(first_strip, last_strip):
                left, right = strip * wide, min((strip + 1) * wide, D)
                k = i * D + left
                bounds[0, strip, i] = k
                for start in range(left, right, LOOK):
                    bits = others = np.uint64(0)
                    if start + LOOK <= D:
                        at = X.ctypes.data + (i * D + start) * size
                        bits, others = differ(zero, at), differ(one, at)
                        if start + LOOK > right:
                            bits &= (np.uint64(1) << np.uint64(right - start)) - np.uint64(1)
                    else:
                        for d in range(start, right):
                            bits |= np.uint64(X[i, d] != zero) << np.uint64(d - start)
                            others |= np.uint64(X[i, d] != one) << np.uint64(d - start)
                    any_other |= bits & others
                    while bits != np.uint64(0):
                        d = start + lowest(bits)
                        bits &= bits - np.uint64(1)
                        place = ends[d]
                        ends[d] = place + 1
                        columns[k] = d - left
                        to_rows[place] = i - begin
                        k += 1
                bounds[1, strip, i] = k
    if any_other != np.uint64(0):
        other[0] = True


@_exact
def _values(values, columns, bounds, to_values, to_rows, to_bounds, X, t, shares):
    B, D = X.shape
    tall, wide = _parts(B, to_bounds.shape[1]), _parts(D, bounds.shape[1])
    start, stop = share(t, shares, B, 1)
    for b in range(bounds.shape[1]):
        for i in range(start, stop):
            for k in range(bounds[0, b, i], bounds[1, b, i]):
                values[k] = X[i, b * wide + columns[k]]
    start, stop = part(t, shares, D, 1) if t >= 0 else (0, 0)  # the pool is to do it all
    for b in range(to_bounds.shape[1]):
        for d in range(start, stop):
            for k in range(to_bounds[0, b, d], to_bounds[1, b, d]):
                to_values[k] = X[b * tall + to_rows[k], d]


@_exact
def _split(to_bounds, columns, bounds, D, t, shares):
    start, stop = share(t, shares, bounds.shape[2], 1)
    block = _parts(D, to_bounds.shape[1])
    for i in range(start, stop):
        k, end = bounds[0, 0, i], bounds[1, 0, i]
        for b in range(to_bounds.shape[1]):
            to_bounds[0, b, i] = k
            k += np.searchsorted(columns[k:end], (b + 1) * block)
            to_bounds[1, b, i] = k


def blocks(rows, columns):
    """The shape of the bounds of a list by rows of so many columns."""
    return 2, -(-columns // BLOCK), rows


def split(to_bounds, columns, bounds, D):
    """to_bounds ← the bounds of each row's places (2, 1, B), block by block of the D columns."""
    run(_split, columns.size, to_bounds, columns, bounds, D)


def fill(columns, bounds, to_rows, to_bounds, X):
    """All ← where a dense X (B, D) is not 0, by rows and by columns, in arrays of B·D → whether it is 1 there."""
    other, pieces = np.zeros(1, np.bool_), min(bounds.shape[1], -(-most() // to_bounds.shape[1]))
    run(_list, X.size, columns, bounds, to_rows, to_bounds, other, pieces, X)
    return not other[0]


def fill_values(values, columns, bounds, to_values, to_rows, to_bounds, X):
    """values, to_values ← the non-zeros of X, where `fill` has found them."""
    run(_values, X.size, values, columns, bounds, to_values, to_rows, to_bounds, X)


def transpose(to_values, to_rows, to_bounds, values, columns, bounds, counts):
    """X by rows → by columns, block by block; counts (B,): how many non-zeros each row has."""
    firsts = np.arange(0, len(counts), -(-len(counts) // to_bounds.shape[1]))
    places = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.add.reduceat(counts, firsts))))
    run(_transpose, to_rows.size, to_values, to_rows, to_bounds, values, columns, bounds, places)


def times(out, values, at, bounds, M):
    """out ← X M by the rows of X, or Xᵀ M by its columns."""
    (R, H), width = out.shape, _widest()
    while width > H * out.itemsize:
        width //= 2
    width = width if width >= NARROWEST else 0
    strips = -(-H * out.itemsize // width) if width else 1
    groups = max(-(-R // GROUP), min(R, -(-PER_THREAD * most() // strips)))
    rows, elements = -(-R // groups), at.size * H + out.size
    sums = scratch("sparse", elements, rows * width // out.itemsize, out.dtype)
    run(_gathered, elements, out, sums, values, at, bounds, M, width, rows, grain=GRAIN, most=len(sums))


@cache
def _widest():
    """The widest strip in bytes that half the vector registers hold: those of the processor that Numba compiles for."""
    features = vars(config)["CPU_FEATURES"]
    return 512 if "+avx512vl" in (binding.get_host_cpu_features().flatten() if features is None else features) else 256
