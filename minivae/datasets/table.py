"""table: named columns of cells, as a CSV file, a parquet file or a pandas DataFrame holds them.

A column is kept as its different values and a code for each row, so that memory grows with what differs. `columns.py`
gives the cells their meaning.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import UsageError
from .formats import open_packed_or_not
from .limits import check_memory
from .rows import Array

MISSING = frozenset(
    ["", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "NAN", "None", "none", "NULL", "Null", "null", "?"]
)
_BLOCK = 1 << 20  # bytes read together
_BLOCK_CELLS = 1 << 16  # cells of rows that are taken apart together
_CELL_BYTES = 256  # at most, of a cell whose value stands nowhere else: its text, its place in a dict, code and float
_LINE_FACTOR = 70  # bytes of Python's strings for a byte of a line, at most
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+", re.ASCII)


@dataclass(frozen=True, eq=False)
class Cells:
    """One column: `values` differ from each other, and row n holds values[codes[n]]; a code −1 is a missing cell.

    dtype     its name, as pandas has it: "int64", "float64", "bool", "object", "category", "ordered category" …
    decimal   the mark of texts that are numbers; None for values that are no texts of a file
    written   the texts of a file with those of missing cells, and their codes (N,), so that it comes out as it came
    """

    values: list[Any]
    codes: Array
    dtype: str
    decimal: str | None = None
    written: tuple[list[str], Array] | None = None

    def first_row(self, k: int) -> int:
        """The first row that holds values[k]."""
        return int(np.argmax(self.codes == k))

    def take(self, per_value: Sequence[float] | Array) -> Array:
        """(N,) float64: per_value[k] in the rows of values[k], NaN in a missing cell."""
        return np.append(np.asarray(per_value, dtype=np.float64), np.nan)[self.codes]

    def numbers(self) -> list[float | None]:
        """The number that each value is, None for text and bool."""
        if self.decimal is not None:
            return [number_of(text, self.decimal) for text in self.values]
        return [float(v) if isinstance(v, int | float) and not isinstance(v, bool) else None for v in self.values]

    def texts(self, text: Callable[[Any], str]) -> list[str]:
        """The cells of all rows as texts: those of the file, or what `text` makes of a value."""
        values, codes = self.written or ([*map(text, self.values), ""], self.codes)
        return [values[code] for code in codes.tolist()]

    def counts(self) -> Array:
        """How many rows hold each value."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    def only(self, rows: Array | slice) -> Cells:
        """The cells of these rows."""
        written = None if self.written is None else (self.written[0], self.written[1][rows])
        return replace(self, codes=self.codes[rows], written=written)


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of N cells by name, in order.

    where       what errors call the table: its file
    columns     name → Cells
    lines       (N,) the line of each row in the file; None for a table that is no file's
    named       whether the names are the table's own; otherwise they are 0, 1, …
    delimiter, decimal   of the file, for one that is written like it
    """

    where: str
    columns: dict[str, Cells]
    lines: Array | None = None
    named: bool = True
    delimiter: str = ","
    decimal: str = "."

    @property
    def names(self) -> list[str]:
        return list(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).codes)

    def place(self, name: str, row: int) -> str:
        """ "data.csv, line 17, column 'age'", the start of an error's sentence."""
        at = f"row {row} (counted from 0)" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.where}, {at}, column {name!r}"

    def only(self, rows: Array | slice) -> Table:
        """The table of these rows."""
        columns = {name: cells.only(rows) for name, cells in self.columns.items()}
        return replace(self, columns=columns, lines=None if self.lines is None else self.lines[rows])


