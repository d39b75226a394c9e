"""negative_binomial: raw decoder outputs in, per-row loss and gradient out, for counts wider spread than Poisson's.

Mean μ = e^c from the decoder, c = min(s, 20) (`poisson.py`'s clamp); one θ = e^t for each feature, learned, the inverse
dispersion, t clamped to [−10, 10]: the variance is μ + μ²/θ, and θ → ∞ is Poisson's. For a count x, with v = c − t:

    p(x|z)     = Γ(x+θ)/(x! Γ(θ)) · (θ/(θ+μ))^θ (μ/(θ+μ))^x
    −ln p(x|z) = Σ_d  ln x! + ln Γ(θ) − ln Γ(x+θ) + θ ln(1+e^v) + x ln(1+e^{−v})
    ds         = w (μ − x) θ/(θ+μ) = w (θ sigmoid(v) − x sigmoid(−v))  where s ≤ 20, else 0
    dt         = Σ_r w_r [θ (ψ(θ) − ψ(x+θ) + ln(1+e^v)) − (μ − x) θ/(θ+μ)]  where −10 ≤ t ≤ 10, else 0

ψ is the digamma function; θ/(θ+μ) = sigmoid(−v). Both clamps are counted. Computed in float64 whatever the dtype, as in
`poisson.py`, but for ln(1 + e^{−|v|}), which is good to the dtype's last digit.

The terms with Γ and ψ are 0 for x = 0: a kernel over the batch (not its samples) computes them for the other counts.

Shapes: rows R = S·B, sample by sample; logmean, d_logmean (R, D); logtheta, d_logtheta (D,); X (B, D) whole numbers
held as floats, row r of the log-means belongs to row r mod B of X; nll_rows (R,); weight a number, or (R,) or (S, B);
clamped (1,) int64. Nats. dtype: float32 or float64, all the same but `clamped` and `table` (float64), C-contiguous.
Source: the parametrisation of Lopez et al., "Deep generative modeling for single-cell transcriptomics" (scVI), 2018,
with its default of one dispersion for each feature.
"""

from . import _cuda
from ._counts import GATHERED, entry, in_line, left_out, listed, prepared
from ._math import exp, exp_negative, kernel, like, log1p_unit
from ._op import WEIGHTS, Op, counter, normal, poison, row_weight
from ._rows import as_column, as_vector
from ._special import log_factorial, log_rising, special, stirling
from ._threads import add, part, run, share, shared
from .gaussian import LOGVAR_MAX, LOGVAR_MIN
from .poisson import LOGRATE_MAX, counts

LOGTHETA_MIN, LOGTHETA_MAX = LOGVAR_MIN, LOGVAR_MAX
FEATURE_ROWS = 4  # of the table: what depends on the feature alone
TABLE_ROWS = FEATURE_ROWS + 16  # and the sums of so many parts of the rows, as many shares at the most


def reference(xp, nll_rows, d_logmean, d_logtheta, clamped, table, logmean, logtheta, X, weight):
    """Per-row −ln p(x|z), its weighted gradient, and that of the learned dispersions.

    nll_rows    (R,)    out: nats, summed over D, not weighted
    d_logmean   (R, D)  out: weight × ∂nll/∂logmean; None: nll_rows alone is written
    d_logtheta  (D,)    out: Σ_r weight_r ∂nll_r/∂logtheta
    clamped     (1,)    in and out: the number of clamped log-means and log-dispersions is added
    table       (T, D)  float64, T > 4, for what depends on the feature alone and for its sums; unused here
    logmean     (R, D)
    logtheta    (D,)
    X           (B, D)  counts; B divides R
    weight              the weight of each row in the loss
    """
    B, D = X.shape
    functions = special(xp)
    logmean, X = logmean.reshape(-1, B, D).astype("float64"), X.astype("float64")
    t = xp.clip(logtheta, LOGTHETA_MIN, LOGTHETA_MAX).astype("float64")
    c = xp.minimum(logmean, LOGRATE_MAX)
    theta, v = xp.exp(t), c - t
    e = xp.exp(-xp.abs(v))
    softplus = xp.maximum(v, 0) + xp.log1p(e)
    gammas = functions.gammaln(X + 1) + functions.gammaln(theta) - functions.gammaln(X + theta)
    nll_rows.reshape(-1, B)[...] = (gammas + (X + theta) * softplus - X * v).sum(axis=2)
    if d_logmean is None:
        return
    free, inside = t == logtheta, c == logmean
    clamped += (~free).sum() + (~inside).sum()
    weight = as_column(weight, B)
    slope = (xp.exp(c) - X) * (xp.where(v >= 0, e, 1) / (1 + e))
    d_logmean.reshape(-1, B, D)[...] = xp.where(inside, weight * slope, 0)
    digammas = functions.digamma(theta) - functions.digamma(X + theta)
    d_theta = (weight * (theta * (digammas + softplus) - slope)).sum(axis=(0, 1))
    d_logtheta[...] = xp.where(free, d_theta, 0)


