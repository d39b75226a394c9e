"""Likelihoods of integers: classes and counts. Probabilities: no unit, no scale, and never below 0 nats.

Counts are drawn on the host, by SciPy's inverse distribution functions: slow, and the same on every backend.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..backend import Array, Backend
from ..buffers import Shape
from ..errors import UsageError
from ..kernels.negative_binomial import LOGTHETA_MAX, LOGTHETA_MIN, TABLE_ROWS
from ..kernels.poisson import LOGRATE_MAX
from .base import Likelihood, holds_integers

MOST_CLASSES = 1 << 24  # integers that float32 holds


class _Integers(Likelihood):
    """Of integers from 0 on."""

    is_density = False
    noise = "uniform"
    integer = True
    forward_only = True

    def misfit(self, X: Any, end: float) -> tuple[float, float, bool, str] | None:
        """None where X holds integers in [0, end); else its range, whether they are integers, and that in words."""
        low, high = self.range(X)
        integers = holds_integers(self.backend, X)
        if low >= 0 and high < end and integers:
            return None
        more = "" if integers else ", not all of them whole"
        return low, high, integers, f"these range from {low:g} to {high:g}{more}"


class Classes(_Integers):
    """Of the K classes 0 … K − 1; `kind` is what it is called without their number."""

    domain = "classes"
    kind: str

    def __init__(self, backend: Backend, features: int, classes: int):
        super().__init__(backend, features)
        if not 2 <= classes <= MOST_CLASSES:
            raise UsageError(
                f"likelihood '{self.kind}:{classes}': expected a number of classes from 2 to {MOST_CLASSES:,}"
            )
        self.classes = classes
        self.name = f"{self.kind}:{classes}"

    def check(self, X: Any) -> None:
        """Whole numbers from 0 to K − 1."""
        if (found := self.misfit(X, self.classes)) is None:
            return
        low, high, integers, came = found
        fits = "number the classes from 0"
        if integers and low >= 0:
            more = f"take '{self.kind}:{high + 1:.0f}'"
            fits = more if high < MOST_CLASSES else "take 'poisson' if they are counts"
        raise UsageError(f"likelihood {self.name!r} explains the integers 0 … {self.classes - 1}, and {came}: {fits}")

    def probabilities(self, out: Array) -> Array:
        """P(x = k|z), (R, K, D)."""
        raise NotImplementedError

    def mode(self, out: Array) -> Array:
        """The likeliest class, (R, D)."""
        return self.filling(self.summary(out)).astype(out.dtype)

    def summary(self, out):
        return self.probabilities(out).reshape(out.shape[0], -1)

    def filling(self, summary):
        return summary.reshape(-1, self.classes, self.features).argmax(axis=1)


class Categorical(Classes, form="categorical:K"):
    """p(x|z) = Π_d ρ_d[x_d], ρ_d = softmax of K logits: each feature one of the classes 0 … K − 1 (`categorical.py`).

    The decoder has K·D outputs. E[x|z] is the mean class number, which means something where the classes have an order;
    draws are classes.
    """

    kind = "categorical"
    neutral = -1000.0, 0.0

    @property
    def width(self) -> int:
        return self.classes * self.features

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.categorical(nll_rows, d_out, out, X, weight)

    def neutral_outputs(self, k, outputs):
        return self.backend.xp.arange(k).reshape(-1, 1) * outputs  # all of the probability to class 0

    def probabilities(self, out: Array) -> Array:
        """ρ (R, K, D)."""
        logits = out.reshape(-1, self.classes, self.features)
        e = self.backend.xp.exp(logits - logits.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def mean(self, out):
        number = self.backend.xp.arange(self.classes).reshape(-1, 1).astype(out.dtype)
        return (self.probabilities(out) * number).sum(axis=1)

    def draw(self, out, noise):
        rho = self.probabilities(out)
        below, x = rho[:, 0], self.backend.xp.zeros(noise.shape, out.dtype)
        for k in range(1, self.classes):
            x += noise >= below
            below = below + rho[:, k]
        return x


class _Counts(_Integers):
    domain = "counts"
    clamps = True
    exposable = True
    neutral = -1000.0, 0.0
    takes_nonzeros = True

    def check(self, X: Any) -> None:
        """Whole numbers from 0 on."""
        if (found := self.misfit(X, math.inf)) is None:
            return
        low, high, _, came = found
        fits = "'continuous-bernoulli' or 'gaussian'" if low >= 0 and high <= 1 else "'gaussian' or 'laplace'"
        raise UsageError(
            f"likelihood {self.name!r} explains counts, the integers from 0 on, and {came}: take likelihood {fits}"
        )

    def mean(self, out):
        xp = self.backend.xp
        return xp.exp(xp.minimum(out, LOGRATE_MAX))

    def draw(self, out, noise):
        to_host = self.backend.to_host
        mean, u = to_host(self.mean(out.astype("float64"))), to_host(noise).astype(np.float64)
        x = np.maximum(self.quantile(u, mean), 0)  # SciPy's lies below the first count at u = 0
        return self.backend.asarray(x, out.dtype)

    def quantile(self, u: np.ndarray, mean: np.ndarray) -> np.ndarray:
        """The smallest count that is not exceeded with probability u, on the host."""
        raise NotImplementedError


class Poisson(_Counts, form="poisson"):
    """p(x|z) = Π_d e^{−λ_d} λ_d^x_d/x_d!, ln λ from the decoder (`kernels/poisson.py`): counts.

    ln λ is clamped to 20 from above; `clamped` counts how often.
    """

    name = "poisson"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.poisson(nll_rows, d_out, d_params["clamped"], out, X, weight)

    def quantile(self, u, mean):
        from scipy.special import ndtri
        from scipy.stats import poisson

        many = mean >= 1e4  # of which the exact function takes a millisecond each
        x = np.empty_like(mean)
        x[~many] = poisson.ppf(u[~many], mean[~many])
        z, mean = ndtri(np.maximum(u[many], 2.0**-25)), mean[many]  # never −∞: uniforms have 24 bits
        x[many] = np.ceil(mean + np.sqrt(mean) * z + (z * z - 1) / 6 - 0.5)  # Cornish & Fisher: right to a count or so
        return x


class NegativeBinomial(_Counts, form="negative-binomial"):
    """Counts of mean μ and variance μ + μ²/θ: ln μ from the decoder, one learned ln θ a feature, as in scVI
    (`kernels/negative_binomial.py`).

    ln θ is the parameter `likelihood.logtheta` (D,), 0 at the start, clamped to [−10, 10]; ln μ is clamped to 20 from
    above. `clamped` counts how often.
    """

    name = "negative-binomial"
    logtheta: Array

    def __init__(self, backend: Backend, features: int):
        super().__init__(backend, features)
        self.table = backend.zeros((TABLE_ROWS, features), np.float64)

    def parameters(self) -> list[tuple[str, Shape]]:
        return [("logtheta", (self.features,))]

    def bind(self, tensors):
        self.logtheta = tensors["logtheta"]

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.negative_binomial(
            nll_rows, d_out, d_params["logtheta"], d_params["clamped"], self.table, out, self.logtheta, X, weight
        )

    def quantile(self, u, mean):
        from scipy.stats import nbinom

        logtheta = self.backend.to_host(self.logtheta).astype(np.float64)
        theta = np.exp(np.clip(logtheta, LOGTHETA_MIN, LOGTHETA_MAX))
        return nbinom.ppf(u, theta, theta / (theta + mean))