def table_of(data: Any, where: str = "the table") -> Table:
    """Make a Table of a pandas DataFrame, a dict of name → cells, or rows: dicts, or sequences alike in length.

    None, NaN and pandas.NA are missing cells; text is taken as it is.
    """
    if isinstance(data, Table):
        return data
    if hasattr(data, "columns") and hasattr(data, "iloc"):
        names = [str(name) for name in data.columns]
        columns = [_of_series(data.iloc[:, k]) for k in range(len(names))]
        return _checked(where, names, columns)
    if isinstance(data, np.ndarray) and data.ndim == 2:
        columns = [_of_array(data[:, k]) for k in range(data.shape[1])]
        return _checked(where, [str(k) for k in range(data.shape[1])], columns, named=False)
    if isinstance(data, dict):
        columns = [_of_array(np.asarray(_objects(cells))) for cells in data.values()]
        return _checked(where, [str(name) for name in data], columns)
    rows = list(data) if isinstance(data, Iterable) and not isinstance(data, str | bytes) else []
    if rows and all(isinstance(row, dict) for row in rows):
        names = list(dict.fromkeys(name for row in rows for name in row))
        return table_of({name: [row.get(name) for row in rows] for name in names}, where)
    if rows and all(isinstance(row, list | tuple | np.ndarray) and len(row) == len(rows[0]) for row in rows):
        columns = [_of_array(np.asarray(_objects([row[k] for row in rows]))) for k in range(len(rows[0]))]
        return _checked(where, [str(k) for k in range(len(rows[0]))], columns, named=False)
    raise UsageError(
        f"{where}: expected a pandas DataFrame, a dict of columns, or rows of equally many cells, "
        f"but {type(data).__name__} came"
    )


def _objects(cells: Any) -> Array:
    """Cells as an array of numbers if they are all of one kind, otherwise of objects."""
    listed = list(cells)
    if listed and isinstance(listed[0], bool | int | float | np.generic) and {*map(type, listed)} == {type(listed[0])}:
        return np.asarray(listed)
    array = np.empty(len(listed), dtype=object)
    array[:] = listed
    return array


def _checked(where: str, names: list[str], columns: list[Cells], named: bool = True, **facts: Any) -> Table:
    """A Table; UsageError for a name that is there twice, columns of different lengths, or no cell at all."""
    twice = (
        next((name for k, name in enumerate(names) if name in names[:k]), None) if len({*names}) < len(names) else None
    )
    if twice is not None:
        at = f"{where}, line 1" if "lines" in facts else where
        raise UsageError(
            f"{at}: the column {twice!r} is there {names.count(twice)} times; every column needs a name of its own"
        )
    if not columns or len({len(c.codes) for c in columns}) > 1 or not len(columns[0].codes):
        raise UsageError(f"{where}: expected columns of equally many cells, at least one of one cell")
    return Table(where, dict(zip(names, columns, strict=True)), named=named, **facts)


def _of_array(array: Array) -> Cells:
    """Cells of a NumPy array: numbers, bool, text, or objects."""
    if array.dtype.kind in "mM":
        return Cells(np.unique(array[~np.isnat(array)]).tolist(), _no_codes(array), "datetime64")
    if array.dtype.kind in "biuf":
        values, codes = np.unique(array, return_inverse=True)  # every NaN once, at the end
        if len(values) and values[-1] != values[-1]:
            values, codes = values[:-1], np.where(codes == len(values) - 1, -1, codes)
        return Cells(values.tolist(), codes.astype(np.int32), str(array.dtype))
    index: dict[Any, int] = {}
    codes = np.array([_code(index, cell) for cell in array.tolist()], dtype=np.int32)
    return Cells(list(index), codes, _dtype_of(list(index)))


def _no_codes(array: Array) -> Array:
    return np.where(np.isnat(array), -1, 0).astype(np.int32)


