"""inputs: what the encoder sees, where that is not the very array that the decoder explains.

    x_in = [ f(X) | 1 − mask | condition ]

f maps blocks of columns: as they are ("same"), ln x ("log"), ln(1 + x) of counts ("log1p"), K columns of 0 and 1 for a
class ("one-hot:K"), a class between −1 and 1 ("centred:K"). Where a cell is missing, f is 0 and the mask's column is 1.
A model whose encoder sees X itself has no `Inputs`.

Shapes: B rows, D features, W columns of x_in. X is in the model's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import Array, Backend
from .buffers import Workspace
from .errors import UsageError
from .matmul.one_hot import LEAST_CLASSES, Layout, OneHot

if TYPE_CHECKING:
    from .reader import Reader

NEEDS_CONDITION = "this model has a condition: give condition=, one for each row, as it was made with"
MOST_LEVELS = 10_000
ENCODINGS = ("same", "log", "log1p", "one-hot:K", "centred:K")


@dataclass(slots=True)
class Batch:
    """Rows as a pass takes them: X (B, D), which the decoder explains, and x_in (B, W), which the encoder sees.

    x_in           X itself, another array, or X by its non-zeros (`matmul/sparse.py`)
    mask           (B, D) uint8, 0 where a value of X is missing; None: all are there
    condition      (B, C), joined to what encoder and decoder take; None: the model has none
    log_exposure   (B,), added to the logarithms of the means of counts; None: 0
    rows           (B,) the rows' numbers in the data set, which choose their noise; None: 0 … B − 1
    weights        (B,) of the rows in the loss; None: 1
    """

    X: Array
    x_in: Any
    mask: Array | None = None
    condition: Array | None = None
    log_exposure: Array | None = None
    rows: Any = None
    weights: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """That of X."""
        return self.X.shape


class Given:
    """Rows with their condition (N, C), encoded, and ln of their exposure (N,), to be cut into blocks like an array."""

    def __init__(self, X: Any, condition: Any, log_exposure: Any):
        self.X, self.condition, self.log_exposure = X, condition, log_exposure
        self.shape, self.dtype = X.shape, X.dtype

    @classmethod
    def of(cls, model: Reader, X: Any, condition: Any, exposure: Any) -> Given:
        """Rows of a model with what is given of them, as `Reader.given` takes it."""
        if isinstance(X, Given) or not hasattr(X, "shape"):
            raise UsageError("condition and exposure: expected an array of rows beside them")
        if condition is not None and model.condition is None:
            raise UsageError("condition: this model was made without one; make it with mv.VAE(…, condition=C)")
        if exposure is not None and not model.likelihood.exposable:
            raise UsageError(f"exposure is for counts, and likelihood {model.likelihood.name!r} explains none")
        n = X.shape[0]
        encoded = None if condition is None or model.condition is None else model.condition.encode(condition, n)
        return cls(X, encoded, None if exposure is None else exposures(exposure, n))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Given:
        condition = None if self.condition is None else self.condition[index]
        return Given(self.X[index], condition, None if self.log_exposure is None else self.log_exposure[index])


def explained(X: Any) -> Any:
    """What the decoder explains of rows: X itself, or that of `Given` rows."""
    return getattr(X, "X", X)


class Condition:
    """What conditions p(x|z, c) and q(z|x, c): columns of labels, one of their levels each, or of numbers.

    columns   the levels of each column, or (mean, standard deviation) of numbers, which enter standardised
    names     of the columns, where they came with some: a dict or a DataFrame then gives them in any order
    """

    def __init__(self, columns: Sequence[Any], names: Sequence[str] | None = None):
        self.columns = tuple(columns)
        self.names = None if names is None or None in names else tuple(names)
        self.width = sum(len(c) if isinstance(c, list) else 1 for c in self.columns)

    @classmethod
    def of(cls, given: Any) -> Condition | None:
        """That of the rows `given`: (N,), (N, columns), a dict of name → (N,), a DataFrame; of a `config()`; or None.

        Text, integers and booleans are labels; floating-point numbers are covariates.
        """
        if given is None or isinstance(given, Condition):
            return given
        if isinstance(given, list) and given and all(isinstance(column, dict) for column in given):
            held = [c["levels"] if "levels" in c else (float(c["mean"]), float(c["std"])) for c in given]
            return cls(held, [c.get("name") for c in given])
        columns: list[Any] = []
        for values in _columns(given):
            if values.dtype.kind == "f":
                if not np.isfinite(values).all():
                    raise UsageError("condition: a covariate is NaN or infinite: fill it, or leave such rows out")
                columns.append((float(values.mean()), float(values.std()) or 1.0))
                continue
            levels = sorted(set(values.tolist()), key=lambda level: (str(type(level)), level))
            if len(levels) > MOST_LEVELS:
                raise UsageError(f"condition: {len(levels):,} different labels; expected at most {MOST_LEVELS:,}")
            columns.append(levels)
        return cls(columns, [str(name) for name in given] if _has_names(given) else None)

    def config(self) -> list[dict[str, Any]]:
        """As JSON knows it."""
        held = [{"levels": c} if isinstance(c, list) else {"mean": c[0], "std": c[1]} for c in self.columns]
        return held if self.names is None else [{"name": n, **c} for n, c in zip(self.names, held, strict=True)]

    def encode(self, given: Any, n: int) -> Array:
        """The condition of n rows, or one for all of them → (n, C) float32: 0 and 1 of labels, standardised numbers."""
        columns = _columns(given, len(self.columns), self.names)
        if len(columns) != len(self.columns) or any(len(values) not in (1, n) for values in columns):
            came = f"{len(columns)} columns of {len(columns[0]) if columns else 0}"
            raise UsageError(f"condition: expected {len(self.columns)} columns of 1 or {n} values; got {came}")
        out, start = np.zeros((n, self.width), np.float32), 0
        called = [""] * len(columns) if self.names is None else [f" {name!r}:" for name in self.names]
        for values, column, name in zip(columns, self.columns, called, strict=True):
            if isinstance(column, list):
                place = {level: k for k, level in enumerate(column)}
                for row, value in enumerate(values.tolist()):
                    if value not in place:
                        some = ", ".join(map(repr, column[:8])) + (", …" if len(column) > 8 else "")
                        raise UsageError(f"condition{name} {value!r} in row {row}: the model was made for {some}")
                numbers = np.array([place[value] for value in values.tolist()])
                out[np.arange(n), start + np.broadcast_to(numbers, n)] = 1
                start += len(column)
                continue
            if values.dtype.kind not in "biuf" or not np.isfinite(values.astype(np.float64)).all():
                raise UsageError(f"condition{name} expected finite numbers where the model was made for numbers")
            out[:, start] = (values - column[0]) / column[1]
            start += 1
        return out

    def joined(self, Z: Array, condition: Array | None, workspace: Workspace) -> Array:
        """[Z | condition] (S·B, L + C), which the decoder takes: Z (S·B, L), condition (B, C)."""
        if condition is None:
            raise UsageError(NEEDS_CONDITION)
        (b, C), L = condition.shape, Z.shape[1]
        out = workspace.take("joined", (Z.shape[0], L + C))
        out[:, :L] = Z
        out.reshape(-1, b, L + C)[:, :, L:] = condition
        return out

    def cut(self, d_joined: Array, workspace: Workspace) -> Array:
        """The gradient of `joined` (S·B, L + C) → that of Z (S·B, L)."""
        out = workspace.take("dZ", (d_joined.shape[0], d_joined.shape[1] - self.width))
        out[...] = d_joined[:, : out.shape[1]]
        return out


def _has_names(given: Any) -> bool:
    """Whether it is a dict or a DataFrame."""
    return isinstance(given, dict) or hasattr(given, "columns")


def _columns(given: Any, wanted: int | None = None, names: Sequence[str] | None = None) -> list[np.ndarray]:
    """The columns of labels or covariates: of an array, a dict, a DataFrame, a list, one value, one row of `wanted`."""
    if _has_names(given):
        held = {str(name): given[name] for name in given}
        if names is not None and {*held} != {*names}:
            raise UsageError(f"condition: expected the columns {', '.join(names)}; got {', '.join(held)}")
        return [_plain(np.asarray(held[name]).reshape(-1)) for name in names or held]
    array = np.asarray(given.get() if hasattr(given, "get") and hasattr(given, "shape") else given)
    if array.ndim == 1 and wanted is not None and wanted > 1:
        array = np.array([given], object) if len({type(x) for x in given}) > 1 else array[None]
    if array.ndim > 2:
        raise UsageError(f"condition: expected (rows,) or (rows, columns); got {array.shape}")
    return [_plain(values) for values in ([array.reshape(-1)] if array.ndim < 2 else array.T)]


def _plain(values: np.ndarray) -> np.ndarray:
    """Values (n,) of an array of objects as text or numbers; UsageError where one is missing."""
    if values.dtype.kind != "O":
        return values
    listed = values.tolist()
    gaps = [row for row, x in enumerate(listed) if x is None or type(x).__name__ in ("NAType", "NaTType") or x != x]
    if gaps:
        raise UsageError(f"condition: it is missing in row {gaps[0]}: fill it, or leave such rows out")
    return np.array(listed)


def exposures(given: Any, n: int) -> Array:
    """Exposures of n rows, or one for all, > 0 → their logarithms (n,) float64."""
    values = np.asarray(given)
    if (
        values.dtype.kind not in "iuf"
        or values.shape not in ((), (n,))
        or not (np.isfinite(values) & (values > 0)).all()
    ):
        raise UsageError(f"exposure: expected {n} finite numbers > 0, or one; got {values.dtype} {values.shape}")
    return np.broadcast_to(np.log(values.astype(np.float64)), (n,))


def row_weights(name: str, values: Any, n: int) -> Any:
    """Real weights (n,) of rows, finite and ≥ 0, at least one of them above 0; values are checked on the host only."""
    _of_rows(name, values, n, "biuf", f"an array ({n},) of numbers, one for each row")
    if isinstance(values, np.ndarray) and not (np.isfinite(values).all() and values.min() >= 0 and values.max() > 0):
        raise UsageError(f"{name}: expected finite numbers ≥ 0, at least one of them > 0")
    return values


def row_numbers(name: str, rows: Any, n: int) -> Any:
    """An integer array (n,) of row numbers, each below 2³²; values are checked only if they are on the host."""
    _of_rows(name, rows, n, "iu", f"an integer array ({n},), one number for each row")
    if isinstance(rows, np.ndarray) and n and (rows.min() < 0 or rows.max() >= 2**32):
        raise UsageError(f"{name}: expected numbers from 0 to 2³² − 1; they range from {rows.min()} to {rows.max()}")
    return rows


def _of_rows(name: str, values: Any, n: int, kinds: str, expected: str) -> None:
    """UsageError unless it is an array (n,) whose dtype is of one of these kinds."""
    shape, dtype = tuple(getattr(values, "shape", ())), getattr(values, "dtype", None)
    if shape != (n,) or getattr(dtype, "kind", " ") not in kinds:
        came = type(values).__name__ if dtype is None else f"{dtype} {shape}"
        raise UsageError(f"{name}: expected {expected}; got {came}")


@dataclass(frozen=True)
class Encoding:
    """One way in which columns enter the encoder: kind as in ENCODINGS, K classes (0: none), the columns it is for.

    columns   where they stand in X: numbers on the device, a slice, or Ellipsis for all of them
    n         how many they are
    """

    kind: str
    classes: int
    columns: Any
    n: int

    @classmethod
    def parse(cls, text: str, columns: Any, n: int) -> Encoding:
        """One of ENCODINGS, such as "one-hot:8", for these columns; UsageError for an unknown name."""
        kind, _, classes = text.partition(":")
        if text in ("same", "log", "log1p"):
            return cls(kind, 0, columns, n)
        if kind in ("one-hot", "centred") and classes.isdecimal() and 2 <= int(classes) <= 1 << 24:
            return cls(kind, int(classes), columns, n)
        raise UsageError(f"inputs={text!r}: expected 'auto' or one of {', '.join(ENCODINGS)}, K the number of classes")

    @property
    def width(self) -> int:
        """Columns of x_in."""
        return self.n * self.classes if self.kind == "one-hot" else self.n

    @property
    def by_places(self) -> bool:
        """Whether its ones are listed, where the backend multiplies by them (`matmul/one_hot.py`)."""
        return self.kind == "one-hot" and self.classes >= LEAST_CLASSES

    def write(self, out: Array, x: Array, xp: Any) -> None:
        """out (B, width) ← f(x), x (B, n)."""
        if self.kind == "one-hot":
            number = xp.arange(self.classes, dtype=x.dtype).reshape(-1, 1)
            out.reshape(x.shape[0], self.classes, -1)[...] = x[:, None] == number
        elif self.kind in ("log", "log1p"):
            getattr(xp, self.kind)(x, out=out)
        elif self.kind == "centred":
            half = 0.5 * (self.classes - 1)
            out[...] = (x - half) / half
        else:
            out[...] = x


class Inputs:
    """The map from X (B, D) to x_in (B, width) of one model; NaN in X is a missing cell, where `missing` allows it.

    condition   C, the width of what is joined; 0: nothing
    """

    def __init__(self, features: int, encodings: Sequence[Encoding], missing: bool = False, condition: int = 0):
        self.features, self.encodings, self.missing, self.condition = features, tuple(encodings), missing, condition
        self.width = sum(e.width for e in self.encodings) + missing * features + condition
        self._layout: tuple[int, Layout | None] | None = None

    def __call__(
        self, X: Array, backend: Backend, workspace: Workspace, condition: Any = None, log_exposure: Any = None
    ) -> Batch:
        """X (B, D) → the Batch; x_in is scratch."""
        if self.condition and condition is None:
            raise UsageError(NEEDS_CONDITION)
        written, layout = self._laid_out(backend)
        x_in, mask, start = workspace.take("x_in", (X.shape[0], written)), None, 0
        for encoding in self.encodings:
            if layout is None or not encoding.by_places:
                encoding.write(x_in[:, start : start + encoding.width], X[:, encoding.columns], backend.xp)
                start += encoding.width
        if self.missing:
            mask = workspace.take("mask", X.shape, np.uint8)
            mask[...] = X == X
            seen = x_in[:, :start]
            seen[...] = backend.xp.where(seen == seen, seen, 0)
            x_in[:, start : start + self.features] = 1 - mask
        if condition is not None:
            x_in[:, written - self.condition :] = condition
        if layout is not None:
            return Batch(X, OneHot(layout, x_in, X, backend.gemm, workspace.take), mask, condition, log_exposure)
        return Batch(X, x_in, mask, condition, log_exposure)

    def _laid_out(self, backend: Backend) -> tuple[int, Layout | None]:
        """How many columns of x_in are written, and the layout where the others are listed by their ones."""
        if backend.sparse == "no":
            return self.width, None
        if self._layout is None:
            start, found = 0, []
            for encoding in self.encodings:
                if encoding.by_places:
                    columns = np.arange(self.features)[encoding.columns]
                    found.append((start, encoding.classes, columns))
                start += encoding.width
            listed = sum(classes * len(columns) for _, classes, columns in found)
            self._layout = (self.width - listed, Layout(found, self.width)) if found else (self.width, None)
        return self._layout


def make(
    kind: str, features: int, missing: bool, suited: Sequence[tuple[str, Any, int]], condition: Condition | None = None
) -> Inputs | None:
    """The Inputs that `VAE(inputs=kind, missing=missing)` asks for; None where the encoder sees X itself.

    suited   what "auto" means: `Likelihood.encodings()`
    """
    given = suited if kind == "auto" else []
    encodings = [Encoding.parse(*e) for e in given or [("same" if kind == "auto" else kind, Ellipsis, features)]]
    width = condition.width if condition else 0
    plain = [e.kind for e in encodings] == ["same"] and not missing and not width
    return None if plain else Inputs(features, encodings, missing, width)
