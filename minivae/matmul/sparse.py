"""sparse: matrix products with a batch of few non-zeros, and whether they pay.

A `Sparse` batch stands where a dense one does: `X.gemm(out, X, M)` and `X.gemm(out, X.T, M)` are the two products that
a layer makes of it (`kernels/_sparse.py`). Each is the sum over the non-zeros in their order, by plain multiplications
and additions: the same bits for any number of threads, on any machine.

Shapes: B rows, D columns, n non-zeros, M (D, H) or (B, H).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ..kernels import _sparse


class Sparse:
    """X (B, D) by its non-zeros, row by row.

    values    (n,), or None where all are 1
    columns   (n,) int32, ascending in each row
    starts    (B + 1,) int64: row i has the non-zeros starts_i … starts_{i+1} − 1
    take      gives scratch by name, shape and dtype: `Workspace.take`
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, values: Any, columns: Any, starts: Any, take: Callable):
        self.shape, self.dtype, self.take = shape, np.dtype(dtype), take
        self.values, self.columns, self.starts = values, columns, starts
        self.gemm: Callable[[Any, Any, Any], None] = gemm

    @classmethod
    def of(cls, X: np.ndarray, take: Callable, binary: bool) -> Sparse:
        """The batch of a dense X (B, D); binary: all its values are 0 or 1. What it holds is scratch."""
        starts = take("sparse.starts", (X.shape[0] + 1,), np.int64)
        _sparse.count(starts, X)
        columns = take("sparse.columns", (int(starts[-1]),), np.int32)
        values = None if binary else take("sparse.values", columns.shape, X.dtype)
        _sparse.fill(values, columns, starts, X)
        return cls(X.shape, X.dtype, values, columns, starts, take)

    @classmethod
    def of_rows(
        cls, shape: tuple[int, int], dtype: Any, stored: tuple[Any, Any, Any], rows: Any, take: Callable
    ) -> Sparse:
        """The batch of some rows (B,) of a larger matrix, whose values, columns and starts are `stored`."""
        data, indices, pointers = stored
        starts = take("sparse.starts", (len(rows) + 1,), np.int64)
        starts[0] = 0
        np.cumsum(pointers[rows + 1] - pointers[rows], out=starts[1:])
        columns = take("sparse.columns", (int(starts[-1]),), np.int32)
        values = None if data is None else take("sparse.values", columns.shape, dtype)
        _sparse.gather(values, columns, starts, data, indices, pointers, rows)
        return cls(shape, dtype, values, columns, starts, take)

    @cached_property
    def T(self) -> Columns:
        """Its transpose."""
        return Columns(self)

    @property
    def size(self) -> int:
        """The number of its non-zeros."""
        return self.columns.size

    @property
    def nbytes(self) -> int:
        """What its arrays hold, in bytes."""
        return _bytes(self.values, self.columns, self.starts)

    def times(self, out: np.ndarray, M: np.ndarray) -> None:
        """out (B, H) ← X M."""
        _sparse.times(out, self.values, self.columns, self.starts, M)

    def toarray(self) -> np.ndarray:
        """The same, dense, in an array of its own."""
        X = np.zeros(self.shape, self.dtype)
        row = np.repeat(np.arange(self.shape[0]), np.diff(self.starts))
        X[row, self.columns] = 1 if self.values is None else self.values
        return X


class Columns:
    """Xᵀ (D, B) of a `Sparse` batch X: its non-zeros sorted by columns, in scratch."""

    def __init__(self, X: Sparse):
        self.shape, self.dtype, self.size = X.shape[::-1], X.dtype, X.size
        take, n = X.take, (X.size,)
        self.starts = take("sparse.T.starts", _sparse.blocks(*X.shape), np.int64)
        self.rows = take("sparse.T.rows", n, np.int32)
        self.values = None if X.values is None else take("sparse.T.values", n, X.dtype)
        _sparse.transpose(self.values, self.rows, self.starts, X.values, X.columns, X.starts)

    @property
    def nbytes(self) -> int:
        """What its arrays hold, in bytes."""
        return _bytes(self.values, self.rows, self.starts)

    def times(self, out: np.ndarray, M: np.ndarray) -> None:
        """out (D, H) ← Xᵀ M."""
        _sparse.transposed_times(out, self.values, self.rows, self.starts, M)


def _bytes(*arrays: Any) -> int:
    return sum(array.nbytes for array in arrays if array is not None)


def gemm(out: np.ndarray, A: Sparse | Columns, M: np.ndarray) -> None:
    """out ← A M: the dense product's signature."""
    A.times(out, M)


def pays(density: float, D: int, H: int, dense: bool) -> bool:
    """Whether a training step is quicker with its first layer D → H by the non-zeros.

    dense   whether the rows are an array, whose non-zeros have to be found
    """
    return density <= 0.1
