"""Likelihoods of values in [0, 1]."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import UsageError, UsageWarning
from ..kernels import continuous_bernoulli
from .base import Likelihood, blocks, holds_integers, named


class _Unit(Likelihood):
    """Legal values that are not what it is for (`doubtful`) are warned of: `doubt` says why."""

    forward_only = True
    doubt: str

    def check(self, X: Any) -> None:
        """Values in [0, 1]."""
        low, high = self.range(X)
        if not (low >= 0 and high <= 1):
            raise UsageError(self._misfit(X, low, high))
        between, ends, number = False, False, self.backend.to_host
        for _, block in blocks(X):
            inside = (block > 0) & (block < 1)
            between = between or bool(number(inside.any()))
            ends = ends or not bool(number(inside.all()))
        if self.doubtful(between, ends):
            warnings.warn(self.doubt, UsageWarning, stacklevel=3)

    def doubtful(self, between: bool, ends: bool) -> bool:
        """Whether legal values are doubtful: between 0 and 1, at the ends."""
        raise NotImplementedError

    def _misfit(self, X: Any, low: float, high: float) -> str:
        counts = ", 'poisson' if they are counts" if low >= 0 and holds_integers(self.backend, X) else ""
        return (
            f"likelihood {self.name!r} explains values in [0, 1], and these range from {low:g} to {high:g}: "
            f"scale them to [0, 1], or take likelihood 'gaussian'{counts}"
        )


@named("bernoulli")
class Bernoulli(_Unit):
    """p(x|z) = Π_d ρ_d^x_d (1 − ρ_d)^(1 − x_d), ρ = sigmoid(logits): 0/1 data (eq. 17–19, `kernels/bernoulli.py`)."""

    name = "bernoulli"
    is_density = False
    domain = "binary"
    noise = "uniform"
    neutral = -1000.0, 0.0  # every term of its loss is 0: nothing large is added and taken off
    doubt = (
        "values between 0 and 1 under 'bernoulli': the cross-entropy is then no likelihood, and its nats compare with "
        "nothing; binarize='dynamic' (--binarize dynamic) makes it one, 'continuous-bernoulli' is one"
    )

    def doubtful(self, between, ends):
        return between

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.bernoulli(nll_rows, d_out, out, X, weight)

    def mean(self, out):
        return self.backend.special.expit(out)  # ρ (eq. 17)

    def draw(self, out, noise):
        return (noise < self.mean(out)).astype(out.dtype)


@named("continuous-bernoulli")
class ContinuousBernoulli(_Unit):
    """p(x|z) = Π_d C(λ_d) λ_d^x_d (1 − λ_d)^(1 − x_d), λ = sigmoid(logits): grey values (`continuous_bernoulli.py`).

    A density on [0, 1]: what the cross-entropy of grey pixels lacks is C (Loaiza-Ganem & Cunningham 2019).
    """

    name = "continuous-bernoulli"
    is_density = True
    domain = "unit"
    noise = "uniform"
    neutral = 0.0, 0.5
    doubt = (
        "values that are all 0 or 1 under 'continuous-bernoulli': its density has no bound there; take 'bernoulli', "
        "which gives them probabilities"
    )

    def doubtful(self, between, ends):
        return ends and not between

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.continuous_bernoulli(nll_rows, d_out, out, X, weight)

    def mean(self, out):
        return continuous_bernoulli.mean(self.backend.xp, out)

    def draw(self, out, noise):
        return continuous_bernoulli.quantile(self.backend.xp, out, noise)
