"""quadrature: a model's expectations over z by numerical integration (eq. 2); the engine samples instead (eq. 23).

    E_{z~N(μ, diag σ²)}[f(z)] = E_{ε~N(0,I)}[f(μ + σ ⊙ ε)] ≈ Σ_k w_k f(μ + σ ⊙ ε_k)

The ε_k lie on an even grid. With a Gaussian weight this is accurate: the error of a smooth f falls as e^{−c/h} with the
spacing h (Trefethen & Weideman 2014), and a kink of a ReLU adds an error of h². The number of points grows as nᴸ, hence
L ≤ 2.

Shapes: N rows, L latent dimensions, K nodes. Everything is in float64, on the host, in a copy of the model.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ... import checks
from ...backend import Backend
from ...errors import UsageError
from ...evaluation.passes import nll_and_grad, nll_of
from ...inputs import as_batch
from ...training.checkpoint import Checkpoint, build, tensors_of
from ...vae import VAE
from .inputs import unscaled

MAX_LATENT = 2
SPACING = {1: 1 / 16, 2: 0.2}  # h: small enough for sharp bends of a decoder; a Gaussian alone would need only ½
RADIUS = 8.0  # beyond it lies 10⁻¹⁵ (L = 1) or 10⁻¹⁴ (L = 2) of the Gaussian's mass
DECODER_ROWS = 4096  # rows for one call of the decoder


class Rule:
    """nodes (K, L) and weights (K,), whose sum is 1, for E_{ε~N(0,I)}[f(ε)] (eq. 2): an even grid in a ball."""

    def __init__(self, latent_dim: int, spacing: float, radius: float):
        self.spacing, steps = spacing, int(radius / spacing)
        axes = np.tile(spacing * np.arange(-steps, steps + 1), (latent_dim, 1))
        nodes = grid_points(axes)
        self.nodes = nodes[(nodes**2).sum(axis=1) <= radius**2]
        density = np.exp(-0.5 * (self.nodes**2).sum(axis=1))
        self.weights = density / density.sum()


def fine_rule(latent_dim: int) -> Rule:
    """The rule for final values."""
    return Rule(latent_dim, SPACING[small(latent_dim)], RADIUS)


def coarse_rule(latent_dim: int) -> Rule:
    """The rule for searches: twice the spacing, three quarters of the radius, a seventh of the points for L = 2."""
    return Rule(latent_dim, 2 * SPACING[small(latent_dim)], 0.75 * RADIUS)


def grid_points(axes: np.ndarray) -> np.ndarray:
    """axes (L, n) → every point of their grid, (n^L, L)."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, axes.shape[0])


def small(latent_dim: int) -> int:
    """Return `latent_dim` if it is small enough for a grid; otherwise raise UsageError."""
    if latent_dim > MAX_LATENT:
        raise UsageError(
            f"latent_dim={latent_dim}: a grid over z needs L ≤ {MAX_LATENT}; for more dimensions there is importance "
            "sampling: vae.log_likelihood(X)"
        )
    return latent_dim


class ExactModel:
    """A copy of a model in float64, on the host, that integrates over z instead of sampling it. L ≤ 2."""

    def __init__(self, vae: VAE):
        unscaled(vae)
        self.latent_dim = small(vae.latent_dim)
        self._to_host = vae.backend.to_host
        whole = Checkpoint(vae.config(), vae.backend.dtype.name, tensors_of(vae))
        self.vae = build(VAE, whole, "the model", Backend("numpy", vae.backend.kernels, "float64"))
        self.fine, self.coarse = fine_rule(self.latent_dim), coarse_rule(self.latent_dim)

    def rows(self, X: Any) -> np.ndarray:
        """X (N, D) as float64, checked against the likelihood's domain."""
        X = np.ascontiguousarray(self._to_host(checks.array("X", X, self.vae.features)), np.float64)
        self.vae.likelihood.check(X)
        return X

    def encode(self, X: np.ndarray) -> np.ndarray:
        """X (N, D) → H (N, 2L): the posteriors' means, then logvars (eq. 15)."""
        return np.hstack(self.vae.encode(X))

    def log_joint(self, Z: np.ndarray, X: np.ndarray) -> np.ndarray:
        """ln p(x|z) + ln p(z) for each row of X (N, D) at each row of Z (G, L): (N, G), nats (eq. 7)."""
        result = np.empty((X.shape[0], Z.shape[0]))
        for start in range(0, Z.shape[0], DECODER_ROWS):
            part = np.ascontiguousarray(Z[start : start + DECODER_ROWS])
            out = self.vae.decoder.forward(part)
            log_prior = -0.5 * (part**2).sum(axis=1) - 0.5 * self.latent_dim * math.log(2 * math.pi)
            for n in range(X.shape[0]):
                nll = nll_of(self.vae, out, as_batch(self.vae, X[n : n + 1]))
                result[n, start : start + part.shape[0]] = log_prior - nll
        return result

    def losses(
        self, X: np.ndarray, H: np.ndarray, rule: Rule | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows X (N, D) with Gaussian posteriors H (N, 2L) of any origin → nll (N,), kl (N,), dH (N, 2L).

        nll is E_{z~N(μ,σ²)}[−ln p(x|z)] by quadrature, kl is eq. 16; dH is the gradient of Σ_rows (nll + kl), by the
        engine's own backward pass: the decoder's backward gives dz, reparameterisation passes it on to μ and ln σ².
        rule: the fine one unless given.
        """
        rule = rule or self.fine
        N, K, L = X.shape[0], rule.weights.size, self.latent_dim
        mean, logvar = H[:, :L], H[:, L:]
        sigma = np.exp(0.5 * logvar)
        nll, dH = np.empty(N), np.empty((N, 2 * L))
        step = max(1, DECODER_ROWS // K)
        for start in range(0, N, step):
            part = slice(start, min(start + step, N))
            nll[part], dZ = self._decoded(X[part], mean[part] + sigma[part] * rule.nodes[:, None, :], rule.weights)
            dH[part, :L] = dZ.sum(axis=0)
            dH[part, L:] = 0.5 * sigma[part] * np.einsum("kl,knl->nl", rule.nodes, dZ)
        dH += np.hstack([mean, 0.5 * (sigma**2 - 1)])
        kl = 0.5 * (mean**2 + sigma**2 - logvar - 1).sum(axis=1)
        return nll, kl, dH

    def _decoded(self, X: np.ndarray, Z: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X (n, D), Z (K, n, L) → Σ_k w_k nll (n,), and its gradient with respect to each z (K, n, L)."""
        K, n, L = Z.shape
        out = self.vae.decoder.forward(np.ascontiguousarray(Z).reshape(K * n, L))
        nll, d_out = nll_and_grad(self.vae, out, as_batch(self.vae, X), np.repeat(weights, n).reshape(K, n))
        dZ = self.vae.decoder.backward(d_out)
        return weights @ nll.reshape(K, n), np.asarray(dZ).reshape(K, n, L)
