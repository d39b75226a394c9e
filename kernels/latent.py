"""latent: the Gaussian posterior. Reparameterisation (eq. 23) and analytic KL (eq. 16) in one pass; their gradients.

With H = [μ | v], v = ln σ², the encoder's output:

    forward     σ = e^{½v};   z_s = μ + σ ⊙ ε_s;   KL_l = ½ (μ² + σ² − v − 1) for each dimension l
    backward    dμ = Σ_s dz_s + k μ;   dv = Σ_s ½ σ ε_s dz_s + k ½ (σ² − 1)

k is the weight of dimension l's KL in the loss: β/B, or 0 where free bits hold it.

Shapes: H, dH (B, 2L); Z, dZ, eps (S, B, L); sigma (B, L); kl_rows (B,), the sum over l; kl_dims (L,), the mean over
rows; kl_weight (L,). Nats. dtype: float32 or float64, all the same, C-contiguous.
Source: Kingma & Welling 2014, §2.4 and appendix B.
"""

import numpy as np

from . import _cuda
from ._math import exp, kernel, like
from ._op import Op, normal, poison, uniform


def forward_reference(xp, Z, sigma, kl_rows, kl_dims, H, eps):
    """z (eq. 23), σ and the KL (eq. 16).

    Z          (S, B, L)  out
    sigma      (B, L)     out, kept for the backward
    kl_rows    (B,)       out: KL(posterior ‖ prior) of each row
    kl_dims    (L,)       out: mean KL of each dimension
    H          (B, 2L)    mean, then logvar
    eps        (S, B, L)  standard normal noise
    """
    L = sigma.shape[1]
    mean, logvar = H[:, :L], H[:, L:]
    sigma[...] = xp.exp(0.5 * logvar)
    Z[...] = mean + sigma * eps
    kl = 0.5 * (mean * mean + sigma * sigma - logvar - 1)
    kl_rows[...] = kl.sum(axis=1)
    kl_dims[...] = kl.mean(axis=0)


def backward_reference(xp, dH, dZ, eps, sigma, H, kl_weight):
    """dH from dZ, with the gradient of Σ_l kl_weight_l Σ_rows KL_l added (eq. 16, 23).

    dH         (B, 2L)    out, overwritten
    dZ         (S, B, L)
    eps, sigma, H         as in forward
    kl_weight  (L,)       β/B, or 0
    """
    L = sigma.shape[1]
    mean = H[:, :L]
    dH[:, :L] = dZ.sum(axis=0) + kl_weight * mean
    dH[:, L:] = 0.5 * sigma * (eps * dZ).sum(axis=0) + kl_weight * (0.5 * (sigma * sigma - 1))


@kernel
def forward(Z, sigma, kl_rows, kl_dims, H, eps):
    """The fused `forward_reference`."""
    S, B, L = Z.shape
    half, one, zero = like(H, 0.5), like(H, 1.0), like(H, 0.0)
    for j in range(L):
        kl_dims[j] = zero
    for i in range(B):
        total = zero
        for j in range(L):
            mean, logvar = H[i, j], H[i, L + j]
            s = exp(half * logvar)
            sigma[i, j] = s
            kl = half * (mean * mean + s * s - logvar - one)
            total += kl
            kl_dims[j] += kl
        kl_rows[i] = total
        for k in range(S):
            for j in range(L):
                Z[k, i, j] = H[i, j] + sigma[i, j] * eps[k, i, j]
    for j in range(L):
        kl_dims[j] /= like(H, B)


@kernel
def backward(dH, dZ, eps, sigma, H, kl_weight):
    """The fused `backward_reference`."""
    S, B, L = dZ.shape
    half, one = like(H, 0.5), like(H, 1.0)
    for i in range(B):
        for j in range(L):
            s = sigma[i, j]
            dH[i, j] = kl_weight[j] * H[i, j]
            dH[i, L + j] = kl_weight[j] * half * (s * s - one)
        for k in range(S):
            for j in range(L):
                d = dZ[k, i, j]
                dH[i, j] += d
                dH[i, L + j] += half * sigma[i, j] * eps[k, i, j] * d


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda_forward(Z, sigma, kl_rows, kl_dims, H, eps):
    """The kernel of `latent.cu`; arguments as `forward_reference`."""
    (S, B, L), dim_blocks = Z.shape, min(Z.shape[2], _cuda.blocks_at_once())
    (row_blocks,), block = _cuda.warps(B)
    shape = (dim_blocks + row_blocks,), block
    _cuda.launch("latent", "latent_forward", shape, Z, sigma, kl_rows, kl_dims, H, eps, S, B, L, dim_blocks)


def cuda_backward(dH, dZ, eps, sigma, H, kl_weight):
    """The kernel of `latent.cu`; arguments as `backward_reference`."""
    S, B, L = dZ.shape
    _cuda.launch("latent", "latent_backward", _cuda.rows(B, L), dH, dZ, eps, sigma, H, kl_weight, S, B, L)


def forward_example(rng, dtype, S, B, D, case):
    """Means and log-variances of order 1."""
    outputs = [poison(dtype, *shape) for shape in ((S, B, D), (B, D), (B,), (D,))]
    return *outputs, normal(rng, dtype, B, 2 * D), normal(rng, dtype, S, B, D)


def backward_example(rng, dtype, S, B, D, case):
    """σ that belongs to H, and weights of the KL between 0 and 1."""
    H, dZ, eps = normal(rng, dtype, B, 2 * D), normal(rng, dtype, S, B, D), normal(rng, dtype, S, B, D)
    return poison(dtype, B, 2 * D), dZ, eps, np.exp(H[:, D:] / 2), H, uniform(rng, dtype, D)


OPS = {
    "latent_forward": Op(
        forward_reference, forward, cuda_forward, forward_example,
        outputs=("Z", "sigma", "kl_rows", "kl_dims"),
        scale=lambda Z, sigma, *_: sigma.size**0.5,
        flops=lambda Z, sigma, *_: 10 * sigma.size + 2 * Z.size,
    ),
    "latent_backward": Op(
        backward_reference, backward, cuda_backward, backward_example,
        outputs=("dH",),
        scale=lambda dH, dZ, *_: len(dZ),
        flops=lambda dH, dZ, *_: 4 * dH.size + 3 * dZ.size,
    ),
}  # fmt: skip
