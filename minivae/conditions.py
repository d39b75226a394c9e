"""conditions: what is given of rows beside their values: a condition c of p(x|z, c) and q(z|x, c), an exposure, weights
in the loss, and numbers, which choose their noise.

Shapes: N rows, C columns of the condition as the model takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import Array
from .buffers import Workspace
from .errors import UsageError

if TYPE_CHECKING:
    from .model import Model

NEEDS_CONDITION = "this model has a condition: give condition=, one for each row, as it was made with"
MOST_LEVELS = 10_000


class Given:
    """Rows with their condition (N, C), encoded, and ln of their exposure (N,), to be cut into blocks like an array."""

    def __init__(self, X: Any, condition: Any, log_exposure: Any):
        self.X, self.condition, self.log_exposure = X, condition, log_exposure
        self.shape, self.dtype = X.shape, X.dtype

    @classmethod
    def of(cls, model: Model, X: Any, condition: Any, exposure: Any) -> Any:
        """Rows of a model with what is given of them, as `Model.given` takes it; X alone where that is nothing."""
        if model.schema is not None and model.schema.is_table(X):
            condition = model.schema.condition(X) if condition is None else condition
            X = model.schema.encode(X)
        if condition is None and exposure is None:
            return X
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

        Text, integers and booleans are labels; floating-point numbers are covariates. UsageError for what JSON does not
        know: a model with such labels could not be saved.
        """
        if given is None or isinstance(given, Condition):
            return given
        if isinstance(given, list) and given and all(isinstance(column, dict) for column in given):
            held = [c["levels"] if "levels" in c else (float(c["mean"]), float(c["std"])) for c in given]
            return cls(held, [c.get("name") for c in given])
        columns: list[Any] = []
        found = _columns(given)
        if not found or not all(map(len, found)):
            raise UsageError("condition: expected at least one column and one row; got none")
        for values in found:
            if values.dtype.kind == "f":
                columns.append(_moments(values))
                continue
            listed = values.tolist()
            if not {*map(type, listed)} <= {bool, int, str}:
                raise UsageError(
                    "condition: expected text, whole numbers or booleans as labels, or floating-point numbers; got "
                    f"dtype {values.dtype}: make text of them"
                )
            levels = sorted(set(listed), key=lambda level: (str(type(level)), level))
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
            if values.dtype.kind in "biuf":
                with np.errstate(over="ignore"):
                    out[:, start] = (values - column[0]) / column[1]
            if values.dtype.kind not in "biuf" or not np.isfinite(out[:, start]).all():
                raise UsageError(f"condition{name} expected finite numbers where the model was made for numbers")
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


def _moments(values: np.ndarray) -> tuple[float, float]:
    """(mean, standard deviation) of a covariate (n,), 1 in the place of a deviation of 0."""
    if not np.isfinite(values).all():
        raise UsageError("condition: a covariate is NaN or infinite: fill it, or leave such rows out")
    if values.min() == values.max():  # with a rounded mean the deviation would be tiny but not 0
        return float(values[0]), 1.0
    values = values.astype(np.float64) if values.itemsize < 4 else values
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(values.mean()), float(values.std())
    if not np.isfinite(std):
        raise UsageError(f"condition: a covariate spans more than {values.dtype} holds: rescale it")
    return mean, std or 1.0


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
    if isinstance(given, np.ma.MaskedArray):
        raise UsageError("condition: it is missing where an array is masked: fill it, or leave such rows out")
    array = np.asarray(given.get() if _on_device(given) else given)
    if array.ndim == 1 and wanted is not None and wanted > 1:
        array = np.array([given], object) if len({type(x) for x in given}) > 1 else array[None]
    if array.ndim > 2:
        raise UsageError(f"condition: expected (rows,) or (rows, columns); got {array.shape}")
    return [_plain(values) for values in ([array.reshape(-1)] if array.ndim < 2 else array.T)]


def _on_device(x: Any) -> bool:
    """Whether x is CuPy's array, whose `get()` copies it to the host; a Series of pandas has another `get`."""
    return hasattr(x, "get") and hasattr(x, "shape") and not hasattr(x, "iloc")


def _plain(values: np.ndarray) -> np.ndarray:
    """Values (n,) of an array of objects as text or numbers; UsageError where one is missing, or is neither."""
    if values.dtype.kind != "O":
        return values
    listed = values.tolist()
    for row, x in enumerate(listed):
        if x is None or type(x).__name__ in ("NAType", "NaTType") or (isinstance(x, float | np.floating) and x != x):
            raise UsageError(f"condition: it is missing in row {row}: fill it, or leave such rows out")
        if not isinstance(x, str | int | float | np.generic):
            raise UsageError(f"condition: expected text or numbers; row {row} holds {type(x).__name__}")
    return np.array(listed)


def exposures(given: Any, n: int) -> Array:
    """Exposures of n rows, or one for all, > 0 → their logarithms (n,) float64."""
    values = np.asarray(given)
    if values.dtype.kind in "iuf" and values.shape in ((), (n,)):
        with np.errstate(over="ignore"):
            exposure = values.astype(np.float64)
        if (np.isfinite(exposure) & (exposure > 0)).all():
            return np.broadcast_to(np.log(exposure), (n,))
    raise UsageError(f"exposure: expected {n} finite numbers > 0, or one; got {values.dtype} {values.shape}")


def row_weights(name: str, values: Any, n: int) -> Any:
    """Real weights (n,) of rows, ≥ 0, of a finite sum > 0; values are checked on the host only."""
    held = _of_rows(name, values, n, "biuf", f"an array ({n},) of numbers, one for each row")
    if held is not None:
        with np.errstate(over="ignore", invalid="ignore"):
            total = held.sum(dtype=np.float64)
        if not (np.isfinite(total) and held.min() >= 0 and held.max() > 0):
            raise UsageError(f"{name}: expected finite numbers ≥ 0, at least one of them > 0, whose sum is finite")
    return values


def row_numbers(name: str, rows: Any, n: int) -> Any:
    """An integer array (n,) of row numbers, each below 2³²; values are checked only if they are on the host."""
    held = _of_rows(name, rows, n, "iu", f"an integer array ({n},), one number for each row")
    if held is not None and n and (held.min() < 0 or held.max() >= 2**32):
        raise UsageError(f"{name}: expected numbers from 0 to 2³² − 1; they range from {held.min()} to {held.max()}")
    return rows


def _of_rows(name: str, values: Any, n: int, kinds: str, expected: str) -> np.ndarray | None:
    """The values of an array (n,) or a Series; None on a device. UsageError for dtypes of other kinds."""
    shape, dtype = tuple(getattr(values, "shape", ())), getattr(values, "dtype", None)
    if shape != (n,) or getattr(dtype, "kind", " ") not in kinds:
        came = type(values).__name__ if dtype is None else f"{dtype} {shape}"
        raise UsageError(f"{name}: expected {expected}; got {came}")
    return None if _on_device(values) else np.asarray(values)
