"""columns: what each column of a table is, and the way from its cells to the matrix that a model takes, and back.

    table (N cells a column)  →  X (N, D) float64  →  table

A number stands for itself, a category for its place among `categories`, NaN for a missing cell.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec
import numpy as np
from msgspec import Meta

from ..errors import UsageError, UsageWarning
from ..hints import meant
from .rows import Array
from .table import Cells, Table, table_of

Kind = Literal["real", "positive", "count", "binary", "categorical", "ordinal", "condition", "label", "ignore"]
KINDS: tuple[str, ...] = get_args(Kind)
NUMBERS = ("real", "positive", "count")
CLASSES = ("binary", "categorical", "ordinal")
MANY = 1000  # categories, from which on a column is warned of
FEW = 10  # different integers at most that are taken for levels
LARGEST_COUNT = 1000  # larger integers are not taken for counts unless asked
CLEARER = 0.25  # nats a cell by which the logarithm must fit better than the numbers do
HOW_UNSEEN = "`train` and `impute` take it as a missing cell with --unseen missing"
NO_GAPS = "train a model on a table that has such cells, or with --unseen missing"
_LONG = 1 << 24
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}([T ].*)?", re.ASCII)
_NO_DATES = ": make numbers of them, such as days or years, or ignore it"
_COMMA, HOW_COMMA = r"[+-]?\d+,\d+", "; a decimal comma among points?"
_PLACE = ("", "index", "unnamed: 0", "column 1")  # names of the column that numbers the rows


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One column: its name, its kind, its categories in the order of their codes, and its dtype, as pandas names it.

    kind   real; positive; count: 0, 1, 2 …; binary, categorical, ordinal: classes; condition: what the model is given,
           a label that has categories, else a number; label: what the rows are called; ignore. The last three are no
           features
    """

    name: Annotated[str, Meta(max_length=_LONG)]
    kind: Kind
    categories: list[bool | int | float | str] | None = None
    dtype: Annotated[str, Meta(max_length=200)] = ""

    @property
    def is_feature(self) -> bool:
        return self.kind not in ("condition", "label", "ignore")


