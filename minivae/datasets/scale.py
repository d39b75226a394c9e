"""scale: map each column of the data to a range that suits training, and back, with the log-Jacobian for densities.

Legend: N rows, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..console import html_facts
from ..errors import UsageError
from ..units import SCALES
from .rows import Array, FileRows, blocks, chosen, reduced, spans

if TYPE_CHECKING:
    from ..distributed.world import World


@dataclass(frozen=True, eq=False)
class Scale:
    """An affine map of each column, scaled = (x − shift) / factor, and its inverse.

    kind 'none' (shift 0, factor 1), 'minmax' (to [0, 1]), 'maxabs' (shift 0, to [−1, 1]: a 0 stays one) or 'standard'
    (mean 0, variance 1, the 1/N estimate);
    shift and factor (D,) float64, in the data's own units, factor > 0.
    """

    kind: str
    shift: Array
    factor: Array

    def __post_init__(self) -> None:
        checks.choice("scale", self.kind, SCALES)
        shift, factor = np.asarray(self.shift), np.asarray(self.factor)
        if shift.ndim != 1 or shift.shape != factor.shape or {shift.dtype.kind, factor.dtype.kind} - set("fiu"):
            raise UsageError(f"a scale: expected shift and factor (D,); got shapes {shift.shape} and {factor.shape}")
        sound = np.isfinite(shift) & np.isfinite(factor) & (factor > 0)
        if not sound.all():
            d = int(np.argmin(sound))
            found = f"{shift[d]:g} and {factor[d]:g} for column {d}"
            raise UsageError(f"a scale: expected shift and factor to be finite, and factor > 0; got {found}")

    def __repr__(self) -> str:
        return f"Scale({self.kind!r}, {len(self.shift)} columns)"

    def _repr_html_(self) -> str:
        some = range(min(len(self.shift), 10))
        facts = {f"column {d}": f"(x − {self.shift[d]:.6g}) / {self.factor[d]:.6g}" for d in some}
        more = len(self.shift) - len(some)
        return html_facts(f"Scale {self.kind}", {**facts, "…": f"{more} more columns" if more else None})

    @classmethod
    def fit(
        cls,
        kind: str,
        X: Array,
        weights: Array | None = None,
        missing: bool = False,
        columns: Sequence[str] | None = None,
        ranks: World | None = None,
    ) -> Scale:
        """Fit a scale to X (N, D), with float64 statistics computed in blocks of rows.

        X may be rows of scipy.sparse: never dense, and never scaled so that a 0 moves.
        weights   (N,) of the rows, ≥ 0: rows of weight 0 do not count; None: all alike
        missing   whether NaN is a missing cell, which its column's statistics leave out
        columns   (D,) of a table: "standard" of columns to scale, "magnitude" of those to divide by e^{mean ln x}, ""
                  of the others, which stay as they are; None: all are scaled
        ranks     each reads a share of the blocks of rows, and all get the same scale; None: this process reads all

        Constant columns get factor 1, so they become 0. UsageError for an unknown kind, values that are not finite, or
        columns that span more than float64 can hold.
        """
        checks.choice("scale", kind, SCALES)
        if X.ndim != 2 or 0 in X.shape:
            raise UsageError(f"a scale is fitted to an array (N, D) with N, D ≥ 1, not to one of shape {X.shape}")
        if kind == "none":
            return cls(kind, np.zeros(X.shape[1]), np.ones(X.shape[1]))
        if columns is not None:
            return cls._fit_table(kind, X, weights, missing, columns, ranks)
        sparse = hasattr(X, "tocsr")
        if sparse:
            from ..sparse import canonical_for

            X = canonical_for(ranks, "X", X, X.shape[1])
        if weights is not None and not (weights > 0).all():
            X, weights = chosen(X, np.flatnonzero(weights > 0)), weights[weights > 0]
        gaps = missing and X.dtype.kind == "f" and not sparse  # NaN is left out
        if sparse:
            low, high = _sparse_ends(X, ranks)
        else:
            low, high = reduced(X, lambda rows: _ends(X[rows], gaps), lambda a, b: _joined_ends(a, b, gaps), ranks)
            if gaps and np.isnan(low).any():
                column = int(np.argmax(np.isnan(low)))
                raise UsageError(f"column {column} cannot be scaled: all of its cells are missing; leave it out")
        low, high = low.astype(np.float64), high.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            span = high - low
        if not np.isfinite(span).all():
            column = int(np.argmin(np.isfinite(span)))
            raise UsageError(f"column {column} cannot be scaled: it is not finite, or spans more than float64 can hold")
        if kind == "maxabs":
            largest = np.maximum(np.abs(low), np.abs(high))
            return cls(kind, np.zeros(len(low)), np.where(largest > 0, largest, 1.0))
        if sparse and (kind == "standard" or low.any()):
            raise UsageError(
                f"the scale {kind!r} would move the zeros of sparse rows, and fill them: take 'maxabs', which keeps "
                "them, or 'none' (--scale maxabs)"
            )
        constant = span == 0  # min = max: with a rounded mean the deviations would be tiny but not 0
        span[constant] = 1.0
        if kind == "minmax":
            return cls(kind, low, span)

        # In units of the span nothing overflows or underflows; two passes, because E[x²] − E[x]² cancels.
        def summed(function: Callable[[Array], Any]) -> Array:
            """Σ over the observed cells of each column of their weights times function(block), (D,)."""

            def of(rows: slice) -> Array:
                block = X[rows]
                x = function(block) if weights is None else weights[rows, None] * function(block)
                return np.where(np.isnan(block), 0, x).sum(axis=0) if gaps else x.sum(axis=0)

            return reduced(X, of, add, ranks)

        total = summed(lambda block: np.ones(block.shape)) if gaps else len(X) if weights is None else weights.sum()
        mean = summed(lambda block: (block - low) / span) / total
        variance = summed(lambda block: ((block - low) / span - mean) ** 2) / total
        return cls(kind, low + mean * span, np.where(constant, 1.0, span * np.sqrt(variance)))

    @classmethod
    def _fit_table(
        cls,
        kind: str,
        X: Array,
        weights: Array | None,
        missing: bool,
        columns: Sequence[str],
        ranks: World | None,
    ) -> Scale:
        """`fit` of the columns that are to be scaled."""
        shift, factor = np.zeros(X.shape[1]), np.ones(X.shape[1])
        real = [d for d, column in enumerate(columns) if column == "standard"]
        if real:
            some = X.but(columns=real) if isinstance(X, FileRows) else np.asarray(X[:, real])
            one = cls.fit(kind, some, weights, missing, ranks=ranks)
            shift[real], factor[real] = one.shift, one.factor
        for d in (d for d, column in enumerate(columns) if column == "magnitude"):

            def logs(rows: slice, d: int = d) -> Array:
                """Σ w and Σ w ln x of the cells x > 0, (2,): others are refused later, or missing."""
                x, w = (
                    X[rows, d].astype(np.float64),
                    np.ones(rows.stop - rows.start) if weights is None else weights[rows],
                )
                return np.array([w[x > 0].sum(), (w[x > 0] * np.log(x[x > 0])).sum()])

            total, weighted = reduced(X, logs, add, ranks)
            if total > 0:
                factor[d] = np.exp(weighted / total)
        return cls(kind, shift, factor)

    def apply(self, X: Array, dtype: Any = np.float32) -> Array:
        """(X − shift) / factor for X (…, D), computed in float64 and rounded once to dtype; 'none' gives X itself
        where the dtype fits."""
        if self.kind == "none":
            return X.astype(dtype, copy=False)
        return self._map(X, dtype, lambda rows: (rows - self.shift) / self.factor)

    def undo(self, X: Array) -> Array:
        """X · factor + shift for X (…, D), in the data's own units: float64, which they may need; 'none' gives X."""
        return X if self.kind == "none" else self._map(X, np.float64, lambda rows: rows * self.factor + self.shift)

    def _map(self, X: Array, dtype: Any, function: Callable[[Array], Array]) -> Array:
        if X.ndim == 0 or X.shape[-1] != len(self.shift):
            raise UsageError(f"expected rows of {len(self.shift)} features to scale, but the shape is {X.shape}")
        rows = X.reshape(-1, X.shape[-1])
        out = np.empty(rows.shape, dtype)
        for block in blocks(rows):
            out[block] = function(rows[block])
        return out.reshape(X.shape)

    @property
    def log_jacobian(self) -> float:
        """Σ_d ln factor_d, in nats: add it to the nll of a *density* of scaled data to get nats in the data's units.

        p(x) = p_scaled((x − shift) / factor) / Π factor, so nll_data = nll_scaled + Σ ln factor. It holds for densities
        (Gaussian …) only, never for probabilities (Bernoulli); the caller knows which it has.
        """
        return float(np.log(self.factor).sum())

    def to_arrays(self) -> dict[str, Array]:
        """Return the arrays for a checkpoint: shift and factor, (D,) float64; `kind` is stored separately."""
        return {"shift": self.shift, "factor": self.factor}

    @classmethod
    def from_arrays(cls, kind: str, arrays: dict[str, Array]) -> Scale:
        """Make the scale of arrays from `to_arrays`; UsageError if they do not describe one."""
        try:
            return cls(kind, *(np.asarray(arrays.get(key, np.nan), dtype=np.float64) for key in ("shift", "factor")))
        except UsageError as error:
            raise UsageError(f"{error}; the file is damaged") from None


