"""columns: the command `minivae columns`, and how a table is written. `app.py` registers it; typer alone is loaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .conditions import Names, names_of
from .options import Force, check_out, say, writing_file

if TYPE_CHECKING:
    from ..datasets.columns import Columns
    from ..datasets.table import Table

Label = Annotated[
    str | None,
    typer.Option("--label", metavar="COL", help="A table's column that names the rows.", rich_help_panel="Data"),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore", "--drop", metavar="COL", help="A table's column to leave out; again for more.",
        rich_help_panel="Data",
    ),
]  # fmt: skip


def columns(
    data: Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv or .tsv file, .gz allowed, or .parquet.")],
    label: Label = None,
    ignore: Ignore = None,
    condition: Names = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE.json", help="The file to write; default: print it.")
    ] = None,
    force: Force = False,
) -> None:
    """Describe the columns of a table as JSON: the kind of each, as its cells suggest it.

    Kinds: real, positive, count, binary, categorical, ordinal, condition, label, ignore. Edit the file, and train
    with it:

    Example: minivae columns data.csv > columns.json; minivae train data.csv --columns columns.json
    """
    from ..datasets.columns import Columns

    if out is not None:
        check_out(out, (".json",), force)
    table = open_table(data)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        schema = Columns.infer(table, label=label, ignore=ignore or (), strict=False, condition=names_of(condition))
    if out is None:
        print(schema.to_json(), end="")
        return
    with writing_file(out, force) as file:
        file.write(schema.to_json().encode())
    say(f"{out}: {len(schema)} columns of {len(table):,} rows")


def open_table(path: Path) -> Table:
    """Read a table's file; UsageError for a file that is none."""
    from ..datasets.load import existing_file
    from ..datasets.named import NAMED
    from ..datasets.table import is_table, read_table

    path = path if str(path) in NAMED else existing_file(path)
    if not is_table(path):
        raise UsageError(f"{path}: expected a table: a .csv or .tsv file, .gz allowed, or .parquet")
    return read_table(path)


def columns_of(run: Any) -> Columns:
    """The schema of a run's model: its own, or that of numbers with its names."""
    from ..datasets.columns import Columns

    config = run.config
    if run.vae.schema is not None:
        return run.vae.schema
    if config.get("columns") is not None:
        return Columns.from_builtins(config["columns"])
    return Columns(dict.fromkeys(run.vae.columns or map(str, range(run.vae.features)), "real"))
