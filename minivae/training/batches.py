"""batches: rows of a data set on their way into the model. Gathered, scaled, binarised; batch by batch, so that data on
disk stays there.

Which noise binarises a row depends on the row, the stream and the pass alone (`noise.py`): 'static' is the same draw in
every epoch without a second copy of the data, and evaluation sees the same digits each time.

Shapes: N rows in all, b in a batch, D features.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..backend import Array
from ..datasets.rows import check_still_there
from ..errors import UsageError
from ..model import Model

if TYPE_CHECKING:
    from ..datasets.scale import Scale

STATIC_PASS = 0  # of the stream 'binarise'; epochs count from 1
EVALUATION_PASS = 1  # of the stream 'evaluation'; pass 0 is the posterior's ε
DEVICE_BYTES = 2**31  # larger data stay on the host and go to a device batch by batch
CHECK_ROWS = 4096


class Batches:
    """X (N, D) as batches for one model.

    rows      (N,) each row's number in its data set, which chooses its noise; None means 0 … N − 1
    scale     what maps the data's units to the model's; None: the model's own
    binarize  "none"; "threshold": 1 where x ≥ ½; "static": one Bernoulli draw for each row; "dynamic": one for each
              row and epoch; None: the model's own
    name      what errors call it
    weights   (N,) of the rows in the loss, whatever their mean, which is made 1; None: all alike
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
    ):
        self.name = name
        checks.array(name, X, vae.features)
        if rows is not None:
            checks.row_numbers("rows", rows, X.shape[0])
        self.backend, self.noise, self.workspace = vae.backend, vae.noise, vae.workspace
        self.binarize = vae.binarize if binarize is None else vae.checked_binarize(binarize)
        self.X = X
        self.rows = None if rows is None else self.backend.asarray(rows)
        self.weights: Array | None = None
        if weights is not None:
            given = np.asarray(self.backend.to_host(checks.weights("weights", weights, X.shape[0])), np.float64)
            self.weights = self.backend.asarray((given / given.mean()).astype(self.backend.dtype))
        self.scale = vae.scale if scale is None else vae.checked_scale(scale)
        if self.scale is None and type(X) is np.ndarray and X.nbytes <= DEVICE_BYTES:
            self.X = self.backend.asarray(X)  # once, where there is a device
        self._check(vae)

    def __len__(self) -> int:
        return self.X.shape[0]

    def take(self, index: Array, stream: str, pass_: int) -> tuple[Array, Array]:
        """The rows at `index` (b,) → X (b, D) in the model's dtype, and the rows' numbers (b,); both are scratch.

        stream   "binarise" in training, "evaluation" elsewhere; with pass_ it chooses a dynamic draw
        """
        b = index.shape[0]
        check_still_there(self.X)
        X = self.workspace.take("batch.X", (b, self.X.shape[1]))
        if self.scale is None:
            self.backend.gather(X, self.X, index)
        else:
            raw = self.backend.to_host(self.X[index if self.backend.owns(self.X) else self.backend.to_host(index)])
            self.backend.assign(X, self.scale.apply(raw, self.backend.dtype))
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
        return X, rows

    def weigh(self, index: Array) -> Array | None:
        """The weights (b,) of the rows at `index`; None where all weigh alike."""
        return None if self.weights is None else self.weights[index]

    def in_order(self, size: int) -> Any:
        """(slice, X, rows) over all rows, for evaluation: one binarisation, always the same."""
        for start in range(0, len(self), size):
            rows = slice(start, min(start + size, len(self)))
            yield rows, *self.at(rows)

    def at(self, rows: slice) -> tuple[Array, Array]:
        """A block of rows, for evaluation → X (b, D) and the rows' numbers (b,), as `take`."""
        return self.take(self.noise.rows(rows.start, rows.stop), "evaluation", EVALUATION_PASS)

    def _check(self, vae: Model) -> None:
        """The values themselves: finite, and in the domain of the binarisation and of the likelihood."""
        low, high, between = math.inf, -math.inf, False
        observed = np.zeros(self.X.shape[1])
        for start in range(0, len(self), CHECK_ROWS):
            check_still_there(self.X)
            block = self.backend.to_host(self.X[start : start + CHECK_ROWS])
            if self.scale is not None:
                block = self.scale.apply(block, self.backend.dtype)
                between = between or bool(((block > 0) & (block < 1)).any())
            checks.finite(self.name, block, start, vae.columns, missing=vae.missing)
            if vae.missing:
                observed += (block == block).sum(axis=0)
                block = vae.filled(block)
            low, high = min(low, float(block.min())), max(high, float(block.max()))
        self.range = (low, high)  # of the values, in the model's units
        self.jacobian = 0.0  # that scaling adds to −ln p(x), a mean over rows
        if self.scale is not None and vae.likelihood.is_density:
            share = observed / len(self) if vae.missing else 1.0
            self.jacobian = float((share * np.log(self.scale.factor)).sum())
        if self.binarize in ("static", "dynamic") and not (low >= 0 and high <= 1):
            raise UsageError(
                f"binarize={self.binarize!r} draws 0 or 1 with the value as its probability, and these range from "
                f"{low:g} to {high:g}{self._advice('scale them to [0, 1] (--scale minmax)')}"
            )
        if self.binarize != "none":
            vae.likelihood.check(np.array([[0.0], [1.0]]))
        elif self.scale is None and vae.missing:
            for start in range(0, len(self), CHECK_ROWS):
                vae.likelihood.check(vae.filled(self.X[start : start + CHECK_ROWS]))
        elif self.scale is None:
            vae.likelihood.check(self.X)
        else:
            try:
                vae.likelihood.check(np.array([[low], [high], [0.5]] if between else [[low], [high]]))
            except UsageError:
                raise UsageError(
                    f"{self.name}: likelihood {vae.likelihood.name!r} cannot explain all of the values, which range "
                    f"from {low:g} to {high:g}{self._advice('')}"
                ) from None

    def _advice(self, unscaled: str) -> str:
        if self.scale is None:
            return f": {unscaled}"
        return (
            f" after the scaling {self.scale.kind!r} that was fitted on the training rows: scale the file itself to "
            "[0, 1], or take likelihood 'gaussian'"
        )
