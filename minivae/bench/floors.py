"""floors: lower bounds: only the matrix products of each benchmark, in order. An implementation on the same BLAS needs
at least that time. `floor` uses NumPy's BLAS, with minivae's threads or its own, whichever is faster; `floor-mkl` MKL.
"""

from __future__ import annotations

from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np

from . import problems
from .work import Arrays, Work

TRIES = 5  # of each way
TILE = 2048  # decoder rows of an evaluation at a time


class Floor(Work):
    """Matrix products (out, A, B), repeated `times` times."""

    gemm, times = "numpy", 1

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.backend = problems.backend(self.gemm)
        self.ways = [self.backend.gemm, *([_dot] if self.gemm == "numpy" else [])]
        self.rng = np.random.default_rng(0)
        self.products = self.list_products(case)

    def list_products(self, case: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
        raise NotImplementedError

    def filled(self, *shape: int) -> Any:
        """Make an array of small numbers."""
        out = self.backend.empty(shape)
        out[...] = 0.1 * self.rng.standard_normal(shape, np.float32)
        return out

    def facts(self) -> dict[str, Any]:
        return {"flops": self.times * sum(2 * out.size * A.shape[1] for out, A, _ in self.products)}

    def before_turn(self) -> None:
        for out, A, B in self.products:
            self.ways[0](out, A, B)

    def run(self) -> None:
        if len(self.ways) > 1:  # chosen in the warm-up, while no other contender runs
            self.ways = [min(self.ways, key=self.seconds)]
        for _ in range(self.times):
            self.before_turn()

    def seconds(self, way: Any) -> float:
        """Return the shortest time of TRIES runs of all products that way."""
        found = []
        for _ in range(TRIES):
            start = perf_counter()
            for out, A, B in self.products:
                way(out, A, B)
            found.append(perf_counter() - start)
        return min(found)


def _dot(out: Any, A: Any, B: Any) -> None:
    np.dot(A, B, out=out)


class Step(Floor):
    """A training step: forward Y = XW, layer by layer; backward dW = XᵀdY and dX = dY Wᵀ, last layer first."""

    def list_products(self, case: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
        (*wide, L), B = case["widths"], case["batch"]
        layers = [*pairwise([*wide, 2 * L]), *pairwise([L, *reversed(wide)])]
        forward: list[Any] = []
        backward: list[Any] = []
        for i, (n_in, n_out) in enumerate(layers):
            X, W, Y = self.filled(B, n_in), self.filled(n_in, n_out), self.filled(B, n_out)
            forward.append((Y, X, W))
            backward[:0] = [(self.filled(n_in, n_out), X.T, Y)] + ([(self.filled(B, n_in), Y, W.T)] if i else [])
        return forward + backward


class StepMkl(Step):
    gemm = "mkl"


class Evaluation(Floor):
    """Importance sampling: the decoder of all samples, TILE rows at a time."""

    def list_products(self, case: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
        self.times = -(-case["samples"] * case["rows"] // TILE)
        layers = pairwise(reversed(case["widths"]))
        return [(self.filled(TILE, n_out), self.filled(TILE, n_in), self.filled(n_in, n_out)) for n_in, n_out in layers]


class EvaluationMkl(Evaluation):
    gemm = "mkl"
