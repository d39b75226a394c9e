"""batches: rows of a data set on their way into the model. Gathered, scaled, binarised; batch by batch, so that data on
disk stays there.

Which noise binarises a row depends on the row, the stream and the pass alone (`noise.py`): 'static' is the same draw in
every epoch without a second copy of the data, and evaluation sees the same digits each time.

Shapes: N rows in all, b in a batch, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array
from ..conditions import Given, explained, row_numbers, row_weights
from ..datasets.rows import FileRows, check_still_there, chosen
from ..inputs import CHECK_ROWS, Batch, as_batch, filled, whole
from ..matmul.sparse import Sparse
from ..model import Model
from ..units import binarize_for, scale_for
from .values import Values, check_domain, look

if TYPE_CHECKING:
    from ..datasets.scale import Scale
    from ..distributed.world import World
    from ..sparse import Rows

STATIC_PASS = 0  # of the stream 'binarise'; epochs count from 1
EVALUATION_PASS = 1  # of the stream 'evaluation'; pass 0 is the posterior's ε
DEVICE_BYTES = 2**31  # larger data stay on the host and go to a device batch by batch
PLACES, ROWS_THERE = 3, 4  # both ends and the middle of the data, where ranks compare so many rows
SAME_ROWS = "give all the same rows in the same order, such as those of one seed or one file"
FEW = 0.25  # with a larger share of non-zeros nothing is gained by them


class Batches:
    """X (N, D) as batches for one model.

    rows      (N,) each row's number in its data set, which chooses its noise; None means 0 … N − 1
    scale     what maps the data's units to the model's; None: the model's own
    binarize  "none"; "threshold": 1 where x ≥ ½; "static": one Bernoulli draw for each row; "dynamic": one for each
              row and epoch; None: the model's own
    name      what errors call it
    weights   (N,) of the rows in the loss, whatever their mean, which is made 1; None: all alike
    ranks     each checks a share of the rows, and reads no others; None: this process checks all
    """

    def __init__(
        self,
        vae: Model,
        X: Any,
        rows: Any = None,
        scale: Scale | None = None,
        binarize: str | None = None,
        name: str = "X",
        weights: Any = None,
        ranks: World | None = None,
    ):
        self.name, self.ranks = name, ranks
        self.vae, self.backend, self.noise, self.workspace = vae, vae.backend, vae.noise, vae.workspace
        found = whole(vae, name, X, ranks)
        self.given = self._at_hand(found) if isinstance(found, Given) else None
        self.X = X = explained(found)
        self.rows = None if rows is None else self.backend.asarray(row_numbers("rows", rows, len(self)))
        self.binarize = vae.binarize if binarize is None else binarize_for(vae, binarize)
        self.weights = None if weights is None else self._of_mean_1(weights)
        self.scale = vae.scale if scale is None else scale_for(vae, scale)
        self.sparse = self._sparse_rows() if hasattr(X, "tocsr") else None
        if self.sparse is None and self.scale is None and self._fits(X):
            self.X = self.backend.asarray(X)  # once, where there is a device
        if ranks is not None and ranks.size > 1:
            ranks.same(f"the digest of some rows of its {name}", self._sample(), SAME_ROWS)
        self._check(vae)
        self.by_nonzeros = self._by_nonzeros(vae)

    def _fits(self, X: Any) -> bool:
        """Whether these rows are an array that may go to the device whole; a mapped file's rows stay where they are."""
        read = type(X) is np.ndarray
        if isinstance(X, FileRows):
            read = self.backend.name != "numpy" and not isinstance(X.file, np.memmap)
        return read and X.nbytes <= DEVICE_BYTES

    def _sparse_rows(self) -> Rows:
        """Rows of scipy.sparse."""
        from ..sparse import Rows

        return Rows(self.backend, self.X, self.scale, self.ranks)

    def _at_hand(self, given: Given) -> Given:
        """Conditions and exposures of all rows, where the model computes and in its dtype."""
        sides = (given.condition, given.log_exposure)
        return Given(given.X, *(None if x is None else self.backend.asarray(x, self.backend.dtype) for x in sides))

    def _of_mean_1(self, weights: Any) -> Array:
        given = np.asarray(self.backend.to_host(row_weights("weights", weights, len(self))), np.float64)
        return self.backend.asarray((given / given.mean()).astype(self.backend.dtype))

    def __len__(self) -> int:
        return self.X.shape[0]

    @property
    def on_device(self) -> bool:
        """Whether the rows are all where the model computes."""
        return self.backend.owns(self.X) or (self.sparse is not None and self.sparse.held is not None)

    def take(self, index: Array, stream: str, pass_: int) -> Batch:
        """The rows at `index` (b,) in the model's units, with their numbers and weights; all of it is scratch.

        stream   "binarise" in training, "evaluation" elsewhere; with pass_ it chooses a dynamic draw
        """
        rows = index if self.rows is None else self._numbers(index)
        pass_ = STATIC_PASS if stream == "binarise" and self.binarize == "static" else pass_
        X = None if self.sparse is None else self._stored(self.sparse, index, rows, stream, pass_)
        if X is None:
            X = self._dense(index, rows, stream, pass_)
            X = self._with_nonzeros(X, index) if self.by_nonzeros else X
        given = None if self.given is None else self._beside(self.given, index)
        found = as_batch(self.vae, X, given)
        found.rows, found.weights = rows, None if self.weights is None else self.weights[index]
        return found

    def _dense(self, index: Array, rows: Array, stream: str, pass_: int) -> Array:
        """The rows at `index` (b,), in the model's units and binarised: (b, D), scratch."""
        check_still_there(self.X)
        X = self.workspace.take("batch.X", (index.shape[0], self.X.shape[1]))
        if self.sparse is None and self.scale is None and not isinstance(self.X, FileRows):
            self.backend.gather(X, self.X, index)
        else:
            self._convert(X, index)
        if self.binarize == "threshold":
            X[...] = X >= 0.5
        elif self.binarize != "none":
            self.noise.binarize(X, stream, rows, pass_)
        return X

    def _convert(self, out: Array, index: Array) -> None:
        """out (b, D) ← the rows at `index` (b,) of a sparse matrix, of a file or with a scale, in model units."""
        if self.sparse is not None:
            self.sparse.take(out, index)
            return
        raw = self.backend.to_host(self.X[index if self.backend.owns(self.X) else self.backend.to_host(index)])
        self.backend.assign(out, raw if self.scale is None else self.scale.apply(raw, self.backend.dtype))

    def _stored(self, sparse: Rows, index: Array, rows: Array, stream: str, pass_: int) -> Any:
        """The rows at `index` by their stored non-zeros, for the likelihood too where it takes them; None: not held."""
        if sparse.held is None:
            return None
        training, drawn = stream == "binarise", self.binarize in ("static", "dynamic")
        if self.binarize == "none" and training and self.by_nonzeros and self.vae.likelihood.takes_nonzeros:
            found = sparse.listed(index, self.workspace)
            return Batch(found, found)
        if not (drawn and sparse.few and self.backend.sparse != "no"):
            return None
        X, found = sparse.drawn(index, self.noise, stream, rows, pass_, self.workspace)
        return Batch(X, found) if self.by_nonzeros else X

    def _numbers(self, index: Array) -> Array:
        """The numbers (b,) of the rows at `index` in their data set."""
        rows = self.workspace.take("batch.rows", index.shape, np.int64)
        self.backend.gather(rows, self.rows, index)
        return rows

    def _beside(self, given: Given, index: Array) -> Given:
        """Condition and exposure of the rows at `index`."""
        found = []
        for name, x in (("condition", given.condition), ("log_exposure", given.log_exposure)):
            if x is not None:
                whole = x.reshape(-1, 1) if x.ndim == 1 else x
                out = self.workspace.take(f"batch.{name}", (index.shape[0], whole.shape[1]))
                self.backend.gather(out, whole, index)
                x = out.reshape(-1) if x.ndim == 1 else out
            found.append(x)
        return Given(self.X, *found)

    def _with_nonzeros(self, X: Array, index: Array) -> Any:
        """X (b, D), the rows at `index`, and their non-zeros, which are what the encoder's first product takes."""
        if self.sparse is None:
            return Batch(X, Sparse.of(X, self.workspace.take))
        from ..sparse import with_nonzeros

        as_stored = self.sparse if self.binarize == "none" else None
        return with_nonzeros(X, self.workspace, as_stored, index)

    def in_order(self, size: int) -> Any:
        """(slice, batch, rows) over all rows, for evaluation: one binarisation, always the same."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, *self.at(rows)

    def at(self, rows: slice) -> tuple[Batch, Array]:
        """A block of rows, for evaluation → the batch, as `take`, and the rows' numbers (b,)."""
        batch = self.take(self.noise.rows(rows.start, rows.stop), "evaluation", EVALUATION_PASS)
        return batch, batch.rows

    def _by_nonzeros(self, vae: Model) -> bool:
        """Whether batches have their non-zeros beside them: a rule of these rows' density and the layer's shape."""
        if self.backend.sparse == "no" or (self.backend.sparse == "auto" and self.density > FEW):
            return False
        from ..sparse import by_nonzeros

        return by_nonzeros(vae, self.density, self.sparse is None)

    def arrays(self, start: int, stop: int) -> list[np.ndarray]:
        """All that some rows are, as they were given, on the host: one array, or the three of sparse rows."""
        rows = self.X[start:stop]
        if self.sparse is None:
            return [np.ascontiguousarray(self.backend.to_host(rows))]
        return [rows.data, rows.indices.astype(np.int64), rows.indptr.astype(np.int64)]

    def _sample(self) -> str:
        """Return a digest of rows at both ends and in the middle, as they were given, and of what lies beside them.

        It differs where ranks have drawn, shuffled or split the rows each in its own way.
        """
        digest = hashlib.sha256(f"{self.X.shape} {self.X.dtype}".encode())
        beside = [self.rows, self.weights]
        beside += [] if self.given is None else [self.given.condition, self.given.log_exposure]
        last = max(0, len(self) - ROWS_THERE)
        for start in sorted({k * last // (PLACES - 1) for k in range(PLACES)}):
            stop = min(start + ROWS_THERE, len(self))
            found = [self.backend.to_host(x[start:stop]) for x in beside if x is not None]
            for array in [*self.arrays(start, stop), *found]:
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first row, block of rows) over this rank's share, on the host, in the model's units."""
        for start in self._starts():
            if self.sparse is not None:
                yield from self.sparse.blocks(slice(start, min(start + CHECK_ROWS, len(self))))
                continue
            check_still_there(self.X)
            block = self.backend.to_host(self.X[start : start + CHECK_ROWS])
            yield start, block if self.scale is None else self.scale.apply(block, self.backend.dtype)

    def occurring(self) -> Iterator[Any]:
        """This rank's share of the values as they were given: all together, in blocks where one may be missing."""
        starts = self._starts()
        share = slice(starts[0], min(starts[-1] + CHECK_ROWS, len(self))) if starts else slice(0, 0)
        if self.sparse is not None:
            yield from self.sparse.occurring(share)
        elif self.vae.missing:
            yield from (filled(self.vae, self.X[start : start + CHECK_ROWS]) for start in starts)
        elif starts:
            yield chosen(self.X, share)

    def _starts(self) -> Sequence[int]:
        """The first rows of the blocks that this rank checks, which follow one another."""
        starts = range(0, len(self), CHECK_ROWS)
        return starts if self.ranks is None else self.ranks.mine(starts)

    def _check(self, vae: Model) -> None:
        """Look at the values once, and keep what is known of them (`values.py`)."""
        found = look(vae, self)
        check_domain(vae, self, found)
        self.range = (found.low, found.high)  # of the values, in the model's units
        size = len(self) * self.X.shape[1]
        self.density = sum(found.nonzeros) / size if found.nonzeros else 1.0  # the share of non-zeros in a batch
        self.constant = () if found.columns is None else found.columns.constant
        self.jacobian = 0.0 if self.scale is None else self._jacobian(self.scale, found)

    def _jacobian(self, scale: Scale, found: Values) -> float:
        """What scaling adds to −ln p(x) of a density, a mean over rows."""
        missing = 0 if found.columns is None else found.columns.missing
        total = ((len(self) - missing) / len(self) * np.log(scale.factor)).sum()
        return float(total) if self.vae.likelihood.is_density else 0.0
