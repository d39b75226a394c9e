"""poisson: raw decoder outputs in, per-row loss and gradient out, for counts.

For a log-rate s (clamped to c = min(s, 20)) and a count x = 0, 1, 2, …:

    −ln p(x|z) = Σ_d  e^c − x c + ln x!
    ds         = w (e^c − x)  where s ≤ 20, else 0

The clamp keeps e^s finite: e²⁰ is thirty times the largest count that a float32 holds exactly. It is counted, as in
`gaussian.py`. Towards −∞ nothing needs to be clamped.

Computed in float64 whatever the dtype: of counts in the thousands x c and ln x! are so large that their difference, in
float32, would be noise. ln x!, which is 0 for most counts, is added up once for a row of X, whatever its samples.

Shapes: rows R = S·B, sample by sample; lograte, d_lograte (R, D); X (B, D) whole numbers held as floats, row r of the
log-rates belongs to row r mod B of X; nll_rows (R,); weight a number, or (R,) or (S, B); clamped (1,) int64. Nats.
dtype: float32 or float64, all the same but `clamped`, C-contiguous.
"""

import math

import numpy as np

from . import _cuda
from ._counts import GATHERED, entry, in_line, is_array, left_out, listed, prepared
from ._math import exp
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column, as_vector
from ._special import log_factorial, small_log_factorial, special
from ._threads import add, run, share, shared

LOGRATE_MAX = 20.0


def reference(xp, nll_rows, d_lograte, clamped, lograte, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient.

    nll_rows   (R,)    out: nats, summed over D, not weighted
    d_lograte  (R, D)  out: weight × ∂nll/∂lograte; None: nll_rows alone is written
    clamped    (1,)    in and out: the number of clamped log-rates is added
    lograte    (R, D)
    X          (B, D)  counts; B divides R
    weight             the weight of each row in the loss
    """
    B, D = X.shape
    lograte, X = lograte.reshape(-1, B, D).astype("float64"), X.astype("float64")
    c = xp.minimum(lograte, LOGRATE_MAX)
    rate = xp.exp(c)
    nll_rows.reshape(-1, B)[...] = (rate - X * c + special(xp).gammaln(X + 1)).sum(axis=2)
    if d_lograte is None:
        return
    inside = lograte <= LOGRATE_MAX
    clamped += (~inside).sum()
    d_lograte.reshape(-1, B, D)[...] = xp.where(inside, as_column(weight, B) * (rate - X), 0)


@shared
def _factorials(sums, places, X, D, t, shares):
    """sums (B,) ← Σ_d ln x!, from the counts that are not 0 where these are few; places (shares, D): scratch."""
    start, stop = share(t, shares, sums.size, 1)
    for b in range(start, stop):
        total = 0.0
        first, last = listed(X, places[t], b, D // 4)
        if is_array(X) and last > D // 4:
            large = 0
            for j in range(D):
                large += not in_line(X, b, j) < 256.0  # NaN too
            for j in range(0 if large else D):
                total += small_log_factorial(in_line(X, b, j))
            for j in range(D if large else 0):
                total += log_factorial(in_line(X, b, j))
        else:
            for k in range(first, last):
                total += log_factorial(entry(X, places[t], b, k)[1])
        sums[b] = total


@shared
def _poisson(nll_rows, d_lograte, clamped, factorials, places, gathered, lograte, X, weight, weight_step, t, shares):
    """Add the terms that cost the same for every count to each row's Σ ln x!, and compute the slopes."""
    B, D = factorials.size, lograte.shape[1]
    start, stop = share(t, shares, lograte.shape[0], 1)
    count = 0
    for r in range(start, stop):
        b, outside = r % B, 0
        w = float(weight[r * weight_step])
        nll = factorials[b]
        for j in range(D):
            s, x = float(lograte[r, j]), in_line(X, b, j)
            c = LOGRATE_MAX if s > LOGRATE_MAX else s  # NaN stays NaN
            inside = c == s
            rate = exp(c)
            nll += rate - x * c
            if d_lograte is not None:
                d_lograte[r, j] = w * (rate - x) if inside else 0.0
                outside += not inside
        count += outside
        first, last = left_out(X, b)
        for begin in range(first, last, GATHERED):
            n = min(GATHERED, last - begin)
            clipped, rates = gathered[t, 0], gathered[t, 1]
            for k in range(n):
                s = float(lograte[r, entry(X, places[t], b, begin + k)[0]])
                clipped[k] = LOGRATE_MAX if s > LOGRATE_MAX else s
            for k in range(n):
                rates[k] = exp(clipped[k])
            for k in range(n):
                j, x = entry(X, places[t], b, begin + k)
                nll -= x * clipped[k]
                if d_lograte is not None:
                    d_lograte[r, j] = w * (rates[k] - x) if clipped[k] == float(lograte[r, j]) else 0.0
        nll_rows[r] = nll
    if d_lograte is not None:
        add(clamped, count)


def fused(nll_rows, d_lograte, clamped, lograte, X, weight):
    """The fused `reference`; X may be a batch by its non-zeros."""
    weight, step = as_vector(weight, lograte.dtype)
    X, size, factorials, places, gathered = prepared(X, lograte)
    most = len(places)
    run(_factorials, size, factorials, places, X, lograte.shape[1], most=most)
    run(
        _poisson, lograte.size,
        nll_rows, d_lograte, clamped, factorials, places, gathered, lograte, X, weight, step, most=most,
    )  # fmt: skip


cuda = _cuda.likelihood("poisson", "poisson")


def counts(rng, dtype, B, D, case):
    """Small counts; "few": nearly all 0; "far": zeros, a few, some beyond the table of factorials, and huge ones."""
    mean = rng.choice([0.1, 5.0, 250.0, 3e5], (B, D)) if case == "far" else np.full((B, D), 0.1 if case == "few" else 3)
    return rng.poisson(mean).astype(dtype)


def example(rng, dtype, S, B, D, case):
    """Rates near their counts; "far" reaches beyond the clamp."""
    X, weight = counts(rng, dtype, B, D, case), row_weight(rng, dtype, S, B, case)
    lograte = (12 if case == "far" else 1) * normal(rng, dtype, S * B, D)
    return poison(dtype, S * B), poison(dtype, S * B, D), counter(), lograte, X, weight


def _scale(nll_rows, d_lograte, clamped, lograte, X, weight):
    return X.shape[1] * math.exp(min(float(lograte.max()), LOGRATE_MAX))


OPS = {
    "poisson": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_lograte"), updated=("clamped",), optional=("d_lograte",),
        cases=(*WEIGHTS, "few", "far"), scale=_scale,
        flops=lambda nll_rows, d_lograte, clamped, lograte, *_: 25 * lograte.size,
    )
}  # fmt: skip