class Block(NamedTuple):
    """Columns of X of one kind: parameter is the number of classes, 0 for numbers; columns are their places in X."""

    kind: str
    parameter: int
    columns: tuple[int, ...]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of `Columns`."""

    columns: Annotated[list[Column], Meta(min_length=1)]
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","
    decimal: Literal[".", ","] = "."
    minivae: str = ""


class Columns:
    """The schema of a table: all its columns in order. Those that are no feature stay out of X.

    Made by `Columns.infer(table)`, of a dict {"age": "count", "job": "categorical"}, or of `Column`s; `fitted(table)`
    finds the categories that are not given. `to_json` and `from_json` are the file that `minivae columns` writes.
    """

    def __init__(self, columns: Mapping[str, str] | Iterable[Column], delimiter: str = ",", decimal: str = "."):
        if isinstance(columns, Mapping):
            columns = [Column(str(name), _kind(name, kind)) for name, kind in columns.items()]
        self.columns = tuple(columns)
        self.delimiter, self.decimal = delimiter, decimal
        names = [column.name for column in self.columns]
        for column in self.columns:
            self._check(column, names.count(column.name) if len({*names}) < len(names) else 1)
        self.features = [column for column in self.columns if column.is_feature]
        self.conditions = [column for column in self.columns if column.kind == "condition"]
        if not self.features:
            raise UsageError("the columns hold no feature: at least one must be " + ", ".join(NUMBERS + CLASSES))
        labels = [column.name for column in self.columns if column.kind == "label"]
        if len(labels) > 1:
            raise UsageError(f"the columns {labels} are all labels: one column can name the rows")
        labels += [column.name for column in self.conditions if column.categories]
        self.label = labels[0] if labels else None  # a condition colours the pictures too, where nothing else does

    @staticmethod
    def _check(column: Column, times: int) -> None:
        if times > 1:
            raise UsageError(f"the column {column.name!r} is there {times} times; every column needs a name of its own")
        given = column.categories
        if given is None:
            return
        if column.kind not in (*CLASSES, "condition"):
            raise UsageError(f"column {column.name!r} is {column.kind}, which has no categories: leave them out")
        if len({*map(_key, given)}) < len(given) or len({type(c) is str for c in given}) > 1:
            raise UsageError(f"column {column.name!r}: expected categories that differ, all of text or all of numbers")
        if column.kind == "condition" and any(isinstance(c, float) for c in given):
            raise UsageError(f"column {column.name!r} is a condition: expected categories of text or of whole numbers")
        if len(given) < 2 or (column.kind == "binary" and len(given) != 2):
            need = "2" if column.kind == "binary" else "at least 2"
            raise UsageError(f"column {column.name!r} is {column.kind}: expected {need} categories, not {len(given)}")

    @property
    def names(self) -> list[str]:
        """The names of the D columns of X."""
        return [column.name for column in self.features]

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Columns) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return f"Columns({ {column.name: column.kind for column in self.columns}!r})"

    def blocks(self) -> list[Block]:
        """The features by kind and number of classes, in the order in which those are met; every column is in one."""
        held: dict[tuple[str, int], list[int]] = {}
        for d, column in enumerate(self.features):
            classes = 0
            if column.kind in CLASSES:
                if column.categories is None:
                    raise UsageError(f"column {column.name!r}: its categories are not known: use Columns.fitted(table)")
                classes = len(column.categories)
            held.setdefault((column.kind, classes), []).append(d)
        return [Block(kind, classes, tuple(places)) for (kind, classes), places in held.items()]

    # ---- made of a table, or of JSON --------------------------------------------------------------------------------

    @classmethod
    def infer(
        cls,
        data: Any,
        kinds: Mapping[str, str] | None = None,
        label: str | None = None,
        ignore: Sequence[str] = (),
        strict: bool = True,
        condition: Sequence[str] = (),
    ) -> Columns:
        """The kinds that a table's cells suggest: a DataFrame, a dict of columns, or rows.

        kinds    of columns that are known, {"age": "count"}
        label    the column that names the rows
        ignore   columns that are no feature
        strict   False: a column that no model can use is ignored with a warning; True: a UsageError
        condition   the columns that the model is given: text, and integers of up to 10 levels, are labels, other
                    numbers covariates

        Text, and categories of pandas, are binary or categorical, ordinal where pandas has them ordered; two different
        numbers are binary. Integers from 0 to 1000 are counts if their variance is at least their mean, and their mean
        at most two standard deviations; other integers of 3 to 10 levels are ordinal. Numbers over 0 whose logarithms
        a normal distribution fits clearly better are positive; all others are real. A column that numbers the rows is
        ignored.
        """
        table = table_of(data)
        known = {name: _kind(name, kind) for name, kind in (kinds or {}).items()}
        known |= roles(label, ignore, condition)
        for name in known:
            if name not in table.columns:
                raise UsageError(f"{table.where}: there is no column {name!r}{meant(name, table.names)}")
        columns = []
        for place, (name, cells) in enumerate(table.columns.items()):
            try:
                kind = known.get(name) or _guess(table, name, cells, place)
                columns.append(_fit(table, Column(name, kind, None, cells.dtype), cells))  # type: ignore[arg-type]
            except UsageError as error:
                if strict or name in known:
                    raise
                warnings.warn(f"{error}: it is ignored", UsageWarning, stacklevel=2)
                columns.append(Column(name, "ignore", None, cells.dtype))
        return cls(columns, table.delimiter, table.decimal)

    def fitted(self, data: Any, only: str = "", unseen: str = "error") -> Columns:
        """This schema with categories and dtypes that it lacks, found in a table to train on, which is checked.

        only     the kind of the columns that are; "": all
        unseen   as in `encode`
        """
        table = self._match(table_of(data))
        columns = [
            _fit(table, column, table.columns[column.name], unseen)
            if column.name in table.columns and only in ("", column.kind)
            else column
            for column in self.columns
        ]
        return Columns(columns, table.delimiter, table.decimal)

    def with_kinds(self, kinds: Mapping[str, str]) -> Columns:
        """This schema with some columns of another kind; their categories are forgotten unless both kinds have them."""
        for name in kinds:
            if name not in (names := [column.name for column in self.columns]):
                raise UsageError(f"there is no column {name!r}{meant(name, names)}")
        columns = []
        for column in self.columns:
            kind = _kind(column.name, kinds.get(column.name, column.kind))
            kept = column.categories if kind in (*CLASSES, "condition") else None
            columns.append(Column(column.name, kind, kept, column.dtype))
        return Columns(columns, self.delimiter, self.decimal)

    def to_json(self) -> str:
        """JSON, a column a line, for people to edit."""
        from .. import __version__

        held = self.to_builtins()
        head = {"minivae": __version__} | {key: held[key] for key in ("delimiter", "decimal")}
        lines = [json.dumps(column, ensure_ascii=False) for column in held["columns"]]
        return json.dumps(head)[:-1] + ', "columns": [\n  ' + ",\n  ".join(lines) + "\n]}\n"

    def to_builtins(self) -> dict[str, Any]:
        """What JSON holds, for a file of something else."""
        columns = [msgspec.to_builtins(column) for column in self.columns]
        return {"columns": columns, "delimiter": self.delimiter, "decimal": self.decimal}

    @classmethod
    def from_json(cls, text: str | bytes) -> Columns:
        """The schema of a JSON text; UsageError says in one line what is wrong, and where."""
        try:
            return cls.from_builtins(json.loads(text))
        except UsageError:
            raise
        except (RecursionError, ValueError) as error:  # UnicodeDecodeError is a ValueError
            message = " ".join(str(error).split())[:200]
            raise UsageError(f"expected the columns as `minivae columns` writes them, but {message}") from None

    @classmethod
    def from_builtins(cls, held: Any) -> Columns:
        """The schema of what `to_builtins` gave."""
        try:
            file = msgspec.convert(held, _File)
        except msgspec.MsgspecError as error:
            message = " ".join(str(error).split())[:200]
            raise UsageError(f"expected the columns as `minivae columns` writes them, but {message}") from None
        return cls(file.columns, file.delimiter, file.decimal)

    @classmethod
    def read(cls, path: str | Path) -> Columns:
        """The schema of a file; UsageError names the file."""
        try:
            return cls.from_json(Path(path).read_bytes())
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
        except OSError as error:
            raise UsageError(f"{path}: expected a file of columns, but {error.strerror}") from None

    # ---- between a table and X --------------------------------------------------------------------------------------

    def encode(self, data: Any, unseen: str = "error", gaps: bool = True) -> Array:
        """A table with these columns, in any order → X (N, D) float64, NaN in missing cells.

        unseen   what a category that the schema does not have is: an "error", or a "missing" cell
        gaps     False: a missing cell is an error

        UsageError names the table, the row and the column of the first cell that its kind does not allow.
        """
        if unseen not in ("error", "missing"):
            raise UsageError(f"unseen={unseen!r}: expected 'error' or 'missing'")
        table = self._match(table_of(data))
        X = np.empty((len(table), len(self.features)))
        for d, column in enumerate(self.features):
            cells = table.columns[column.name]
            X[:, d] = cells.take(_values(table, column, cells, unseen))
        if not gaps and np.isnan(X).any():
            row, d = np.argwhere(np.isnan(X))[0]
            place = table.place(self.names[d], int(row))
            raise UsageError(f"{place}: it is missing, and the model takes no such cells; fill it, or {NO_GAPS}")
        return X

    def condition(self, data: Any) -> dict[str, Array] | None:
        """What the model is given, name → (N,), as `mv.VAE(condition=)` takes it; None for a schema without.

        UsageError names the table, the row and the column of a missing cell, and of a label that is not known.
        """
        table = self._match(table_of(data))
        return {c.name: _given(table, c, table.columns[c.name]) for c in self.conditions} or None

    def labels(self, data: Any) -> Array | None:
        """The label of each row (N,): integers where all are, otherwise text, "" where it is missing; None without."""
        table = self._match(table_of(data))
        if self.label is None or self.label not in table.columns:
            return None
        cells = table.columns[self.label]
        numbers = cells.numbers()
        if all(number is not None and number % 1 == 0 for number in numbers) and (cells.codes >= 0).all():
            return cells.take([float(number) for number in numbers if number is not None]).astype(np.int64)
        return np.array([*map(str, cells.values), ""])[cells.codes]

    def decode(self, X: Array, whole: bool = True) -> dict[str, Array]:
        """X (N, D) → name → (N,) cells as the table has them: numbers, categories, None where X is NaN.

        whole   counts, and numbers of an integer dtype, are rounded; False: only classes are
        """
        if X.ndim != 2 or X.shape[1] != len(self.features):
            raise UsageError(f"expected rows of {len(self.features)} columns, but the shape is {X.shape}")
        decoded = {}
        for column, x in zip(self.features, np.asarray(X).T, strict=True):
            decoded[column.name] = _cells_of(column, x, whole)
        return decoded

    def to_frame(self, X: Array, index: Any = None) -> Any:
        """X (N, D) as a pandas DataFrame of these features, with the dtypes and categories that came."""
        try:
            import pandas as pd
        except ImportError:
            raise UsageError("a DataFrame needs pandas, which is missing: pip install pandas") from None
        decoded = self.decode(X)
        return pd.DataFrame({c.name: _series(pd, c, decoded[c.name], index) for c in self.features}, index=index)

    @staticmethod
    def is_table(data: Any) -> bool:
        """Whether this is a table, for `encode`, and not an array of rows, nor what stands for one in a model."""
        return isinstance(data, dict | list | tuple | Table) or hasattr(data, "iloc")

    def like(self, data: Any, X: Array) -> Any:
        """X (N, D), or m of them (m, N, D), as `data` came: a DataFrame has its other columns too, a dict too.

        X stays an array where data is not a table; rows become a dict of columns.
        """
        if not self.is_table(data):
            return X
        if X.ndim == 3:
            return [self.like(data, x) for x in X]
        if not hasattr(data, "iloc"):
            others = data if isinstance(data, dict) else {}
            return {**others, **self.decode(X)}
        frame, made = data.copy(), self.to_frame(X, data.index)
        for name in data.columns:
            if str(name) in made:
                frame[name] = made[str(name)]
        return frame

    def rows(self, X: Array, whole: bool = True) -> Iterator[list[str]]:
        """X (N, D) as the texts of a CSV's rows, with this schema's decimal mark; "" where X is NaN."""
        columns = [list(map(self.text, cells)) for cells in self.decode(X, whole).values()]
        return (list(row) for row in zip(*columns, strict=True))

    def text(self, cell: Any) -> str:
        """The text of one cell."""
        if cell is None:
            return ""
        if isinstance(cell, float | np.floating):
            return f"{cell:.7g}".replace(".", self.decimal)
        return str(cell)

    def write_csv(self, file: Any, rows: Iterable[list[str]], names: Sequence[str] | None = None) -> None:
        """Write a header and rows of texts to a binary file, with this schema's delimiter."""
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator="\n")
        writer.writerow(self.names if names is None else names)
        writer.writerows(rows)
        text.flush()
        text.detach()

    def _match(self, table: Table) -> Table:
        """The table with this schema's names; UsageError for features that are missing, and for columns too many."""
        names = [column.name for column in self.columns]
        needed = [column.name for column in self.columns if column.is_feature or column.kind == "condition"]
        if not table.named and {*table.names} != {*names}:
            for expected in (names, needed):
                if len(expected) == len(table.columns):
                    held = dict(zip(expected, table.columns.values(), strict=True))
                    return Table(table.where, held, table.lines, False, table.delimiter, table.decimal)
        lacking = [name for name in needed if name not in table.columns]
        extra = [name for name in table.names if name not in {*names}]
        if not lacking and not extra:
            return table
        told = [f"has no column {_some(lacking)}"] if lacking else []
        told += [f"has {_some(extra)} too, which the model was not made for"] if extra else []
        hint = meant(lacking[0], extra) if lacking and extra else ""
        line = "" if table.lines is None or not table.named else ", line 1"
        raise UsageError(f"{table.where}{line}: {' and '.join(told)}; expected the columns {_some(needed)}{hint}")


