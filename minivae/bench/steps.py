"""steps: a training step in minivae, PyTorch and JAX: ε, forward, backward, Adam, on the next batch of 0/1 rows.

All in float32 on the same model, Bernoulli likelihood, ReLU, one sample of z, Adam(1e-3) in the fastest form that each
library offers; data lie ready as 0/1 batches in the library's own arrays. `floor` is the step's matrix products alone.

case: {"widths": [D, hidden …, L], "batch": B, "threads": …}; optionally "rows", for fewer of them, and "samples", for
minivae only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import floors, problems
from .work import Arrays, Work, contender

LR = 1e-3


def prepare(case: dict[str, Any]) -> Arrays:
    return problems.model(case["widths"], case["batch"], case.get("rows"))


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """Compute loss and gradients with the reference kernels in float64."""
    return {name: np.asarray(value) for name, value in Float64(case, arrays).results().items()}


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return contender(CONTENDERS, case["name"])(case, arrays)


class Step(Work):
    """One contender: `run` is a training step, `results` its loss and gradients at the start."""

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.case, self.widths, self.batch = case, case["widths"], case["batch"]
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
        """Return the next batch."""
        self.at = (self.at + 1) % len(self.batches)
        return self.batches[self.at]


class Ours(Step):
    """minivae's training step."""

    gemm, kernels, dtype = "numpy", "fused", "float32"

    def build(self) -> None:
        import minivae as mv

        from ..matmul.sparse import pays

        density = float(self.batches[: max(1, 4096 // self.batch)].mean(dtype=np.float64))
        few = self.kernels == "fused" and pays(density, self.D, (*self.hidden, 2 * self.L)[0], True)
        sparse = "yes" if few else "no"  # as `fit` chooses
        backend = problems.backend(self.gemm, kernels=self.kernels, dtype=self.dtype, sparse=sparse)
        self.vae = mv.VAE(self.D, self.L, tuple(self.hidden), samples=self.samples, backend=backend)
        for name, value in self.parameters.items():
            self.vae.parameters[name][...] = value
        batches = backend.empty(self.batches.shape)
        batches[...] = self.batches
        self.batches = batches
        self.optimizer = mv.Adam(LR)

    def facts(self) -> dict[str, Any]:
        return {"backend": str(self.vae.backend), "by non-zeros": self.vae.backend.sparse == "yes"}

    def results(self) -> dict[str, Any]:
        terms = self.vae.objective_and_grad(self.batches[0], eps=self.eps)
        return {"loss": terms.loss, **self.vae.gradients}

    def run(self) -> None:
        self.vae.train_step(self.next(), self.optimizer)


class OursMkl(Ours):
    gemm = "mkl"


class Float64(Ours):
    """The float64 reference that the others are checked against."""

    kernels, dtype = "reference", "float64"

    def build(self) -> None:
        self.batches = self.batches[:1]
        super().build()


CONTENDERS: dict[str, str | type[Work]] = {
    "minivae": Ours,
    "minivae-mkl": OursMkl,
    "torch": "pytorch:Step",
    "torch-default": "pytorch:StepDefault",
    "torch.compile": "pytorch:StepCompile",
    "jax": "jax:Step",
    "floor": floors.Step,
    "floor-mkl": floors.StepMkl,
}
