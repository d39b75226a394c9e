"""ln w of importance samples under a Bernoulli decoder, forward only (eq. 7), as one compiled kernel.

    z = μ + σ ⊙ ε;   ℓ = decoder(z);   ln w = ln p(x|z) + ½ Σ_l (ε² − z² + ln σ²)

It is for evaluation, which has thousands of samples a row and needs no gradient. One thread computes a tile of rows
from ε to ln w: what it writes stays in that core's cache, and it waits for no other thread. A tile has the same rows
for any number of threads, so ln w has the same bits.

The loss of a row needs a logarithm for every fourth logit only, and the last bias is added on the way:

    Σ_d ln(1 + e_d) = Σ ln(1 + p),   p = (1 + e_1)(1 + e_2)(1 + e_3)(1 + e_4) − 1,   e_d = e^{−|ℓ_d|}

p starts at 0 and takes each e by p ← p + e + p e: nothing cancels, so small e are not lost.

Shapes: R = S·B rows, sample by sample; L latent dimensions, D features. dtype: float32.
"""

from functools import cache
from typing import Any

import numpy as np

from ..kernels import dense
from ..kernels._gemm import AS_IT_IS, ROW_MAJOR
from ..kernels._math import bits, point, polynomial, scalar
from ..kernels._pool import call
from ..kernels._specialise import specialised
from ..kernels._threads import PER_THREAD, most, run, share, shared

STREAMS = 4  # logits whose loss has one logarithm
LANES = 16  # of the widest vectors: a stream is a multiple of it
NOTHING = -1000.0  # the bias of a column that fills a row up: with x = 0 it has no loss

_ONE, _TWO, _ZERO = np.float32(1), np.float32(2), np.float32(0)
_LOWEST = np.float32(-87.3)  # below it eˣ would be subnormal
_LOG2E, _LN2_HIGH, _LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
_ROUND = np.float32(1.5 * 2**23)  # a small number that it is added to is rounded, and stands in the lowest bits
_MANTISSA, _ROOT_HALF, _NONE = np.int32(23), np.int32(0x3F3504F3), np.int32(0)
# eʳ for |r| ≤ ½ ln 2, of least relative error: 2e-9
_EXP = tuple(map(np.float32, (1.3843644e-3, 8.3741634e-3, 4.1668003e-2, 0.16666431, 0.49999994, 1, 1)))
_LOG = tuple(np.float32(2 / (2 * k + 1)) for k in range(4, 0, -1))


@scalar
def exp_negative(x):
    """eˣ for x ≤ 0, to 2 ulp; 1.2e-38 below −87.3, and for NaN."""
    x = x if x > _LOWEST else _LOWEST
    rounded = x * _LOG2E + _ROUND
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    return bits(np.int32(bits(polynomial(r, _EXP)) + np.int32(bits(rounded) << _MANTISSA)))


@scalar
def log1p(p):
    """ln(1 + p) for p ≥ 0, to 3 ulp: `_math.log` of 1 + p, and of p itself where that is not rounded off."""
    i = bits(_ONE + p)
    k = np.int32(np.int32(i - _ROOT_HALF) >> _MANTISSA)
    m = bits(np.int32(i - np.int32(k << _MANTISSA)))
    f = p if k == _NONE else m - _ONE
    s = f / (_TWO + f)
    q, n = s * s, np.float32(k)
    return n * _LN2_HIGH + (_TWO * s + (s * q * polynomial(q, _LOG) + n * _LN2_LOW))


@scalar
def _linear(l, x):
    return (_ZERO if l < _ZERO else l) - l * x


@point
def _nll(logits, b, x):
    """−ln p(x|z) of one row: Σ max(ℓ, 0) − ℓ x + ln(1 + e^{−|ℓ|}), ℓ = logits + b (eq. 18)."""
    n = x.size // STREAMS
    logits0, logits1, logits2, logits3 = logits[:n], logits[n : 2 * n], logits[2 * n : 3 * n], logits[3 * n :]
    b0, b1, b2, b3 = b[:n], b[n : 2 * n], b[2 * n : 3 * n], b[3 * n :]
    x0, x1, x2, x3 = x[:n], x[n : 2 * n], x[2 * n : 3 * n], x[3 * n :]
    total = _ZERO
    for j in range(n):
        l0, l1, l2, l3 = logits0[j] + b0[j], logits1[j] + b1[j], logits2[j] + b2[j], logits3[j] + b3[j]
        p, e = exp_negative(-abs(l0)), exp_negative(-abs(l1))
        p += e + p * e
        e = exp_negative(-abs(l2))
        p += e + p * e
        e = exp_negative(-abs(l3))
        p += e + p * e
        total += _linear(l0, x0[j]) + _linear(l1, x1[j]) + _linear(l2, x2[j]) + _linear(l3, x3[j]) + log1p(p)
    return total


