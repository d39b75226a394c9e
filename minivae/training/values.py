"""values: one look at all values of a data set, before it trains or is evaluated. Finite, and in the domain of what is
to explain them?

Shapes: N rows, D columns; values in the model's units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..errors import UsageError
from ..inputs import filled
from ..model import Model

if TYPE_CHECKING:
    from .batches import Batches

LEAST_PRODUCT = 1 << 16  # of the encoder's first layer: a smaller one gains nothing by non-zeros


@dataclass
class Values:
    """What the look has found.

    low, high, between   the smallest and the largest value; whether one lies between 0 and 1
    nonzeros             how many to expect in the batches of each block; none if not asked for
    columns              what is known of each column, where columns are looked at apart
    """

    low: float = math.inf
    high: float = -math.inf
    between: bool = False
    nonzeros: list[float] = field(default_factory=list)
    columns: Columns | None = None


class Columns:
    """The extent of each column, (D,) each, NaN where it is not wanted, and how many of its values are missing."""

    def __init__(self, vae: Model):
        self.vae, self.tabular, self.extent = vae, bool(vae.likelihood.scales), vae.likelihood.has_widths
        self.least, self.most = np.full((2, vae.features), np.nan)
        self.missing = np.zeros(vae.features)

    def look(self, block: np.ndarray) -> np.ndarray:
        """A block of rows → the same without missing values."""
        if self.extent:
            self.least = np.fmin(self.least, np.fmin.reduce(block, axis=0))
            self.most = np.fmax(self.most, np.fmax.reduce(block, axis=0))
        if self.tabular:  # each column has a domain of its own
            self.vae.likelihood.check(filled(self.vae, block))
        if self.vae.missing:
            self.missing += (block != block).sum(axis=0)
        return filled(self.vae, block)

    @property
    def constant(self) -> np.ndarray:
        """The numbers of the columns that are constant, whose width a density would make ever smaller."""
        return np.flatnonzero(self.least == self.most)


def look(vae: Model, batches: Batches) -> Values:
    """Look at the values of all rows, or at this rank's share; UsageError where one is not finite."""
    found, dense, scale = Values(), batches.sparse is None, batches.scale
    if dense and (vae.missing or vae.likelihood.has_widths or vae.likelihood.scales):
        found.columns = Columns(vae)
    wanted = vae.backend.sparse == "yes" or not dense or (vae.backend.sparse == "auto" and _wide(vae))
    found.nonzeros += [0.0] * wanted
    for start, block in batches.blocks():
        checks.finite(batches.name, block, start, vae.columns, missing=vae.missing)
        if found.columns is not None:
            block = found.columns.look(block)
        found.low, found.high = min(found.low, float(block.min())), max(found.high, float(block.max()))
        found.between = found.between or (scale is not None and bool(((block > 0) & (block < 1)).any()))
        if wanted:
            found.nonzeros.append(_expected(block, batches.binarize))
    if max(-found.low, found.high) > float(np.finfo(vae.backend.dtype).max):
        raise UsageError(
            f"{batches.name}: the values range from {found.low:g} to {found.high:g}, beyond what {vae.backend.dtype} "
            "holds: scale them (scale='maxabs', --scale maxabs), or compute in float64"
        )
    return found if batches.ranks is None else _joined(found, batches.ranks)


def _joined(own: Values, ranks: Any) -> Values:
    """What all ranks have found in their shares."""
    columns = own.columns
    mine = () if columns is None else (columns.least, columns.most, columns.missing)
    whole = ranks.all((own.low, own.high, own.between, own.nonzeros, mine))
    lows, highs, betweens, parts, held = zip(*whole, strict=True)
    if columns is not None:
        leasts, mosts, gaps = zip(*held, strict=True)
        columns.least, columns.most = np.fmin.reduce(leasts), np.fmax.reduce(mosts)
        columns.missing = np.sum(gaps, axis=0)
    return Values(min(lows), max(highs), any(betweens), [count for part in parts for count in part], columns)


def _expected(block: np.ndarray, binarize: str) -> float:
    """How many values of a block are not 0 once they are binarised, on average."""
    if binarize in ("static", "dynamic"):
        return float(block.sum(dtype=np.float64))
    return float(np.count_nonzero(block >= 0.5 if binarize == "threshold" else block))


def check_domain(vae: Model, batches: Batches, found: Values) -> None:
    """UsageError for values outside the domain of the binarisation or of the likelihood."""
    if batches.binarize == "none":
        _check_unbinarised(vae, batches, found)
        return
    if batches.binarize != "threshold" and not (found.low >= 0 and found.high <= 1):
        raise UsageError(
            f"binarize={batches.binarize!r} draws 0 or 1 with the value as its probability, and these range from "
            f"{found.low:g} to {found.high:g}{_advice(batches, 'scale them to [0, 1] (--scale minmax)')}"
        )
    if vae.likelihood.domain != "binary":
        vae.likelihood.check(np.array([[0.0], [1.0]]))


def _check_unbinarised(vae: Model, batches: Batches, found: Values) -> None:
    if vae.likelihood.scales and batches.sparse is None:
        return  # `Columns.look` has checked each column
    if batches.scale is None:
        for values in batches.occurring():
            vae.likelihood.check(values)
        return
    try:
        ends = [[found.low], [found.high]]
        vae.likelihood.check(np.array([*ends, [0.5]] if found.between else ends))
    except UsageError:
        raise UsageError(
            f"{batches.name}: likelihood {vae.likelihood.name!r} cannot explain all of the values, which range from "
            f"{found.low:g} to {found.high:g}{_advice(batches, '')}"
        ) from None


def _advice(batches: Batches, unscaled: str) -> str:
    if batches.scale is None:
        return f": {unscaled}"
    return (
        f" after the scaling {batches.scale.kind!r} that was fitted on the training rows: scale the file itself to "
        "[0, 1], or take likelihood 'gaussian'"
    )


def _wide(vae: Model) -> bool:
    """Whether the encoder's first layer is large enough for its product to be worth a look."""
    return vae.encoder.layers[0].n_in * vae.encoder.layers[0].n_out >= LEAST_PRODUCT
