"""outcomes: join what was checked here with what came from other processes; the answers of many people in one table."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..console import error, table, verdict
from ..errors import UsageError
from . import process, sweep
from . import seeds as many
from .compare import examine_all
from .problem import Problem, Settings
from .report import Report
from .results import Failure, Result, decode


def gather(
    mode: str,
    settings: dict[str, Any],
    seeds: int,
    of_ours: Callable[[int], list[Problem]] | None,
    work: process.Work,
    progress: Callable[[str], None],
) -> Any:
    """Return the outcome of a mode (`process.Job`): a Report for "check", where a failure is one of its lines.

    of_ours   builds the problems of this process for a seed; None: there are none
    """
    start = time.perf_counter()
    here = Settings(**settings)
    if mode == "check":
        report = examine_all(of_ours(here.seed) if of_ours else [], here, progress)
        for done in work.run(progress):
            if done.left_out is not None:
                report.left_out.append(Failure(done.target, done.left_out))
            elif done.failure is not None:
                report.failures.append(Failure(done.target, done.failure))
            else:
                report.results.append(decode(Result, done.outcome))
        report.seconds = time.perf_counter() - start
        return report
    if mode == "sweep":
        if of_ours:
            return sweep.run(of_ours(here.seed)[0], here)
        return decode(sweep.Curve, _good(work, progress)[0])
    if mode == "mutate":
        from .ours import mutations

        outcome = mutations.run(of_ours(here.seed) if of_ours else [], here, progress)
        for other in _good(work, progress):
            outcome.planted += decode(mutations.Outcome, other).planted
        return outcome
    totals = many.run(lambda s: of_ours(s.seed), here, seeds, progress) if of_ours else many.Outcome({}, seeds)
    for other in _good(work, progress):
        totals.families.update(decode(many.Outcome, other).families)
    return totals


def _good(work: process.Work, progress: Callable[[str], None]) -> list[Any]:
    """Return the outcomes; UsageError for the first failure, and where there is none."""
    done = work.run(progress)
    found = [one.outcome for one in done if one.left_out is None]
    for one in done:
        why = one.failure or (one.left_out if not found else None)
        if why is not None:
            raise UsageError(why)
    return found


# ---- grades ---------------------------------------------------------------------------------------------------------

COLUMNS = ("answer", "verdict", "worst_error", "message")
_COLOURS = {"right": "ok", "wrong": "wrong", "unchecked": "note"}


def rows(report: Report) -> list[tuple[str, str, str, str]]:
    """Return a row for each answer: its name, "right", "wrong" or "unchecked", its worst error, and the first cause."""
    out = [(failure.name, "unchecked", "", failure.message) for failure in report.failures + report.left_out]
    for result in report.results:
        found = sorted((f for f in result.findings if f.verdict == "wrong"), key=lambda f: f.kind != "reference")
        causes = [f.message for f in found if f.kind == "reference"]
        causes += [hint.text for hint in result.hints] + [f.message for f in found]
        tensor = result.worst()
        message = "" if result.ok else next(iter(causes), "")
        out.append((result.name, "right" if result.ok else "wrong", error(tensor.error) if tensor else "", message))
    return sorted(out)


def grades(report: Report) -> RenderableType:
    """Draw the table of the answers."""
    made = table("answer", "", "error", "what that suggests", left=(0, 1, 3))
    counts = dict.fromkeys(_COLOURS, 0)
    for name, word, worst, message in rows(report):
        counts[word] += 1
        made.add_row(name, verdict(_COLOURS[word]) if word == "wrong" else Text(word), worst, message)
    told = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    return Group(made, Text(f"{sum(counts.values())} answers: {told}", "bold"))


def write_grades(report: Report, path: Path) -> None:
    """Write the table as CSV. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in rows(report):
                writer.writerow([f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in row])
    except OSError as problem:
        raise UsageError(f"--csv {path}: {problem.strerror}") from None
