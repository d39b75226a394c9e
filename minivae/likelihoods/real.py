"""Likelihoods of real numbers: densities, whose nats depend on the data's units."""

from __future__ import annotations

import math

from ..backend import Array, Backend
from ..buffers import Shape
from ..errors import UsageError
from ..kernels.gaussian import LOGVAR_MAX, LOGVAR_MIN
from ..kernels.gaussian_optimal import VARIANCE_MAX, VARIANCE_MIN
from ..kernels.laplace import LOGSCALE_MAX, LOGSCALE_MIN
from .base import Likelihood, named, no_mask


class _MeanAndScale(Likelihood):
    """Two outputs of the decoder for each feature: all the means, then what says how wide the density is, clamped."""

    is_density = True
    clamps = True

    @property
    def width(self) -> int:
        return 2 * self.features

    def mean(self, out):
        return out[:, : self.features]


@named("gaussian")
class Gaussian(_MeanAndScale):
    """p(x|z) = N(m, diag e^s), mean and log-variance from the decoder (eq. 20–21, `kernels/gaussian.py`).

    s is clamped to [−10, 10]; `clamped` counts how often, until someone sets it back to 0.
    """

    name = "gaussian"
    noise = "normal"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight, mask=None):
        no_mask(mask)
        self.backend.ops.gaussian(nll_rows, d_out, d_params["clamped"], out, X, weight)

    def draw(self, out, noise):
        xp, D = self.backend.xp, self.features
        return out[:, :D] + xp.exp(0.5 * xp.clip(out[:, D:], LOGVAR_MIN, LOGVAR_MAX)) * noise


@named("gaussian:σ")
class GaussianFixed(Likelihood):
    """p(x|z) = N(m, σ² I), σ given: squared error with its balance against the KL (eq. 22, `kernels/gaussian.py`)."""

    is_density = True
    noise = "normal"

    def __init__(self, backend: Backend, features: int, sigma: float):
        super().__init__(backend, features)
        if not 0 < sigma < math.inf:
            raise UsageError(f"likelihood 'gaussian:{sigma:g}': expected a standard deviation σ > 0")
        self.sigma = float(sigma)
        self.name = f"gaussian:{self.sigma!r}"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight, mask=None):
        no_mask(mask)
        self.backend.ops.gaussian_fixed(nll_rows, d_out, out, X, weight, self.sigma)

    def mean(self, out):
        return out

    def draw(self, out, noise):
        return out + self.sigma * noise


@named("gaussian:shared")
class GaussianShared(Likelihood):
    """p(x|z) = N(m, σ² I), one σ² = e^s learned with the weights (`kernels/gaussian_shared.py`): pPCA's likelihood.

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

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight, mask=None):
        no_mask(mask)
        self.backend.ops.gaussian_shared(
            nll_rows, d_out, d_params["logvar"], d_params["clamped"], out, self.logvar, X, weight
        )

    def mean(self, out):
        return out

    def draw(self, out, noise):
        xp = self.backend.xp
        return out + xp.exp(0.5 * xp.clip(self.logvar, LOGVAR_MIN, LOGVAR_MAX)) * noise


@named("gaussian:optimal")
class GaussianOptimal(GaussianShared):
    """p(x|z) = N(m, σ² I), σ² the mean squared error, never a parameter (Rybkin et al. 2021).

    In training it is the batch's own (`kernels/gaussian_optimal.py`): a loss of the batch, and no distribution.
    Everywhere else it is σ² = e^s, s = `likelihood.logvar` (1,), clamped as above: the last batch's after a bare
    `train_step`, that of all training rows after an epoch of `fit`.
    """

    name = "gaussian:optimal"
    closed_form = True

    def __init__(self, backend: Backend, features: int):
        super().__init__(backend, features)
        self.d_logvar = backend.zeros((1,))  # written by the op of `GaussianShared`, and not read: s has no gradient

    def parameters(self) -> list[tuple[str, Shape]]:
        return []

    def fitted(self) -> list[tuple[str, Shape]]:
        return [("logvar", (1,))]

    def statistics(self) -> list[tuple[str, Shape]]:
        return [("squared_error", (1,))]

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight, mask=None):
        super().nll_and_grad(nll_rows, d_out, {**d_params, "logvar": self.d_logvar}, out, X, weight, mask)

    def fitted_nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight, mask=None):
        no_mask(mask)
        self.backend.ops.gaussian_optimal(
            nll_rows, d_out, d_params["squared_error"], d_params["clamped"], out, X, weight
        )

    def fit(self, statistics):
        xp = self.backend.xp
        self.logvar[...] = xp.log(xp.clip(statistics["squared_error"], VARIANCE_MIN, VARIANCE_MAX))


@named("laplace")
class Laplace(_MeanAndScale):
    """p(x|z) = Π_d e^{−|x_d − m_d|/b_d}/2b_d, mean and ln b from the decoder (`kernels/laplace.py`): absolute error.

    ln b is clamped to [−5, 5]; `clamped` counts how often.
    """

    name = "laplace"
    noise = "uniform"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight, mask=None):
        no_mask(mask)
        self.backend.ops.laplace(nll_rows, d_out, d_params["clamped"], out, X, weight)

    def draw(self, out, noise):
        """By the inverse distribution function: m − b sign(t) ln(1 − 2|t|), t = u − ½."""
        xp, D = self.backend.xp, self.features
        t = xp.clip(noise, 2.0**-25, 1 - 2.0**-25) - 0.5  # never ln 0: uniforms have 24 bits
        scale = xp.exp(xp.clip(out[:, D:], LOGSCALE_MIN, LOGSCALE_MAX))
        return out[:, :D] - scale * xp.sign(t) * xp.log1p(-2 * xp.abs(t))
