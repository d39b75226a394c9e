"""counts: a training step on rows of many counts that are mostly 0, from CSR: minivae, and PyTorch in three ways.

All in float32 on the same model, Poisson or negative binomial likelihood, ReLU, one sample of z, Adam(1e-3). The rows
lie ready as CSR; making a batch of them is part of the step.

case: {"columns": D, "density": …, "hidden": H, "latent": L, "batch": B, "likelihood": …, "threads": …}.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import problems, steps
from .work import Arrays, Work, contender

BATCHES = 4


def prepare(case: dict[str, Any]) -> Arrays:
    """Make the rows' values, columns and starts, the parameters, and noise for the first batch."""
    D, B, rng = case["columns"], case["batch"], np.random.default_rng(0)
    X = rng.integers(1, 6, (BATCHES * B, D)) * (rng.random((BATCHES * B, D), np.float32) < case["density"])
    X = X.astype(np.float32)
    row, columns = np.nonzero(X)
    starts = np.searchsorted(row, np.arange(len(X) + 1))
    arrays = {"values": X[row, columns], "columns": columns.astype(np.int32), "starts": starts}
    arrays["eps"] = rng.standard_normal((B, case["latent"])).astype(np.float32)
    widths = [D, case["hidden"], case["latent"]]
    found = problems.away_from_kinks(problems.glorot(widths), X[:B], arrays["eps"])
    if case["likelihood"] == "negative-binomial":
        found["likelihood.logtheta"] = rng.uniform(-0.5, 0.5, D).astype(np.float32)
    return arrays | {f"parameter.{name}": value for name, value in found.items()}


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """Compute loss and gradients with the reference kernels in float64."""
    return {name: np.asarray(value) for name, value in Float64(case, arrays).results().items()}


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return contender(CONTENDERS, case["name"])(case, arrays)


class Counts(Work):
    """One contender: `run` is a training step, `results` its loss and gradients at the start."""

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        import scipy.sparse

        self.case, self.eps, self.parameters = case, arrays["eps"], problems.parameters(arrays)
        self.batch, shape = case["batch"], (BATCHES * case["batch"], case["columns"])
        self.X = scipy.sparse.csr_array((arrays["values"], arrays["columns"], arrays["starts"].astype(np.int32)), shape)
        self.at = 0
        self.build()

    def build(self) -> None:
        """Make the model."""
        raise NotImplementedError

    def next(self) -> int:
        """Return the number of the first row of the next batch."""
        self.at = (self.at + 1) % BATCHES
        return self.at * self.batch


class Ours(Counts):
    """minivae's training step, as `fit` makes it."""

    kernels, dtype, sparse = "fused", "float32", "auto"

    def build(self) -> None:
        import minivae as mv

        from ..training.batches import Batches

        case = self.case
        backend = problems.backend("numpy", kernels=self.kernels, dtype=self.dtype, sparse=self.sparse)
        model = (case["columns"], case["latent"], (case["hidden"],))
        self.vae = mv.VAE(*model, likelihood=case["likelihood"], backend=backend)
        for name, value in self.parameters.items():
            self.vae.parameters[name][...] = value
        self.batches, self.optimizer = Batches(self.vae, self.X), mv.Adam(steps.LR)

    def facts(self) -> dict[str, Any]:
        return {"backend": str(self.vae.backend), "by non-zeros": self.batches.by_nonzeros}

    def results(self) -> dict[str, Any]:
        terms = self.vae.objective_and_grad(self.X[: self.batch], eps=self.eps)
        return {"loss": terms.loss, **self.vae.gradients}

    def run(self) -> None:
        first = self.next()
        batch = self.batches.take(self.vae.noise.rows(first, first + self.batch), "binarise", 1)
        self.vae.step(batch, self.optimizer, 1.0, 0.0, None, 1)


class Dense(Ours):
    """The same, with dense products."""

    sparse = "no"


class Float64(Ours):
    """The float64 reference that the others are checked against."""

    kernels, dtype = "reference", "float64"


CONTENDERS: dict[str, str | type[Work]] = {
    "minivae": Ours,
    "minivae-dense": Dense,
    "torch": "sparse:Densified",
    "torch-csr": "sparse:Csr",
    "torch-bag": "sparse:Bag",
}
