"""torch_module: the VAE as a PyTorch module. Importing this file imports PyTorch.

    encoder, decoder    nn.Sequential of Linear layers and activations
    encode(x)           → mean, logvar (B, L) of q(z|x)
    decode(z)           → E[x|z] (B, D)
    elbo(x, eps)        → the mean over rows of ln p(x|z) − β KL, to be maximised

x is in the data's units, as everywhere in minivae; `elbo` is in nats of the scaled x, as `vae.objective` is.

Legend: B rows, D features, L latent dimensions, S samples of z, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributions, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kernels import continuous_bernoulli as cb
from ..kernels.gaussian import LOGVAR_MAX, LOGVAR_MIN
from ..kernels.gaussian_optimal import VARIANCE_MAX, VARIANCE_MIN
from ..kernels.laplace import LOGSCALE_MAX, LOGSCALE_MIN
from ..kernels.negative_binomial import LOGTHETA_MAX, LOGTHETA_MIN
from ..kernels.poisson import LOGRATE_MAX
from ..layers import MLP
from ..likelihoods import real, unit
from ..likelihoods.counts import Categorical, NegativeBinomial, Poisson
from ..model import Model

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
}


class VAE(nn.Module):
    """A copy of a minivae model; see the head of the file. Train it as any other module: `(-m.elbo(x)).backward()`."""

    def __init__(self, vae: Model):
        super().__init__()
        self.kind = type(vae.likelihood)
        if self.kind not in LIKELIHOODS:
            raise UsageError(
                f"to_torch knows minivae's own likelihoods, and {vae.likelihood.name!r} is not one of them"
            )
        to_host = vae.backend.to_host
        self.features, self.latent_dim, self.likelihood = vae.features, vae.latent_dim, vae.likelihood.name
        self.threshold = vae.binarize == "threshold"
        self.encoder, self.decoder = _sequential(vae.encoder, to_host), _sequential(vae.decoder, to_host)
        for name, view in vae.parameters.items():  # the likelihood's own
            if name.startswith("likelihood."):
                self.register_parameter(name.partition(".")[2], nn.Parameter(_tensor(to_host(view))))
        for name, view in vae.buffer.fitted.items():
            self.register_buffer(name.partition(".")[2], _tensor(to_host(view)))
        shift, factor = (None, None) if vae.scale is None else (_tensor(vae.scale.shift), _tensor(vae.scale.factor))
        self.shift: Tensor | None
        self.factor: Tensor | None
        self.register_buffer("shift", shift)  # float64, as in minivae
        self.register_buffer("factor", factor)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) → mean, logvar (B, L)."""
        return self._posterior(self._scaled(x))

    def decode(self, z: Tensor) -> Tensor:
        """z (B, L) → E[x|z] (B, D), in the data's units."""
        mean = self.p_x(z).mean
        return mean if self.factor is None else (mean * self.factor + self.shift).to(mean.dtype)

    def p_x(self, z: Tensor) -> Any:
        """z (R, L) → p(x|z) of the scaled x: it has `log_prob(x)` and `mean`, (R, D)."""
        return LIKELIHOODS[self.kind](self, self.decoder(z))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, D) → its reconstruction at the mean of q(z|x), (B, D)."""
        return self.decode(self.encode(x)[0])

    def elbo(self, x: Tensor, eps: Tensor | None = None, beta: float = 1.0) -> Tensor:
        """x (B, D), eps (B, L) or (S, B, L), drawn unless given → the mean over rows and samples, a scalar."""
        x = self._scaled(x)
        mean, logvar = self._posterior(x)
        eps = torch.randn_like(mean)[None] if eps is None else eps.reshape(-1, *mean.shape)
        z = mean + torch.exp(0.5 * logvar) * eps
        out = self.p_x(z.reshape(-1, self.latent_dim))
        rows = x.repeat(len(eps), 1)
        if isinstance(out, BestGaussian) and self.training:
            self.get_buffer("logvar").copy_(out.fit(rows))
        nll = -out.log_prob(rows).sum(dim=1).mean()
        kl = 0.5 * (mean**2 + torch.exp(logvar) - logvar - 1).sum(dim=1).mean()
        return -(nll + beta * kl)

    def _scaled(self, x: Tensor) -> Tensor:
        dtype = next(self.parameters()).dtype
        if self.shift is not None and self.factor is not None:
            x = (x.double() - self.shift) / self.factor
        x = x.to(dtype)
        return (x >= 0.5).to(dtype) if self.threshold else x

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, logvar = self.encoder(x).chunk(2, dim=1)
        return mean, logvar


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def _sequential(mlp: MLP, to_host: Callable[[Any], np.ndarray]) -> nn.Sequential:
    """The layers; a Linear's weight is Wᵀ (n_out, n_in)."""
    layers: list[nn.Module] = []
    for layer in mlp.layers:
        linear = nn.Linear(layer.n_in, layer.n_out)
        linear.weight, linear.bias = nn.Parameter(_tensor(to_host(layer.W).T)), nn.Parameter(_tensor(to_host(layer.b)))
        layers.append(linear)
        if layer.activation != "identity":
            layers.append(ACTIVATIONS[layer.activation]())
    return nn.Sequential(*layers)


