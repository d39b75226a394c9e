"""one_hot: matrix products with a batch of which some columns are one-hot, without their zeros.

A `OneHot` batch stands where a dense one does: `X.gemm(out, X, M)` and `X.gemm(out, X.T, M)` are the two products that
a layer makes of it. Its dense columns go through the backend's product; for the others rows of M are added up, one for
each 1, in the order of the features (`kernels/_sparse.py`): the same bits for any number of threads.

Shapes: B rows, W columns, of which n are dense; J features that are one-hot; M (W, H) or (B, H).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels import _one_hot, _sparse
from .sparse import gemm

# The fewest classes of features whose ones are listed. One thread, batches of 128, OpenBLAS, AVX-512 Xeon, a step of 20
# real columns, 10 counts and some categories, by the dense product / by the ones (`scripts/one_hot_step.py`): ten of 8
# classes: 1.01, ten of 16: 1.07, ten of 32: 1.12, one of 300: 1.11, one of 1,000: 1.20.
LEAST_CLASSES = 16


class Layout:
    """What the columns of a batch (B, W) are.

    blocks   (first, K, features) of features of K classes: feature j of a block is 1 in column first + k n + j where it
             is the class k; `features` (n,) says where they stand in X
    """

    def __init__(self, blocks: Sequence[tuple[int, int, np.ndarray]], width: int):
        held = [(x, first + j, len(features), K) for first, K, features in blocks for j, x in enumerate(features)]
        self.features, self.first, self.step, self.classes = np.array(held, np.int32).T.copy()
        dense = np.ones(width, bool)
        for first, K, features in blocks:
            dense[first : first + K * len(features)] = False
        self.width, found = width, np.flatnonzero(dense)
        run = len(found) > 0 and found[-1] - found[0] < len(found)
        self.dense: Any = slice(found[0], found[-1] + 1) if run else found


class OneHot:
    """Rows (B, W): dense columns (B, n), and one-hot ones of features of X (B, D), as the layout says.

    product   the dense product;  take: gives scratch by name, shape and dtype, `Workspace.take`
    """

    def __init__(self, layout: Layout, dense: np.ndarray, X: np.ndarray, product: Callable, take: Callable):
        B, n = len(X), len(X) * len(layout.features)
        self.layout, self.dense, self.product, self.take = layout, dense, product, take
        self.shape, self.dtype = (B, layout.width), dense.dtype
        self.by_rows = take("one_hot.at", (n,), np.int32), take("one_hot.ends", (2, 1, B), np.int64)
        ends = take("one_hot.column_ends", (2, 1, layout.width), np.int64)
        self.by_columns = take("one_hot.rows", (n,), np.int32), ends
        _one_hot.list_ones(
            *self.by_rows, *self.by_columns, X, layout.features, layout.first, layout.step, layout.classes
        )
        self.gemm: Callable[[Any, Any, Any], None] = gemm

    @property
    def T(self) -> Transposed:
        return Transposed(self)

    @property
    def size(self) -> int:
        """How many of its numbers are multiplied or added."""
        return self.dense.size + int(self.by_rows[1][1, 0, -1])

    @property
    def nbytes(self) -> int:
        return self.dense.nbytes + self.by_rows[0].nbytes

    def times(self, out: np.ndarray, M: np.ndarray) -> None:
        """out (B, H) ← X M."""
        _sparse.times(out, None, *self.by_rows, M)
        if self.dense.size:
            part = self.take("one_hot.product", out.shape)
            self.product(part, self.dense, M[self.layout.dense])
            out += part

    def toarray(self) -> np.ndarray:
        """The same, dense, in an array of its own."""
        X, (at, ends) = np.zeros(self.shape, self.dtype), self.by_rows
        X[:, self.layout.dense] = self.dense
        for row, first, last in zip(X, *ends[:, 0], strict=True):
            row[at[first:last]] = 1
        return X


class Transposed:
    """Xᵀ (W, B) of a `OneHot` batch X."""

    def __init__(self, X: OneHot):
        self.X, self.shape, self.dtype, self.size, self.nbytes = X, X.shape[::-1], X.dtype, X.size, X.nbytes

    def times(self, out: np.ndarray, M: np.ndarray) -> None:
        """out (W, H) ← Xᵀ M."""
        X = self.X
        _sparse.times(out, None, *X.by_columns, M)
        if X.dense.size and isinstance(X.layout.dense, slice):
            X.product(out[X.layout.dense], X.dense.T, M)
        elif X.dense.size:
            part = X.take("one_hot.T.product", (X.dense.shape[1], out.shape[1]))
            X.product(part, X.dense.T, M)
            out[X.layout.dense] = part
