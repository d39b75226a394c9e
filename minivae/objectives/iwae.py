"""The importance-weighted bound of Burda et al. 2016."""

from __future__ import annotations

import numpy as np

from ..backend import Array
from ..buffers import Grads
from ..errors import UsageError
from ..latent import GaussianPosterior
from ..likelihoods import Likelihood
from .elbo import ELBO, Terms


class WeightedTerms(Terms):
    """`Terms` of the importance-weighted bound; .elbo, .nll and .kl are those of eq. 13 with the same samples.

    .loss        −mean of bound_rows
    .bound_rows  (B,): ln (1/S) Σ_s w_s
    .log_w       (S, B): ln w_s = ln p(x|z_s) + β [ln p(z_s) − ln q(z_s|x)]
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

    def sums(self) -> Array:
        sums = super().sums()
        sums[0] = -self._bound.sum(dtype="float64")
        return sums


class IWAE(ELBO):
    """The importance-weighted bound of Burda et al. 2016, K = S samples (eq. 12 for K = 1; `kernels/importance.py`).

    It grows with K from the ELBO to ln p(x). With β ≠ 1 the ratio inside each weight is tempered, ln p(z)/q(z|x) times
    β: at K = 1 the sampled β-ELBO, for K > 1 no bound. Free bits need the analytic KL, which it does not use.
    """

    name = "iwae"

    def __init__(self, likelihood: Likelihood, posterior: GaussianPosterior, scratch: Grads):
        super().__init__(likelihood, posterior, scratch)
        if likelihood.closed_form:
            raise UsageError(
                f"likelihood {likelihood.name!r} with objective 'iwae': its σ² is fitted to all samples of a "
                "batch alike, and this objective weighs them; take 'gaussian:shared', or objective 'elbo'"
            )

    def check(self, beta: float, free_bits: float, weighted: bool = False) -> None:
        super().check(beta, free_bits, weighted)
        if free_bits > 0:
            raise UsageError(
                f"free_bits={free_bits:g} with objective 'iwae': they hold the analytic KL of a dimension, and this "
                "objective has none; leave them out (beta and its warm-up work), or take objective 'elbo'"
            )

    def is_bound(self, beta: float, samples: int) -> bool:
        return beta == 1 or (beta > 1 and samples == 1)

    def forward(self, out, batch, kl, beta, free_bits, d_params, training):
        """As `ELBO.forward`, for eq. 12 (K = 1) and Burda et al. 2016.

        The weights are known only after every loss, so `backward` computes d_out, and counts what is clamped.
        """
        terms = super().forward(out, batch, kl, beta, 0.0, None, training)
        log_w, self.weight, bound = log_weights(self.posterior, self.nll, beta)
        if batch.weights is not None:
            self.weight *= batch.weights
            bound *= batch.weights
        self.out, self.batch, self.d_params = out, batch, d_params
        return WeightedTerms(terms, log_w, bound)

    def backward(self) -> Array:
        """The likelihood once more, with the weights (Burda et al. 2016), which its own gradients carry as well."""
        nll, d_out = self.nll.reshape(self.nll.size), self.workspace.take("d_out", self.out.shape)
        self.likelihood.over(self.batch.mask)(nll, d_out, self.d_params, self.out, self.batch.X, self.weight)
        return d_out

    def backward_posterior(self, dZ: Array) -> Array:
        """dZ (S·B, L) → dH (B, 2L), with the gradient of the sampled ln q(z|x)/p(z) (eq. 12)."""
        q = self.posterior
        dH = self.workspace.take("dH", q.H.shape)
        self.backend.ops.importance_backward(dH, dZ.reshape(q.eps.shape), q.eps, q.sigma, q.Z, self.weight, self.beta)
        return dH


def log_weights(posterior: GaussianPosterior, nll: Array, beta: float) -> tuple[Array, Array, Array]:
    """nll (S, B) of the samples → ln w (S, B), each sample's weight w_s/(B Σ w) (S, B), ln (1/S) Σ_s w_s (B,).

    ln w_s = −nll_s + β [ln p(z_s) − ln q(z_s|x)] (eq. 12 at S = 1; `kernels/importance.py`).
    """
    take, (S, B) = posterior.workspace.take, nll.shape
    log_w, weight, bound = take("log_w", (S, B)), take("weight", (S, B)), take("bound", (B,))
    posterior.ops.importance_forward(log_w, weight, bound, nll, posterior.Z, posterior.eps, posterior.H, beta)
    return log_w, weight, bound