# ---- p(x|z) of the decoder's outputs ------------------------------------------------------------------------------


def _bernoulli(module: VAE, out: Tensor) -> Any:
    return distributions.Bernoulli(logits=out, validate_args=False)  # which refuses grey values


class ContinuousBernoulli:
    """As in `kernels/continuous_bernoulli.py`. PyTorch's own clamps λ to [ε, 1 − ε]: too near."""

    def __init__(self, logits: Tensor):
        self.logits, a = logits, logits.abs()
        self.is_near, self.near, self.far = a < cb.NEAR, a.clamp(max=cb.NEAR), a.clamp(min=cb.NEAR)

    def log_prob(self, x: Tensor) -> Tensor:
        """−G(|ℓ|) − ℓ (½ − x); near 0, G = Σₙ cₙ a²ⁿ/2n."""
        near = sum(c * self.near ** (2 * n) / (2 * n) for n, c in enumerate(cb.SERIES, 1))
        far = 0.5 * self.far + torch.log(-torch.expm1(-self.far) / self.far)
        return -torch.where(self.is_near, near, far) - self.logits * (0.5 - x)

    @property
    def mean(self) -> Tensor:
        """½ + g(|ℓ|) sign ℓ."""
        near = sum(c * self.near ** (2 * n - 1) for n, c in enumerate(cb.SERIES, 1))
        far = -1 / torch.expm1(-self.far) - 1 / self.far - 0.5
        return 0.5 + torch.where(self.is_near, near, far) * self.logits.sign()


def _gaussian(module: VAE, out: Tensor) -> Any:
    mean, logvar = out.chunk(2, dim=1)
    return distributions.Normal(mean, torch.exp(0.5 * logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)), validate_args=False)


def _gaussian_fixed(module: VAE, out: Tensor) -> Any:
    return distributions.Normal(out, float(module.likelihood.partition(":")[2]), validate_args=False)


def _gaussian_shared(module: VAE, out: Tensor) -> Any:
    logvar = module.get_parameter("logvar").clamp(LOGVAR_MIN, LOGVAR_MAX)
    return distributions.Normal(out, torch.exp(0.5 * logvar), validate_args=False)


class BestGaussian:
    """gaussian:optimal: the module's σ², or, once fitted to rows, their mean squared error, which has no gradient."""

    def __init__(self, mean: Tensor, logvar: Tensor):
        self.mean, self.logvar = mean, logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)

    def fit(self, x: Tensor) -> Tensor:
        """Take σ² from x → ln σ²."""
        error = ((x - self.mean.detach()) ** 2).mean()
        self.logvar = error.clamp(VARIANCE_MIN, VARIANCE_MAX).log()
        return self.logvar

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * ((x - self.mean) ** 2 * torch.exp(-self.logvar) + self.logvar + math.log(2 * math.pi))


def _gaussian_optimal(module: VAE, out: Tensor) -> Any:
    return BestGaussian(out, module.get_buffer("logvar"))


def _laplace(module: VAE, out: Tensor) -> Any:
    mean, logscale = out.chunk(2, dim=1)
    return distributions.Laplace(mean, torch.exp(logscale.clamp(LOGSCALE_MIN, LOGSCALE_MAX)), validate_args=False)


class Classes:
    """categorical:K of logits (R, K·D); the mean is that of the class number."""

    def __init__(self, logits: Tensor, features: int):
        self.logp = F.log_softmax(logits.reshape(len(logits), -1, features), dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.logp.gather(1, x.long()[:, None])[:, 0]

    @property
    def mean(self) -> Tensor:
        number = torch.arange(self.logp.shape[1], dtype=self.logp.dtype, device=self.logp.device)
        return (self.logp.exp() * number[:, None]).sum(dim=1)


class Counts:
    """poisson of ln λ. PyTorch's own takes λ, whose logarithm is infinite where it underflows."""

    def __init__(self, lograte: Tensor):
        self.lograte = lograte.clamp(max=LOGRATE_MAX)

    def log_prob(self, x: Tensor) -> Tensor:
        return x * self.lograte - self.mean - torch.lgamma(x + 1)

    @property
    def mean(self) -> Tensor:
        return torch.exp(self.lograte)


def _negative_binomial(module: VAE, out: Tensor) -> Any:
    logtheta = module.get_parameter("logtheta").clamp(LOGTHETA_MIN, LOGTHETA_MAX)
    logits = out.clamp(max=LOGRATE_MAX) - logtheta
    return distributions.NegativeBinomial(torch.exp(logtheta), logits=logits, validate_args=False)


LIKELIHOODS: dict[type, Callable[[VAE, Tensor], Any]] = {
    unit.Bernoulli: _bernoulli,
    unit.ContinuousBernoulli: lambda module, out: ContinuousBernoulli(out),
    real.Gaussian: _gaussian,
    real.GaussianFixed: _gaussian_fixed,
    real.GaussianShared: _gaussian_shared,
    real.GaussianOptimal: _gaussian_optimal,
    real.Laplace: _laplace,
    Categorical: lambda module, out: Classes(out, module.features),
    Poisson: lambda module, out: Counts(out),
    NegativeBinomial: _negative_binomial,
}