# ---------------------------------------------------------------------------------------------------------------------
# One column: which kind it is


def _kind(name: object, kind: object) -> Any:
    if kind not in KINDS:
        raise UsageError(f"column {name!r}: expected a kind of {', '.join(KINDS)}, not {kind!r}")
    return kind


def roles(label: str | None, ignore: Sequence[str], condition: Sequence[str]) -> dict[str, str]:
    """The kinds of columns that are no features, by name; a label that is a condition too stays one."""
    return (
        dict.fromkeys(ignore, "ignore")
        | ({} if label is None else {label: "label"})
        | dict.fromkeys(condition, "condition")
    )


def _guess(table: Table, name: str, cells: Cells, place: int) -> str:
    """The kind of a column; UsageError for one that is none."""
    where = f"{table.where}, column {name!r}"
    if cells.dtype == "datetime64":
        raise UsageError(f"{where}: it holds dates{_NO_DATES} (--ignore {name})")
    counts = cells.counts()
    held = [value for value, count in zip(cells.values, counts, strict=True) if count]
    if not held:
        return "real"  # `_fit` says that all is missing
    if cells.dtype in ("category", "ordered category"):
        return "binary" if len(cells.values) == 2 else "ordinal" if cells.dtype[0] == "o" else "categorical"
    numbers = cells.numbers()
    bad = [k for k, number in enumerate(numbers) if number is None]
    if not bad:
        return _guess_numbers(np.array(numbers, dtype=np.float64), counts, cells, where, name, place)
    _check_stray(table, name, cells, counts, bad)
    if sum(bool(_DATE.fullmatch(str(value))) for value in held) > 0.5 * len(held):
        raise UsageError(f"{where}: it holds dates such as {str(held[0])[:30]}{_NO_DATES} (--ignore {name})")
    if len(held) > max(2, 0.5 * counts.sum()):
        told = f"{len(held)} different values in {counts.sum()} rows, as an id has them"
        raise UsageError(f"{where}: {told}; ignore it (--ignore {name})")
    return "binary" if len(held) == 2 else "categorical"


