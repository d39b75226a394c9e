"""losses: a likelihood's loss and its gradient with respect to the decoder's raw outputs, as each library does it.

case: {"likelihood": "bernoulli" or "gaussian", "rows": R, "features": D, "threads": …}. The loss is the mean over rows
of −ln p(x|z), with all constants. `reference` is minivae's plain array code, the specification of its fused kernels;
`floor` copies as many bytes as one pass over memory moves, on all threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import problems
from .rates import Copy
from .work import Arrays, Work, contender

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
    """Compute the results with the reference kernels in float64."""
    return {name: np.asarray(value) for name, value in Float64(case, arrays).results().items()}


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return contender(CONTENDERS, case["name"])(case, arrays)


def nbytes(arrays: Arrays) -> int:
    """Return the bytes that a fused pass moves: outputs and data in, the gradient out."""
    return 2 * arrays["out"].nbytes + arrays["X"].nbytes


class Loss(Work):
    """One contender: `run` computes loss and gradient."""

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.case, self.likelihood = case, case["likelihood"]
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

        self.nll, self.written = backend.empty((len(self.X),)), self.op.destinations({})
        self.d_out, self.out, self.X = own(self.out, False), own(self.out, True), own(self.X, True)

    def results(self) -> dict[str, Any]:
        self.run()
        return {"loss": self.nll.mean(dtype=np.float64), "gradient": self.d_out}

    def run(self) -> None:
        self.op.nll_and_grad(self.nll, self.d_out, self.written, self.out, self.X, 1.0 / len(self.X))


class Reference(Ours):
    kernels = "reference"


class Float64(Reference):
    """The float64 reference that the others are checked against."""

    dtype = "float64"


class Floor(Copy):
    def __init__(self, case: dict[str, Any], arrays: Arrays):
        super().__init__({**case, "bytes": nbytes(arrays)})


CONTENDERS: dict[str, str | type[Work]] = {
    "minivae": Ours,
    "reference": Reference,
    "torch": "pytorch:Loss",
    "torch.compile": "pytorch:LossCompile",
    "jax": "jax:Loss",
    "floor": Floor,
}
