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

MOST_DENSE, LEAST_COLUMNS, LEAST_UNITS = 0.16, 512, 128  # where finding the non-zeros of an array pays: see `pays`
MOST_SPARSE = 0.18  # where the non-zeros are given


class Sparse:
    """X (B, D) by its non-zeros, row by row.

    values    (·,), or None where all are 1
    columns   (·,), ascending in each row: int32, or uint8 where they are counted from the first of their block
    bounds    (2, blocks, B) int64: row i has the places bounds[0, b, i] … bounds[1, b, i] − 1 in block b of columns;
              one block of them all, or as many as `_sparse.blocks` says
    take      gives scratch by name, shape and dtype: `Workspace.take`
    """

    def __init__(self, shape: tuple[int, int], dtype: Any, values: Any, columns: Any, bounds: Any, take: Callable):
        self.shape, self.dtype, self.take = shape, np.dtype(dtype), take
        self.values, self.columns, self.bounds = values, columns, bounds
        self.gemm: Callable[[Any, Any, Any], None] = gemm

    @classmethod
    def of(cls, X: np.ndarray, take: Callable) -> Sparse:
        """List the non-zeros of a dense X (B, D), in scratch."""
        n, bounds = (X.size,), take("sparse.blocks", _sparse.blocks(*X.shape), np.int64)
        found = cls(X.shape, X.dtype, None, take("sparse.columns", n, np.uint8), bounds, take)
        T = found.T = Columns(found, None, take("sparse.T.rows", n, np.uint8))
        if not _sparse.fill(found.columns, bounds, T.rows, T.bounds, X):
            found.values, T.values = take("sparse.values", n, X.dtype), take("sparse.T.values", n, X.dtype)
            _sparse.fill_values(found.values, found.columns, bounds, T.values, T.rows, T.bounds, X)
        return found

    @classmethod
    def of_rows(cls, shape: tuple[int, int], dtype: Any, stored: Any, rows: np.ndarray, take: Callable) -> Sparse:
        """Take some rows (B,) of a larger matrix, whose values, columns and starts are `stored`. Nothing is copied."""
        values, columns, starts = stored
        bounds = take("sparse.bounds", (2, 1, shape[0]), np.int64)
        bounds[0, 0], bounds[1, 0] = starts[rows], starts[rows + 1]
        return cls(shape, dtype, values, columns, bounds, take)

    @cached_property
    def T(self) -> Columns:
        """Xᵀ by its non-zeros; `of` has listed it already."""
        n = (self.size,)
        values = None if self.values is None else self.take("sparse.T.values", n, self.dtype)
        T = Columns(self, values, self.take("sparse.T.rows", n, np.uint8))
        counts = self.bounds[1, 0] - self.bounds[0, 0]
        _sparse.transpose(T.values, T.rows, T.bounds, self.values, self.columns, self.bounds, counts)
        return T

    @cached_property
    def size(self) -> int:
        """How many non-zeros it has."""
        return int((self.bounds[1] - self.bounds[0]).sum())

    @property
    def nbytes(self) -> int:
        """What its non-zeros take, in bytes."""
        return self.size * (self.columns.itemsize + (0 if self.values is None else self.dtype.itemsize))

    def times(self, out: np.ndarray, M: np.ndarray) -> None:
        """out (B, H) ← X M."""
        bounds, blocks = self.bounds, _sparse.blocks(*self.shape)
        if bounds.shape != blocks:
            bounds = self.take("sparse.blocks", blocks, np.int64)
            _sparse.split(bounds, self.columns, self.bounds, self.shape[1])
        _sparse.times(out, self.values, self.columns, bounds, M)

    def toarray(self) -> np.ndarray:
        """Return X dense, in a new array."""
        X = np.zeros(self.shape, self.dtype)
        blocks = self.bounds.swapaxes(0, 1)
        for block, bounds in enumerate(blocks):
            left = block * -(-self.shape[1] // len(blocks))
            for row, first, last in zip(X[:, left:], *bounds, strict=True):
                row[self.columns[first:last]] = 1 if self.values is None else self.values[first:last]
        return X


class Columns:
    """Xᵀ (D, B) of a `Sparse` batch X: its non-zeros sorted by columns, in scratch.

    values, rows   (·,), as X has values and columns; rows are counted from the first of their block
    bounds         (2, blocks, D) int64, as X has them, in blocks of rows
    """

    def __init__(self, X: Sparse, values: Any, rows: Any):
        self.X, self.shape, self.dtype = X, X.shape[::-1], X.dtype
        self.values, self.rows = values, rows
        self.bounds = X.take("sparse.T.bounds", _sparse.blocks(*self.shape), np.int64)

    @property
    def size(self) -> int:
        """How many non-zeros it has."""
        return self.X.size

    @property
    def nbytes(self) -> int:
        """What its non-zeros take, in bytes."""
        return self.X.nbytes

    def times(self, out: np.ndarray, M: np.ndarray) -> None:
        """out (D, H) ← Xᵀ M."""
        _sparse.times(out, self.values, self.rows, self.bounds, M)


def gemm(out: np.ndarray, A: Sparse | Columns, M: np.ndarray) -> None:
    """out ← A M: the dense product's signature."""
    A.times(out, M)


def pays(density: float, D: int, H: int, dense: bool) -> bool:
    """Whether a training step is quicker with its first layer D → H by the non-zeros: at least 5 %, as measured.

    dense   whether the rows are an array, whose non-zeros have to be found

    One thread, batches of 128, OpenBLAS, AVX-512 Xeon, step without / with, non-zeros found, CPU time in turns
    (`bench/bench_sparse.py` has the steps); 784-200-20 at 16 %: 1.05:

        784-500-20      8 %: 1.15    13 %: 1.10    18 %: 1.11    24 %: 1.09    30 %: 1.01
        784-200-20                   13 %: 1.11    18 %: 1.04    24 %: 1.02
        784-64-8        3 %: 1.11     8 %: 1.05    13 %: 1.06    18 %: 1.04
        5000-500-20                  13 %: 1.11    18 %: 1.06    24 %: 1.06
        20000-128-10                 13 %: 1.16    18 %: 1.09    24 %: 1.07
        784-500-20 at 18 % and 24 %, batches of 20: 1.07, 1.03; of 512: 1.08, 1.03
    """
    if dense:
        return density <= MOST_DENSE and D >= LEAST_COLUMNS and H >= LEAST_UNITS
    return density <= MOST_SPARSE
