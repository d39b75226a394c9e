"""table: how a report looks on a terminal. A claim, what was measured, the verdict."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from .claim import Check, Claim
    from .verify import Report, Result

COLOURS = {"holds": "green", "loose": "yellow", "FAILS": "bold red"}


def equations(claim: Claim) -> str:
    """ "eq. 5", "eq. 17, 18", or "prose"."""
    return "eq. " + ", ".join(map(str, claim.equations)) if claim.equations else "prose"


def shown(value: float) -> str:
    """Six digits; what is nearly 0 without them."""
    return f"{value:.6g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def measured(check: Check) -> str:
    """One check in a line; a failing one says what was expected."""
    if check.holds:
        return f"{check.what}: {shown(check.value)}  ({check.rule})"
    return f"{check.what}: measured {shown(check.value)}, expected {check.rule}"


def summary(report: Report) -> str:
    """The last line."""
    total, loose, failed = len(report.results), report.count("loose"), report.count("FAILS")
    line = f"{total} claim{'s' if total != 1 else ''}: {report.count('holds')} hold, {loose} loose, {failed} fail"
    return f"{line} ({report.seconds:.1f} s)"


def render(report: Report) -> RenderableType:
    """The table, and a line that sums it up."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column("", justify="right")
    table.add_column("claim", ratio=2)
    table.add_column("measurement", ratio=3)
    table.add_column("verdict")
    for result in report.results:
        verdict = f"[{COLOURS[result.verdict]}]{result.verdict}[/]"
        claim = f"{escape(result.claim.sentence)} [dim]{equations(result.claim)} · {result.claim.name}[/]"
        table.add_row(str(result.number), claim, _measurements(result), verdict)
    colour = "green" if report.ok else "bold red"
    return Group(table, f"[{colour}]{summary(report)}[/]")


def _measurements(result: Result) -> str:
    from rich.markup import escape

    lines = [
        escape(measured(check)) if check.holds else f"[red]{escape(measured(check))}[/]" for check in result.checks
    ]
    if result.error:
        lines.append(f"[red]{escape('raised ' + result.error)}[/]")
    if result.claim.loose:
        lines.append(f"[yellow]loose: {escape(result.claim.loose)}[/]")
    return "\n".join(lines)


def text(report: Report, width: int = 120) -> str:
    """The same without colours."""
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(render(report))
    return out.getvalue()