def _check_stray(table: Table, name: str, cells: Cells, counts: Array, bad: list[int]) -> None:
    """Refuse values that are no numbers, `bad`, among numbers in most rows."""
    if len(bad) < len(counts) and 0 < counts[bad].sum() < 0.5 * counts.sum():
        k = min((k for k in bad if counts[k]), key=cells.first_row)
        text = str(cells.values[k])[:30]
        hint = "if it is a category, say so in the file of --columns"
        raise UsageError(
            f"{table.place(name, cells.first_row(k))}: expected a number as in most rows, but found {text!r}; "
            + (HOW_COMMA[2:] if re.fullmatch(_COMMA, text) else hint)
        )


def numbers_rows(name: str, x: Array) -> bool:
    """Whether a first column (N,) is 0, 1, 2 … or 1, 2, 3 …: of 10 rows at least, or of 2 if its name says so."""
    return len(x) >= (2 if name.lower() in _PLACE else 10) and x[0] in (0, 1) and bool((np.diff(x) == 1).all())


def _guess_numbers(values: Array, counts: Array, cells: Cells, where: str, name: str, place: int) -> str:
    """The kind of a column of numbers: its different values (K,), and how many rows hold each."""
    values, counts = values[counts > 0], counts[counts > 0]
    if not np.isfinite(values).all():
        return "real"  # `_fit` says which
    distinct = np.unique(values)
    whole = bool((distinct % 1 == 0).all())
    low, high = distinct[0], distinct[-1]
    if place == 0 and numbers_rows(name, cells.take(np.array(cells.numbers(), dtype=np.float64))):
        message = f"{where}: it numbers the rows: it is ignored (to keep it, give its kind)"
        warnings.warn(message, UsageWarning, stacklevel=5)
        return "ignore"
    if len(distinct) == 2:
        return "binary"
    if whole and len(distinct) == counts.sum() >= 20 and high - low < 2 * len(distinct):
        message = f"{where}: whole numbers, all different and close to each other, as an id has them: if it is one, "
        warnings.warn(f"{message}ignore it (--ignore {name})", UsageWarning, stacklevel=5)
    mean = np.average(values, weights=counts)
    variance = np.average((values - mean) ** 2, weights=counts)
    if whole and low >= 0 and high <= LARGEST_COUNT and variance >= mean and variance >= (mean / 2) ** 2:
        return "count"
    if whole and 2 < len(distinct) <= FEW and counts.sum() >= 10 * len(distinct):
        return "ordinal"
    if low > 0 and len(distinct) > 2:
        logs = np.log(values)
        log_mean = np.average(logs, weights=counts)
        log_variance = np.average((logs - log_mean) ** 2, weights=counts)
        if 0.5 * math.log(variance / log_variance) - log_mean > CLEARER:
            return "positive"
    return "real"


