"""rates: measure this machine's limits: bytes copied a second, and multiply-adds of a matrix product a second.

case: {"bytes": n, "size": n, "threads": …}. `copy` reads n/2 bytes and writes n/2, split over the threads; if n fits a
cache, this is that cache's rate. `gemm` multiplies two float32 matrices of size × size on NumPy's BLAS.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from . import problems
from .work import Arrays, Work

TOGETHER = 2**25  # bytes given to the threads at a time, so that starting them costs little


def prepare(case: dict[str, Any]) -> Arrays:
    return {}


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    return {}


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return CONTENDERS[case["name"]](case)


class Copy(Work):
    """Copies n/2 bytes: n/2 read, n/2 written."""

    def __init__(self, case: dict[str, Any]):
        threads, part = case["threads"], case["bytes"] // 2 // case["threads"]
        self.pool = ThreadPoolExecutor(threads)
        self.outs = [np.zeros(part, np.uint8) for _ in range(threads)]
        self.inputs = [np.ones(part, np.uint8) for _ in range(threads)]
        self.each = max(1, TOGETHER // case["bytes"])

    def facts(self) -> dict[str, Any]:
        return {"bytes": 2 * sum(out.nbytes for out in self.outs)}

    def run(self) -> None:
        list(self.pool.map(self._copy, self.outs, self.inputs))

    def _copy(self, out: np.ndarray, X: np.ndarray) -> None:
        for _ in range(self.each):
            np.copyto(out, X)


class Gemm(Work):
    """A square matrix product."""

    gemm = "numpy"

    def __init__(self, case: dict[str, Any]):
        self.backend = problems.backend(self.gemm)
        n = self.size = case["size"]
        self.arrays = [self.backend.zeros((n, n)) for _ in range(3)]

    def facts(self) -> dict[str, Any]:
        return {"flops": 2 * self.size**3, "blas": self.backend.provider.version}

    def run(self) -> None:
        self.backend.gemm(*self.arrays)


class GemmMkl(Gemm):
    gemm = "mkl"


CONTENDERS: dict[str, type[Any]] = {"copy": Copy, "gemm": Gemm, "gemm-mkl": GemmMkl}