def _code(index: dict[Any, int], cell: Any) -> int:
    """The code of a cell that is an object; None, NaN and pandas.NA are missing."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and math.isnan(cell)):
        return -1
    try:
        return index.setdefault(cell, len(index))
    except TypeError:
        raise UsageError(f"expected cells of numbers, text or bool, but {type(cell).__name__} came") from None


def _dtype_of(values: list[Any]) -> str:
    """What objects are all of: "bool", "int64" or "float64", otherwise "object"."""
    kinds = {*map(type, values)}
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int64"
    return "float64" if kinds and kinds <= {int, float} else "object"


def _of_series(series: Any) -> Cells:
    """Cells of a pandas Series, with the name of its dtype."""
    dtype = str(series.dtype)
    if dtype == "category":
        kind = "ordered category" if series.cat.ordered else "category"
        return Cells(series.cat.categories.tolist(), series.cat.codes.to_numpy().astype(np.int32), kind)
    if isinstance(series.dtype, np.dtype):
        cells = _of_array(series.to_numpy())
    else:  # pandas' own dtypes: Int64, boolean, string, datetime64 with a zone …
        missing = series.isna().to_numpy()
        cells = _of_array(_objects(None if gap else cell for gap, cell in zip(missing, series.tolist(), strict=True)))
    return Cells(cells.values, cells.codes, "datetime64" if dtype.startswith("datetime64") else dtype)


# ---------------------------------------------------------------------------------------------------------------------
# Files


def is_table(path: Path) -> bool:
    """Whether the name of a file is that of a table: .csv, .tsv (.gz allowed) or .parquet."""
    return path.name.lower().removesuffix(".gz").endswith((".csv", ".tsv")) or path.suffix.lower() == ".parquet"


def read_table(path: Path) -> Table:
    """Read a table: .csv, .tsv, either gzipped, or .parquet where pyarrow is installed.

    CSV: cells between commas, semicolons or tabs, whichever divides the first line; quotes; a header unless the first
    line holds a number; decimal commas where commas do not divide. MISSING lists the texts of a missing cell. An empty
    line is skipped; a line of empty cells is a row of missing cells.
    """
    try:
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path)
    except UsageError:
        raise
    except Exception as error:  # UnicodeDecodeError, csv.Error, EOFError, zlib.error, ArrowInvalid …
        message = " ".join(str(error).split())[:160]
        raise UsageError(f"{path}: expected a readable table, but {type(error).__name__}: {message}") from error


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise UsageError(f"{path}: a parquet file needs pyarrow, which is missing: pip install pyarrow") from None
    file = parquet.ParquetFile(path)
    rows, width = file.metadata.num_rows, len(file.schema_arrow.names)
    check_memory(path, _CELL_BYTES * rows * width, f"it declares {rows} rows of {width} columns")
    content = file.read()
    columns = [_of_array(_objects(content.column(k).to_pylist())) for k in range(width)]
    return _checked(str(path), list(map(str, content.column_names)), columns)


def _read_csv(path: Path) -> Table:
    size, lines, longest, marks = _survey(path)
    check_memory(path, _LINE_FACTOR * longest, f"its longest line has {longest} bytes")
    cells = marks + lines
    needed = _CELL_BYTES * min(cells, size + 1) + size
    check_memory(path, needed, f"up to {lines} lines and {cells} cells")
    with _text(path) as file:
        head = [line for line in (file.readline() for _ in range(20)) if line.strip()]
    if not head:
        raise UsageError(f"{path}: expected lines of cells, but it is empty")
    delimiter = "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else _delimiter(head)
    with _text(path) as file:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        numbered = ((reader.line_num, row) for row in reader if len(row) > 1 or any(cell.strip() for cell in row))
        rows = itertools.dropwhile(lambda line: not any(cell.strip() for cell in line[1]), numbered)
        first = next(rows)
        header = is_header(first[1])
        names = _names(first[1]) if header else [str(k) for k in range(len(first[1]))]
        indices: list[dict[str, int]] = [{} for _ in names]
        codes: list[list[Array]] = [[] for _ in names]
        places: list[Array] = []
        for block in _blocks(path, len(names), rows if header else itertools.chain([first], rows)):
            places.append(np.array([number for number, _ in block], dtype=np.int64))
            for index, parts, column in zip(indices, codes, zip(*(row for _, row in block), strict=True), strict=True):
                parts.append(np.array([index.setdefault(cell, len(index)) for cell in column], dtype=np.int32))
    if not places:
        raise UsageError(f"{path}: expected lines of cells, but there is only a header")
    decimal = _decimal(indices, delimiter)
    columns = [
        _of_texts(list(index), np.concatenate(parts), decimal) for index, parts in zip(indices, codes, strict=True)
    ]
    lines_of = np.concatenate(places)
    return _checked(str(path), names, columns, header, lines=lines_of, delimiter=delimiter, decimal=decimal)


def _survey(path: Path) -> tuple[int, int, int, int]:
    """(bytes, lines, bytes of the longest line, delimiters) of the unpacked text, read a block at a time."""
    size, lines, longest, open_, marks = 0, 1, 0, 0, 0
    with open_packed_or_not(path) as file:
        while block := file.read(_BLOCK):
            size += len(block)
            marks += block.count(b",") + block.count(b";") + block.count(b"\t")
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            lines += len(ends) + block.count(b"\r")
            if len(ends):
                longest = max(longest, open_ + int(ends[0]), int(np.diff(ends).max(initial=0)))
                open_ = len(block) - int(ends[-1])
            else:
                open_ += len(block)
            longest = max(longest, open_)
    return size, lines, longest, marks


@contextlib.contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    with open_packed_or_not(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        yield text


def _blocks(path: Path, width: int, rows: Iterator[tuple[int, list[str]]]) -> Iterator[list[tuple[int, list[str]]]]:
    """Lists of rows of together about _BLOCK_CELLS cells, each as wide as the first."""
    block: list[tuple[int, list[str]]] = []
    for number, row in rows:
        if len(row) != width:
            raise UsageError(
                f"{path}: line {number}: expected {width} columns like the lines before it, but it has {len(row)}"
            )
        block.append((number, [cell.strip() for cell in row]))
        if len(block) * width >= _BLOCK_CELLS:
            yield block
            block = []
    if block:
        yield block


def _delimiter(head: list[str]) -> str:
    """What divides the first line outside quotes: a tab or a semicolon where it divides all first lines alike."""
    bare = [re.sub(r'"[^"]*"', "", line) for line in head]
    for mark in ("\t", ";"):
        if bare[0].count(mark) and {line.count(mark) for line in bare} == {bare[0].count(mark)}:
            return mark
    return ","


def is_header(row: list[str]) -> bool:
    """Whether a first line names the columns: it holds no number, and something."""
    return any(cell.strip() for cell in row) and not any(_NUMBER.fullmatch(cell.strip()) for cell in row)


def _names(row: list[str]) -> list[str]:
    """The titles of a header; one that is empty is named by its place, from 1."""
    return [cell.strip() or f"column {k}" for k, cell in enumerate(row, 1)]


def _decimal(indices: list[dict[str, int]], delimiter: str) -> str:
    """',' if cells such as 1,5 are there, and none such as 1.5."""
    if not any("," in text for index in indices for text in index):
        return "."
    commas = any(_DECIMAL_COMMA.fullmatch(text) for index in indices for text in index)
    points = any("." in text and _NUMBER.fullmatch(text) for index in indices for text in index)
    return "," if commas and not points else "."


def number_of(text: str, decimal: str = ".") -> float | None:
    """The number that a text is, None for another text."""
    text = text.strip()
    if decimal == ",":
        text = text.replace(",", ".") if "." not in text else "x"
    return float(text) if _NUMBER.fullmatch(text) else None


def _of_texts(texts: list[str], codes: Array, decimal: str) -> Cells:
    """Cells of a column of a file's texts."""
    kept = [text for text in texts if text not in MISSING]
    place = {text: k for k, text in enumerate(kept)}
    new = np.array([place.get(text, -1) for text in texts], dtype=np.int32)[codes]
    if kept and all(map(_INTEGER.fullmatch, kept)):
        dtype = "int64"
    elif kept and all(number_of(text, decimal) is not None for text in kept):
        dtype = "float64"
    else:
        dtype = "bool" if {text.lower() for text in kept} == {"true", "false"} else "object"
    return Cells(kept, new, dtype, decimal, (texts, codes))