def _fit(table: Table, column: Column, cells: Cells, unseen: str = "error") -> Column:
    """The column with categories and dtype from the cells, which must be fit to train on."""
    column = Column(column.name, column.kind, column.categories, column.dtype or cells.dtype)
    if column.kind in ("label", "ignore"):
        return column
    where = f"{table.where}, column {column.name!r}"
    ignore = f"ignore it (--ignore {column.name})"
    counts = cells.counts()
    if not counts.any():
        raise UsageError(f"{where}: all its {len(cells.codes)} cells are missing; {ignore}")
    classes = column.kind in CLASSES or (column.kind == "condition" and _are_labels(table, column, cells, counts))
    if classes and column.categories is None:
        column = Column(column.name, column.kind, _categories(cells, counts), column.dtype)
        _check_classes(where, column, ignore)
    values = np.asarray(_values(table, column, cells, unseen), dtype=np.float64)[counts > 0]
    if len(np.unique(values)) < 2:
        raise UsageError(
            f"{where}: it is constant: every cell is {str(cells.values[int(np.argmax(counts))])[:30]!r}; {ignore}"
        )
    return column


def _are_labels(table: Table, column: Column, cells: Cells, counts: Array) -> bool:
    """Whether a condition is of labels: it has categories, or is text, or integers of at most FEW levels."""
    numbers = cells.numbers()
    bad = [k for k, number in enumerate(numbers) if number is None]
    if column.categories is not None or cells.dtype in ("category", "ordered category", "bool"):
        return True
    _check_stray(table, column.name, cells, counts, bad)
    whole = all(number is not None and number % 1 == 0 for number in numbers)
    return bool(bad) or (whole and len(numbers) <= FEW and not column.dtype.startswith("float"))


