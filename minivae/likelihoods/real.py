"""Likelihoods of real numbers: densities, whose nats depend on the data's units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..backend import Array, Backend
from ..buffers import Shape
from ..errors import UsageError
from ..kernels.gaussian import LN_2PI, LOGVAR_MAX, LOGVAR_MIN
from ..kernels.gaussian_optimal import VARIANCE_MAX, VARIANCE_MIN
from ..kernels.laplace import LN_2, LOGSCALE_MAX, LOGSCALE_MIN
from .base import Likelihood


def _weighted(weight: Any, of_rows: Array, R: int) -> Any:
    """Σ_r weight_r of_rows_r in float64, of_rows (B,), R = S·B rows."""
    if getattr(weight, "ndim", 0):
        return (weight.reshape(-1, of_rows.size) * of_rows).sum(dtype="float64")
    return weight * (R // of_rows.size) * of_rows.sum(dtype="float64")


class _MeanAndScale(Likelihood):
    """Two outputs of the decoder for each feature: all the means, then what says how wide the density is, clamped."""

    is_density = has_widths = True
    clamps = True
    neutral = 0.0, 0.0
    forward_only = True

    @property
    def width(self) -> int:
        return 2 * self.features

    def mean(self, out):
        return out[:, : self.features]


class Gaussian(_MeanAndScale, form="gaussian"):
    """p(x|z) = N(m, diag e^s), mean and log-variance from the decoder (eq. 20–21, `kernels/gaussian.py`).

    s is clamped to [−10, 10]; `clamped` counts how often, until someone sets it back to 0.
    """

    name = "gaussian"
    noise = "normal"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian(nll_rows, d_out, d_params["clamped"], out, X, weight)

    def neutral_nll(self):
        return 0.5 * LN_2PI

    def draw(self, out, noise):
        xp, D = self.backend.xp, self.features
        return out[:, :D] + xp.exp(0.5 * xp.clip(out[:, D:], LOGVAR_MIN, LOGVAR_MAX)) * noise


class GaussianFixed(Likelihood, form="gaussian:σ"):
    """p(x|z) = N(m, σ² I), σ given: squared error with its balance against the KL (eq. 22, `kernels/gaussian.py`)."""

    is_density = True
    noise = "normal"
    neutral = 0.0, 0.0
    forward_only = True

    def __init__(self, backend: Backend, features: int, sigma: float):
        super().__init__(backend, features)
        if not 0 < sigma < math.inf:
            raise UsageError(f"likelihood 'gaussian:{sigma:g}': expected a standard deviation σ > 0")
        self.sigma = float(sigma)
        self.name = f"gaussian:{self.sigma!r}"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian_fixed(nll_rows, d_out, out, X, weight, self.sigma)

    def neutral_nll(self):
        return 0.5 * LN_2PI + math.log(self.sigma)

    def mean(self, out):
        return out

    def draw(self, out, noise):
        return out + self.sigma * noise


class GaussianShared(Likelihood, form="gaussian:shared"):
    """p(x|z) = N(m, σ² I), one σ² = e^s learned with the weights (`kernels/gaussian_shared.py`): pPCA's likelihood.

    s is the parameter `likelihood.logvar` (1,), 0 at the start, clamped to [−10, 10]; `clamped` counts the steps in
    which it was.
    """

    name = "gaussian:shared"
    is_density = True
    noise = "normal"
    neutral = 0.0, 0.0
    clamps = True
    forward_only = True
    logvar: Array

    def parameters(self) -> list[tuple[str, Shape]]:
        return [("logvar", (1,))]

    def bind(self, tensors):
        self.logvar = tensors["logvar"]

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.gaussian_shared(
            nll_rows, d_out, d_params["logvar"], d_params["clamped"], out, self.logvar, X, weight
        )

    def neutral_nll(self):
        return 0.5 * (LN_2PI + self.backend.xp.clip(self.logvar, LOGVAR_MIN, LOGVAR_MAX))

    def leave_out(self, nll_rows, d_out, d_params, weight, missing, fitted):
        super().leave_out(nll_rows, d_out, d_params, weight, missing, fitted)
        if d_out is None:
            return
        s, d_logvar = self.logvar, d_params["logvar"]
        inside = (s >= LOGVAR_MIN) & (s <= LOGVAR_MAX)
        d_logvar -= inside * 0.5 * _weighted(weight, missing, nll_rows.size)

    def mean(self, out):
        return out

    def draw(self, out, noise):
        xp = self.backend.xp
        return out + xp.exp(0.5 * xp.clip(self.logvar, LOGVAR_MIN, LOGVAR_MAX)) * noise


class GaussianOptimal(GaussianShared, form="gaussian:optimal"):
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

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        super().nll_and_grad(nll_rows, d_out, {**d_params, "logvar": self.d_logvar}, out, X, weight)

    def fitted_nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        """`nll_and_grad` for a training step, with `fitted()` at its best for this batch.

        What `fit` needs to know of the batch goes to d_params, under the names of `statistics()`.
        """
        self.backend.ops.gaussian_optimal(
            nll_rows, d_out, d_params["squared_error"], d_params["clamped"], out, X, weight
        )

    def leave_out(self, nll_rows, d_out, d_params, weight, missing, fitted):
        """In training σ̂² was the mean over all cells: every factor and term below is exact where none is missing."""
        if not fitted:
            super().leave_out(nll_rows, d_out, {**d_params, "logvar": self.d_logvar}, weight, missing, fitted)
            return
        xp, D, error = self.backend.xp, self.features, d_params["squared_error"]
        total = _weighted(weight, xp.ones(missing.shape), nll_rows.size) * D
        before = xp.clip(error, VARIANCE_MIN, VARIANCE_MAX)
        d_params["clamped"] -= before != error
        error /= xp.maximum(1 - _weighted(weight, missing, nll_rows.size) / total, 1e-300)
        after = xp.clip(error, VARIANCE_MIN, VARIANCE_MAX)
        d_params["clamped"] += after != error
        ratio, constant = before / after, 0.5 * (LN_2PI + xp.log(before))
        nll = nll_rows.reshape(-1, missing.size)
        nll += (ratio - 1) * (nll - D * constant) + 0.5 * D * xp.log(after / before)
        nll -= missing * (constant + 0.5 * xp.log(after / before))
        d_out *= ratio.astype(d_out.dtype)

    def fit(self, statistics: Mapping[str, Array]) -> None:
        """Set `fitted()` to its best for the rows that the statistics are means over."""
        xp = self.backend.xp
        self.logvar[...] = xp.log(xp.clip(statistics["squared_error"], VARIANCE_MIN, VARIANCE_MAX))


class Laplace(_MeanAndScale, form="laplace"):
    """p(x|z) = Π_d e^{−|x_d − m_d|/b_d}/2b_d, mean and ln b from the decoder (`kernels/laplace.py`): absolute error.

    ln b is clamped to [−5, 5]; `clamped` counts how often.
    """

    name = "laplace"
    noise = "uniform"

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        self.backend.ops.laplace(nll_rows, d_out, d_params["clamped"], out, X, weight)

    def neutral_nll(self):
        return LN_2

    def draw(self, out, noise):
        """By the inverse distribution function: m − b sign(t) ln(1 − 2|t|), t = u − ½."""
        xp, D = self.backend.xp, self.features
        t = xp.clip(noise, 2.0**-25, 1 - 2.0**-25) - 0.5  # never ln 0: uniforms have 24 bits
        scale = xp.exp(xp.clip(out[:, D:], LOGSCALE_MIN, LOGSCALE_MAX))
        return out[:, :D] - scale * xp.sign(t) * xp.log1p(-2 * xp.abs(t))
