"""steps: the training step as minivae, PyTorch and JAX do it: ε, forward, backward, Adam, on the next batch of 0/1 rows.

All in float32 on the same model, Bernoulli likelihood, ReLU, one sample of z, Adam(1e-3) in the fastest form that each
library offers; data lie ready as 0/1 batches in the library's own arrays. `floor` is the step's matrix products alone,
in the order in which the step needs them: what no implementation on this BLAS can go below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .problems import parameters, rows

LR = 1e-3


def make(case: dict[str, Any]) -> Step:
    """The contender `case["name"]` on `case["widths"]` (D, hidden …, L) and `case["batch"]`."""
    return CONTENDERS[case["name"]](case)


class Step:
    """One contender: `run` is a training step, `check` its loss and gradients at the start."""

    def __init__(self, case: dict[str, Any]):
        self.widths, self.batch = case["widths"], case["batch"]
        self.D, self.hidden, self.L = self.widths[0], self.widths[1:-1], self.widths[-1]
        self.threads = case["threads"]
        data = rows(self.D, max(8 * self.batch, 60_000 if self.D == 784 else 8192))
        self.batches = [data[i : i + self.batch] for i in range(0, len(data) - self.batch + 1, self.batch)]
        self.eps = np.random.default_rng(1).standard_normal((self.batch, self.L)).astype(np.float32)
        self.at = 0
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        return {}

    def check(self, path: str) -> None:
        """Write the loss and the gradients by name, on the first batch with the noise `self.eps`."""
        np.savez(path, **{k: np.asarray(v, np.float64) for k, v in self.loss_and_gradients().items()})

    def loss_and_gradients(self) -> dict[str, Any]:
        raise NotImplementedError

    def next(self) -> Any:
        """The next batch."""
        self.at = (self.at + 1) % len(self.batches)
        return self.batches[self.at]

    def run(self) -> None:
        raise NotImplementedError


class Ours(Step):
    """minivae on NumPy's BLAS."""

    options: dict[str, Any] = {"kernels": "fused", "dtype": "float32"}

    def build(self) -> None:
        import minivae as mv

        self.vae = mv.VAE(self.D, self.L, tuple(self.hidden), backend=mv.Backend("numpy", **self.options))
        for name, value in parameters(self.widths).items():
            self.vae.parameters[name][...] = value
        self.batches = [np.ascontiguousarray(b, self.vae.backend.dtype) for b in self.batches]
        self.optimizer = mv.Adam(LR)

    def facts(self) -> dict[str, Any]:
        return {"backend": str(self.vae.backend)}

    def loss_and_gradients(self) -> dict[str, Any]:
        terms = self.vae.objective_and_grad(self.batches[0], eps=self.eps.astype(self.vae.backend.dtype))
        return {"loss": terms.loss, **self.vae.gradients}

    def run(self) -> None:
        self.vae.train_step(self.next(), self.optimizer)


class OursMkl(Ours):
    options = {**Ours.options, "gemm": "mkl"}


class Float64(Ours):
    """The judge: reference kernels in float64."""

    options = {"kernels": "reference", "dtype": "float64"}


class Torch(Step):
    """PyTorch, eager: autograd, torch.optim.Adam(fused=True), subnormals flushed to zero."""

    flush = True

    def build(self) -> None:
        import torch

        self.torch = torch
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(self.flush)
        self.weights = {k: torch.tensor(v, requires_grad=True) for k, v in parameters(self.widths).items()}
        self.batches = [torch.tensor(np.ascontiguousarray(b, np.float32)) for b in self.batches]
        self.adam = torch.optim.Adam(self.weights.values(), lr=LR, fused=True)
        self.loss: Callable[..., Any] = self._loss

    def facts(self) -> dict[str, Any]:
        return {"torch": self.torch.__version__}

    def _loss(self, X: Any, eps: Any) -> Any:
        torch, F, W, last = self.torch, self.torch.nn.functional, self.weights, len(self.hidden)

        def mlp(name: str, Y: Any) -> Any:
            for i in range(last + 1):
                Y = torch.addmm(W[f"{name}.{i}.b"], Y, W[f"{name}.{i}.W"])
                Y = torch.relu(Y) if i < last else Y
            return Y

        mean, logvar = mlp("encoder", X).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * logvar) * eps
        nll = F.binary_cross_entropy_with_logits(mlp("decoder", z), X, reduction="sum")
        kl = 0.5 * (mean * mean + logvar.exp() - logvar - 1).sum()
        return (nll + kl) / X.shape[0]

    def loss_and_gradients(self) -> dict[str, Any]:
        loss = self.loss(self.batches[0], self.torch.tensor(self.eps))
        loss.backward()
        return {"loss": loss.item(), **{k: w.grad.numpy() for k, w in self.weights.items()}}

    def run(self) -> None:
        self.adam.zero_grad()
        X = self.next()
        self.loss(X, self.torch.randn(X.shape[0], self.L)).backward()
        self.adam.step()