def _check_classes(where: str, column: Column, ignore: str) -> None:
    """Refuse another number of classes than a kind has, and warn of very many."""
    classes = len(column.categories or ())
    if column.kind == "binary" and classes != 2 and classes > 1:
        raise UsageError(f"{where}: it is said to be binary, and holds {classes} different values, not 2")
    if classes > MANY:
        message = f"{where}: {classes:,} categories, each with outputs of its own; fewer train better, or {ignore}"
        warnings.warn(message, UsageWarning, stacklevel=4)


def _categories(cells: Cells, counts: Array) -> list[Any]:
    """The different values as categories: sorted, as numbers where all are; those of pandas as they are."""
    if cells.dtype in ("category", "ordered category"):
        return list(cells.values)
    held = [value for value, count in zip(cells.values, counts, strict=True) if count]
    numbers = [number for number, count in zip(cells.numbers(), counts, strict=True) if count]
    if all(number is not None for number in numbers):
        found = sorted({number for number in numbers if number is not None})
        return [int(number) if number % 1 == 0 else number for number in found]
    if all(isinstance(value, bool) for value in held):
        return [False, True] if len(held) == 2 else held
    return sorted({_key(text): text for text in map(str, held)}.values())  # true and True are one


# ---------------------------------------------------------------------------------------------------------------------
# One column: its numbers, and back


def _values(table: Table, column: Column, cells: Cells, unseen: str) -> list[float]:
    """The number of each different value of the cells: itself, or the place of its category."""
    if column.kind in CLASSES or column.categories is not None:
        return _places(table, column, cells, unseen)
    numbers, there = cells.numbers(), cells.counts()
    bad = [k for k, number in enumerate(numbers) if there[k] and not _allowed(column.kind, number)]
    if bad:
        needs = {"positive": "a number over 0", "count": "a count, 0, 1, 2 …"}
        k = min(bad, key=cells.first_row)
        hint = "" if column.kind not in needs else f"; if the column is not {column.kind}, change its kind (--columns)"
        hint = HOW_COMMA if re.fullmatch(_COMMA, str(cells.values[k])) and cells.decimal == "." else hint
        need, place = needs.get(column.kind, "a finite number"), table.place(column.name, cells.first_row(k))
        raise UsageError(f"{place}: expected {need}, but found {str(cells.values[k])[:30]!r}{hint}")
    return [np.nan if number is None else number for number in numbers]


