"""likelihoods: q(x|z), what the decoder's raw outputs mean. One class for each distribution.

A likelihood is the protocol of `Likelihood`: how many outputs the decoder needs, which data it can explain, the
negative log-likelihood with its gradient (a fused op of `kernels/`), its mean, and how to draw from it. A new one is a
file in `kernels/`, a class here and a row in LIKELIHOODS; tests, gradient checks and benchmarks walk that table.

Shapes: R = S·B rows, sample by sample; D features; out (R, width); X (B, D). Nats, every constant kept.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from .backend import Array, Backend
from .buffers import Shape
from .errors import UsageError, UsageWarning
from .kernels.gaussian import LOGVAR_MAX, LOGVAR_MIN

BLOCK_ROWS = 4096  # rows of a data set looked at together


class Likelihood:
    """What every likelihood offers. `features` is D.

    name        as it is asked for, such as "gaussian:0.5"
    is_density  whether q(x|z) is a density (nats depend on the data's units) or a probability
    noise       the kind of noise `draw` takes: "uniform" or "normal"
    clamped     (1,) int64, how many outputs were clamped since someone set it to 0; None where nothing is clamped
    """

    name: str
    is_density: bool
    noise: str
    clamped: Array | None = None

    def __init__(self, backend: Backend, features: int):
        self.backend, self.features = backend, features

    @property
    def width(self) -> int:
        """Outputs of the decoder for D features."""
        return self.features

    def parameters(self) -> list[tuple[str, Shape]]:
        """Learned tensors of its own, (name, shape); the model stores them as `likelihood.<name>`."""
        return []

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave `clamped` as it was: it counts what training meets, and nothing else."""
        before = None if self.clamped is None else self.clamped.copy()
        yield
        if self.clamped is not None:
            self.clamped[...] = before

    def bind(self, parameters: dict[str, Array]) -> None:
        """Take the views of those tensors, by name."""

    def check(self, X: Any) -> None:
        """Raise UsageError if X (N, D) holds a value outside the domain."""

    def nll_and_grad(
        self, nll_rows: Array, d_out: Array, d_params: dict[str, Array], out: Array, X: Array, weight: Any
    ) -> None:
        """nll_rows (R,) ← −ln q(x|z); d_out (R, width) and d_params ← gradients of Σ_r weight_r nll_r.

        weight: a number, or (S, B). Everything is overwritten.
        """
        raise NotImplementedError

    def mean(self, out: Array) -> Array:
        """E[x|z], (R, D)."""
        raise NotImplementedError

    def draw(self, out: Array, noise: Array) -> Array:
        """x ~ q(x|z), (R, D), from noise (R, D) of the kind `self.noise`."""
        raise NotImplementedError


class Bernoulli(Likelihood):
    """q(x|z) = Π_d ρ_d^x_d (1 − ρ_d)^(1 − x_d), ρ = sigmoid(logits): 0/1 data (eq. 17–19, `kernels/bernoulli.py`)."""

    name = "bernoulli"
    is_density = False
    noise = "uniform"

    def check(self, X: Any) -> None:
        """Values in [0, 1]; anything but 0 and 1 is warned of, since the cross-entropy is then no likelihood."""
        between = False
        number = self.backend.to_host
        for block in _blocks(X):
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
        return self.backend.special.expit(out)  # ρ (eq. 17)

    def draw(self, out, noise):
        return (noise < self.mean(out)).astype(out.dtype)


class Gaussian(Likelihood):
    """q(x|z) = N(m, diag e^s), mean and log-variance from the decoder (eq. 20–21, `kernels/gaussian.py`).

    s is clamped to [−10, 10]; `clamped` counts how often, until someone sets it back to 0.
    """

    name = "gaussian"
    is_density = True
    noise = "normal"

    def __init__(self, backend: Backend, features: int):
        super().__init__(backend, features)
        self.clamped = backend.zeros((1,), np.int64)

    @property
    def width(self) -> int:
        return 2 * self.features

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian(nll_rows, d_out, self.clamped, out, X, weight)

    def mean(self, out):
        return out[:, : self.features]

    def draw(self, out, noise):
        xp, D = self.backend.xp, self.features
        return out[:, :D] + xp.exp(0.5 * xp.clip(out[:, D:], LOGVAR_MIN, LOGVAR_MAX)) * noise


class GaussianFixed(Likelihood):
    """q(x|z) = N(m, σ² I), σ given: squared error with its balance against the KL (eq. 22, `kernels/gaussian.py`)."""

    is_density = True
    noise = "normal"

    def __init__(self, backend: Backend, features: int, sigma: float):
        super().__init__(backend, features)
        if not 0 < sigma < math.inf:
            raise UsageError(f"likelihood 'gaussian:{sigma:g}': expected a standard deviation σ > 0")
        self.sigma = float(sigma)
        self.name = f"gaussian:{self.sigma!r}"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian_fixed(nll_rows, d_out, out, X, weight, self.sigma)

    def mean(self, out):
        return out

    def draw(self, out, noise):
        return out + self.sigma * noise


# How each is asked for: name → class. "gaussian:σ" takes a number in σ's place.
LIKELIHOODS: dict[str, type[Likelihood]] = {"bernoulli": Bernoulli, "gaussian": Gaussian, "gaussian:σ": GaussianFixed}


def make(name: str, backend: Backend, features: int) -> Likelihood:
    """The likelihood called `name`: "bernoulli", "gaussian", "gaussian:0.5"."""
    kind, colon, argument = name.partition(":")
    cls: Any = LIKELIHOODS.get(f"{kind}:σ" if colon else kind)
    if cls is not None and not colon:
        return cls(backend, features)
    try:
        sigma = float(argument)
    except ValueError:
        cls = None
    if cls is not None:
        return cls(backend, features, sigma)
    raise UsageError(
        f"likelihood={name!r}: expected one of {', '.join(LIKELIHOODS)}, with a number > 0 for σ, as in 'gaussian:0.5'"
    )


def _blocks(X: Any):
    """Blocks of rows, so that a memory-mapped array is never read whole."""
    for start in range(0, X.shape[0], BLOCK_ROWS):
        yield X[start : start + BLOCK_ROWS]
