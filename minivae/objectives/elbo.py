"""The evidence lower bound, and the terms that a pass of either objective gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..backend import Array, Backend
from ..buffers import Grads
from ..errors import UsageError
from ..inputs import Batch
from ..latent import GaussianPosterior
from ..likelihoods import Likelihood

KL = tuple[Array, Array]  # of the rows (B,), and the mean of each dimension (L,)


class Terms:
    """What one pass gave: means over rows as numbers, and the rows themselves.

    .loss      what is minimised: nll + β Σ_l max(kl_l, free_bits)
    .elbo      −(nll + kl), at β = 1
    .nll .kl   E[−ln p(x|z)] and KL(q(z|x) ‖ p(z)), means over rows
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
        free = self.free_bits > 0
        kl = np.maximum(self.kl_dims, self.free_bits).sum(dtype=np.float64) if free else self.kl
        return self.nll + self.beta * float(kl)

    def sums(self) -> Array:
        """(3,) float64 on the device, sums over rows of loss, nll and kl, for whoever adds up without waiting."""
        xp, B = self._backend.xp, self._kl_rows.shape[0]
        nll, kl = self._nll.mean(axis=0).sum(dtype="float64"), self._kl_rows.sum(dtype="float64")
        free = self.free_bits > 0
        counted = B * xp.maximum(self._kl_dims, self.free_bits).sum(dtype="float64") if free else kl
        return xp.stack((nll + self.beta * counted, nll, kl))

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(loss={self.loss:.4f}, elbo={self.elbo:.4f}, nll={self.nll:.4f}, kl={self.kl:.4f})"


class ELBO:
    """The evidence lower bound with the analytic KL (eq. 13, 16, 23)."""

    name = "elbo"

    def __init__(self, likelihood: Likelihood, posterior: GaussianPosterior, scratch: Grads):
        self.backend, self.workspace = likelihood.backend, posterior.workspace
        self.likelihood, self.posterior, self.scratch = likelihood, posterior, scratch

    def check(self, beta: float, free_bits: float, weighted: bool = False) -> None:
        """Raise UsageError for a β, free bits or weights that mean nothing here; a β on a device is not looked at."""
        if not self.backend.owns(beta):
            checks.not_negative("beta", beta)
        checks.not_negative("free_bits", free_bits, "a number ≥ 0, nats for each latent dimension")
        if weighted and free_bits > 0:
            raise UsageError(f"{free_bits=:g} with weights of rows: they hold a batch's plain mean KL; leave one out")
        if weighted and self.likelihood.closed_form:
            raise UsageError(
                f"likelihood {self.likelihood.name!r} with weights of rows: its σ² is fitted to all rows of a batch "
                "alike; take 'gaussian:shared', or leave the weights out"
            )

    def is_bound(self, beta: float, samples: int) -> bool:
        """Whether −loss is at most ln p(x) on average."""
        return beta >= 1 and not self.likelihood.closed_form  # whose σ² has seen the batch

    def forward(
        self, out: Array, batch: Batch, kl: KL, beta: float, free_bits: float, d_params: Grads | None, training: bool
    ) -> Terms:
        """out (S·B, width), X (B, D) of the batch, kl (rows (B,), dims (L,)) → the terms (eq. 13).

        A sample's weight is 1/(B·S), times that of its row, by which the terms of the row are multiplied too.
        Loss and gradient are one pass: d_out stays for `backward`, the likelihood's own gradients go to d_params.
        d_params   None: no `backward` follows; nothing but the terms is computed where the likelihood allows that
        training   take the likelihood as a training step does: what has a closed form is fitted to the batch
        """
        p, take, weights = self.likelihood, self.workspace.take, batch.weights
        R, B = out.shape[0], batch.X.shape[0]
        fitted = training and p.closed_form
        nll = self.nll = take("nll", (R // B, B))
        self.d_out = None if d_params is None and p.forward_only and not fitted else take("d_out", out.shape)
        weight: Any = 1.0 / R
        if weights is not None:
            weight = take("row_weight", nll.shape)
            weight[...] = weights / R
        d_params = self.scratch if d_params is None else d_params
        p.over(batch.mask, fitted)(nll.reshape(R), self.d_out, d_params, out, batch.X, weight)
        self.beta, self.free_bits, self.weights = beta, free_bits, weights
        if weights is not None:
            nll, kl = nll * weights, (kl[0] * weights, kl[1])
        return Terms(self.backend, nll, *kl, beta, free_bits)

    def backward(self) -> Array:
        """The loss's gradient with respect to the decoder's outputs (S·B, width), which `forward` has left."""
        return self.d_out

    def backward_posterior(self, dZ: Array) -> Array:
        """dZ (S·B, L) from the decoder → dH (B, 2L): through eq. 23, with the KL's own gradient (eq. 13)."""
        return self.posterior.backward(dZ, self.beta, self.free_bits, self.weights)
