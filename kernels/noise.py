"""noise: Philox 4×32-10, counter-based. The bits are a function of where they are used, and of nothing else.

    key      the 64-bit seed, low word first
    counter  [stream << 24 | block, sample, row, pass]        block = dim // 4: one call gives the words of 4 dims
    bits     word dim % 4 of philox(counter, key)
    uniform  (word >> 8) · 2⁻²⁴                               24 bits, in [0, 1); exact in float32 and float64
    normal   Box–Muller on each pair of words (a, b), in float64 whatever the dtype:
             √(−2 ln (uₐ + 2⁻²⁵)) · (cos 2πu_b, sin 2πu_b)     so |n| ≤ 5.89, backends agree within 2 ulp (float64: 4)
    binarize x ← 1 where u < x, else 0                         a Bernoulli draw of mean x

Shapes: out (S, B, D), sample s of the array being sample number `sample + s`; rows (B,) integers below 2³²; X (B, D).
Source: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the constants are theirs.
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types

from . import _cuda
from ._math import bits, intrinsic, like
from ._normal import cos_sin_of_turn, radius
from ._op import Op, poison, uniform
from ._threads import run, scratch, share, shared

M0, M1 = 0xD2511F53, 0xCD9E8D57  # the multipliers
W0, W1 = 0x9E3779B9, 0xBB67AE85  # what the key grows by each round: the golden ratio, and √3 − 1
ROUNDS = 10
MASK = 0xFFFFFFFF


def split_key(seed):
    """The two words of a 64-bit seed, low first."""
    return seed & MASK, (seed >> 32) & MASK


def philox_reference(xp, counter, key):
    """Philox 4×32-10: four uint64 arrays holding 32-bit words → four of the same.

    counter    four arrays that broadcast together
    key        two integers below 2³²
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1, c2, c3