@kernel
def _features(table, clamped, logtheta):
    """t, θ, ln Γ(θ+8) and ψ(θ+8), then rows of zeros for dt."""
    for j in range(logtheta.size):
        t = float(logtheta[j])
        t = LOGTHETA_MIN if t < LOGTHETA_MIN else t  # NaN stays NaN
        t = LOGTHETA_MAX if t > LOGTHETA_MAX else t
        if clamped is not None:
            clamped[0] += t != float(logtheta[j])
        theta = exp(t)
        table[0, j] = t
        table[1, j] = theta
        table[2, j], table[3, j] = stirling(theta + 8.0)
    table[FEATURE_ROWS:] = 0.0


# A share is whole parts of the rows. As many parts as the table has rows for, whatever the number of shares, so that
# the sums do not depend on it.


@shared
def _of_counts(gammas, places, gathered, table, X, weight, weight_step, gradient, t, shares):
    """gammas (B,) ← Σ_d ln x! + ln Γ(θ) − ln Γ(x+θ) over the counts that are not 0; into the table, their part of dt.

    weight             of each row of X, summed over its samples
    places, gathered   scratch of `_counts.py`
    """
    B, D = gammas.size, table.shape[1]
    parts = table.shape[0] - FEATURE_ROWS
    first_part, last_part = share(t, shares, parts, 1)
    for p in range(first_part, last_part):
        start, stop = part(p, parts, B, 1)
        d_theta = table[FEATURE_ROWS + p]
        x, theta, lgamma_8, digamma_8 = gathered[t, 0], gathered[t, 1], gathered[t, 2], gathered[t, 3]
        for b in range(start, stop):
            first, last = listed(X, places[t], b, D)
            w = float(weight[b * weight_step])
            total = 0.0
            for begin in range(first, last, GATHERED):
                n = min(GATHERED, last - begin)
                for k in range(n):
                    j, x[k] = entry(X, places[t], b, begin + k)
                    theta[k], lgamma_8[k], digamma_8[k] = table[1, j], table[2, j], table[3, j]
                for k in range(n):
                    ratio, d_ratio = log_rising(x[k], theta[k], lgamma_8[k], digamma_8[k])
                    total += log_factorial(x[k]) - ratio
                    x[k] = w * theta[k] * d_ratio
                for k in range(n if gradient else 0):
                    d_theta[entry(X, places[t], b, begin + k)[0]] -= x[k]
            gammas[b] = total


@shared
def _negative_binomial(
    nll_rows, d_logmean, clamped, table, gammas, places, gathered, logmean, X, weight, weight_step, t, shares
):
    """Add to each row's gamma functions the terms that cost the same for every count, and compute the slopes."""
    B, D = gammas.size, logmean.shape[1]
    R, parts = logmean.shape[0], table.shape[0] - FEATURE_ROWS
    count = 0
    first_part, last_part = share(t, shares, parts, 1)
    for p in range(first_part, last_part):
        start, stop = part(p, parts, R, 1)
        d_theta = table[FEATURE_ROWS + p]
        for r in range(start, stop):
            b, outside = r % B, 0
            w = float(weight[r * weight_step])
            nll = gammas[b]
            for j in range(D):
                s, x, theta = float(logmean[r, j]), in_line(X, b, j), table[1, j]
                c = LOGRATE_MAX if s > LOGRATE_MAX else s
                inside = c == s
                v = c - table[0, j]
                e = exp_negative(-abs(v))
                tail = float(log1p_unit(like(nll_rows, e)))
                softplus = (0.0 if v < 0.0 else v) + tail
                nll += theta * softplus + x * ((-v if v < 0.0 else 0.0) + tail)
                if d_logmean is not None:
                    slope = (theta * (1.0 if v >= 0.0 else e) - x * (e if v >= 0.0 else 1.0)) / (1.0 + e)
                    d_logmean[r, j] = w * slope if inside else 0.0
                    d_theta[j] += w * (theta * softplus - slope)
                    outside += not inside
            count += outside
            first, last = left_out(X, b)
            for begin in range(first, last, GATHERED):
                n = min(GATHERED, last - begin)
                of_x, up, down = gathered[t, 0], gathered[t, 1], gathered[t, 2]
                for k in range(n):
                    j = entry(X, places[t], b, begin + k)[0]
                    s = float(logmean[r, j])
                    of_x[k] = (LOGRATE_MAX if s > LOGRATE_MAX else s) - table[0, j]
                for k in range(n):
                    v = of_x[k]
                    e = exp_negative(-abs(v))
                    of_x[k] = (-v if v < 0.0 else 0.0) + float(log1p_unit(like(nll_rows, e)))
                    up[k] = (1.0 if v >= 0.0 else e) / (1.0 + e)
                    down[k] = (e if v >= 0.0 else 1.0) / (1.0 + e)
                for k in range(n):
                    j, x = entry(X, places[t], b, begin + k)
                    nll += x * of_x[k]
                    if d_logmean is not None:
                        slope = table[1, j] * up[k] - x * down[k]
                        d_logmean[r, j] = w * slope if float(logmean[r, j]) <= LOGRATE_MAX else 0.0
                        d_theta[j] += w * x * down[k]
            nll_rows[r] = nll
    if d_logmean is not None:
        add(clamped, count)


