"""importance: the importance-weighted bound on ln p(x), the weights of its samples, and its gradient in the posterior.

With z_s = μ + σ ⊙ ε_s, s = 1 … S, v = ln σ², and nll_s = −ln p(x|z_s) of one row:

    forward     ln w_s = −nll_s + β ½ Σ_l (ε² − z² + v)    β times ln p(z)/q(z|x), whose ln 2π cancel (eq. 12)
                bound  = ln (1/S) Σ_s w_s
                c_s    = w_s / (B Σ_r w_r)                  the weight of sample s in the backward pass
    backward    the gradient of −(1/B) Σ_rows bound is that of Σ_rows Σ_s c_s (−ln w_s), the c_s held:
                dz_s  += β c_s z_s;   dμ = Σ_s dz_s;   dv = Σ_s ½ (σ ε_s dz_s − β c_s)

The dz_s that come in have been through the likelihood and the decoder with the weights c_s. For S = 1 the bound is
−nll less the sampled KL, and c = 1/B.

Shapes: log_w, weight, nll (S, B); bound (B,); Z, eps, dZ (S, B, L); sigma (B, L); H, dH (B, 2L); beta a number. Nats.
dtype: float32 or float64, all the same, C-contiguous.
Source: Burda, Grosse & Salakhutdinov 2016, §3. Every dependence on μ and v is differentiated, that of ln q(z|x) too.
"""

import math

import numpy as np

from . import _cuda
from ._math import exp, like
from ._op import Op, normal, poison, uniform
from ._threads import run, share, shared


def forward_reference(xp, log_w, weight, bound, nll, Z, eps, H, beta):
    """The weights of the samples and the bound of the rows (Burda et al. 2016; eq. 12 for S = 1).

    log_w      (S, B)     out: ln w
    weight     (S, B)     out: w / (B Σ_s w)
    bound      (B,)       out: ln of the mean of w over the samples
    nll        (S, B)     −ln p(x|z) of each sample
    Z, eps     (S, B, L)  as `latent_forward` has them
    H          (B, 2L)    mean, then logvar
    beta                  the weight of ln p(z)/q(z|x)
    """
    S, B, L = Z.shape
    log_w[...] = (beta * 0.5) * (eps * eps - Z * Z + H[:, L:]).sum(axis=2) - nll
    largest = log_w.max(axis=0)
    w = xp.exp(log_w - largest)
    total = w.sum(axis=0)
    bound[...] = largest + xp.log(total / S)
    weight[...] = w / (total * B)


def backward_reference(xp, dH, dZ, eps, sigma, Z, weight, beta):
    """dH from dZ, with the gradient of Σ_s,rows weight · β · ln q(z|x)/p(z) added (Burda et al. 2016; eq. 12).

    dH         (B, 2L)    out, overwritten
    dZ         (S, B, L)  from the decoder
    eps, sigma, Z         as `latent_forward` left them
    weight     (S, B)     what each sample counts
    beta                  as in forward
    """
    L = sigma.shape[1]
    count = (beta * weight)[:, :, None]
    total = dZ + count * Z
    dH[:, :L] = total.sum(axis=0)
    dH[:, L:] = 0.5 * (sigma * eps * total - count).sum(axis=0)


@shared
def _forward(log_w, weight, bound, nll, Z, eps, H, beta, t, shares):
    S, B, L = Z.shape
    half_beta, zero = like(H, 0.5 * beta), like(H, 0.0)
    start, stop = share(t, shares, B, 1)
    for i in range(start, stop):
        largest = like(H, -math.inf)
        for k in range(S):
            gap = zero
            for j in range(L):
                gap += eps[k, i, j] * eps[k, i, j] - Z[k, i, j] * Z[k, i, j] + H[i, L + j]
            log_w[k, i] = half_beta * gap - nll[k, i]
            largest = max(largest, log_w[k, i])
        total = zero
        for k in range(S):
            weight[k, i] = exp(log_w[k, i] - largest)
            total += weight[k, i]
        bound[i] = largest + math.log(total / like(H, S))
        for k in range(S):
            weight[k, i] /= total * like(H, B)


def forward(log_w, weight, bound, nll, Z, eps, H, beta):
    """The fused `forward_reference`."""
    run(_forward, Z.size, log_w, weight, bound, nll, Z, eps, H, beta)


@shared
def _backward(dH, dZ, eps, sigma, Z, weight, beta, t, shares):
    S, B, L = dZ.shape
    half, zero, beta = like(dZ, 0.5), like(dZ, 0.0), like(dZ, beta)
    start, stop = share(t, shares, B, 1)
    for i in range(start, stop):
        for j in range(2 * L):
            dH[i, j] = zero
        for k in range(S):
            count = beta * weight[k, i]
            for j in range(L):
                d = dZ[k, i, j] + count * Z[k, i, j]
                dH[i, j] += d
                dH[i, L + j] += half * (sigma[i, j] * eps[k, i, j] * d - count)


def backward(dH, dZ, eps, sigma, Z, weight, beta):
    """The fused `backward_reference`."""
    run(_backward, dZ.size, dH, dZ, eps, sigma, Z, weight, beta)


# ---- CUDA -----------------------------------------------------------------------------------------------------------


def cuda_forward(log_w, weight, bound, nll, Z, eps, H, beta):
    """The kernel of `importance.cu`; arguments as `forward_reference`. beta may be a device array of one float64."""
    S, B, L = Z.shape
    _cuda.launch(
        "importance", "importance_forward", _cuda.warps(B),
        log_w, weight, bound, nll, Z, eps, H, beta, S, B, L,
    )  # fmt: skip


def cuda_backward(dH, dZ, eps, sigma, Z, weight, beta):
    """The kernel of `importance.cu`; arguments as `backward_reference`. beta may be a device array of one float64."""
    S, B, L = dZ.shape
    _cuda.launch(
        "importance", "importance_backward", _cuda.rows(B, L),
        dH, dZ, eps, sigma, Z, weight, beta, S, B, L,
    )  # fmt: skip


def forward_example(rng, dtype, S, B, D, case):
    """Z, ε and H that belong together, and losses so far apart that a few samples carry the weight."""
    H, eps, nll = normal(rng, dtype, B, 2 * D), normal(rng, dtype, S, B, D), 3 * normal(rng, dtype, S, B)
    Z = H[:, :D] + np.exp(H[:, D:] / 2) * eps
    return poison(dtype, S, B), poison(dtype, S, B), poison(dtype, B), nll, Z, eps, H, 0.7


def backward_example(rng, dtype, S, B, D, case):
    """Arrays of order 1."""
    dZ, eps, Z = (normal(rng, dtype, S, B, D) for _ in range(3))
    return poison(dtype, B, 2 * D), dZ, eps, uniform(rng, dtype, B, D), Z, uniform(rng, dtype, S, B), 0.7


OPS = {
    "importance_forward": Op(
        forward_reference, forward, cuda_forward, forward_example,
        outputs=("log_w", "weight", "bound"),
        scale=lambda log_w, weight, bound, nll, Z, *_: 5 * Z.shape[2],
        flops=lambda log_w, weight, bound, nll, Z, *_: 5 * Z.size + 8 * log_w.size,
    ),
    "importance_backward": Op(
        backward_reference, backward, cuda_backward, backward_example,
        outputs=("dH",),
        scale=lambda dH, dZ, *_: 10 * len(dZ),
        flops=lambda dH, dZ, *_: 8 * dZ.size,
    ),
}  # fmt: skip