def _allowed(kind: str, number: float | None) -> bool:
    if number is None or not math.isfinite(number):
        return False
    return number > 0 if kind == "positive" else number >= 0 and number % 1 == 0 if kind == "count" else True


def _places(table: Table, column: Column, cells: Cells, unseen: str) -> list[float]:
    categories = column.categories
    if categories is None:
        raise UsageError(f"column {column.name!r}: its categories are not known: use Columns.fitted(table)")
    place = {_key(category): float(k) for k, category in enumerate(categories)}
    found = [
        place.get(_key(value), place.get(("number", number), np.nan))
        for value, number in zip(cells.values, cells.numbers(), strict=True)
    ]
    unknown = np.flatnonzero(np.isnan(found) & (cells.counts() > 0)).tolist()
    if unknown and unseen == "error":
        k = min(unknown, key=cells.first_row)
        raise UsageError(
            f"{table.place(column.name, cells.first_row(k))}: {str(cells.values[k])[:30]!r} is not among its "
            f"{len(categories)} categories {_some(categories)}; "
            + ("the model was not trained with it" if column.kind == "condition" else HOW_UNSEEN)
        )
    return found


def _given(table: Table, column: Column, cells: Cells) -> Array:
    """The labels or numbers (N,) of a condition."""
    gap = cells.codes < 0
    if gap.any():
        raise UsageError(
            f"{table.place(column.name, int(np.argmax(gap)))}: a condition is missing: fill it, or leave such rows out"
        )
    x = cells.take(_values(table, column, cells, "error"))
    return x if column.categories is None else np.array(column.categories)[x.astype(int)]


def _key(value: Any) -> tuple[str, Any]:
    """What makes a category the same in a file and in a frame: its truth, its number, or its text."""
    if isinstance(value, bool | np.bool_):
        return "bool", bool(value)
    if isinstance(value, int | float):
        return "number", float(value)
    text = str(value)
    return ("bool", text.lower() == "true") if text.lower() in ("true", "false") else ("text", text)


def _cells_of(column: Column, x: Array, whole: bool) -> Array:
    """(N,) numbers of X → cells; objects where a cell is missing or a category."""
    gap = np.isnan(x)
    if column.kind in CLASSES:
        categories = column.categories or []
        codes = np.clip(np.rint(np.where(gap, 0, x)), 0, len(categories) - 1).astype(int)
        cells = np.empty(len(x), dtype=object)
        cells[:] = [None if missing else categories[k] for missing, k in zip(gap, codes, strict=True)]
        return cells
    integer = column.dtype.lower().lstrip("u").startswith("int")
    if (integer or column.kind == "count") and whole:
        cells = np.rint(x)
        if integer and not gap.any() and np.abs(cells).max(initial=0) < 2**63:
            return cells.astype(np.int64)
        x = cells
    if gap.any():
        cells = x.astype(object)
        cells[gap] = None
        return cells
    return x


def _series(pd: Any, column: Column, cells: Array, index: Any) -> Any:
    """A pandas Series of the cells, of the dtype that the column came in."""
    dtype = column.dtype
    if dtype in ("category", "ordered category"):
        kind = pd.CategoricalDtype(column.categories, ordered=dtype == "ordered category")
        return pd.Series(pd.Categorical(cells, dtype=kind), index=index)
    if any(cell is None for cell in cells):  # NumPy's dtypes of these have no gap
        if dtype.startswith(("int", "uint")):
            dtype = dtype.replace("uint", "UInt") if dtype[0] == "u" else dtype.replace("int", "Int")
        dtype = "boolean" if dtype == "bool" else dtype
    if dtype.startswith("bool"):
        cells = np.array([None if cell is None else _key(cell)[1] for cell in cells], dtype=object)
    series = pd.Series(cells, index=index, dtype=object)
    return series if dtype == "object" else series.astype(dtype) if dtype else series.infer_objects()


def _some(names: Iterable[Any]) -> str:
    """The names, only the first few if there are many."""
    names = list(names)
    return ", ".join(repr(name)[:40] for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