def _ends(block: Array, gaps: bool) -> tuple[Array, Array]:
    """The smallest and the largest value of each column; with gaps those of its cells that are not NaN, if any."""
    smaller, larger = (np.fmin, np.fmax) if gaps else (np.minimum, np.maximum)
    return smaller.reduce(block, axis=0), larger.reduce(block, axis=0)


def _sparse_ends(X: Any, ranks: World | None) -> tuple[Array, Array]:
    """The smallest and the largest value of each column of a CSR matrix, whose other values are 0, without a copy of
    it: ranks look at a share of its entries each."""
    D = X.shape[1]
    low, high, there = np.full(D, np.inf), np.full(D, -np.inf), np.zeros(D, np.int64)
    parts = spans(X.data)
    for entries in parts if ranks is None else ranks.mine(parts):
        columns, values = X.indices[entries], X.data[entries]
        np.minimum.at(low, columns, values)
        np.maximum.at(high, columns, values)
        there += np.bincount(columns, minlength=D)
    found = [(low, high, there)] if ranks is None else ranks.all((low, high, there))
    lows, highs, counts = (np.stack(each) for each in zip(*found, strict=True))
    low, high, full = lows.min(axis=0), highs.max(axis=0), counts.sum(axis=0) == X.shape[0]
    return np.where(full, low, np.minimum(low, 0)), np.where(full, high, np.maximum(high, 0))


def _joined_ends(a: tuple[Array, Array], b: tuple[Array, Array], gaps: bool) -> tuple[Array, Array]:
    """`_ends` of two blocks together; without gaps NaN stays."""
    smaller, larger = (np.fmin, np.fmax) if gaps else (np.minimum, np.maximum)
    return smaller(a[0], b[0]), larger(a[1], b[1])
