"""objectives: what is minimised. The turn of the chain: from the decoder's raw outputs to a loss, and back to them.

    elbo   𝓛 = E_rows[ (1/S) Σ_s −ln q(x|z_s) + β Σ_l max(KL_l, free bits) ]                      (eq. 13, 23)
    iwae   𝓛 = E_rows[ −ln (1/S) Σ_s w_s ],   ln w_s = ln q(x|z_s) + β [ln q(z_s) − ln p(z_s|x)]  (eq. 12 at S = 1)

They differ in what a sample counts in the mirror, 1/(B·S) or the softmax of its ln w over B, and in the KL: a formula
(eq. 16), or what the samples themselves say. Everything else of the model is the same.

Shapes: S samples, B rows, L latent dimensions; out (S·B, width). Nats.
"""

from __future__ import annotations

import numpy as np

from . import checks
from .backend import Array, Backend
from .buffers import Workspace
from .errors import UsageError
from .latent import GaussianPosterior
from .likelihoods import Likelihood


class Terms:
    """What one pass gave: means over rows as numbers, and the rows themselves.

    .loss      what is minimised: nll + β Σ_l max(kl_l, free_bits)
    .elbo      −(nll + kl), at β = 1
    .nll .kl   E[−ln q(x|z)] and KL(p(z|x) ‖ q(z)), means over rows
    .nll_rows .kl_rows   (B,): the same for each row; nll_rows is the mean over the S samples
    .kl_dims   (L,): the mean KL of each latent dimension

    Read lazily: nothing is computed, and no device is waited for, before an attribute is asked for. The terms of a
    `train_step` are views into the model's workspace, valid until its next call; `copy()` keeps them.
    """

    def __init__(self, backend: Backend, nll: Array, kl_rows: Array, kl_dims: Array, beta: float, free_bits: float):
        self._backend, self._nll, self._kl_rows, self._kl_dims = backend, nll, kl_rows, kl_dims
        self.beta, self.free_bits = beta, free_bits

    def copy(self) -> Terms:
        """The same terms in arrays of their own."""
        arrays = (self._nll.copy(), self._kl_rows.copy(), self._kl_dims.copy())
        return Terms(self._backend, *arrays, self.beta, self.free_bits)

    @property
    def nll_rows(self) -> np.ndarray:
        return self._backend.to_host(self._nll).mean(axis=0)

    @property
    def kl_rows(self) -> np.ndarray:
        return self._backend.to_host(self._kl_rows)

    @property
    def kl_dims(self) -> np.ndarray:
        return self._backend.to_host(self._kl_dims)

    @property
    def nll(self) -> float:
        return float(self._backend.to_host(self._nll).mean(dtype=np.float64))

    @property
    def kl(self) -> float:
        return float(self._backend.to_host(self._kl_rows).mean(dtype=np.float64))

    @property
    def elbo(self) -> float:
        return -(self.nll + self.kl)

    @property
    def loss(self) -> float:
        if self.free_bits > 0:
            kl = float(np.maximum(self.kl_dims, self.free_bits).sum(dtype=np.float64))
        else:
            kl = self.kl
        return self.nll + self.beta * kl

    def sums(self) -> Array:
        """(3,) float64 on the device, sums over rows of loss, nll and kl, for whoever adds up without waiting."""
        nll, kl = self._nll.mean(axis=0).sum(dtype="float64"), self._kl_rows.sum(dtype="float64")
        return self._backend.xp.stack((self._loss_sum(nll, kl), nll, kl))

    def _loss_sum(self, nll: Array, kl: Array) -> Array:
        if self.free_bits > 0:
            counted = self._backend.xp.maximum(self._kl_dims, self.free_bits).sum(dtype="float64")
            kl = self._kl_rows.shape[0] * counted
        return nll + self.beta * kl

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(loss={self.loss:.4f}, elbo={self.elbo:.4f}, nll={self.nll:.4f}, kl={self.kl:.4f})"


class WeightedTerms(Terms):
    """`Terms` of the importance-weighted bound; .elbo, .nll and .kl are those of eq. 13 with the same samples.

    .loss        −mean of bound_rows
    .bound_rows  (B,): ln (1/S) Σ_s w_s
    .log_w       (S, B): ln w_s = ln q(x|z_s) + β [ln q(z_s) − ln p(z_s|x)]
    """

    def __init__(self, terms: Terms, log_w: Array, bound: Array):
        super().__init__(terms._backend, terms._nll, terms._kl_rows, terms._kl_dims, terms.beta, 0.0)
        self._log_w, self._bound = log_w, bound

    def copy(self) -> WeightedTerms:
        return WeightedTerms(super().copy(), self._log_w.copy(), self._bound.copy())

    @property
    def log_w(self) -> np.ndarray:
        return self._backend.to_host(self._log_w)

    @property
    def bound_rows(self) -> np.ndarray:
        return self._backend.to_host(self._bound)

    @property
    def loss(self) -> float:
        return -float(self.bound_rows.mean(dtype=np.float64))

    def _loss_sum(self, nll: Array, kl: Array) -> Array:
        return -self._bound.sum(dtype="float64")


