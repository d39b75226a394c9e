"""batches: rows of a data set on their way into the model. Gathered, scaled, binarised; batch by batch, so that data on
disk stays there.

Which noise binarises a row depends on the row, the stream and the pass alone (`noise.py`): 'static' is the same draw in
every epoch without a second copy of the data, and evaluation sees the same digits each time.

Shapes: N rows in all, b in a batch, D features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..backend import Array
from ..datasets.rows import FileRows, check_still_there, chosen
from ..errors import UsageError
from ..inputs import Batch, Given
from ..model import Model

if TYPE_CHECKING:
    from ..datasets.scale import Scale
    from ..distributed.world import World
    from ..sparse import Rows

STATIC_PASS = 0  # of the stream 'binarise'; epochs count from 1
EVALUATION_PASS = 1  # of the stream 'evaluation'; pass 0 is the posterior's ε
DEVICE_BYTES = 2**31  # larger data stay on the host and go to a device batch by batch
CHECK_ROWS = 4096
FEW, LEAST_PRODUCT = 0.25, 1 << 16  # with a larger share of non-zeros, or a smaller first layer, nothing is gained


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
        X = vae.whole(name, X)
        if rows is not None:
            checks.row_numbers("rows", rows, X.shape[0])
        self.backend, self.noise, self.workspace = vae.backend, vae.noise, vae.workspace
        self.vae, self.given = vae, X if isinstance(X, Given) else None
        X = X.X if isinstance(X, Given) else X
        if self.given is not None:
            sides = (self.given.condition, self.given.log_exposure)
            self.given = Given(X, *(None if x is None else self.backend.asarray(x, vae.backend.dtype) for x in sides))
        self.binarize = vae.binarize if binarize is None else vae.checked_binarize(binarize)
        self.X = X
        self.rows = None if rows is None else self.backend.asarray(rows)
        self.weights: Array | None = None
        if weights is not None:
            given = np.asarray(self.backend.to_host(checks.weights("weights", weights, X.shape[0])), np.float64)
            self.weights = self.backend.asarray((given / given.mean()).astype(self.backend.dtype))
        self.scale = vae.scale if scale is None else vae.checked_scale(scale)
        self.sparse: Rows | None = None  # rows of scipy.sparse
        if hasattr(X, "tocsr"):
            from ..sparse import Rows

            self.sparse = Rows(self.backend, X, self.scale)
        elif self.scale is None and type(X) is np.ndarray and X.nbytes <= DEVICE_BYTES:
            self.X = self.backend.asarray(X)  # once, where there is a device
        self._check(vae)
        self.by_nonzeros = self._by_nonzeros(vae)

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
        b = index.shape[0]
        check_still_there(self.X)
        X = self.workspace.take("batch.X", (b, self.X.shape[1]))
        if self.sparse is not None:
            self.sparse.take(X, index)
        elif self.scale is None and not isinstance(self.X, FileRows):
            self.backend.gather(X, self.X, index)
        else:
            raw = self.backend.to_host(self.X[index if self.backend.owns(self.X) else self.backend.to_host(index)])
            self.backend.assign(X, raw if self.scale is None else self.scale.apply(raw, self.backend.dtype))
        rows = index
        if self.rows is not None:
            rows = self.workspace.take("batch.rows", (b,), np.int64)
            self.backend.gather(rows, self.rows, index)
        if self.binarize == "threshold":
            X[...] = X >= 0.5
        elif self.binarize != "none":
            if stream == "binarise":
                pass_ = pass_ if self.binarize == "dynamic" else STATIC_PASS
            self.noise.binarize(X, stream, rows, pass_)
        given = None if self.given is None else self._beside(self.given, index)
        batch = self.vae.batch(self._with_nonzeros(X, index) if self.by_nonzeros else X, given)
        batch.rows, batch.weights = rows, None if self.weights is None else self.weights[index]
        return batch

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
        from ..sparse import with_nonzeros

        as_stored = self.sparse if self.binarize == "none" else None
        return with_nonzeros(X, self.workspace, self.binary, as_stored, index)

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

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """(number of the first row, block of rows) over all rows, on the host, in the model's units."""
        for start in self._starts():
            check_still_there(self.X)
            block = self.backend.to_host(self.X[start : start + CHECK_ROWS])
            yield start, block if self.scale is None else self.scale.apply(block, self.backend.dtype)

    def _starts(self) -> Sequence[int]:
        """The first rows of the blocks that this rank checks, which follow one another."""
        starts = range(0, len(self), CHECK_ROWS)
        return starts if self.ranks is None or self.sparse is not None else self.ranks.mine(starts)

    def _check(self, vae: Model) -> None:
        """The values themselves: finite, and in the domain of the binarisation and of the likelihood."""
        low, high, between, sums = math.inf, -math.inf, False, [(0.0, 0.0)]
        look = self.backend.sparse == "yes" or self.sparse is not None or (self.backend.sparse == "auto" and _wide(vae))
        least, most = np.full((2, self.X.shape[1]), np.nan)
        missing = np.zeros(self.X.shape[1])  # values of each column
        for start, block in self._blocks() if self.sparse is None else self.sparse.blocks():
            checks.finite(self.name, block, start, vae.columns, missing=vae.missing)
            if vae.likelihood.has_widths and self.sparse is None:
                least = np.fmin(least, np.fmin.reduce(block, axis=0))
                most = np.fmax(most, np.fmax.reduce(block, axis=0))
            if vae.likelihood.scales and self.sparse is None:  # a table: each column has a domain of its own
                vae.likelihood.check(vae.filled(block))
            if vae.missing and self.sparse is None:
                missing += (block != block).sum(axis=0)
                block = vae.filled(block)
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            if self.scale is not None:
                between = between or bool(((block > 0) & (block < 1)).any())
            if look:
                sums.append((self._expected(block), float(block.sum(dtype=np.float64))))
        if self.ranks is not None and self.sparse is None:
            told = self.ranks.all((low, high, between, sums, least, most, missing))
            lows, highs, betweens, parts, leasts, mosts, gaps = zip(*told, strict=True)
            low, high, between, sums = min(lows), max(highs), any(betweens), [pair for part in parts for pair in part]
            least, most, missing = np.fmin.reduce(leasts), np.fmax.reduce(mosts), np.sum(gaps, axis=0)
        expected, total = (sum(column) for column in zip(*sums, strict=True))
        self.range = (low, high)  # of the values, in the model's units
        self.density = expected / (len(self) * self.X.shape[1]) if look else 1.0  # the share of non-zeros in a batch
        # whether batches hold 0 and 1 alone: in [0, 1], non-zeros that add up to their number are all 1
        self.binary = self.binarize != "none" or (look and low >= 0 and high <= 1 and total == expected)
        self.constant = np.flatnonzero(least == most)  # columns whose width a density would make ever smaller
        self.jacobian = 0.0  # that scaling adds to −ln p(x), a mean over rows
        if self.scale is not None and vae.likelihood.is_density:
            share = (len(self) - missing) / len(self) if vae.missing else 1.0
            self.jacobian = float((share * np.log(self.scale.factor)).sum())
        if self.binarize in ("static", "dynamic") and not (low >= 0 and high <= 1):
            raise UsageError(
                f"binarize={self.binarize!r} draws 0 or 1 with the value as its probability, and these range from "
                f"{low:g} to {high:g}{self._advice('scale them to [0, 1] (--scale minmax)')}"
            )
        if self.binarize != "none":
            vae.likelihood.check(np.array([[0.0], [1.0]]))
        elif vae.likelihood.scales and self.sparse is None:
            pass
        elif self.scale is None and vae.missing and self.sparse is None:
            for start in self._starts():
                vae.likelihood.check(vae.filled(self.X[start : start + CHECK_ROWS]))
        elif self.scale is None and self.sparse is not None:
            for values in self.sparse.occurring():
                vae.likelihood.check(values)
        elif self.scale is None:
            if starts := self._starts():
                vae.likelihood.check(chosen(self.X, slice(starts[0], starts[-1] + CHECK_ROWS)))
        else:
            try:
                vae.likelihood.check(np.array([[low], [high], [0.5]] if between else [[low], [high]]))
            except UsageError:
                raise UsageError(
                    f"{self.name}: likelihood {vae.likelihood.name!r} cannot explain all of the values, which range "
                    f"from {low:g} to {high:g}{self._advice('')}"
                ) from None

    def _expected(self, block: np.ndarray) -> float:
        """How many values of a block are not 0 once they are binarised, on average."""
        if self.binarize in ("static", "dynamic"):
            return float(block.sum(dtype=np.float64))
        return float(np.count_nonzero(block >= 0.5 if self.binarize == "threshold" else block))

    def _advice(self, unscaled: str) -> str:
        if self.scale is None:
            return f": {unscaled}"
        return (
            f" after the scaling {self.scale.kind!r} that was fitted on the training rows: scale the file itself to "
            "[0, 1], or take likelihood 'gaussian'"
        )


def _wide(vae: Model) -> bool:
    """Whether the encoder's first layer is large enough for its product to be worth a look."""
    return vae.encoder.layers[0].n_in * vae.encoder.layers[0].n_out >= LEAST_PRODUCT
