"""race_report: what a race of any code prints: a table, JSON, and the formats of three dashboards."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import median
from typing import Any

from ..console import plain
from . import machine
from .race_code import Outcome
from .race_interval import CONFIDENCE

SCHEMA = 1  # increases when a field changes its meaning or is removed


def lines(outcome: Outcome, limit: float | None) -> list[str]:
    """Return the report as lines of text."""
    a, b = outcome.sides
    width = max(len(a.label), len(b.label))
    settings = outcome.settings
    said = [
        f"{side.label:<{width}}  {duration(_middle(outcome.seconds(name)))} a call"
        for side, name in ((a, "a"), (b, "b"))
    ]
    said += [
        "",
        f"{b.label} / {a.label}: {_with_interval(outcome.ratio, outcome.interval)}  {outcome.verdict}",
        f"floor, {a.label} / itself: {_with_interval(outcome.floor_ratio, outcome.floor)}",
        "",
        f"The median over {settings.blocks} blocks, its 95 % interval, and the same for the first code against itself.",
    ]
    if outcome.apart is not None:
        said.append(f"In this race the machine told no difference under {100 * outcome.apart:.1f} % from none.")
    if outcome.allowed is not None:
        agreement = "are equal" if outcome.difference == 0 else f"differ by {outcome.difference:.1e} at most"
        said.append(f"The results {agreement}" + (f" ({outcome.allowed:.1e} is allowed)." if outcome.allowed else "."))
    if limit is not None:
        said.append(f"--fail-over {limit:g}: {outcome_of_limit(outcome, limit)}.")
    return said + [f"Note: {note}." for note in outcome.notes]


def warning(outcome: Outcome, limit: float | None) -> str | None:
    """Return the sentence about a race that decided nothing; None if it did."""
    if (outcome.compared_with(limit or 1.0)) != 0:
        return None
    if outcome.interval is None:
        return "undecided: there are too few blocks for an interval; give --blocks 12 or more"
    if not outcome.interval[0] <= (limit or 1) <= outcome.interval[1]:
        return (
            f"undecided: the interval {_interval(outcome.interval)} lies on one side of {limit or 1:g}, but the same "
            f"code against itself gave {_interval(outcome.floor)}: race again, or on a quieter machine"
        )
    return (
        f"undecided: the interval {_interval(outcome.interval)} holds {limit or 1:g}; more --blocks or a quieter "
        "machine narrow it"
    )


def outcome_of_limit(outcome: Outcome, limit: float) -> str:
    """Say how the interval lies to the limit of --fail-over."""
    return ("undecided", "exceeded", "kept")[outcome.compared_with(limit)]


def to_json(outcome: Outcome, limit: float | None) -> dict[str, Any]:
    """Return plain data; docs/race.md describes every key."""
    facts, a = machine.describe(), outcome.sides[0]
    return {
        "schema": SCHEMA,
        "kind": "race",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {name: facts[name] for name in ("cpu", "processors", "system", "load")},
        "contenders": {
            name: {
                "label": side.label,
                "target": side.target,
                "python": side.python,
                "seconds": _middle(outcome.seconds(name)),
                "calls": calls,
            }
            for name, side, calls in zip("ab", outcome.sides, outcome.calls, strict=True)
        },
        "ratio": outcome.ratio,
        "interval": outcome.interval,
        "confidence": CONFIDENCE,
        "floor": {"ratio": outcome.floor_ratio, "interval": outcome.floor, "apart": outcome.apart},
        "verdict": outcome.verdict,
        "fail_over": None if limit is None else {"limit": limit, "outcome": outcome_of_limit(outcome, limit)},
        "results": None if outcome.allowed is None else {"difference": outcome.difference, "allowed": outcome.allowed},
        "clock": outcome.clock,
        "settings": {
            "blocks": outcome.settings.blocks,
            "seconds": outcome.settings.seconds,
            "inputs": a.inputs,
            "keep": outcome.settings.keep,
        },
        "blocks": [{"a": block.a, "b": block.b, "floor": block.floor} for block in outcome.blocks],
        "notes": outcome.notes,
    }


def json_text(outcome: Outcome, limit: float | None) -> str:
    return json.dumps(plain(to_json(outcome, limit)), allow_nan=False, indent=1)


def smaller_is_better(outcome: Outcome, limit: float | None) -> str:
    """Return the JSON of github-action-benchmark's tool customSmallerIsBetter."""
    a, b = outcome.sides
    entries: list[dict[str, Any]] = [
        {"name": side.label, "unit": "ns", "value": 1e9 * _middle(outcome.seconds(name))}
        for side, name in ((a, "a"), (b, "b"))
    ]
    ratio: dict[str, Any] = {"name": f"{b.label} / {a.label}", "unit": "ratio", "value": outcome.ratio}
    if outcome.interval:
        ratio["range"] = f"{_interval(outcome.interval)}"
    ratio["extra"] = f"{outcome.verdict}; floor {_with_interval(outcome.floor_ratio, outcome.floor)}"
    return json.dumps([*entries, ratio], allow_nan=False, ensure_ascii=False, indent=1)


def bencher(outcome: Outcome, limit: float | None) -> str:
    """Return Bencher Metric Format (JSON): latency in ns of each, and the ratio with its interval."""
    a, b = outcome.sides
    held: dict[str, Any] = {}
    for side, name in ((a, "a"), (b, "b")):
        label = side.label if side.label not in held else f"{side.label} (b)"
        held[label] = {"latency": {"value": 1e9 * _middle(outcome.seconds(name))}}
    ratio = {"value": outcome.ratio}
    if outcome.interval:
        ratio |= {"lower_value": outcome.interval[0], "upper_value": outcome.interval[1]}
    held[f"{b.label} / {a.label}"] = {"ratio": ratio}
    return json.dumps(held, allow_nan=False, ensure_ascii=False, indent=1)


def markdown(outcome: Outcome, limit: float | None) -> str:
    """Return Markdown, for a step summary of GitHub Actions."""
    a, b = outcome.sides

    def row(*cells: str) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    said = [
        row("", "a call", "ratio", "95 % interval", ""),
        "| --- | ---: | ---: | ---: | --- |",
        row(f"`{a.label}`", duration(_middle(outcome.seconds("a"))), "1", "", ""),
        row(
            f"`{b.label}`",
            duration(_middle(outcome.seconds("b"))),
            f"{outcome.ratio:.3f}",
            _interval(outcome.interval),
            f"**{outcome.verdict}**",
        ),
        row(f"`{a.label}` against itself", "", f"{outcome.floor_ratio:.3f}", _interval(outcome.floor), "floor"),
        "",
    ]
    if limit is not None:
        said.append(f"`--fail-over {limit:g}`: {outcome_of_limit(outcome, limit)}.")
    return "\n".join(said)


FORMATS: dict[str, Callable[[Outcome, float | None], str]] = {
    "smaller-is-better": smaller_is_better,
    "bencher": bencher,
    "markdown": markdown,
}


def duration(seconds: float) -> str:
    """Return a time with three digits and its unit: 61.2 µs."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= factor:
            return f"{seconds / factor:#.3g}".rstrip(".") + f" {unit}"
    return f"{1e9 * seconds:#.3g}".rstrip(".") + " ns"


def _middle(values: list[float]) -> float:
    return median(values)


def _interval(found: tuple[float, float] | None) -> str:
    return "no interval" if found is None else f"{found[0]:.3f}–{found[1]:.3f}"


def _with_interval(ratio: float, found: tuple[float, float] | None) -> str:
    return f"{ratio:.3f} ({_interval(found)})"
