"""evaluations: ln p(x) by importance sampling with K samples a row, and its standard error.

case: {"widths": [D, hidden …, L], "rows": N, "samples": K, "threads": …}. `floor` is the decoder's matrix products.

The check compares every row's estimate on the same noise (few samples) with that of float64. It also compares the mean
over rows of the timed estimate, with the contender's own noise, within the standard errors of both.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import floors, problems, work
from .work import Arrays, Work

GIVEN = 20  # samples a row on the same noise
REFERENCE = 200  # samples a row for the mean in float64
TRIED = 200  # samples a row when PyTorch's tiles are chosen
ERRORS = 5.0  # largest distance of two means, in standard errors
BENIGN = 0.1  # factor on Glorot's scale: the posterior is near the prior, so that K samples give a good standard error


def prepare(case: dict[str, Any]) -> Arrays:
    """Make a model whose last encoder weights are small, the rows, and noise `given` (GIVEN, N, L)."""
    widths, N = case["widths"], case["rows"]
    arrays = problems.model(widths, N, N)
    for name, value in problems.parameters(arrays).items():
        if name.endswith(f".{len(widths) - 2}.W"):
            arrays[f"parameter.{name}"] = BENIGN * value
    arrays["given"] = np.random.default_rng(4).standard_normal((GIVEN, N, widths[-1])).astype(np.float32)
    return arrays


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """Compute the results with the reference kernels in float64."""
    results = Float64({**case, "samples": REFERENCE}, arrays).results()
    return {name: np.asarray(value) for name, value in results.items()}


def disagreement(case: dict[str, Any], expected: Arrays, got: Arrays) -> str | None:
    """Compare the rows as `work.disagreement` does, the means within their standard errors."""
    why = work.disagreement(case, {"log_px": expected["log_px"]}, got)
    if why or "mean" not in got or "error" not in got:
        return why or "its mean and standard error are missing"
    apart = abs(got["mean"] - expected["mean"])
    allowed = ERRORS * math.hypot(got["error"], expected["error"])
    return None if apart <= allowed else f"the mean of ln p(x) is {apart:.2g} off, and {allowed:.2g} would be chance"


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return work.contender(CONTENDERS, case["name"])(case, arrays)


class Evaluation(Work):
    """One contender: `run` estimates ln p(x) of every row."""

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.case, self.widths, self.samples = case, case["widths"], case["samples"]
        self.parameters, self.given = problems.parameters(arrays), arrays["given"]
        self.X: Any = arrays["rows"].astype(np.float32)
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def log_likelihood(self, samples: int, eps: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Return (ln p(x), standard error), (N,) each."""
        raise NotImplementedError

    def results(self) -> dict[str, Any]:
        log_px, error = self.log_likelihood(self.samples)
        alone, _ = self.log_likelihood(len(self.given), self.given)
        return {"log_px": alone, "mean": log_px.mean(), "error": math.sqrt((error**2).sum()) / len(error)}

    def before_turn(self) -> None:
        self.log_likelihood(len(self.given), self.given)

    def run(self) -> None:
        self.log_likelihood(self.samples)


class Ours(Evaluation):
    """`vae.log_likelihood`."""

    gemm, kernels, dtype = "numpy", "fused", "float32"

    def build(self) -> None:
        import minivae as mv

        D, *hidden, L = self.widths
        backend = problems.backend(self.gemm, kernels=self.kernels, dtype=self.dtype)
        self.vae = mv.VAE(D, L, tuple(hidden), backend=backend)
        for name, value in self.parameters.items():
            self.vae.parameters[name][...] = value

    def facts(self) -> dict[str, Any]:
        return {"backend": str(self.vae.backend)}

    def log_likelihood(self, samples: int, eps: Any = None) -> tuple[np.ndarray, np.ndarray]:
        return self.vae.log_likelihood(self.X, samples, eps=eps)


class OursMkl(Ours):
    gemm = "mkl"


class Float64(Ours):
    """The float64 reference that the others are checked against."""

    kernels, dtype = "reference", "float64"


CONTENDERS: dict[str, str | type[Work]] = {
    "minivae": Ours,
    "minivae-mkl": OursMkl,
    "torch": "pytorch:Evaluation",
    "floor": floors.Evaluation,
    "floor-mkl": floors.EvaluationMkl,
}
