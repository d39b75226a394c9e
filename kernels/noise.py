"""noise: Philox 4×32-10, counter-based. The bits are a function of where they are used, and of nothing else.

    key      the 64-bit seed, low word first
    counter  [stream << 24 | block, sample, row, pass]        block = dim // 4: one call gives the words of 4 dims
    bits     word dim % 4 of philox(counter, key)
    uniform  (word >> 8) · 2⁻²⁴                               24 bits, in [0, 1); exact in float32 and float64
    normal   Box–Muller on each pair of words (a, b), in float64 whatever the dtype:
             √(−2 ln (uₐ + 2⁻²⁵)) · (cos 2πu_b, sin 2πu_b)     so |n| ≤ 5.89, and every backend agrees within 2 ulp
    binarize x ← 1 where u < x, else 0                         a Bernoulli draw of mean x

Shapes: out (S, B, D), sample s of the array being sample number `sample + s`; rows (B,) integers below 2³²; X (B, D).
Source: Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the constants are theirs.
"""

import math
import threading

import numpy as np

from . import _cuda
from ._math import kernel, like

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
    angle = 2 * math.pi * U[..., 1]
    pairs = xp.stack((radius * xp.cos(angle), radius * xp.sin(angle)), axis=-1)
    out[...] = pairs.reshape(S, B, -1)[:, :, :D]


def binarize_reference(xp, X, rows, stream, sample, pass_, seed):
    """X ← Bernoulli draws of mean X, in place: X (B, D) in [0, 1], the rest as `bits_reference`."""
    X[...] = _uniform(xp, (1, *X.shape), rows, stream, sample, pass_, seed)[0] < X


# ---- fused: the words of one row into a scratch, word k of every block side by side, which vectorises; then a pass
# that uses them. Written straight to their interleaved places they cost four times as much. -------------------------


@kernel
def _multiply(a, b):
    """The 64-bit product of two words: (high, low)."""
    product = np.uint64(a) * np.uint64(b)
    return np.uint32(product >> np.uint64(32)), np.uint32(product)


@kernel
def _row_words(words, row, stream, sample, pass_, seed):
    """words[k, block] ← word k of that block: words (4, blocks) uint32."""
    for block in range(words.shape[1]):
        c0 = np.uint32((stream << 24) + block)
        c1, c2, c3 = np.uint32(sample), np.uint32(row), np.uint32(pass_)
        k0, k1 = np.uint32(seed), np.uint32(seed >> np.uint64(32))
        for _ in range(ROUNDS):
            high0, low0 = _multiply(c0, np.uint32(M0))
            high1, low1 = _multiply(c2, np.uint32(M1))
            c0, c1, c2, c3 = np.uint32(high1 ^ c1 ^ k0), low1, np.uint32(high0 ^ c3 ^ k1), low0
            k0, k1 = np.uint32(k0 + np.uint32(W0)), np.uint32(k1 + np.uint32(W1))
        words[0, block] = c0
        words[1, block] = c1
        words[2, block] = c2
        words[3, block] = c3


@kernel
def _uniform_of(word, x):
    """A word's 24-bit uniform in x's dtype."""
    return like(x, np.int32(word >> np.uint32(8))) * like(x, 2.0**-24)


@kernel
def _bits(out, words, rows, stream, sample, pass_, seed):
    S, B, D = out.shape
    for s in range(S):
        for b in range(B):
            _row_words(words, rows[b], stream, sample + s, pass_, seed)
            for j in range(D):
                out[s, b, j] = words[j & 3, j >> 2]


@kernel
def _uniforms(out, words, rows, stream, sample, pass_, seed):
    S, B, D = out.shape
    for s in range(S):
        for b in range(B):
            _row_words(words, rows[b], stream, sample + s, pass_, seed)
            for j in range(D):
                out[s, b, j] = _uniform_of(words[j & 3, j >> 2], out)


@kernel
def _normals(out, words, rows, stream, sample, pass_, seed):
    S, B, D = out.shape
    for s in range(S):
        for b in range(B):
            _row_words(words, rows[b], stream, sample + s, pass_, seed)
            for j in range(0, D, 2):
                ua = _uniform_of(words[j & 3, j >> 2], 0.0)
                ub = _uniform_of(words[(j & 3) + 1, j >> 2], 0.0)
                radius = math.sqrt(-2.0 * math.log(ua + 2.0**-25))
                angle = 2 * math.pi * ub
                out[s, b, j] = radius * math.cos(angle)
                if j + 1 < D:
                    out[s, b, j + 1] = radius * math.sin(angle)


@kernel
def _binarize(X, words, rows, stream, sample, pass_, seed):
    B, D = X.shape
    one, zero = like(X, 1.0), like(X, 0.0)
    for b in range(B):
        _row_words(words, rows[b], stream, sample, pass_, seed)
        for j in range(D):
            X[b, j] = one if _uniform_of(words[j & 3, j >> 2], X) < X[b, j] else zero


_scratch = threading.local()  # grown to the widest row seen; one for each thread, since the kernels release the GIL


def _words_scratch(blocks):
    words = getattr(_scratch, "words", None)
    if words is None or words.size < 4 * blocks:
        words = _scratch.words = np.empty(4 * blocks, np.uint32)
    return words[: 4 * blocks].reshape(4, blocks)


def _fused(kernel):
    """The kernel with its scratch, and its seed as the uint64 that Numba would take for a signed number."""

    def launch(out, rows, stream, sample, pass_, seed):
        kernel(out, _words_scratch(-(-out.shape[-1] // 4)), rows, stream, sample, pass_, np.uint64(seed))

    return launch


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def _cuda_launcher(name):
    """The launcher of one kernel of `noise.cu`."""

    def launch(out, rows, stream, sample, pass_, seed):
        samples = () if name == "binarize" else (out.shape[0],)
        B, D = out.shape[-2:]
        counters = out.size // D * -(-D // 4)
        if counters >= 2**32:
            raise ValueError(f"{name}: {out.shape} needs {counters} blocks of noise; a kernel counts to 2³² − 1")
        if rows.dtype != np.int64:
            rows = rows.astype("int64")
        if name == "bits":
            _cuda.check("uint32", out)
        real = "float32" if name == "bits" else out.dtype
        where = (np.uint32(stream), np.uint32(sample), _cuda.number(pass_), np.uint64(seed))
        _cuda.launch("noise", name, real, _cuda.flat(counters), out, rows, *where, *samples, B, D)

    return launch


OPS = {
    "bits": (bits_reference, _fused(_bits), _cuda_launcher("bits")),
    "uniform": (uniform_reference, _fused(_uniforms), _cuda_launcher("uniform")),
    "normal": (normal_reference, _fused(_normals), _cuda_launcher("normal")),
    "binarize": (binarize_reference, _fused(_binarize), _cuda_launcher("binarize")),
}
