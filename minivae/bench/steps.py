"""steps: a training step as minivae, PyTorch and JAX do it: ε, forward, backward, Adam, on the next batch of 0/1 rows.

All in float32 on the same model, Bernoulli likelihood, ReLU, one sample of z, Adam(1e-3) in the fastest form that each
library offers; data lie ready as 0/1 batches in the library's own arrays. `floor` is the step's matrix products alone.

case: {"widths": [D, hidden …, L], "batch": B, "threads": …}; "rows", where there are to be fewer of them; "samples",
for minivae alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import floors, peers, problems
from .work import Arrays, Work

LR = 1e-3


def prepare(case: dict[str, Any]) -> Arrays:
    return problems.model(case["widths"], case["batch"], case.get("rows"))


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """Loss and gradients by the reference kernels in float64."""
    return {name: np.asarray(value) for name, value in Float64(case, arrays).results().items()}


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return CONTENDERS[case["name"]](case, arrays)


class Step(Work):
    """One contender: `run` is a training step, `results` its loss and gradients at the start."""

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.widths, self.batch, self.threads = case["widths"], case["batch"], case["threads"]
        self.D, self.hidden, self.L = self.widths[0], self.widths[1:-1], self.widths[-1]
        self.samples = case.get("samples", 1)
        self.parameters, self.eps = problems.parameters(arrays), arrays["eps"]
        whole = len(arrays["rows"]) // self.batch
        self.batches: Any = arrays["rows"][: whole * self.batch].reshape(whole, self.batch, self.D)
        self.at = 0
        self.build()

    def build(self) -> None:
        """Make the model, and the batches in the library's own arrays."""
        raise NotImplementedError

    def next(self) -> Any:
        """The next batch."""
        self.at = (self.at + 1) % len(self.batches)
        return self.batches[self.at]


class Ours(Step):
    """minivae."""

    gemm, kernels, dtype = "numpy", "fused", "float32"

    def build(self) -> None:
        import minivae as mv

        backend = problems.backend(self.gemm, kernels=self.kernels, dtype=self.dtype)
        self.vae = mv.VAE(self.D, self.L, tuple(self.hidden), samples=self.samples, backend=backend)
        for name, value in self.parameters.items():
            self.vae.parameters[name][...] = value
        batches = backend.empty(self.batches.shape)
        batches[...] = self.batches
        self.batches = batches
        self.optimizer = mv.Adam(LR)

    def facts(self) -> dict[str, Any]:
        return {"backend": str(self.vae.backend)}

    def results(self) -> dict[str, Any]:
        terms = self.vae.objective_and_grad(self.batches[0], eps=self.eps)
        return {"loss": terms.loss, **self.vae.gradients}

    def run(self) -> None:
        self.vae.train_step(self.next(), self.optimizer)


class OursMkl(Ours):
    gemm = "mkl"


class Float64(Ours):
    """The judge."""

    kernels, dtype = "reference", "float64"

    def build(self) -> None:
        self.batches = self.batches[:1]
        super().build()


class Torch(Step):
    """PyTorch, eager: autograd, torch.optim.Adam(fused=True), subnormals flushed to zero."""

    flush = True

    def build(self) -> None:
        self.torch = peers.torch_on(self.threads, self.flush)
        self.vae = peers.TorchVAE(self.torch, self.parameters)
        self.loss = self.vae.loss
        self.batches = self.torch.tensor(self.batches, dtype=self.torch.float32)
        self.adam = self.torch.optim.Adam(self.vae.weights.values(), lr=LR, fused=True)

    def facts(self) -> dict[str, Any]:
        return {"torch": self.torch.__version__}

    def results(self) -> dict[str, Any]:
        self.adam.zero_grad()
        loss = self.loss(self.batches[0], self.torch.tensor(self.eps))
        loss.backward()
        return {"loss": loss.item(), **self.vae.gradients()}

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
        self.loss = peers.compiled(self.torch, self.vae.loss, self.batches[0], self.torch.tensor(self.eps))


class Jax(Step):
    """jax.jit: the whole step compiled, its arrays donated, one step under way while the next is asked for."""

    def build(self) -> None:
        jax = self.jax = peers.require("jax")
        jnp, L = jax.numpy, self.L
        loss = peers.jax_loss(jax, len(self.hidden) + 1)

        def step(W: Any, M: Any, V: Any, t: Any, key: Any, X: Any) -> Any:
            key, used = jax.random.split(key)
            value, G = jax.value_and_grad(loss)(W, X, jax.random.normal(used, (X.shape[0], L)))
            t = t + 1
            M = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, M, G)
            V = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, V, G)
            c1, c2 = 1 - 0.9**t, 1 - 0.999**t
            W = jax.tree.map(lambda w, m, v: w - LR * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), W, M, V)
            return (W, M, V, t, key), value

        W = {name: jnp.asarray(value) for name, value in self.parameters.items()}
        zeros = jax.tree.map(jnp.zeros_like, W)
        self.gradient = jax.jit(jax.value_and_grad(loss))
        self.step = jax.jit(step, donate_argnums=(0, 1, 2, 3, 4))
        self.state: Any = (W, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros(()), jax.random.key(0))
        self.batches = [jnp.asarray(b, jnp.float32) for b in self.batches]
        self.last: Any = ()

    def facts(self) -> dict[str, Any]:
        return {"jax": self.jax.__version__}

    def results(self) -> dict[str, Any]:
        loss, gradient = self.gradient(self.state[0], self.batches[0], self.eps)
        return {"loss": float(loss), **gradient}

    def run(self) -> None:
        before = self.last
        self.state, self.last = self.step(*self.state, self.next())
        self.jax.block_until_ready(before)

    def finish(self) -> None:
        self.jax.block_until_ready(self.state)


CONTENDERS: dict[str, type[Any]] = {
    "minivae": Ours,
    "minivae-mkl": OursMkl,
    "torch": Torch,
    "torch-default": TorchDefault,
    "torch.compile": TorchCompile,
    "jax": Jax,
    "floor": floors.Step,
    "floor-mkl": floors.StepMkl,
}