@kernel
def _add_parts(d_logtheta, table, logtheta):
    """The sum of the parts of dt, where t is not clamped; else 0."""
    for p in range(FEATURE_ROWS + 1, table.shape[0]):
        for j in range(logtheta.size):
            table[FEATURE_ROWS, j] += table[p, j]
    for j in range(logtheta.size):
        d_logtheta[j] = table[FEATURE_ROWS, j] if table[0, j] == float(logtheta[j]) else 0.0


def fused(nll_rows, d_logmean, d_logtheta, clamped, table, logmean, logtheta, X, weight):
    """The fused `reference`; X may be a batch by its non-zeros."""
    (R, _), B = logmean.shape, X.shape[0]
    vector, step = as_vector(weight, logmean.dtype)
    of_rows, rows_step = (vector.reshape(-1, B).sum(axis=0), 1) if step else (vector * (R // B), 0)
    gradient = d_logmean is not None
    clamped = clamped if gradient else None
    _features(table, clamped, logtheta)
    X, size, gammas, places, gathered = prepared(X, logmean)
    most = len(places)
    run(_of_counts, size, gammas, places, gathered, table, X, of_rows, rows_step, gradient, most=most)
    run(
        _negative_binomial, logmean.size,
        nll_rows, d_logmean, clamped, table, gammas, places, gathered, logmean, X, vector, step, most=most,
    )  # fmt: skip
    if gradient:
        _add_parts(d_logtheta, table, logtheta)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda(nll_rows, d_logmean, d_logtheta, clamped, table, logmean, logtheta, X, weight):
    """The kernels of `negative_binomial.cu`; arguments as `reference`."""
    R, (B, D), gradient = logmean.shape[0], X.shape, d_logmean is not None
    clamped, file = clamped if gradient else None, "negative_binomial"
    _cuda.launch(file, "negative_binomial_features", _cuda.flat(D), table, clamped, logtheta, D)
    _cuda.launch(
        file, "negative_binomial", _cuda.rows(R, D), nll_rows, d_logmean, clamped, table, logmean, X, weight, R, B, D
    )
    if gradient:
        _cuda.launch(
            file, "negative_binomial_logtheta", _cuda.columns(D),
            d_logtheta, table, logmean, logtheta, X, weight, R, B, D,
        )  # fmt: skip


def example(rng, dtype, S, B, D, case):
    """Means near their counts; "far" reaches beyond both clamps."""
    far = case == "far"
    X, weight = counts(rng, dtype, B, D, case), row_weight(rng, dtype, S, B, case)
    logmean, logtheta = (12 if far else 1) * normal(rng, dtype, S * B, D), (6 if far else 1) * normal(rng, dtype, D)
    outputs = poison(dtype, S * B), poison(dtype, S * B, D), poison(dtype, D), counter()
    return *outputs, poison("float64", TABLE_ROWS, D), logmean, logtheta, X, weight


def _scale(nll_rows, d_logmean, d_logtheta, clamped, table, logmean, logtheta, X, weight):
    return 20 * X.shape[1] * max(1.0, float(X.max()) / 20)


OPS = {
    "negative_binomial": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_logmean", "d_logtheta"), updated=("clamped",), optional=("d_logmean",),
        scratch=("table",), double=("table",), cases=(*WEIGHTS, "few", "far"), scale=_scale,
        flops=lambda nll_rows, d_logmean, d_logtheta, clamped, table, logmean, *_: 50 * logmean.size,
    )
}  # fmt: skip