activate: Any = None  # in each copy of `_tiles`, the forward loop of `dense.py` for the activation


def _tiles(log_w, eps, H, sigma, condition, X, bias, parameters, layers, routine, bends, rows, half, work, t, shares):
    (R, L), (B, C), n, D, size = eps.shape, condition.shape, len(layers), X.shape[1], eps.itemsize
    first, last = share(t, shares, (R + rows - 1) // rows, 1)
    own = work[t]
    places, weights = np.int64(own.ctypes.data), np.int64(parameters.ctypes.data)
    for tile in range(first, last):
        start = tile * rows
        m = min(rows, R - start)
        source, target = 0, half
        Z = own[: m * (L + C)].reshape(m, L + C)
        for r in range(m):
            i = (start + r) % B
            z, e, mean, logvar, s, beside = Z[r], eps[start + r], H[i, :L], H[i, L:], sigma[i], condition[i]
            gap = _ZERO
            for j in range(L):
                z[j] = mean[j] + s[j] * e[j]
                gap += e[j] * e[j] - z[j] * z[j] + logvar[j]
            for j in range(C):  # not z[L:] = beside, for which Numba would make an array
                z[L + j] = beside[j]
            log_w[start + r] = 0.5 * gap
        for layer in range(n):
            W, b, n_in, n_out = layers[layer]
            width = n_out
            if layer == n - 1:
                target, width = 2 * half, D
            a, w, c = places + size * source, weights + size * W, places + size * target
            call(routine, (ROW_MAJOR, AS_IT_IS, AS_IT_IS, m, n_out, n_in, _ONE, a, n_in, w, n_out, _ZERO, c, width))
            if layer < n - 1:
                Y = own[target : target + m * n_out].reshape(m, n_out)
                activate(Y, None, parameters[b : b + n_out], bends, 0, 1)
                source, target = target, source
        logits = own[2 * half : 2 * half + m * D].reshape(m, D)
        for r in range(m):
            logits[r, layers[n - 1, 3] :] = _ZERO
            log_w[start + r] -= _nll(logits[r], bias, X[(start + r) % B])


@cache
def tiles(activation):
    """The copy of `_tiles` for hidden layers of this activation."""
    forward, _ = dense.loops(activation)
    return shared(specialised(_tiles, _tiles, f"{activation}_tiles", activate=forward))


def filled_up(x, fill):
    """x (…, D) with columns of `fill` behind its own: as many as whole streams of whole vectors need."""
    more = -x.shape[-1] % (STREAMS * LANES)
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, more)], constant_values=fill)


def log_weights(log_w, eps, H, sigma, condition, X, bias, parameters, layers, routine, activation, rows, take):
    """log_w ← ln p(x|z) + ln p(z) − ln q(z|x) of each sample.

    log_w         (R,)        out: float64
    eps           (R, L)      standard normal noise
    H, sigma      (B, 2L), (B, L)   mean, then logvar; e^{½ logvar}
    condition     (B, C)      what is joined to z; C = 0 for none
    X, bias       (B, D'), (D',)    `filled_up`: X by 0, the last layer's bias by NOTHING
    parameters    (…,)        W and b of all layers
    layers        (n, 4)      int64: where W and b of each begin in `parameters`, its inputs, its outputs
    routine       the address of cblas_sgemm
    activation    of the hidden layers
    rows          of a tile
    take          take(shape) makes scratch that starts on a cache line
    """
    half = rows * -(-int(layers[:, 2].max()) // LANES) * LANES  # floats of a hidden layer's outputs
    work = take((PER_THREAD * most(), 2 * half + rows * X.shape[1]))
    given = log_w, eps, H, sigma, condition, X, bias, parameters, layers, routine, activation != "identity"
    run(tiles(activation), eps.shape[0] * X.shape[1], *given, rows, half, work, most=len(work))
