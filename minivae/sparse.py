"""sparse: rows of scipy.sparse on their way into a model, a batch at a time.

The encoder sees a batch by its non-zeros (`matmul/sparse.py`) where that is quicker; the likelihood explains the same
batch, dense. Nothing larger than a batch is ever dense.

Shapes: N rows, B of them in a batch, D columns, n non-zeros.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .backend import Array, Backend
from .buffers import Workspace
from .errors import UsageError, UsageWarning
from .inputs import CHECK_ROWS, Batch
from .kernels._draw import draw
from .matmul.sparse import Sparse, pays
from .noise import STREAMS, Noise

if TYPE_CHECKING:
    from .datasets.scale import Scale
    from .distributed.world import World
    from .model import Model

DEVICE_BYTES = 2**31  # larger rows stay on the host and go to a device batch by batch
BLOCK_VALUES = 1 << 22  # of rows that are looked at densely
# The share of non-zeros up to which noise for these alone is quicker: 14 ns for each, against 2 for every cell.
MOST_DRAWN = 0.1


def canonical(name: str, X: Any, features: int, first: int = 0, dtype: Any = None) -> Any:
    """X (N, D) of scipy.sparse, checked → as CSR: rows sorted, without duplicates and explicit zeros.

    It has X's arrays where they are so already. Duplicates are summed, with a UsageWarning, small integers as int64.
    UsageError for no rows, another width, numbers that are not real or not finite, and indices out of range.

    first   the number of X's first row, for messages
    dtype   what the values become; None: they stay as they are
    """
    checks.array(name, X, features, sparse=True)
    rows = _as_csr(name, X)
    _check_indices(name, rows)
    plain = type(rows)((rows.data, rows.indices, rows.indptr), shape=rows.shape)  # which has looked at nothing yet
    if not plain.has_canonical_format:
        small = plain.dtype.kind in "iu" and plain.dtype.itemsize < 8
        plain = plain.astype(np.int64) if small else plain.copy()
        plain.sum_duplicates()
    if plain.nnz < rows.nnz:
        message = f"{name}: {rows.nnz - plain.nnz:,} of {rows.nnz:,} entries name a cell that another one names: summed"
        warnings.warn(message, UsageWarning, stacklevel=3)
    if dtype is not None:
        with np.errstate(over="ignore"):  # it becomes infinite, and is found
            plain.data = plain.data.astype(dtype, copy=False)
    _check_finite(name, plain, first, dtype)
    if not plain.data.all():
        plain = plain.copy()
        plain.eliminate_zeros()
    return plain


def _as_csr(name: str, X: Any) -> Any:
    """Convert X of any format to CSR, and keep duplicates. UsageError for wrong indices, which SciPy would follow."""
    try:
        if X.format == "coo":
            X = type(X)((X.data, (X.row, X.col)), shape=X.shape)  # this looks at the indices
            X.has_canonical_format = True  # or duplicates are summed here, in their own dtype
        elif X.format in ("csc", "bsr"):
            X = type(X)((X.data, X.indices, X.indptr), shape=X.shape)
            X.check_format(full_check=True)
        return X.tocsr()
    except ValueError as error:
        raise UsageError(f"{name}: the {X.format} matrix is damaged: {error}") from None


def whole(vae: Model, name: str, X: Any, ranks: World | None = None) -> Any:
    """Check and convert rows X for a model. UsageError for a model of tables, which looks at each column."""
    if not vae.undecided and vae.likelihood.scales:
        raise UsageError(
            f"{name}: likelihood {vae.likelihood.name!r} is for tables, not for rows of scipy.sparse: give an array, "
            "such as its .toarray()"
        )
    return canonical_for(ranks, name, X, vae.features)


def canonical_for(ranks: World | None, name: str, X: Any, features: int) -> Any:
    """Return `canonical` rows of X on every rank.

    ranks   each looks at a share of the blocks of rows; where they are not canonical, one rank of each host makes them
            so, and shares what it has made. None: this process does all of it
    """
    if ranks is None:
        return canonical(name, X, features)
    if _everywhere(X, lambda start: _is_canonical(name, X, start), ranks):
        return checks.array(name, X, features, sparse=True)
    return ranks.once_a_host(lambda: canonical(name, X, features))


def _everywhere(X: Any, holds: Callable[[int], bool], ranks: World | None) -> bool:
    """Whether holds(first row) is true for all blocks of CHECK_ROWS rows; each rank looks at a share of them."""
    starts = range(0, X.shape[0], CHECK_ROWS)
    return all(map(holds, starts) if ranks is None else ranks.map(holds, starts))


def _entries(X: Any, start: int) -> slice:
    """Where a CSR matrix stores the CHECK_ROWS rows from `start` on."""
    return slice(X.indptr[start], X.indptr[min(start + CHECK_ROWS, X.shape[0])])


def _is_canonical(name: str, X: Any, start: int) -> bool:
    """Whether the CHECK_ROWS rows from `start` on are as `canonical` leaves them."""
    if X.format != "csr" or len(X.indptr) != X.shape[0] + 1 or X.indptr[0] or X.indptr[-1] != len(X.data):
        return False
    ends, entries = X.indptr[start : start + CHECK_ROWS + 1], _entries(X, start)
    try:
        rows = type(X)((X.data[entries], X.indices[entries], ends - ends[0]), shape=(len(ends) - 1, X.shape[1]))
        _check_indices(name, rows)
        _check_finite(name, rows, start)
    except (UsageError, ValueError):  # which `canonical` says better, for it sees all rows
        return False
    return bool(rows.has_canonical_format and rows.data.all())


def _check_indices(name: str, X: Any) -> None:
    """UsageError for index arrays that do not describe a matrix of X's shape: to follow them would leave memory."""
    n, (N, D), starts = len(X.indices), X.shape, np.asarray(X.indptr)
    if len(starts) != N + 1 or starts[0] != 0 or (np.diff(starts) < 0).any() or not starts[-1] == n == len(X.data):
        raise UsageError(f"{name}: its row pointers do not describe {N} rows of {n} entries: the matrix is damaged")
    if n and (X.indices.min() < 0 or X.indices.max() >= D):
        low, high = X.indices.min(), X.indices.max()
        raise UsageError(f"{name}: expected column indices from 0 to {D - 1}; they range from {low} to {high}")


