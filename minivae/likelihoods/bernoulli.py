"""Likelihoods of values in [0, 1]: what they share, and the Bernoulli."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import UsageError, UsageWarning
from .base import Likelihood, blocks, holds_integers


class Unit(Likelihood):
    """Of values in [0, 1]. Legal values that it is not for are warned of.

    grey    whether it is for values between 0 and 1, or for 0 and 1 alone
    doubt   the warning where it is for the other kind
    """

    forward_only = True
    grey: bool
    doubt: str

    def check(self, X: Any) -> None:
        """Values in [0, 1]."""
        low, high = self.range(X)
        if not (low >= 0 and high <= 1):
            counts = ", 'poisson' if they are counts" if low >= 0 and holds_integers(self.backend, X) else ""
            raise UsageError(
                f"likelihood {self.name!r} explains values in [0, 1], and these range from {low:g} to {high:g}: "
                f"scale them to [0, 1], or take likelihood 'gaussian'{counts}"
            )
        if self.grey != any(bool(self.backend.to_host(((x > 0) & (x < 1)).any())) for _, x in blocks(X)):
            warnings.warn(self.doubt, UsageWarning, stacklevel=3)


class Bernoulli(Unit, form="bernoulli"):
    """p(x|z) = Π_d ρ_d^x_d (1 − ρ_d)^(1 − x_d), ρ = sigmoid(logits): 0/1 data (eq. 17–19, `kernels/bernoulli.py`)."""

    name = "bernoulli"
    is_density = False
    domain = "binary"
    noise = "uniform"
    neutral = -1000.0, 0.0  # every term of its loss is 0: nothing large is added and taken off
    grey = False
    doubt = (
        "values between 0 and 1 under 'bernoulli': the cross-entropy is then no likelihood, and its nats compare with "
        "nothing; binarize='dynamic' (--binarize dynamic) makes it one, 'continuous-bernoulli' is one"
    )

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.bernoulli(nll_rows, d_out, out, X, weight)

    def mean(self, out):
        return self.backend.special.expit(out)  # ρ (eq. 17)

    def draw(self, out, noise):
        return (noise < self.mean(out)).astype(out.dtype)
