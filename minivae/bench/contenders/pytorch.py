"""peers: the same VAE in PyTorch and in JAX, as their users write it when it must be fast. Bernoulli, ReLU, float32."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..errors import UsageError
from .work import Arrays


def require(package: str) -> Any:
    """A peer's module, or the UsageError that says how to get it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UsageError(f'{package} is not here ({error}): pip install "minivae[peers]"') from None


def torch_on(threads: int, flush: bool) -> Any:
    """PyTorch on so many threads; `flush`: subnormals count as zero. It is set before the threads are made, which take
    it over."""
    torch = require("torch")
    torch.set_flush_denormal(flush)
    torch.set_num_threads(threads)
    return torch


def compiled(torch: Any, function: Callable[..., Any], *example: Any) -> Callable[..., Any]:
    """torch.compile's form of a function, compiled for the example; the UsageError says why it cannot be."""
    fast = torch.compile(function, dynamic=False)
    try:
        fast(*example)
    except Exception as error:
        last = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"torch.compile does not work here ({last[0][:100]}): it needs a C++ compiler") from None
    return fast


class TorchVAE:
    """The model in PyTorch: `weights` are leaves that want gradients."""

    def __init__(self, torch: Any, parameters: Arrays):
        self.torch, self.F = torch, torch.nn.functional
        self.weights = {name: torch.tensor(value, requires_grad=True) for name, value in parameters.items()}
        self.layers = sum(name.startswith("encoder") for name in parameters) // 2

    def mlp(self, name: str, Y: Any) -> Any:
        for i in range(self.layers):
            Y = self.torch.addmm(self.weights[f"{name}.{i}.b"], Y, self.weights[f"{name}.{i}.W"])
            if i < self.layers - 1:
                Y = self.torch.relu(Y)
        return Y

    def loss(self, X: Any, eps: Any) -> Any:
        """−ELBO, mean over rows."""
        torch = self.torch
        mean, logvar = self.mlp("encoder", X).chunk(2, dim=1)
        logits = self.mlp("decoder", mean + torch.exp(0.5 * logvar) * eps)
        nll = self.F.binary_cross_entropy_with_logits(logits, X, reduction="sum")
        kl = 0.5 * (mean * mean + logvar.exp() - logvar - 1).sum()
        return (nll + kl) / X.shape[0]

    def gradients(self) -> dict[str, Any]:
        return {name: weight.grad.numpy() for name, weight in self.weights.items()}


def jax_loss(jax: Any, layers: int) -> Callable[..., Any]:
    """−ELBO, mean over rows, as a function of (weights by name, X, eps)."""
    jnp = jax.numpy

    def mlp(W: Any, name: str, Y: Any) -> Any:
        for i in range(layers):
            Y = Y @ W[f"{name}.{i}.W"] + W[f"{name}.{i}.b"]
            Y = jax.nn.relu(Y) if i < layers - 1 else Y
        return Y

    def loss(W: Any, X: Any, eps: Any) -> Any:
        mean, logvar = jnp.split(mlp(W, "encoder", X), 2, axis=1)
        logits = mlp(W, "decoder", mean + jnp.exp(0.5 * logvar) * eps)
        nll = jnp.sum(jnp.maximum(logits, 0) - logits * X + jnp.log1p(jnp.exp(-jnp.abs(logits))))
        return (nll + 0.5 * jnp.sum(mean * mean + jnp.exp(logvar) - logvar - 1)) / X.shape[0]

    return loss
