"""continuous_bernoulli: raw decoder outputs in, per-row loss and gradient out, for values anywhere in [0, 1].

For a logit ℓ and a value x, with λ = sigmoid ℓ:

    p(x|z)     = C(λ) λˣ (1 − λ)¹⁻ˣ,   C(λ) = 2 artanh(1 − 2λ)/(1 − 2λ), which is ℓ/tanh(ℓ/2)
               = ℓ e^{ℓx}/(e^ℓ − 1)                                 an exponential density cut off at 1
    −ln p(x|z) = Σ_d  G(|ℓ|) + ℓ (½ − x),   G(a) = ln [sinh(a/2)/(a/2)] = a/2 + ln [(1 − e^{−a})/a]
    dℓ         = w (μ(ℓ) − x),   μ = E[x|z] = ½ + g(|ℓ|) sign ℓ,   g(a) = G′(a) = 1/(1 − e^{−a}) − 1/a − ½

Without C it is the cross-entropy of a grey pixel, `bernoulli.py`'s: no density, and its gradient has sigmoid ℓ in the
place of μ. Around λ = ½, where C as it is usually written is 0/0, G takes expm1, and g its series: below a = 2,
g = Σₙ cₙ a²ⁿ⁻¹ with cₙ = B₂ₙ/(2n)!, Bernoulli's numbers (17 terms leave 10⁻¹⁷). Finite for every finite ℓ.

At x = 0 and x = 1 the density grows with |ℓ| and has no bound: data of zeros and ones alone are `bernoulli`'s.

Shapes: rows R = S·B, sample by sample; logits, d_logits (R, D); X (B, D), row r of the logits belongs to row r mod B of
X; nll_rows (R,); weight a number, or (R,) or (S, B). Nats. dtype: float32 or float64, all the same, C-contiguous.
Source: Loaiza-Ganem & Cunningham, "The continuous Bernoulli", NeurIPS 2019.
"""

import math
from fractions import Fraction

import numpy as np

from . import _cuda
from ._likelihood import one_output
from ._math import expm1_negative, like, log, point, polynomial, scalar
from ._op import WEIGHTS, Op, normal, poison, row_weight, uniform
from ._rows import as_column

NEAR = 2.0  # below it, the series


def _coefficients(count):
    """cₙ = B₂ₙ/(2n)! for n = 1 … count; the recurrence is Σₖ (n+1 over k) Bₖ = 0."""
    B = [Fraction(1)]
    for n in range(1, 2 * count + 1):
        B.append(-sum((math.comb(n + 1, k) * B[k] for k in range(n)), Fraction(0)) / (n + 1))
    return tuple(float(B[2 * n] / math.factorial(2 * n)) for n in range(1, count + 1))


SERIES = _coefficients(17)
_HIGHEST_FIRST = SERIES[::-1]
SMALLEST = 1e-18  # a at the least: its square is a normal float32


def mean(xp, logits):
    """E[x|z] = μ(ℓ)."""
    a = xp.maximum(xp.abs(logits), SMALLEST)
    near = xp.minimum(a, NEAR)  # lest the series overflow elsewhere
    g = 0.0
    for c in reversed(SERIES):
        g = g * (near * near) + c
    t = -xp.expm1(-a)
    mu = xp.where(a < NEAR, 0.5 + g * near, (a - t) / (a * t))
    return xp.where(logits < 0, 1 - mu, mu)


def quantile(xp, logits, u):
    """The x below which the probability is u: ln(1 + u (e^ℓ − 1))/ℓ; for ℓ > 0 reflected, lest e^ℓ overflow."""
    a = xp.maximum(xp.abs(logits), SMALLEST)
    u = xp.where(logits < 0, u, 1 - u)
    least = -1 + 2.0**-24  # in float32 too; beyond it the logarithm of 0
    x = -xp.log1p(xp.maximum(u * xp.expm1(-a), least)) / a
    return xp.clip(xp.where(logits < 0, x, 1 - x), 0, 1).astype(logits.dtype)


def reference(xp, nll_rows, d_logits, logits, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient.

    nll_rows   (R,)    out: nats, summed over D, not weighted
    d_logits   (R, D)  out: weight × ∂nll/∂logits; None: nll_rows alone is written
    logits     (R, D)
    X          (B, D)  in [0, 1]; B divides R
    weight             the weight of each row in the loss
    """
    B, D = X.shape
    logits = logits.reshape(-1, B, D)
    a = xp.maximum(xp.abs(logits), SMALLEST)
    G = 0.5 * a + xp.log(-xp.expm1(-a) / a)
    nll_rows.reshape(-1, B)[...] = (G + logits * (0.5 - X)).sum(axis=2)
    if d_logits is None:
        return
    d_logits.reshape(-1, B, D)[...] = as_column(weight, B) * (mean(xp, logits) - X)


@scalar
def _series(q):
    """g/a = c₁ + c₂ q + … + c₁₇ q¹⁶ at q = a²."""
    return polynomial(q, _HIGHEST_FIRST)


@point
def _continuous_bernoulli(l, x):
    """(loss, slope by ℓ) of one feature."""
    half, one, smallest = like(x, 0.5), like(x, 1.0), like(x, SMALLEST)
    a = abs(l)
    a = smallest if a < smallest else a  # NaN stays NaN
    m = -expm1_negative(-a)
    inverse = one / (a * m)
    mu = half + _series(a * a) * a if a < like(x, NEAR) else (a - m) * inverse
    loss = half * a + log(m * m * inverse) + l * (half - x)
    return loss, (one - mu if l < like(x, 0.0) else mu) - x


fused = one_output(_continuous_bernoulli)
cuda = _cuda.likelihood("continuous_bernoulli", "continuous_bernoulli")


def example(rng, dtype, S, B, D, case):
    """Logits far from 0, around it, where the formula is 0/0, and at it."""
    logits = rng.choice(np.array([1e-6, 0.5, 3, 300], dtype), (S * B, D)) * normal(rng, dtype, S * B, D)
    logits[-1, ::5] = 0
    weight = row_weight(rng, dtype, S, B, case)
    return poison(dtype, S * B), poison(dtype, S * B, D), logits, uniform(rng, dtype, B, D), weight


OPS = {
    "continuous_bernoulli": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_logits"), optional=("d_logits",), cases=WEIGHTS,
        scale=lambda nll_rows, d_logits, logits, X, weight: 300 * X.shape[1],
        flops=lambda nll_rows, d_logits, logits, *_: 55 * logits.size,
    )
}  # fmt: skip
