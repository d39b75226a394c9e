"""The continuous Bernoulli: grey values in [0, 1]."""

from __future__ import annotations

from ..kernels import continuous_bernoulli
from .bernoulli import Unit


class ContinuousBernoulli(Unit, form="continuous-bernoulli"):
    """p(x|z) = Π_d C(λ_d) λ_d^x_d (1 − λ_d)^(1 − x_d), λ = sigmoid(logits): grey values (`continuous_bernoulli.py`).

    A density on [0, 1]: what the cross-entropy of grey pixels lacks is C (Loaiza-Ganem & Cunningham 2019).
    """

    name = "continuous-bernoulli"
    is_density = True
    domain = "unit"
    noise = "uniform"
    neutral = 0.0, 0.5
    grey = True
    doubt = (
        "values that are all 0 or 1 under 'continuous-bernoulli': its density has no bound there; take 'bernoulli', "
        "which gives them probabilities"
    )

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.continuous_bernoulli(nll_rows, d_out, out, X, weight)

    def mean(self, out):
        return continuous_bernoulli.mean(self.backend.xp, out)

    def draw(self, out, noise):
        return continuous_bernoulli.quantile(self.backend.xp, out, noise)
