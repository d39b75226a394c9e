"""bernoulli: raw decoder outputs in, per-row loss and gradient out (eq. 17–19).

For a logit ℓ and a value x (0 or 1; anything between is the cross-entropy of a grey pixel):

    −ln p(x|z) = Σ_d  max(ℓ, 0) − ℓ x + ln(1 + e^{−|ℓ|})      which is −x ln ρ − (1−x) ln(1−ρ), ρ = sigmoid ℓ
    dℓ         = w (sigmoid ℓ − x)

Finite for every finite ℓ: nothing is exponentiated but −|ℓ|. No constant is dropped: there is none.

Shapes: rows R = S·B, sample by sample; logits, d_logits (R, D); X (B, D), row r of the logits belongs to row r mod B of
X; nll_rows (R,); weight a number, or (R,) or (S, B). dtype: float32 or float64, all the same, C-contiguous.
"""

from . import _cuda
from ._likelihood import one_output
from ._math import exp_negative, like, log1p_unit, point
from ._op import WEIGHTS, Op, normal, poison, row_weight, uniform
from ._rows import as_column


def reference(xp, nll_rows, d_logits, logits, X, weight):
    """Per-row −ln p(x|z) and its weighted gradient (eq. 17–19).

    nll_rows   (R,)    out: nats, summed over D, not weighted
    d_logits   (R, D)  out: weight × ∂nll/∂logits; None: nll_rows alone is written
    logits     (R, D)
    X          (B, D)  in [0, 1]; B divides R
    weight             the weight of each row in the loss
    """
    B, D = X.shape
    logits = logits.reshape(-1, B, D)
    e = xp.exp(-xp.abs(logits))
    nll = xp.maximum(logits, 0) - logits * X + xp.log1p(e)
    nll_rows.reshape(-1, B)[...] = nll.sum(axis=2)
    if d_logits is None:
        return
    rho = xp.where(logits >= 0, 1, e) / (1 + e)
    weight = as_column(weight, B)
    d_logits.reshape(-1, B, D)[...] = weight * (rho - X)


@point
def _bernoulli(l, x):
    """(loss, slope by ℓ) of one feature."""
    zero, one = like(x, 0.0), like(x, 1.0)
    e = exp_negative(-abs(l))
    loss = (zero if l < zero else l) - l * x + log1p_unit(e)
    return loss, (one if l >= zero else e) / (one + e) - x


fused = one_output(_bernoulli)
cuda = _cuda.likelihood("bernoulli", "bernoulli")


def example(rng, dtype, S, B, D, case):
    """Logits on both sides of 0, grey values."""
    logits, X = 3 * normal(rng, dtype, S * B, D), uniform(rng, dtype, B, D)
    return poison(dtype, S * B), poison(dtype, S * B, D), logits, X, row_weight(rng, dtype, S, B, case)


OPS = {
    "bernoulli": Op(
        reference, fused, cuda, example,
        outputs=("nll_rows", "d_logits"), optional=("d_logits",), cases=WEIGHTS,
        scale=lambda nll_rows, d_logits, logits, X, weight: X.shape[1],
        flops=lambda nll_rows, d_logits, logits, *_: 13 * logits.size,
    )
}  # fmt: skip
