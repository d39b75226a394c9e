"""load: read a named set or a file as checked float rows: a `Dataset`.

A Dataset has a test part and the index of every row in its source, which keys the noise of that row. Values are checked
here, once, in blocks. `formats.py` reads arrays, `tabular.py` tables; `named.py` finds and downloads the named sets.

Legend: N rows, D features, h × w the pixels of a picture (D = h·w). Rows and columns of arrays are counted from 0,
lines and columns of text files from 1.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..console import html_facts
from ..errors import UsageError
from ..hints import meant
from . import limits
from .columns import Columns
from .formats import parts_of
from .named import NAMED, expand, read_named
from .rows import Array, FileRows, check_still_there, chosen, every, extent, finite_extent, is_mapped
from .table import is_table
from .tabular import Reading, Rows, read_rows

if TYPE_CHECKING:
    from ..distributed.world import World

Selection = slice | Array  # what picks rows: a contiguous block (a view), or indices (a copy)

LABEL = "label"  # the name of the condition where the data are not a table
_DIGESTED = 1 << 22  # bytes of each digest of which `Dataset.sha256` is one
_TEST_FRACTION = 5  # one row in five is held out if a set has no test part


@dataclass(frozen=True, eq=False)  # eq would compare arrays, which have no single truth value
class Dataset:
    """Training rows, test rows, and their row numbers in the source.

    X (N, D) float32 or float64, finite, perhaps memory-mapped or `FileRows`; y (N,) labels or None; X_test, y_test
    alike or None.
    rows (N,) int64 is the index of each row of X in the source; rows_test that of X_test in the array it was taken from
    (the same source for a held-out part, the set's own test array otherwise), None without a test part.
    shape is (h, w) where rows are pictures, which then lie in [0, 1], else None; reason says why.
    names are those of a table's D columns, or None. columns is the schema of a table of several kinds, in whose X NaN
    is a missing cell, or None; schema is that of any table with a header that has been looked at cell by cell.
    condition and condition_test are what the model is given of each row, name → (N,), or None.
    """

    name: str
    X: Array
    y: Array | None
    X_test: Array | None
    y_test: Array | None
    rows: Array
    rows_test: Array | None
    shape: tuple[int, int] | None
    reason: str
    names: tuple[str, ...] | None = None
    columns: Columns | None = None
    schema: Columns | None = None
    condition: dict[str, Array] | None = None
    condition_test: dict[str, Array] | None = None

    @property
    def features(self) -> int:
        """D, the number of columns."""
        return int(self.X.shape[1])

    @property
    def has_gaps(self) -> bool:
        """Whether a cell of a table is missing: NaN in X or X_test."""
        return self.find_gaps()

    def find_gaps(self, ranks: World | None = None) -> bool:
        """`has_gaps`, for which each rank looks at a share of the rows."""
        held = [part for part in (self.X, self.X_test) if part is not None and self.names is not None]
        return not all(every(part, lambda block: block == block, ranks) for part in held)

    def all_conditions(self) -> dict[str, Array] | None:
        """What the model is given of all rows, of the training part and of the test part."""
        first, test = self.condition, self.condition_test
        if first is None or test is None:
            return first
        return {name: np.concatenate([values, test[name]]) for name, values in first.items()}

    @property
    def is_picture(self) -> bool:
        """Whether a row is a picture of `shape` pixels."""
        return self.shape is not None

    def __repr__(self) -> str:
        test = "no test part" if self.X_test is None else f"test part {len(self.X_test):,}"
        pictures = f", pictures of {self.shape[0]}×{self.shape[1]}" if self.shape else ""
        labels = ", labels" if self.y is not None else ""
        return f"Dataset({self.name!r}: {len(self.X):,} × {self.features} {self.X.dtype}, {test}{pictures}{labels})"

    def _repr_html_(self) -> str:
        facts = {
            "X": f"{self.X.shape} {self.X.dtype}",
            "X_test": None if self.X_test is None else str(self.X_test.shape),
            "y": None if self.y is None else f"{len(np.unique(self.y)):,} different labels",
            "pictures": None if self.shape is None else f"{self.shape[0]}×{self.shape[1]}",
        }
        return html_facts(f"Dataset {self.name}", facts)

    def sha256(self, ranks: World | None = None, whole: bool = False) -> str:
        """Hex digest over dtype, shape and bytes (in C order) of X, y, X_test and y_test.

        The name and the row numbers stay out: the same numbers from another file are the same data.
        ranks   each digests a share of the blocks, and all get the digest; None: this process digests all
        whole   the digest of all bytes in one, as runs had it before ranks shared it out; else that of blocks' digests
        """
        digest = hashlib.sha256()
        for key in ("X", "y", "X_test", "y_test"):
            part = getattr(self, key)
            if part is None:
                digest.update(f"{key} none\n".encode())
                continue
            digest.update(f"{key} {part.dtype.str} {part.shape}\n".encode())
            arrays = [(part, part.dtype)]
            if hasattr(part, "tocsr"):  # int64: SciPy may hold the same indices in either width
                arrays = [(part.data, part.dtype), (part.indices, np.dtype("i8")), (part.indptr, np.dtype("i8"))]
            for array, dtype in arrays:
                step = max(1, _DIGESTED // (dtype.itemsize * math.prod(array.shape[1:]) or 1))

                def of(start: int, array: Any = array, dtype: Any = dtype, step: int = step) -> bytes:
                    check_still_there(array)
                    block = array[start : start + step].astype(dtype, copy=False).tobytes()
                    return block if whole else hashlib.sha256(block).digest()

                starts = range(0, len(array), step)
                for found in map(of, starts) if ranks is None or whole else ranks.map(of, starts):
                    digest.update(found)
        for part in (self.condition, self.condition_test):
            for name, values in (part or {}).items():
                digest.update(f"condition {name!r} {values.dtype.str} {values.shape}\n".encode() + values.tobytes())
        return digest.hexdigest()

    def split_validation(self, fraction: float, seed: int) -> tuple[Dataset, Array, Array | None, Array]:
        """Set aside round(fraction · N) training rows: (train, X_val, y_val, rows_val), rows ascending in each part.

        fraction lies in (0, 1) and must leave a row on each side, else UsageError. The rows are chosen by
        `permutation(seed, N, "split", pass_=1)`; a memory map over 1 GiB gives a block from either end instead,
        as `load` describes. rows_val indexes the source, like `rows`.
        """
        if not 0 < fraction < 1:
            raise UsageError(f"the validation fraction must lie between 0 and 1, both excluded, not {fraction}")
        N = len(self.X)
        held_out = round(fraction * N)
        if not 1 <= held_out < N:
            raise UsageError(f"a validation fraction of {fraction} takes {held_out} of {N} rows; each side needs one")
        kept, held = _hold_out(self.X, held_out, seed, pass_=1)
        y, y_val = (None, None) if self.y is None else (self.y[kept], self.y[held])
        condition = at_rows(self.condition, kept)
        train = replace(self, X=chosen(self.X, kept), y=y, rows=self.rows[kept], condition=condition)
        return train, chosen(self.X, held), y_val, self.rows[held]


def at_rows(condition: dict[str, Array] | None, rows: Any) -> dict[str, Array] | None:
    """The condition of some rows; None for a set without, and for a part that is none."""
    return None if condition is None or rows is None else {name: values[rows] for name, values in condition.items()}


def load(
    source: str | os.PathLike[str],
    seed: int = 0,
    hold_out: bool = True,
    *,
    columns: Columns | Sequence[str] | None = None,
    label: str | None = None,
    ignore: Sequence[str] = (),
    fit: bool = False,
    unseen: str = "error",
    mixed: bool | None = None,
    condition: Sequence[Any] = (),
    gaps: bool = True,
    ranks: World | None = None,
) -> Dataset:
    """Load a named set or a file as checked float rows.

    Named sets: 'digits' (scikit-learn's 8×8 digits, value/16), 'mnist', 'fashion-mnist': their four IDX files, packed
    or not, in $MINIVAE_DATA/<name>, or else in ~/.cache/minivae/<name> ($XDG_CACHE_HOME), into which missing files are
    downloaded. Files found there are taken if they parse; downloaded ones must have the published size and SHA-256.

    Sparse rows, never made dense: .npz of scipy.sparse.save_npz, .mtx (Matrix Market, .gz allowed), .svmlight (with
    labels), and .h5ad: its X, or "cells.h5ad:layers/counts"; label is then a column of its obs. X is a csr_array.

    Files: .npy (memory-mapped); .npz with X and optionally y, X_test, y_test, or with one array of any name; IDX ('idx'
    or '.ubyte' in the name), packed or not; .txt and .amat: numbers separated by commas or by white space. A string
    that names a set is the set: './mnist' is a file.

    Tables: .csv, .tsv (gzipped or not) and, with pyarrow, .parquet. Commas, semicolons or tabs between cells, a header,
    quotes, decimal commas, text and missing cells (empty, NA, NaN, None, …). label names the column of the labels y;
    those in ignore are left out. A table of numbers alone stays as it is; one with text or gaps is encoded by a
    `Columns` (given, or found), and so is every one with mixed=True, none with mixed=False. fit=True completes a given
    schema by the file, to train on it. unseen="missing" takes a category that `columns` lacks as a missing cell;
    gaps=False refuses those. condition names the columns that the model is to be given; in any other set it is
    ["label"], which is y.

    (N, h, w) arrays are pictures and are flattened: uint8 becomes float32 value/255 (unless no value exceeds 1: then
    they are 0/1 pictures already); anything else must lie in [0, 1]. (N, D) arrays of float32 or float64 stay as they
    are, memory-mapped ones included; float16, bool and integers become float32, or float64 where float32 would round
    an integer. Integer labels become int64.

    A set without a test part of its own holds out N // 5 rows chosen by `permutation(seed, N, "split")`, ascending in
    each part; below 5 rows there is no test part. Choosing rows copies them, so a memory map over 1 GiB instead gives
    its first or last fifth, as the seed says, and both parts stay views of the map: shuffle such a file beforehand.
    hold_out=False leaves every row in X.

    ranks   a file that can be mapped (.npy, IDX that is not packed) is: each rank checks a share of the rows, and reads
            others only where they are asked for. Any other is read by one rank of each host, and what it has read is
            mapped by all of its ranks. Dense X and X_test are then `FileRows`. None: this process reads and checks all

    What a file declares is compared with its size and with $MINIVAE_MAX_BYTES (unset: half of the memory) before
    anything is allocated. UsageError, in one line that names the file, for whatever cannot be read as that.
    """
    how = Reading(columns, label, ignore, fit, unseen, mixed, condition, gaps)
    if ranks is None or ranks.size == 1:
        return _find(source, how).dataset(seed, hold_out, ranks)

    def read() -> Dataset | None:
        found = _find(source, how)
        return None if found.mapped else found.dataset(seed, hold_out)

    data = ranks.once_a_host(read)
    kind = "a file that can be mapped" if data is None else "a file that must be read"
    ranks.same("its data", kind, "have the same file on every host")
    if data is None:
        return _find(source, how).dataset(seed, hold_out, ranks)
    X, X_test = (FileRows(part, part.dtype) if isinstance(part, np.ndarray) else part for part in (data.X, data.X_test))
    return replace(data, X=X, X_test=X_test)  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Found:
    """The arrays of a source, as they are read: its name, where they are, and why those of 3 dimensions are pictures.

    table   what else is known of a table's rows
    condition   as in `load`, where the source is no table
    """

    name: str
    where: str
    parts: dict[str, Array]
    why: str = ""
    table: Rows | None = None
    condition: Sequence[Any] = ()

    @property
    def mapped(self) -> bool:
        """Whether rows are read where they are asked for alone, so that every rank may open the file."""
        return all(isinstance(self.parts[key], np.memmap) for key in ("X", "X_test") if key in self.parts)

    def dataset(self, seed: int, hold_out: bool, ranks: World | None = None) -> Dataset:
        """The Dataset of these arrays, as `load` describes it."""
        gaps = self.table is not None and self.table.checked
        data = _assemble(self.name, self.where, self.parts, seed, self.why, hold_out, gaps, ranks)
        if (table := self.table) is None:
            return _given_labels(data, self.where, self.condition)
        held, held_test = at_rows(table.condition, data.rows), at_rows(table.condition, data.rows_test)
        facts: dict[str, Any] = {"names": table.names, "columns": table.columns, "schema": table.schema}
        return replace(data, condition=held, condition_test=held_test, **facts)


def _find(source: str | os.PathLike[str], how: Reading) -> _Found:
    """Read or map the arrays of a named set or a file."""
    if isinstance(source, str) and source in NAMED:
        _no_table(source, how.label, how.ignore, how.columns)
        parts, where, why = read_named(source)
        return _Found(source, where, parts, why, condition=how.condition)
    if (h5ad := _h5ad(source)) is not None:
        from .sparse_files import read_h5ad  # here: it loads SciPy

        _no_table(source, None, how.ignore, how.columns)
        path = existing_file(h5ad[0])
        name = path.name if h5ad[1] == "X" else f"{path.name}:{h5ad[1]}"
        return _Found(name, str(path), read_h5ad(path, h5ad[1], how.label)[0], condition=how.condition)
    path = existing_file(source)
    if is_table(path):
        table = read_rows(path, how)
        parts = {"X": table.X} if table.y is None else {"X": table.X, "y": table.y}
        return _Found(path.name, str(path), parts, table=table)
    _no_table(path, how.label, how.ignore, how.columns)
    parts, why = parts_of(path)
    return _Found(path.name, str(path), parts, why, condition=how.condition)


def _h5ad(source: Any) -> tuple[str, str] | None:
    """The file and the matrix that "cells.h5ad", or "cells.h5ad:layers/counts", names; None for another name."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    if isinstance(text, str) and text.lower().endswith(".h5ad"):
        return text, "X"
    at = text.lower().rfind(".h5ad:") if isinstance(text, str) else -1
    return (text[: at + 5], text[at + 6 :].strip("/") or "X") if at >= 0 else None


def _given_labels(data: Dataset, where: str, condition: Sequence[Any]) -> Dataset:
    """The set with its labels as what the model is given, where ["label"] asks for that."""
    if not condition:
        return data
    others = [name for name in condition if name != LABEL]
    if others or data.y is None:
        what = f"has no column {others[0]!r}" if others else "has no labels y"
        raise UsageError(f"{where} {what}: --condition {LABEL} means the labels of a set, and other names a table's")
    return replace(
        data, condition={LABEL: data.y}, condition_test=None if data.y_test is None else {LABEL: data.y_test}
    )


def _no_table(where: object, label: str | None, ignore: Sequence[str], columns: object) -> None:
    """Raise UsageError for options that only a table takes."""
    if label is not None or ignore or isinstance(columns, Columns):
        what = "--label" if label is not None else "--ignore" if ignore else "a schema (--columns)"
        raise UsageError(
            f"{where}: {what} is for the columns of a table, a .csv, .tsv or .parquet file, and this is none"
        )


# ---------------------------------------------------------------------------------------------------------------------
# From checked parts to a Dataset


def _assemble(
    name: str,
    where: str,
    parts: dict[str, Array],
    seed: int,
    why: str,
    hold_out: bool,
    gaps: bool = False,
    ranks: World | None = None,
) -> Dataset:
    """Check, convert and flatten the arrays found at `where`, and hold out a test part if they bring none.

    gaps   NaN is a missing cell, and the values are checked already
    ranks  as in `load`
    """
    if hasattr(parts["X"], "tocsr"):
        X = _sparse(where, parts["X"])
        y = _check_labels(parts.get("y"), X, where, "y")
        return _split(name, X, y, seed, hold_out, None, "rows of a sparse matrix are no pictures")
    labels = {key: f"{where}: {key}" if len(parts) > 1 else where for key in parts}
    inputs = {key: parts.pop(key) for key in ("X", "X_test") if key in parts}  # popped: freed once converted
    dtype = np.result_type(*(_check_input(A, labels[key], ranks) for key, A in inputs.items()))
    row_shape = inputs["X"].shape[1:]
    picture = len(row_shape) == 2
    bytes_ = [A for A in inputs.values() if picture and A.dtype == np.uint8]
    grey = any(extent(A, ranks)[1] > 1 for A in bytes_)  # decided once, lest train and test be divided differently
    for key, A in inputs.items():
        if A.shape[1:] != row_shape:
            raise UsageError(f"{where}: a row of X has the shape {row_shape}, but one of {key} {A.shape[1:]}")
        inputs[key] = _to_rows(A, dtype, grey and A.dtype == np.uint8, ranks)
        if not gaps:
            _check_values(inputs[key], labels[key], picture, ranks)
    X, X_test = inputs["X"], inputs.get("X_test")
    y = _check_labels(parts.get("y"), X, where, "y")
    y_test = _check_labels(parts.get("y_test"), X_test, where, "y_test")
    shape = (int(row_shape[0]), int(row_shape[1])) if picture else None
    reason = why if picture else "(N, D) rows carry no picture shape"
    if bytes_ and not grey:
        reason += "; the bytes are only 0 and 1, so they are not divided by 255"

    if X_test is not None:
        rows, rows_test = (np.arange(len(part), dtype=np.int64) for part in (X, X_test))
        return Dataset(name, X, y, X_test, y_test, rows, rows_test, shape, reason)
    return _split(name, X, y, seed, hold_out, shape, reason)


def _sparse(where: str, X: Any) -> Any:
    """Canonical rows in the float type that holds all of their values."""
    if not X.nnz:
        raise UsageError(f"{where}: its matrix {X.shape} has no entry that is not 0")
    X.data = X.data.astype(_check_input(X.data[None, :], where), copy=False)
    return X


def _split(
    name: str, X: Array, y: Array | None, seed: int, hold_out: bool, shape: tuple[int, int] | None, reason: str
) -> Dataset:
    """The Dataset of rows that bring no test part: a fifth is held out where there are five, and it is asked for."""
    rows = np.arange(len(X), dtype=np.int64)
    held_out = len(X) // _TEST_FRACTION
    if held_out == 0 or not hold_out:
        return Dataset(name, X, y, None, None, rows, None, shape, reason)
    kept, held = _hold_out(X, held_out, seed, pass_=0)
    y, y_test = (None, None) if y is None else (y[kept], y[held])
    return Dataset(name, chosen(X, kept), y, chosen(X, held), y_test, rows[kept], rows[held], shape, reason)


def _hold_out(X: Array, held_out: int, seed: int, pass_: int) -> tuple[Selection, Selection]:
    """Choose the rows for training and for testing, ascending: by seed, or one end of a map too large to copy."""
    from .order import permutation  # here: it loads Numba

    N = len(X)
    if is_mapped(X) and X.nbytes > limits.COPY_LIMIT:
        if permutation(seed, 2, "split", pass_)[0] == 0:
            return slice(held_out, N), slice(0, held_out)
        return slice(0, N - held_out), slice(N - held_out, N)
    order = permutation(seed, N, "split", pass_)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _check_input(A: Array, where: str, ranks: World | None = None) -> np.dtype:
    """Check the shape and dtype of A, and return the native float type that holds all its numbers."""
    if A.ndim not in (2, 3) or A.size == 0:
        raise UsageError(f"{where}: expected (N, D) or (N, h, w) with at least one row and feature, not {A.shape}")
    if A.dtype.kind == "f" and A.dtype.itemsize <= 8:
        return np.dtype(np.float64 if A.dtype.itemsize == 8 else np.float32)
    if A.dtype.kind not in "biu":
        raise UsageError(f"{where}: expected float16, float32, float64, integers or bool, not the dtype {A.dtype}")
    low, high = extent(A, ranks)
    largest = max(-int(low), int(high))
    if largest > 2**53:  # 53 and 24: the bits of a significand
        raise UsageError(f"{where}: integers up to ±{largest} are more than float64 holds exactly (2^53); rescale them")
    return np.dtype(np.float32 if largest <= 2**24 else np.float64)


def _to_rows(A: Array, dtype: np.dtype, divide: bool, ranks: World | None) -> Any:
    """Return A as (N, D) of dtype, divided by 255 if `divide`; a view, memory-mapped like A, if nothing changes.

    For several ranks a mapped A becomes `FileRows`, of which nothing is read.
    """
    if ranks is not None and ranks.size > 1 and isinstance(A, np.memmap):
        return FileRows(A, dtype, divide)
    if divide:
        A = np.divide(np.asarray(A), 255, dtype=dtype)
    elif A.dtype != dtype:
        A = np.asarray(A).astype(dtype)  # asarray: the copy of a memory map is a plain array
    if A.ndim == 2:
        return A
    if not A.flags.c_contiguous:
        A = np.ascontiguousarray(np.asarray(A))
    return A.reshape(len(A), -1)


def _check_values(X: Any, where: str, picture: bool, ranks: World | None) -> None:
    """Raise UsageError for NaN and infinities, and for pictures outside [0, 1]."""
    low, high = finite_extent(X, where, ranks)
    if picture and (low < 0 or high > 1):
        raise UsageError(
            f"{where}: pictures must lie in [0, 1], but the values run from {low:g} to {high:g}; "
            "rescale them, or store bytes (uint8), which are divided by 255"
        )


def _check_labels(y: Array | None, X: Array | None, where: str, key: str) -> Array | None:
    if y is None:
        return None
    if X is None:
        raise UsageError(f"{where}: has y_test but no X_test")
    if y.shape != (len(X),) or y.dtype.kind not in "biufSU":
        raise UsageError(f"{where}: {key} must hold {len(X)} labels (N,), but is {y.dtype} of shape {y.shape}")
    return y.astype(np.int64) if y.dtype.kind in "biu" else y


def existing_file(source: Any) -> Path:
    """Return the file that `source` names; if there is none, the UsageError suggests one."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UsageError(f"expected the name of a data set or a path, not {type(source).__name__}")
    path = expand(text)
    if os.path.isfile(path):
        return path
    if os.path.isdir(path):
        raise UsageError(
            f"{text or '.'} is a directory; give one file in it, or set MINIVAE_DATA to a directory that has the IDX "
            "files of MNIST in its folder mnist, and ask for 'mnist'"
        )
    if os.path.exists(path):
        raise UsageError(f"{text} is not a regular file")
    if path.suffix or os.path.basename(text) != text:
        raise UsageError(f"there is no file {text} (relative to {os.getcwd()})")
    raise UsageError(f"'{text}' is neither a named data set ({', '.join(NAMED)}) nor a file{meant(text, NAMED)}")
