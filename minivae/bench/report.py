"""report: draw the tables for a terminal of 80 columns or more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from .tables import Table, left_out, machine_lines, tables

if TYPE_CHECKING:
    from .figures import Figures


def render(figures: Figures) -> RenderableType:
    """Draw the machine, the tables, and the contenders that did not race."""
    kind = "quick figures, of short runs" if figures.quick else "medians of interleaved turns"
    parts: list[RenderableType] = [Text(f"minivae bench, {kind}, {figures.date}", style="bold")]
    parts += [Text(line, style="dim") for line in machine_lines(figures)]
    parts += [_table(table) for table in tables(figures)]
    parts += [Text(f"{name} did not race: {why}", style="yellow") for name, why in left_out(figures).items()]
    return Group(*parts)


def _table(table: Table) -> RenderableType:
    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    made.add_column(table.corner, no_wrap=True)
    for column in table.columns:
        made.add_column(column, justify="right", overflow="fold")
    for label, texts in table.rows:
        made.add_row(label, *texts, style="bold" if label.startswith("minivae") else "")
    if table.ratios:
        made.add_section()
    for label, texts in table.ratios:
        made.add_row(label, *texts)
    return Group(Text(f"\n{table.title}", style="bold"), made, Text(table.note, style="dim"))
