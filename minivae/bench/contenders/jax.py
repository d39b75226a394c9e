"""jax: the VAE in JAX, written as a JAX user writes fast code. Bernoulli, ReLU, float32.

The classes are contenders of the races in `steps.py` and `losses.py`. A case with "device": "cuda" runs on the GPU,
"tf32" says whether products may use TF32.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from ...errors import UsageError
from .. import losses, steps
from ..work import require


def jax_for(case: dict[str, Any]) -> Any:
    """Import JAX for the device of the case, without preallocating its memory, because contenders share a GPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    jax = require("jax")
    if case.get("device") == "cuda":
        if jax.default_backend() != "gpu":
            raise UsageError("jax sees no GPU")
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if case["tf32"] else "float32")
    return jax


def vae_loss(jax: Any, layers: int) -> Callable[..., Any]:
    """Make −ELBO, mean over rows, a function of (weights by name, X, eps)."""
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


class Step(steps.Step):
    """jax.jit: the complete step compiled, its arrays donated; one step runs while the next is dispatched."""

    def build(self) -> None:
        jax = self.jax = jax_for(self.case)
        jnp, L = jax.numpy, self.L
        loss = vae_loss(jax, len(self.hidden) + 1)

        def step(W: Any, M: Any, V: Any, t: Any, key: Any, X: Any) -> Any:
            key, used = jax.random.split(key)
            value, G = jax.value_and_grad(loss)(W, X, jax.random.normal(used, (X.shape[0], L)))
            t = t + 1
            M = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, M, G)
            V = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, V, G)
            c1, c2 = 1 - 0.9**t, 1 - 0.999**t
            W = jax.tree.map(lambda w, m, v: w - steps.LR * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), W, M, V)
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
        loss, gradient = self.gradient(self.state[0], self.batches[0][: len(self.eps)], self.eps)
        return {"loss": float(loss), **gradient}

    def run(self) -> None:
        before = self.last
        self.state, self.last = self.step(*self.state, self.next())
        self.jax.block_until_ready(before)

    def finish(self) -> None:
        self.jax.block_until_ready(self.state)


class Loss(losses.Loss):
    """jax.jit(jax.value_and_grad(loss))."""

    def build(self) -> None:
        jax = self.jax = jax_for(self.case)
        jnp = jax.numpy
        self.out, self.X = jnp.asarray(self.out), jnp.asarray(self.X)

        def bernoulli(out: Any, X: Any) -> Any:
            return jnp.sum(jnp.maximum(out, 0) - out * X + jnp.log1p(jnp.exp(-jnp.abs(out)))) / X.shape[0]

        def gaussian(out: Any, X: Any) -> Any:
            mean, logvar = jnp.split(out, 2, axis=1)
            logvar = jnp.clip(logvar, losses.LOGVAR_MIN, losses.LOGVAR_MAX)
            nll = 0.5 * jnp.sum((X - mean) ** 2 * jnp.exp(-logvar) + logvar)
            return nll / X.shape[0] + 0.5 * math.log(2 * math.pi) * X.shape[1]

        loss = {"bernoulli": bernoulli, "gaussian": gaussian}[self.likelihood]
        self.gradient = jax.jit(jax.value_and_grad(loss))

    def results(self) -> dict[str, Any]:
        value, gradient = self.gradient(self.out, self.X)
        return {"loss": float(value), "gradient": gradient}

    def run(self) -> None:
        self.jax.block_until_ready(self.gradient(self.out, self.X))
