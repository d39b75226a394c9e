"""report: the results of the claims as JSON and as a table. Nothing is measured here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from ...console import as_text, number, verdict
from .claim import Check, Claim

SCHEMA = 1


@dataclass(frozen=True)
class Result:
    """A claim, its checks, the time taken, and the error if it raised one."""

    number: int
    claim: Claim
    checks: list[Check]
    seconds: float
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def verdict(self) -> str:
        """ "holds"; "loose" if the known correction was confirmed; "FAILS"."""
        if not self.ok:
            return "FAILS"
        return "loose" if self.claim.loose else "holds"

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "name": self.claim.name,
            "chapter": self.claim.chapter,
            "equations": list(self.claim.equations),
            "sentence": self.claim.sentence,
            "verdict": self.verdict,
            "loose": self.claim.loose or None,
            "seconds": round(self.seconds, 3),
            "error": self.error or None,
            "checks": [
                {"what": c.what, "value": _value(c.value), "rule": c.rule, "holds": c.holds} for c in self.checks
            ],
        }


@dataclass(frozen=True)
class Report:
    """All results. exit_code is 1 if a claim fails."""

    results: list[Result]

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)

    @property
    def exit_code(self) -> int:
        return 0 if self.ok else 1

    @property
    def seconds(self) -> float:
        return sum(result.seconds for result in self.results)

    def count(self, verdict: str) -> int:
        return sum(result.verdict == verdict for result in self.results)

    def to_json(self) -> dict[str, Any]:
        counts = {name.lower(): self.count(name) for name in ("holds", "loose", "FAILS")}
        results = [result.to_json() for result in self.results]
        return {
            "schema": SCHEMA,
            "kind": "verify",
            "ok": self.ok,
            **counts,
            "seconds": round(self.seconds, 3),
            "claims": results,
        }

    def render(self) -> RenderableType:
        """Draw the table and a summary line."""
        return _render(self)

    def __str__(self) -> str:
        return as_text(_render(self))


def _value(value: float) -> float | str:
    """Convert to JSON, which has no infinities: they become "inf", "-inf" and "nan"."""
    return value if math.isfinite(value) else str(value)


def shown(value: float) -> str:
    """Format a number with six digits; one near 0 with two."""
    return number(value, 6) if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def equations(claim: Claim) -> str:
    """ "eq. 5", "eq. 17, 18", or "prose"."""
    return "eq. " + ", ".join(map(str, claim.equations)) if claim.equations else "prose"


def measured(check: Check) -> str:
    """Format one check in a line; if it fails, with the expected value."""
    if check.holds:
        return f"{check.what}: {shown(check.value)}  ({check.rule})"
    return f"{check.what}: measured {shown(check.value)}, expected {check.rule}"


def summary(report: Report) -> str:
    """Return the last line."""
    total, loose, failed = len(report.results), report.count("loose"), report.count("FAILS")
    line = f"{total} claim{'s' if total != 1 else ''}: {report.count('holds')} hold, {loose} loose, {failed} fail"
    return f"{line} ({report.seconds:.1f} s)"


def _render(report: Report) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="bold")
    table.add_column("", justify="right")
    table.add_column("claim", ratio=2)
    table.add_column("measurement", ratio=3)
    table.add_column("verdict")
    for result in report.results:
        claim = f"{escape(result.claim.sentence)} [dim]{equations(result.claim)} · {result.claim.name}[/]"
        table.add_row(str(result.number), claim, _measurements(result), verdict(result.verdict))
    colour = "green" if report.ok else "bold red"
    return Group(table, f"[{colour}]{summary(report)}[/]")


def _measurements(result: Result) -> str:

    lines = [
        escape(measured(check)) if check.holds else f"[red]{escape(measured(check))}[/]" for check in result.checks
    ]
    if result.error:
        lines.append(f"[red]{escape('raised ' + result.error)}[/]")
    if result.claim.loose:
        lines.append(f"[yellow]loose: {escape(result.claim.loose)}[/]")
    return "\n".join(lines)