class ELBO:
    """The evidence lower bound with the analytic KL (eq. 13, 16, 23)."""

    name = "elbo"

    def __init__(
        self,
        backend: Backend,
        workspace: Workspace,
        likelihood: Likelihood,
        posterior: GaussianPosterior,
        d_params: dict[str, Array],
    ):
        self.backend, self.workspace, self.d_params = backend, workspace, d_params
        self.likelihood, self.posterior = likelihood, posterior
        self.fits()

    def fits(self) -> None:
        """Raise UsageError for a likelihood that this objective has no meaning for."""

    def check(self, beta: float, free_bits: float) -> None:
        """Raise UsageError for what is no weight of the KL, or means nothing here; a β on a device is not looked at."""
        if not self.backend.owns(beta):
            checks.real("beta", beta, lambda x: x >= 0, "a number ≥ 0")
        checks.real("free_bits", free_bits, lambda x: x >= 0, "a number ≥ 0, nats for each latent dimension")

    def is_bound(self, beta: float, samples: int) -> bool:
        """Whether −loss is at most ln q(x) on average."""
        return beta >= 1 and not self.likelihood.closed_form  # whose σ² has seen the batch

    def forward(self, out: Array, X: Array, beta: float, free_bits: float) -> Terms:
        """out (S·B, width), X (B, D) → the terms (eq. 13). Loss and gradient are one pass; a sample counts 1/(B·S)."""
        S, B, _ = self.posterior.Z.shape
        self.d_out = self.workspace.take("d_out", out.shape)
        nll = self.workspace.take("nll", (S, B))
        self.likelihood.nll_and_grad(nll.reshape(S * B), self.d_out, self.d_params, out, X, 1.0 / (B * S))
        self.beta, self.free_bits = beta, free_bits
        return Terms(self.backend, nll, self.posterior.kl_rows, self.posterior.kl_dims, beta, free_bits)

    def backward(self) -> Array:
        """The loss's gradient with respect to the decoder's outputs (S·B, width), which `forward` has left."""
        return self.d_out

    def backward_posterior(self, dZ: Array) -> Array:
        """dZ (S, B, L) from the decoder → dH (B, 2L): through eq. 23, the KL's own part added (eq. 13)."""
        return self.posterior.backward(dZ, self.beta, self.free_bits)


class IWAE(ELBO):
    """The importance-weighted bound of Burda et al. 2016, K = S samples (eq. 12 for K = 1; `kernels/importance.py`).

    It grows with K from the ELBO to ln q(x). With β ≠ 1 the ratio inside each weight is tempered, ln q(z)/p(z|x) times
    β: at K = 1 the sampled β-ELBO, for K > 1 no bound. Free bits speak of the analytic KL, which it has none of.
    """

    name = "iwae"

    def fits(self) -> None:
        if self.likelihood.closed_form:
            raise UsageError(
                f"likelihood {self.likelihood.name!r} with objective 'iwae': its σ² is fitted to all samples of a "
                "batch alike, and this objective weighs them; take 'gaussian:shared', or objective 'elbo'"
            )

    def check(self, beta: float, free_bits: float) -> None:
        super().check(beta, free_bits)
        if free_bits > 0:
            raise UsageError(
                f"free_bits={free_bits:g} with objective 'iwae': they hold the analytic KL of a dimension, and this "
                "objective has none; leave them out (beta and its warm-up work), or take objective 'elbo'"
            )

    def is_bound(self, beta: float, samples: int) -> bool:
        return beta == 1 or (beta > 1 and samples == 1)

    def forward(self, out: Array, X: Array, beta: float, free_bits: float) -> Terms:
        """As `ELBO.forward`, for eq. 12 (K = 1) and Burda et al. 2016.

        What a sample counts is known only after every loss, so d_out waits for the mirror.
        """
        with self.likelihood.uncounted():  # the mirror's pass counts
            terms = super().forward(out, X, beta, 0.0)
        take, (S, B) = self.workspace.take, terms._nll.shape
        self.out, self.X, self.nll = out, X, terms._nll
        self.weight, log_w, bound = take("weight", (S, B)), take("log_w", (S, B)), take("bound", (B,))
        p = self.posterior
        self.backend.ops.importance_forward(log_w, self.weight, bound, self.nll, p.Z, p.eps, p.H, beta)
        return WeightedTerms(terms, log_w, bound)

    def backward(self) -> Array:
        """The likelihood once more, the weights being known (Burda et al. 2016); d_params are weighted as well."""
        nll = self.nll.reshape(self.nll.size)
        self.likelihood.nll_and_grad(nll, self.d_out, self.d_params, self.out, self.X, self.weight)
        return self.d_out

    def backward_posterior(self, dZ: Array) -> Array:
        """dZ (S, B, L) → dH (B, 2L), that of the sampled ln p(z|x)/q(z) added (eq. 12)."""
        p, dH = self.posterior, self.workspace.take("dH", self.posterior.H.shape)
        self.backend.ops.importance_backward(dH, dZ, p.eps, p.sigma, p.Z, self.weight, self.beta)
        return dH


# How each is asked for: name → class. A new objective is a class here and a row; gradient checks walk the table.
OBJECTIVES: dict[str, type[ELBO]] = {"elbo": ELBO, "iwae": IWAE}


def find(name: str) -> type[ELBO]:
    """The objective called `name`."""
    if name not in OBJECTIVES:
        raise UsageError(f"objective={name!r}: expected one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]
