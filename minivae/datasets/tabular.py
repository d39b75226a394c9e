"""tabular: the rows of a table's file, as numbers of one kind with their columns' names, or by a schema of kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError
from .columns import Column, Columns, numbers_rows, roles
from .formats import read_numbers
from .rows import Array, blocks
from .table import Table, read_table


@dataclass(frozen=True)
class Reading:
    """How a table is read.

    columns   its schema; or the names of columns that are all numbers, as a model without a schema knows them; None:
              found in the file
    label     the column that names the rows, which is no feature
    ignore    columns that are no feature
    condition   columns that the model is given: names, or `Column`s with the categories that a model knows
    fit       complete and check the schema that is given by this table, to train on it
    unseen    what an unknown category is: an "error", or a "missing" cell
    gaps      whether a cell may be missing; False: it is an error
    mixed     True: by a schema; False: all columns as numbers; None: by a schema where there is text or a gap, without
              a column that numbers the rows
    """

    columns: Columns | Sequence[str] | None = None
    label: str | None = None
    ignore: Sequence[str] = ()
    fit: bool = False
    unseen: str = "error"
    mixed: bool | None = None
    condition: Sequence[str | Column] = ()
    gaps: bool = True


@dataclass(frozen=True)
class Rows:
    """X (N, D), labels (N,) or None, the names of the columns or None, and the schema where kinds decided what X is.

    checked     the values are finite but for NaN in missing cells
    schema      of a table whose cells were looked at, whatever X is
    condition   name → (N,), or None
    """

    X: Array
    y: Array | None
    names: tuple[str, ...] | None
    columns: Columns | None
    checked: bool = True
    schema: Columns | None = None
    condition: dict[str, Array] | None = None


def read_rows(path: Path, how: Reading) -> Rows:
    """Read a table's file. UsageError names the file, the line and the column."""
    numbers = _read_as_numbers(path, how)
    if numbers is not None:
        return numbers
    table = read_table(path)
    if isinstance(how.columns, Columns):
        return _by_schema(table, _fitted(how.columns, table, how) if how.fit else how.columns, how)
    if how.columns is not None:
        return _of_numbers(table, how.columns, how)
    conditions = [str(getattr(column, "name", column)) for column in how.condition]
    if how.mixed is False:
        apart = (how.label, *how.ignore, *conditions)
        return _of_numbers(table, [name for name in table.names if name not in apart], how)
    columns = Columns.infer(table, label=how.label, ignore=how.ignore, condition=conditions)
    held = [table.columns[name] for name in columns.names]
    gaps = any((cells.codes < 0).any() for cells in held)
    numeric = all(None not in cells.numbers() for cells in held)
    if how.mixed or (how.mixed is None and (gaps or not numeric)):
        return _by_schema(table, columns, how)
    return _of_numbers(table, columns.names, how)


def _fitted(columns: Columns, table: Table, how: Reading) -> Columns:
    """A schema that was given, with the label and what to ignore, and what the table to train on adds to it."""
    conditions = [str(getattr(column, "name", column)) for column in how.condition]
    return columns.with_kinds(roles(how.label, how.ignore, conditions)).fitted(table, unseen=how.unseen)


def _read_as_numbers(path: Path, how: Reading) -> Rows | None:
    """The quick way, for a large file: lines of numbers alone. None where the file is not that."""
    if path.suffix.lower() != ".csv" or isinstance(how.columns, Columns) or how.label or how.ignore or how.mixed:
        return None
    if how.condition:
        return None
    try:
        X, titles = read_numbers(path)
    except UsageError:
        return None  # `read_table` says what it is
    names = None if titles is None else tuple(titles)
    if any(np.isnan(X[rows]).any() for rows in blocks(X)):
        return None
    if how.columns is None and how.mixed is None and names and numbers_rows(names[0], X[:, 0]):
        return None
    if how.columns is not None and names is not None and names != tuple(how.columns):
        return None
    return Rows(X, None, names, None, checked=False)


def _by_schema(table: Table, columns: Columns, how: Reading) -> Rows:
    X, condition = columns.encode(table, how.unseen, how.gaps), columns.condition(table)
    return Rows(X, columns.labels(table), tuple(columns.names), columns, schema=columns, condition=condition)


def _of_numbers(table: Table, names: Sequence[str], how: Reading) -> Rows:
    """Columns of numbers under one likelihood; the others of the table must be the label or ignored."""
    kinds = dict.fromkeys(names, "real")
    kinds |= {name: "ignore" for name in how.ignore if name in table.columns}
    kinds |= {how.label: "label"} if how.label in table.columns and how.label else {}
    for name in table.names:  # what numbers the rows stays out without a word: training said it
        if name not in kinds and name == table.names[0] and numbers_rows(name, _numbers(table, name)):
            kinds[name] = "ignore"
    given = {c.name: c for c in how.condition if isinstance(c, Column)}
    kinds |= {str(getattr(c, "name", c)): "condition" for c in how.condition}
    columns = Columns([given.get(name) or Column(name, kind) for name, kind in kinds.items()])  # type: ignore[arg-type]
    columns = columns.fitted(table, only="condition")
    X, condition, named = (
        columns.encode(table, gaps=how.gaps),
        columns.condition(table),
        tuple(names) if table.named else None,
    )
    return Rows(X, columns.labels(table), named, None, schema=columns, condition=condition)


def _numbers(table: Table, name: str) -> Array:
    cells = table.columns[name]
    return cells.take([np.nan if number is None else number for number in cells.numbers()])
