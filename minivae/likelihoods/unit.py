"""Likelihoods of values in [0, 1]."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import UsageError, UsageWarning
from .base import Likelihood, blocks


class Bernoulli(Likelihood):
    """q(x|z) = Π_d ρ_d^x_d (1 − ρ_d)^(1 − x_d), ρ = sigmoid(logits): 0/1 data (eq. 17–19, `kernels/bernoulli.py`)."""

    name = "bernoulli"
    is_density = False
    noise = "uniform"

    def check(self, X: Any) -> None:
        """Values in [0, 1]; anything but 0 and 1 is warned of, since the cross-entropy is then no likelihood."""
        between = False
        number = self.backend.to_host
        for block in blocks(X):
            low, high = float(number(block.min())), float(number(block.max()))
            if not (low >= 0 and high <= 1):
                raise UsageError(
                    f"likelihood 'bernoulli' explains values in [0, 1], and these range from {low:g} to {high:g}: "
                    "scale them to [0, 1], or take likelihood 'gaussian'"
                )
            between = between or bool(number(((block > 0) & (block < 1)).any()))
        if between:
            warnings.warn(
                "values between 0 and 1 under 'bernoulli': the cross-entropy is then no likelihood, and its nats "
                "compare with nothing; binarize='dynamic' (--binarize dynamic) makes it one",
                UsageWarning,
                stacklevel=3,
            )

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.bernoulli(nll_rows, d_out, out, X, weight)

    def mean(self, out):
        return self.backend.special.expit(out)

    def draw(self, out, noise):
        return (noise < self.mean(out)).astype(out.dtype)
