"""seeds: repeat a check with many seeds, to measure how often a right gradient is reported as wrong.

Users ignore a checker that raises false alarms. minivae's gradients are right, so every failure on them is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ..console import error, plain, table, verdict
from .compare import examine
from .problem import Problem, Settings
from .results import SCHEMA, Result


@dataclass
class Family:
    """Totals over the checks of one target: their number, failures, the worst error and its seed."""

    checks: int = 0
    failed: int = 0
    derivatives: int = 0
    kinks: int = 0
    worst_error: float = 0.0
    worst_seed: int = 0
    first_failure: str = ""


@dataclass
class Outcome:
    """name (kernels) → the totals of that target over all seeds."""

    families: dict[str, Family]
    seeds: int

    @property
    def exit_code(self) -> int:
        return 1 if any(family.failed for family in self.families.values()) else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": "seeds",
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "seeds": self.seeds,
            "targets": [plain({"name": name, **asdict(family)}) for name, family in self.families.items()],
        }

    def render(self) -> RenderableType:
        made = table("target", "failed", "checked", "kinks", "worst", "seed", "", left=(0, 6))
        for name, f in self.families.items():
            made.add_row(
                name,
                str(f.failed),
                str(f.derivatives),
                str(f.kinks),
                error(f.worst_error),
                str(f.worst_seed),
                verdict("wrong" if f.failed else "ok"),
            )
        failures = [Text(f.first_failure, style="red") for f in self.families.values() if f.failed][:10]
        checks, failed = sum(f.checks for f in self.families.values()), sum(f.failed for f in self.families.values())
        return Group(made, *failures, Text(f"{failed} of {checks} checks failed, {self.seeds} seeds", "bold"))


def run(
    problems_of: Callable[[Settings], Sequence[Problem]],
    settings: Settings,
    seeds: int,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Check all problems that `problems_of` builds, with the seeds settings.seed, +1, +2 …"""
    families: dict[str, Family] = {}
    for seed in range(settings.seed, settings.seed + seeds):
        here = replace(settings, seed=seed)
        for problem in problems_of(here):
            _add(families.setdefault(problem.title, Family()), examine(problem, here), seed)
        if progress:
            progress(f"seed {seed}")
    return Outcome(families, seeds)


def _add(family: Family, result: Result, seed: int) -> None:
    family.checks += 1
    family.derivatives += sum(t.checked for t in result.tensors)
    family.kinks += sum(t.kinks for t in result.tensors)
    worst = max((t.error for t in result.tensors), default=0.0)
    if worst >= family.worst_error:
        family.worst_error, family.worst_seed = worst, seed
    if not result.ok:
        family.failed += 1
        said = [h.text for h in result.hints] + [f.message for f in result.findings if f.verdict == "wrong"]
        family.first_failure = family.first_failure or f"{result.title}, seed {seed}: {'; '.join(said)}"
