"""Likelihoods of real numbers: densities, whose nats depend on the data's units."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np

from ..backend import Array, Backend
from ..buffers import Shape
from ..errors import UsageError
from ..kernels.gaussian import LOGVAR_MAX, LOGVAR_MIN
from ..kernels.gaussian_optimal import VARIANCE_MAX, VARIANCE_MIN
from ..kernels.laplace import LOGSCALE_MAX, LOGSCALE_MIN
from .base import Likelihood


class _MeanAndScale(Likelihood):
    """Two outputs of the decoder for each feature: all the means, then what says how wide the density is, clamped."""

    is_density = True
    clamps = True

    @property
    def width(self) -> int:
        return 2 * self.features

    def mean(self, out):
        return out[:, : self.features]


class Gaussian(_MeanAndScale):
    """q(x|z) = N(m, diag e^s), mean and log-variance from the decoder (eq. 20–21, `kernels/gaussian.py`).

    s is clamped to [−10, 10]; `clamped` counts how often, until someone sets it back to 0.
    """

    name = "gaussian"
    noise = "normal"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian(nll_rows, d_out, self.clamped, out, X, weight)

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


class GaussianShared(Likelihood):
    """q(x|z) = N(m, σ² I), one σ² = e^s learned with the weights (`kernels/gaussian_shared.py`): pPCA's likelihood.

    s is the parameter `likelihood.logvar` (1,), 0 at the start, clamped to [−10, 10]; `clamped` counts the steps in
    which it was.
    """

    name = "gaussian:shared"
    is_density = True
    noise = "normal"
    clamps = True
    logvar: Array

    def parameters(self) -> list[tuple[str, Shape]]:
        return [("logvar", (1,))]

    def bind(self, tensors):
        self.logvar = tensors["logvar"]

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian_shared(nll_rows, d_out, d_params["logvar"], self.clamped, out, self.logvar, X, weight)

    def mean(self, out):
        return out

    def draw(self, out, noise):
        xp = self.backend.xp
        return out + xp.exp(0.5 * xp.clip(self.logvar, LOGVAR_MIN, LOGVAR_MAX)) * noise


class _Inside:
    """A context that knows whether one is inside it."""

    depth = 0

    def __enter__(self) -> None:
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1


class GaussianOptimal(GaussianShared):
    """q(x|z) = N(m, σ² I), σ² the mean squared error, never a parameter (Rybkin et al. 2021).

    In training it is the batch's own (`kernels/gaussian_optimal.py`): a loss, and no distribution. Everywhere else,
    σ² = e^s is the one that is kept, s = `likelihood.logvar` (1,): that of all training rows, found by `settling` after
    each epoch; between two epochs, the last batch's. Clamped and counted as above.
    """

    name = "gaussian:optimal"
    closed_form = True

    def __init__(self, backend: Backend, features: int):
        super().__init__(backend, features)
        self.of_batch = _Inside()
        self.squared_error = backend.zeros((1,), np.float64)
        self.d_logvar = backend.zeros((1,))  # what the op writes, and nobody reads
        self.total: Array | None = None  # while settling: Σ squared error, over so many rows
        self.rows = 0

    def parameters(self) -> list[tuple[str, Shape]]:
        return []

    def fitted(self) -> list[tuple[str, Shape]]:
        return [("logvar", (1,))]

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        before = self.logvar.copy()
        try:
            with super().uncounted():
                yield
        finally:
            self.logvar[...] = before

    def training(self) -> _Inside:
        return self.of_batch

    @contextlib.contextmanager
    def settling(self) -> Iterator[None]:
        total = self.total = self.backend.zeros((1,), np.float64)
        self.rows = 0
        try:
            with self.training():
                yield
        finally:
            self.total = None
        self._keep(total / self.rows)

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        if not self.of_batch.depth:
            super().nll_and_grad(nll_rows, d_out, {"logvar": self.d_logvar}, out, X, weight)
            return
        self.backend.ops.gaussian_optimal(nll_rows, d_out, self.squared_error, self.clamped, out, X, weight)
        self._keep(self.squared_error)
        if self.total is not None:
            self.total += out.shape[0] * self.squared_error
            self.rows += out.shape[0]

    def _keep(self, variance: Array) -> None:
        xp = self.backend.xp
        self.logvar[...] = xp.log(xp.clip(variance, VARIANCE_MIN, VARIANCE_MAX))


class Laplace(_MeanAndScale):
    """q(x|z) = Π_d e^{−|x_d − m_d|/b_d}/2b_d, mean and ln b from the decoder (`kernels/laplace.py`): absolute error.

    ln b is clamped to [−5, 5]; `clamped` counts how often.
    """

    name = "laplace"
    noise = "uniform"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.laplace(nll_rows, d_out, self.clamped, out, X, weight)

    def draw(self, out, noise):
        """By the inverse distribution function: m − b sign(t) ln(1 − 2|t|), t = u − ½."""
        xp, D = self.backend.xp, self.features
        t = xp.clip(noise, 2.0**-25, 1 - 2.0**-25) - 0.5  # never ln 0: uniforms have 24 bits
        scale = xp.exp(xp.clip(out[:, D:], LOGSCALE_MIN, LOGSCALE_MAX))
        return out[:, :D] - scale * xp.sign(t) * xp.log1p(-2 * xp.abs(t))
