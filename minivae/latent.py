"""latent: the encoder's Gaussian q(z|x) = N(μ(x), diag σ²(x)) (eq. 15), sampled by reparameterisation.

Shapes: S samples, B rows, L latent dimensions. H = [μ | ln σ²] is (B, 2L), the encoder's output.
"""

from __future__ import annotations

from . import checks
from .backend import Array, Backend
from .buffers import Workspace


class GaussianPosterior:
    """z_s = μ + σ ⊙ ε_s (eq. 23) and KL(q(z|x) ‖ N(0, I)) (eq. 16); formulas in `kernels/latent.py`."""

    def __init__(self, backend: Backend, workspace: Workspace, latent_dim: int):
        self.ops, self.xp = backend.ops, backend.xp
        self.workspace, self.L, self.dtype = workspace, latent_dim, backend.dtype

    def forward(self, H: Array, eps: Array) -> tuple[Array, Array, Array]:
        """H (B, 2L), eps (S, B, L) → Z (S, B, L), kl_rows (B,) and kl_dims (L,), in nats (eq. 16, 23).

        All three are views of the workspace, which the next call overwrites.
        """
        checks.exactly("H", H, ("B", 2 * self.L), self.dtype)
        checks.exactly("eps", eps, ("S", H.shape[0], self.L), self.dtype)
        take, (S, B, L) = self.workspace.take, eps.shape
        self.H, self.eps = H, eps
        self.Z, self.sigma = take("Z", (S, B, L)), take("sigma", (B, L))
        kl_rows, self.kl_dims = take("kl_rows", (B,)), take("kl_dims", (L,))
        self.ops.latent_forward(self.Z, self.sigma, kl_rows, self.kl_dims, H, eps)
        return self.Z, kl_rows, self.kl_dims

    def backward(self, dZ: Array, beta: float, free_bits: float, weights: Array | None = None) -> Array:
        """dZ (S·B, L) → dH (B, 2L), with the gradient of β · KL, averaged over rows (eq. 16, 23).

        A dimension whose mean KL is at most `free_bits` adds none (Kingma et al. 2016, appendix C.8).
        weights   (B,) of the rows' KL; dZ has them already
        """
        S, B, L = self.eps.shape
        checks.exactly("dZ", dZ, (S * B, L), self.dtype)
        kl_weight = self.workspace.take("kl_weight", (L,))
        kl_weight[...] = beta / B if weights is None else 0  # for `_add_weighted`
        if free_bits > 0:
            kl_weight *= self.kl_dims > free_bits
        dH = self.workspace.take("dH", self.H.shape)
        self.ops.latent_backward(dH, dZ.reshape(self.eps.shape), self.eps, self.sigma, self.H, kl_weight)
        if weights is not None:
            self._add_weighted(dH, (weights * (beta / B)).reshape(B, 1))
        return dH

    def _add_weighted(self, dH: Array, weights: Array) -> None:
        """dH (B, 2L) += the gradient of Σ_b w_b KL_b, weights (B, 1) (eq. 16)."""
        dH[:, : self.L] += weights * self.H[:, : self.L]
        dH[:, self.L :] += 0.5 * weights * (self.sigma * self.sigma - 1)