def _check_finite(name: str, X: Any, first: int, dtype: Any = None) -> None:
    """UsageError for stored values that are not finite; dtype: what they were cast to, for the message."""
    if not len(X.data) or np.isfinite([X.data.min(), X.data.max()]).all():  # without an array of as many answers
        return
    if (bad := np.flatnonzero(~np.isfinite(X.data))).size:
        row = first + int(np.searchsorted(X.indptr, bad[0], "right")) - 1
        raise UsageError(
            f"{name}: {bad.size} of {X.data.size} stored values are NaN or infinite, the first in row {row}, column "
            f"{X.indices[bad[0]]}{f', as {dtype}' if dtype else ''}: leave such rows out, or fill them"
        )


class Rows:
    """N rows of a canonical CSR matrix, in the model's units, that batches are taken from.

    Where no scale moves them the stored values are the backend's, in its dtype, on the device where there is one.

    ranks   each looks at a share of the values; those of a host share what is of another dtype than X's. None: this
            process has its own
    """

    def __init__(self, backend: Backend, X: Any, scale: Scale | None, ranks: World | None = None):
        self.backend, self.X, self.scale = backend, X, scale
        self.ones = _everywhere(X, lambda start: bool((X.data[_entries(X, start)] == 1).all()), ranks)
        self.few = X.nnz <= MOST_DRAWN * math.prod(X.shape)
        self.held: tuple[Array, Array, Array] | None = None
        if scale is None and (backend.name == "numpy" or 16 * X.nnz < DEVICE_BYTES):
            self.held = self._arrays(X, ranks)

    def _arrays(self, X: Any, ranks: World | None = None) -> tuple[Array, Array, Array]:
        """Values, columns and starts as the backend's arrays."""
        given = ((X.data, self.backend.dtype), (X.indices, np.dtype(np.int32)), (X.indptr, np.dtype(np.int64)))

        def converted() -> list[np.ndarray | None]:
            """Those of another dtype, or with gaps between their elements; None in the place of the others."""
            fits = [x.dtype == dtype and x.flags.c_contiguous for x, dtype in given]
            with np.errstate(over="ignore"):  # who made the rows looks for infinities
                return [None if fit else x.astype(dtype, "C") for fit, (x, dtype) in zip(fits, given, strict=True)]

        found = converted() if ranks is None else ranks.once_a_host(converted)
        values, columns, starts = (
            self.backend.asarray(x if new is None else new) for (x, _), new in zip(given, found, strict=True)
        )
        return values, columns, starts

    def take(self, out: Array, index: Array) -> None:
        """out (B, D) ← the rows at `index` (B,), dense."""
        if self.held is not None:
            self.backend.ops.scatter(out, *self.held, index)
            return
        rows = self.X[self.backend.to_host(index)]
        if self.scale is not None:
            self.backend.assign(out, self.scale.apply(rows.toarray(), self.backend.dtype))
        else:
            arrays = self._arrays(rows)
            self.backend.ops.scatter(out, *arrays, self.backend.asarray(np.arange(rows.shape[0])))

    def listed(self, index: Array, workspace: Workspace, values: bool = True) -> Sparse:
        """The rows at `index` (B,) by their non-zeros, where these are held; values: also where all of them are 1."""
        assert self.held is not None
        given, *where = self.held
        stored = (given if values or not self.ones else None, *where)
        return Sparse.of_rows((len(index), self.X.shape[1]), given.dtype, stored, index, workspace.take)

    def drawn(
        self, index: Array, noise: Noise, stream: str, rows: Array, pass_: int, workspace: Workspace
    ) -> tuple[Array, Sparse]:
        """The rows at `index` (B,) binarised as `noise.binarize` does it: dense, and by their non-zeros."""
        assert self.held is not None
        values, columns, starts = self.held
        shape = len(index), self.X.shape[1]
        n = int((starts[index + 1] - starts[index]).sum())
        out, bounds = workspace.take("batch.X", shape), workspace.take("sparse.bounds", (2, 1, shape[0]), np.int64)
        ones = workspace.take("sparse.ones", (n,), np.int32)
        draw(out, ones, bounds, values, columns, starts, index, rows, STREAMS[stream], pass_, noise.seed)
        return out, Sparse(shape, values.dtype, None, ones, bounds, workspace.take)

    def occurring(self, rows: slice) -> Iterator[np.ndarray]:
        """The values that occur in some rows, as columns."""
        return occurring(self.X, rows)

    def blocks(self, rows: slice) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first row, block) over the values of some rows, for checks, in the model's units.

        Without a scale, the values that occur: of most of them it is not known in which row.
        """
        if self.scale is None:
            yield from ((rows.start, values) for values in occurring(self.X, rows))
            return
        size = max(1, BLOCK_VALUES // self.X.shape[1])
        for start in range(rows.start, rows.stop, size):
            block = self.X[start : min(start + size, rows.stop)]
            yield start, self.scale.apply(block.toarray(), self.backend.dtype)


def occurring(X: Any, rows: slice) -> Iterator[np.ndarray]:
    """The values that occur in some rows of a canonical CSR matrix, as columns: those stored, and a 0 for others."""
    first, last = X.indptr[rows.start], X.indptr[rows.stop]
    if last > first:
        yield X.data[first:last].reshape(-1, 1)
    if last - first < (rows.stop - rows.start) * X.shape[1]:
        yield np.zeros((1, 1), X.dtype)


def with_nonzeros(X: Array, workspace: Workspace, rows: Rows | None = None, index: Any = None) -> Batch:
    """A dense batch X (B, D), which the decoder explains, and its non-zeros, which the encoder sees.

    rows, index   what X was taken from, where that has the non-zeros as they are
    """
    if rows is not None and rows.held is not None:
        return Batch(X, rows.listed(index, workspace, values=False))
    return Batch(X, Sparse.of(X, workspace.take))


def rows_in(vae: Model, name: str, X: Any, first: int) -> Any:
    """Return the batch of rows X (B, D) of scipy.sparse: dense, with its non-zeros beside it where that pays."""
    X = canonical(name, X, vae.features, first, vae.backend.dtype if vae.scale is None else None)
    out, index = vae.workspace.take(name, X.shape), vae.backend.asarray(np.arange(X.shape[0]))
    rows = Rows(vae.backend, X, vae.scale)
    rows.take(out, index)
    binary = vae.binarize == "threshold"
    if binary:
        out[...] = out >= 0.5
    if not by_nonzeros(vae, X.nnz / math.prod(X.shape)):
        return out
    return with_nonzeros(out, vae.workspace, None if binary else rows, index)


def by_nonzeros(vae: Model, density: float, dense: bool = False) -> bool:
    """Whether the encoder's first layer takes batches of this density by their non-zeros.

    dense   whether the rows are an array, whose non-zeros have to be found
    """
    choice, first = vae.backend.sparse, vae.encoder.layers[0]
    if vae.inputs is not None or choice == "no":
        return False
    return choice == "yes" or pays(density, first.n_in, first.n_out, dense)
