"""impute: the command `minivae impute`. `app.py` registers it; at import only typer is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .columns import columns_of, open_table
from .options import BackendName, Force, KernelKind, Out, RunFolder, check_out, say, writing_file
from .plugin import Plugin

if TYPE_CHECKING:
    from ..datasets.columns import Columns
    from ..datasets.table import Cells, Table


def impute(
    run: RunFolder,
    data: Annotated[Path, typer.Argument(metavar="TABLE", help="The table whose missing cells are filled.")],
    out: Out,
    draws: Annotated[
        int | None, typer.Option(metavar="M", help="M draws of each row, numbered in a column 'draw', not the mean.")
    ] = None,
    importance: Annotated[int, typer.Option(metavar="K", help="Samples of z for each row.")] = 1000,
    unseen: Annotated[str, typer.Option(metavar="U", help="An unknown category is an error, or missing.")] = "error",
    force: Force = False,
    backend: BackendName = "auto",
    kernels: KernelKind = "fused",
    plugin: Plugin = None,
) -> None:
    """Fill the missing cells of a table from the observed ones; these come out as they came in.

    A number becomes its mean given the observed cells, a positive one its median, a category the likeliest. With
    --draws, each of M copies of a row is a draw, for figures that need the spread (multiple imputation). Cells are
    assumed missing at random.

    Example: minivae impute run data.csv -o filled.csv
    """
    from ..datasets.columns import NO_GAPS
    from .runs import open_run

    check_out(out, (".csv",), force)
    opened = open_run(run, backend, kernels)
    if not opened.vae.missing:
        raise UsageError(f"{run}: it was trained on a table without missing cells, and takes none; {NO_GAPS}")
    schema, table = columns_of(opened), open_table(data)
    X = schema.encode(table, unseen)
    filled = opened.vae.impute(X, draws=draws, samples=importance, condition=schema.condition(table))
    schema.delimiter = table.delimiter
    if any(table.decimal in text for name in schema.names for text in _texts_of_numbers(table.columns[name])):
        schema.decimal = table.decimal  # else none of its cells says which it is
    with writing_file(out, force) as file:
        if draws is None:
            schema.write_csv(file, _rows(schema, table, X, filled), table.names)
        else:
            rows = ([str(m + 1), *row] for m, one in enumerate(filled) for row in _rows(schema, table, X, one))
            if "draw" in table.columns:
                raise UsageError(
                    f"{data}: --draws numbers the draws in a column 'draw', and the table has one: rename it"
                )
            schema.write_csv(file, rows, ["draw", *table.names])
    import numpy as np

    gaps = int(np.isnan(X).sum())
    what = "E[x|observed], or the likeliest category" if draws is None else f"{draws} draws of x|observed"
    counted = "1 row" if len(X) == 1 else f"{len(X):,} rows"
    say(f"{out}: {counted}, {gaps:,} of {X.size:,} cells filled: {what}")


def _texts_of_numbers(cells: Cells) -> list[str]:
    """The texts of a column of numbers; none of another."""
    return list(map(str, cells.values)) if cells.dtype == "float64" else []


def _rows(schema: Columns, table: Table, X: Any, filled: Any) -> Iterator[list[str]]:
    """The rows of the table as texts, with those of `filled` (N, D) where X is NaN."""
    new = dict(zip(schema.names, zip(*schema.rows(filled), strict=True), strict=True))
    gap = {name: X[:, d] != X[:, d] for d, name in enumerate(schema.names)}
    columns = []
    for name, cells in table.columns.items():
        texts = cells.texts(schema.text)
        if name in new:
            texts = [one if missing else text for text, one, missing in zip(texts, new[name], gap[name], strict=True)]
        columns.append(texts)
    return (list(row) for row in zip(*columns, strict=True))
