"""Likelihoods of real numbers: densities, whose nats depend on the data's units."""

from __future__ import annotations

import math

import numpy as np

from ..backend import Array, Backend
from ..buffers import Shape
from ..errors import UsageError
from ..kernels.gaussian import LOGVAR_MAX, LOGVAR_MIN
from .base import Likelihood


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


class GaussianShared(Likelihood):
    """q(x|z) = N(m, σ² I), one σ² = e^s learned with the weights (`kernels/gaussian_shared.py`): pPCA's likelihood.

    s is the parameter `likelihood.logvar` (1,), 0 at the start, clamped to [−10, 10]; `clamped` counts the steps in
    which it was.
    """

    name = "gaussian:shared"
    is_density = True
    noise = "normal"
    logvar: Array

    def __init__(self, backend: Backend, features: int):
        super().__init__(backend, features)
        self.clamped = backend.zeros((1,), np.int64)

    def parameters(self) -> list[tuple[str, Shape]]:
        return [("logvar", (1,))]

    def bind(self, parameters):
        self.logvar = parameters["logvar"]

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian_shared(nll_rows, d_out, d_params["logvar"], self.clamped, out, self.logvar, X, weight)

    def mean(self, out):
        return out

    def draw(self, out, noise):
        xp = self.backend.xp
        return out + xp.exp(0.5 * xp.clip(self.logvar, LOGVAR_MIN, LOGVAR_MAX)) * noise
