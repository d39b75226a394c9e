"""losses: a likelihood's loss and its gradient with respect to the decoder's raw outputs, as each library does it.

case: {"likelihood": "bernoulli" or "gaussian", "rows": R, "features": D, "threads": …}. The loss is the mean over rows
of −ln q(x|z), every constant kept. `reference` is minivae's plain array code, the specification of its fused kernels;
`floor` copies as many bytes as one pass over memory moves, on all threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import peers, problems
from .rates import Copy
from .work import Arrays, Work

LOGVAR_MIN, LOGVAR_MAX = -10.0, 10.0  # minivae's clamp


def prepare(case: dict[str, Any]) -> Arrays:
    """Raw outputs `out` of order 1, and the data X."""
    rng = np.random.default_rng(0)
    R, D = case["rows"], case["features"]
    if case["likelihood"] == "bernoulli":
        return {
            "out": rng.standard_normal((R, D), np.float32),
            "X": (rng.random((R, D), np.float32) < 0.2).astype(np.float32),
        }
    return {"out": rng.standard_normal((R, 2 * D), np.float32), "X": rng.standard_normal((R, D), np.float32)}


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """By the reference kernels in float64."""
    return {name: np.asarray(value) for name, value in Float64(case, arrays).results().items()}


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return CONTENDERS[case["name"]](case, arrays)


def nbytes(arrays: Arrays) -> int:
    """What a fused pass moves: the outputs and the data in, the gradient out."""
    return 2 * arrays["out"].nbytes + arrays["X"].nbytes


class Loss(Work):
    """One contender: `run` computes loss and gradient."""

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.likelihood, self.threads = case["likelihood"], case["threads"]
        self.out: Any = arrays["out"]
        self.X: Any = arrays["X"]
        self.bytes = nbytes(arrays)
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        return {"bytes": self.bytes}


class Ours(Loss):
    """minivae's op."""

    kernels, dtype = "fused", "float32"

    def build(self) -> None:
        from .. import likelihoods

        backend = problems.backend(kernels=self.kernels, dtype=self.dtype)
        self.op = likelihoods.make(self.likelihood, backend, self.X.shape[1])

        def own(like: np.ndarray, fill: bool) -> Any:
            array = backend.empty(like.shape)
            array[...] = like if fill else 0
            return array

        self.nll = backend.empty((len(self.X),))
        self.d_out, self.out, self.X = own(self.out, False), own(self.out, True), own(self.X, True)

    def results(self) -> dict[str, Any]:
        self.run()
        return {"loss": self.nll.mean(dtype=np.float64), "gradient": self.d_out}

    def run(self) -> None:
        self.op.nll_and_grad(self.nll, self.d_out, {}, self.out, self.X, 1.0 / len(self.X))


class Reference(Ours):
    kernels = "reference"


class Float64(Reference):
    """The judge."""

    dtype = "float64"


class Torch(Loss):
    """PyTorch, eager: the loss of torch.nn.functional where there is one, and autograd."""

    def build(self) -> None:
        self.torch = peers.torch_on(self.threads, flush=True)
        self.out, self.X = self.torch.tensor(self.out, requires_grad=True), self.torch.tensor(self.X)
        self.loss = self.choose()

    def choose(self) -> Any:
        return {"bernoulli": self._bernoulli, "gaussian": self._gaussian}[self.likelihood]

    def _bernoulli(self, out: Any, X: Any) -> Any:
        nll = self.torch.nn.functional.binary_cross_entropy_with_logits(out, X, reduction="sum")
        return nll / X.shape[0]

    def _gaussian(self, out: Any, X: Any) -> Any:
        mean, logvar = out.chunk(2, dim=1)
        logvar = logvar.clamp(LOGVAR_MIN, LOGVAR_MAX)
        nll = 0.5 * ((X - mean) ** 2 * self.torch.exp(-logvar) + logvar).sum()
        return nll / X.shape[0] + 0.5 * math.log(2 * math.pi) * X.shape[1]

    def results(self) -> dict[str, Any]:
        self.run()
        return {"loss": self.value.item(), "gradient": self.out.grad.numpy()}

    def run(self) -> None:
        self.out.grad = None
        self.value = self.loss(self.out, self.X)
        self.value.backward()


class TorchCompile(Torch):
    """The same function through torch.compile."""

    def choose(self) -> Any:
        return peers.compiled(self.torch, super().choose(), self.out, self.X)


class Jax(Loss):
    """jax.jit(jax.value_and_grad(loss))."""

    def build(self) -> None:
        jax = self.jax = peers.require("jax")
        jnp = jax.numpy
        self.out, self.X = jnp.asarray(self.out), jnp.asarray(self.X)

        def bernoulli(out: Any, X: Any) -> Any:
            return jnp.sum(jnp.maximum(out, 0) - out * X + jnp.log1p(jnp.exp(-jnp.abs(out)))) / X.shape[0]

        def gaussian(out: Any, X: Any) -> Any:
            mean, logvar = jnp.split(out, 2, axis=1)
            logvar = jnp.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)
            nll = 0.5 * jnp.sum((X - mean) ** 2 * jnp.exp(-logvar) + logvar)
            return nll / X.shape[0] + 0.5 * math.log(2 * math.pi) * X.shape[1]

        loss = {"bernoulli": bernoulli, "gaussian": gaussian}[self.likelihood]
        self.gradient = jax.jit(jax.value_and_grad(loss))

    def results(self) -> dict[str, Any]:
        value, gradient = self.gradient(self.out, self.X)
        return {"loss": float(value), "gradient": gradient}

    def run(self) -> None:
        self.jax.block_until_ready(self.gradient(self.out, self.X))


class Floor(Copy):
    def __init__(self, case: dict[str, Any], arrays: Arrays):
        super().__init__({**case, "bytes": nbytes(arrays)})


CONTENDERS: dict[str, type[Any]] = {
    "minivae": Ours,
    "reference": Reference,
    "torch": Torch,
    "torch.compile": TorchCompile,
    "jax": Jax,
    "floor": Floor,
}