class TorchDefault(Torch):
    """PyTorch, eager, as it comes: subnormals kept."""

    flush = False


class TorchCompile(Torch):
    """torch.compile: the loss and its backward as compiled graphs."""

    def build(self) -> None:
        super().build()
        self.loss = self.torch.compile(self._loss, dynamic=False)


class Jax(Step):
    """jax.jit: the whole step compiled, its arrays donated."""

    def build(self) -> None:
        import jax
        import jax.numpy as jnp

        hidden, L = len(self.hidden), self.L

        def mlp(W: Any, name: str, Y: Any) -> Any:
            for i in range(hidden + 1):
                Y = Y @ W[f"{name}.{i}.W"] + W[f"{name}.{i}.b"]
                Y = jax.nn.relu(Y) if i < hidden else Y
            return Y

        def loss(W: Any, X: Any, eps: Any) -> Any:
            mean, logvar = jnp.split(mlp(W, "encoder", X), 2, axis=1)
            logits = mlp(W, "decoder", mean + jnp.exp(0.5 * logvar) * eps)
            nll = jnp.sum(jnp.maximum(logits, 0) - logits * X + jnp.log1p(jnp.exp(-jnp.abs(logits))))
            return (nll + 0.5 * jnp.sum(mean * mean + jnp.exp(logvar) - logvar - 1)) / X.shape[0]

        def step(W: Any, M: Any, V: Any, t: Any, key: Any, X: Any) -> Any:
            key, used = jax.random.split(key)
            G = jax.grad(loss)(W, X, jax.random.normal(used, (X.shape[0], L)))
            t = t + 1
            M = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, M, G)
            V = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, V, G)
            c1, c2 = 1 - 0.9**t, 1 - 0.999**t
            W = jax.tree.map(lambda w, m, v: w - LR * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), W, M, V)
            return W, M, V, t, key

        self.jax = jax
        W = {k: jnp.asarray(v) for k, v in parameters(self.widths).items()}
        zeros = jax.tree.map(jnp.zeros_like, W)
        self.gradient = jax.jit(jax.value_and_grad(loss))
        self.step = jax.jit(step, donate_argnums=(0, 1, 2, 3, 4))
        self.state: Any = (W, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros(()), jax.random.key(0))
        self.batches = [jnp.asarray(b, jnp.float32) for b in self.batches]

    def facts(self) -> dict[str, Any]:
        return {"jax": self.jax.__version__}

    def loss_and_gradients(self) -> dict[str, Any]:
        loss, gradient = self.gradient(self.state[0], self.batches[0], self.eps)
        return {"loss": float(loss), **gradient}

    def run(self) -> None:
        self.state = self.step(*self.state, self.next())
        self.jax.block_until_ready(self.state[0])


class Floor(Step):
    """The step's matrix products alone, on NumPy's BLAS: forward Y = XW, backward dW = XᵀdY and dX = dY Wᵀ."""

    gemm = "numpy"

    def build(self) -> None:
        import minivae as mv

        backend = mv.Backend("numpy", **({} if self.gemm == "numpy" else {"gemm": self.gemm}))
        mirrored = [self.L, *reversed(self.hidden), self.D]
        rng = np.random.default_rng(0)
        layers = [
            *zip(self.widths, [*self.hidden, 2 * self.L], strict=False),
            *zip(mirrored, mirrored[1:], strict=False),
        ]

        def filled(*shape: int) -> Any:
            out = backend.empty(shape)
            out[...] = rng.standard_normal(shape) * 0.1
            return out

        forward, backward = [], []
        for i, (n_in, n_out) in enumerate(layers):
            X, W, Y = filled(self.batch, n_in), filled(n_in, n_out), filled(self.batch, n_out)
            forward.append((Y, X, W))
            backward[:0] = [(filled(n_in, n_out), X.T, Y)] + ([(filled(self.batch, n_in), Y, W.T)] if i else [])
        self.products, self.backend = forward + backward, backend

    def check(self, path: str) -> None:
        """It has no loss."""

    def run(self) -> None:
        for out, A, B in self.products:
            self.backend.gemm(out, A, B)


class FloorMkl(Floor):
    gemm = "mkl"


CONTENDERS: dict[str, type[Step]] = {
    "minivae": Ours,
    "minivae-mkl": OursMkl,
    "torch": Torch,
    "torch-default": TorchDefault,
    "torch.compile": TorchCompile,
    "jax": Jax,
    "floor": Floor,
    "floor-mkl": FloorMkl,
    "float64": Float64,
}