def _words(xp, shape, rows, stream, sample, pass_, seed):
    """The bits for `shape`, one word for each dim: (S, B, D) uint64."""
    S, B, D = shape
    blocks = -(-D // 4)
    counter = (
        xp.arange(blocks, dtype="uint64").reshape(1, 1, blocks) + (stream << 24),
        xp.arange(S, dtype="uint64").reshape(S, 1, 1) + sample,
        rows.astype("uint64").reshape(1, B, 1),
        xp.full((1, 1, 1), pass_, dtype="uint64"),
    )
    words = xp.stack(philox_reference(xp, counter, split_key(seed)), axis=-1)
    return words.reshape(S, B, 4 * blocks)[:, :, :D]


def bits_reference(xp, out, rows, stream, sample, pass_, seed):
    """out ← the raw words.

    out        (S, B, D)  out: uint32
    rows       (B,)       integers below 2³²
    stream, sample, pass_, seed: numbers
    """
    out[...] = _words(xp, out.shape, rows, stream, sample, pass_, seed)


def _uniform(xp, shape, *where):
    return (_words(xp, shape, *where) >> 8) * 2.0**-24


def uniform_reference(xp, out, rows, stream, sample, pass_, seed):
    """out ← uniforms in [0, 1); arguments as `bits_reference`, out float32 or float64."""
    out[...] = _uniform(xp, out.shape, rows, stream, sample, pass_, seed)


def normal_reference(xp, out, rows, stream, sample, pass_, seed):
    """out ← standard normals; arguments as `bits_reference`, out float32 or float64."""
    S, B, D = out.shape
    U = _uniform(xp, (S, B, D + D % 2), rows, stream, sample, pass_, seed).reshape(S, B, -1, 2)
    radius = xp.sqrt(-2 * xp.log(U[..., 0] + 2.0**-25))
    quarter = xp.floor(4 * U[..., 1] + 0.5)  # taken out first, exactly: π is rounded, and near a zero it would show
    angle = 2 * math.pi * (U[..., 1] - quarter / 4)
    cos, sin = xp.cos(angle), xp.sin(angle)
    odd = quarter % 2 == 1
    x = xp.where(odd, sin, cos) * xp.where((quarter + 1) % 4 >= 2, -1, 1)
    y = xp.where(odd, cos, sin) * xp.where(quarter % 4 >= 2, -1, 1)
    pairs = xp.stack((radius * x, radius * y), axis=-1)
    out[...] = pairs.reshape(S, B, -1)[:, :, :D]


def binarize_reference(xp, X, rows, stream, sample, pass_, seed):
    """X ← Bernoulli draws of mean X, in place: X (B, D) in [0, 1], the rest as `bits_reference`."""
    X[...] = _uniform(xp, (1, *X.shape), rows, stream, sample, pass_, seed)[0] < X


# ---- fused: tile by tile of whole rows. First the words of a tile, word k of every block side by side, which
# vectorises however narrow a row is; then a pass that uses them. -------------------------------------------------

TILE = 512  # blocks in a tile, if a row has fewer
inlined = njit(inline="always")  # into `_noise`, before that is compiled: one compilation instead of four


@intrinsic
def _philox(context, c0, c1, c2, c3, seed):
    """The words of one block, in straight-line code: Numba takes a tenth of a second for as much of its own."""
    word, wide = ir.IntType(32), ir.IntType(64)

    def generate(context, builder, signature, values):
        c0, c1, c2, c3, seed = values
        k0, k1 = builder.trunc(seed, word), builder.trunc(builder.lshr(seed, wide(32)), word)
        for _ in range(ROUNDS):
            p0, p1 = builder.mul(builder.zext(c0, wide), wide(M0)), builder.mul(builder.zext(c2, wide), wide(M1))
            high0, high1 = (builder.trunc(builder.lshr(p, wide(32)), word) for p in (p0, p1))
            c0, c2 = builder.xor(builder.xor(high1, c1), k0), builder.xor(builder.xor(high0, c3), k1)
            c1, c3 = builder.trunc(p1, word), builder.trunc(p0, word)
            k0, k1 = builder.add(k0, word(W0)), builder.add(k1, word(W1))
        return context.make_tuple(builder, signature.return_type, (c0, c1, c2, c3))

    return types.UniTuple(types.uint32, 4)(*[types.uint32] * 4, types.uint64), generate


@inlined
def rounds(words, n, pass_, seed):
    """words (4, …) uint32 ← the words of n blocks; its first three rows held their counters."""
    for i in range(n):
        words[0, i], words[1, i], words[2, i], words[3, i] = _philox(words[0, i], words[1, i], words[2, i], pass_, seed)


@inlined
def _tile_words(words, rows, start, stop, B, blocks, stream, sample, pass_, seed):
    """words (4, …) uint32 ← the words of the rows start … stop − 1 of S·B; its columns are (row, block)."""
    for r in range(start, stop):  # the counters first, where their words will lie
        before = (r - start) * blocks
        c1, c2 = np.uint32(sample + r // B), np.uint32(rows[r % B])
        for block in range(blocks):
            words[0, before + block] = (stream << 24) + block
            words[1, before + block] = c1
            words[2, before + block] = c2
    rounds(words, (stop - start) * blocks, pass_, seed)


@inlined
def _box_muller(normals, words, n):
    """normals (4, …) ← Box–Muller on the first and second word of n blocks, and on the third and fourth."""
    for pair in (0, 2):
        for i in range(n):
            length = radius(np.int64(words[pair, i] >> np.uint32(8)))
            cos, sin = cos_sin_of_turn(np.int64(words[pair + 1, i] >> np.uint32(8)))
            normals[pair, i] = length * cos
            normals[pair + 1, i] = length * sin


WORDS, UNIFORM, NORMAL, DRAWN = range(4)  # what `_noise` makes
COST = 4  # a number costs as much as so many elements of another kernel


@shared
def _noise(out, kind, all_words, all_normals, tile, B, rows, stream, sample, pass_, seed, t, shares):
    """One kernel for all, since each takes half a second to compile. WORDS: as the bits of a float32."""
    R, D = out.shape
    blocks = (D + 3) // 4
    first, last = share(t, shares, R, 1)
    words, normals = all_words[t], all_normals[t]
    for start in range(first, last, tile):
        stop = start + tile if start + tile < last else last
        _tile_words(words, rows, start, stop, B, blocks, stream, sample, pass_, seed)
        if kind == NORMAL:
            _box_muller(normals, words, (stop - start) * blocks)
        for r in range(start, stop):
            before = (r - start) * blocks
            if kind == NORMAL:
                own_normals = normals[:, before : before + blocks]
                for j in range(D):
                    out[r, j] = own_normals[j & 3, j >> 2]
                continue
            own = words[:, before : before + blocks]
            for j in range(D):
                word = own[j & 3, j >> 2]
                if kind == WORDS:
                    out[r, j] = bits(np.uint32(word))
                else:
                    u = like(out, np.int32(word >> np.uint32(8))) * like(out, 2.0**-24)
                    drawn = like(out, 1.0) if u < out[r, j] else like(out, 0.0)
                    out[r, j] = drawn if kind == DRAWN else u


def _fused(kind):
    """`_noise` on (S·B, D); np.uint64, since Numba would take a large seed for a signed number."""

    def launch(out, rows, stream, sample, pass_, seed):
        B, D = out.shape[-2:]
        blocks, cost = -(-D // 4), COST * out.size
        tile, flat = max(1, TILE // blocks), out.reshape(-1, D)
        flat = flat.view(np.float32) if kind == WORDS else flat
        words = scratch("noise", cost, 4 * max(TILE, blocks), np.uint32)
        normals = scratch("noise", cost, words.shape[1], np.float64)
        tiles = words.reshape(len(words), 4, -1), normals.reshape(len(normals), 4, -1)
        numbers = stream, sample, pass_, np.uint64(seed)
        run(_noise, cost, flat, kind, *tiles, tile, B, rows, *numbers, most=min(len(words), len(normals)))

    return launch


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def _cuda_launcher(name):
    """The launcher of one kernel of `noise.cu`."""

    def launch(out, rows, *where):
        counters = out.size // out.shape[-1] * -(-out.shape[-1] // 4)
        if counters >= 2**32:
            raise ValueError(f"{name}: {out.shape} needs {counters} blocks of noise; a kernel counts to 2³² − 1")
        rows = rows if rows.dtype == np.int64 else rows.astype("int64")
        _cuda.launch("noise", name, _cuda.flat(counters), out, rows, *where, *out.shape)

    return launch


def example(rng, dtype, S, B, D, case):
    """Numbers near the ends of their ranges."""
    return poison(dtype, S, B, D), rng.integers(0, 2**32, B), 3, 2**31, 2**32 - 4, 2**64 - 3


def bits_example(rng, dtype, S, B, D, case):
    """The same into words."""
    return np.zeros((S, B, D), np.uint32), *example(rng, dtype, S, B, D, case)[1:]


def binarize_example(rng, dtype, S, B, D, case):
    """Means in [0, 1]."""
    return uniform(rng, dtype, B, D), *example(rng, dtype, S, B, D, case)[1:]


def _op(name, reference, kind, example, operations, **arguments):
    """An op of one of the kinds; operations: floating-point operations for each number."""
    return Op(
        reference, _fused(kind), _cuda_launcher(name), example,
        flops=lambda numbers, *_: operations * numbers.size, **arguments,
    )  # fmt: skip


OPS = {
    "bits": _op("bits", bits_reference, WORDS, bits_example, 26, outputs=("out",)),
    "uniform": _op("uniform", uniform_reference, UNIFORM, example, 27, outputs=("out",)),
    "normal": _op("normal", normal_reference, NORMAL, example, 31, outputs=("out",)),
    "binarize": _op("binarize", binarize_reference, DRAWN, binarize_example, 27, outputs=(), updated=("X",)),
}
