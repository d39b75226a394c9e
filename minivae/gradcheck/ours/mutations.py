"""mutations: test that the checker detects errors. Known mistakes are planted in every backward; each must be caught.

Only the backward is changed, because the checker compares it with the forward. (If the forward is wrong in the same
way, the check passes; that needs an oracle: docs/gradients.md, "what it cannot see".)

    of the gradient   in one tensor at a time, all others right: a factor of 1.001, 2, ½, B, 1/B, a sign …
    of an op          inside minivae's backward kernels: the KL dropped, σ in place of σ², the noise redrawn, the slope
                      of the activation left out, the bias sum cut short
    of a product      by the non-zeros of X, in dW = Xᵀ dA: one dropped, rows shifted, a wrong column

Numerical derivatives depend on the forward alone, so they are measured once for all mistakes of a target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from ...console import table, verdict
from ..compare import examine
from ..numeric import Probe
from ..problem import Problem, Settings
from ..results import SCHEMA, Result
from .mistakes import mistakes

# ---- planting them --------------------------------------------------------------------------------------------------


@dataclass
class Planted:
    """One mistake in one target: the tensor, whether it was caught, and the diagnosis."""

    target: str
    kernels: str
    mistake: str
    tensor: str
    caught: bool
    hints: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """All planted mistakes. exit_code is 1 if one was not caught."""

    planted: list[Planted]
    settings: Settings

    @property
    def ok(self) -> bool:
        return all(p.caught for p in self.planted)

    @property
    def exit_code(self) -> int:
        return 0 if self.ok else 1

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": "mutate",
            "ok": self.ok,
            "exit_code": self.exit_code,
            "planted": len(self.planted),
            "caught": sum(p.caught for p in self.planted),
            "mistakes": [asdict(p) for p in self.planted],
        }

    def render(self, every: bool = False) -> RenderableType:
        made = table("mistake", "targets", "planted", "caught", "diagnosed as", "", left=(0, 4, 5))
        for mistake in dict.fromkeys(p.mistake for p in self.planted):
            of = [p for p in self.planted if p.mistake == mistake]
            caught = sum(p.caught for p in of)
            codes: dict[str, int] = {}
            for p in of:
                for code in p.hints:
                    codes[code] = codes.get(code, 0) + 1
            names = ", ".join(sorted(codes, key=lambda code: -codes[code])[:3])
            targets = len({(p.target, p.kernels) for p in of})
            made.add_row(
                mistake, str(targets), str(len(of)), str(caught), names, verdict("ok" if caught == len(of) else "wrong")
            )
        parts: list[RenderableType] = [made]
        missed = [p for p in self.planted if not p.caught]
        for p in missed if every else missed[:10]:
            parts.append(Text(f"not caught: {p.mistake} in {p.tensor} of {p.target} ({p.kernels})", style="bold red"))
        per_target: dict[tuple[str, str], set[str]] = {}
        for p in self.planted:
            per_target.setdefault((p.target, p.kernels), set()).add(p.mistake)
        fewest = min(map(len, per_target.values()), default=0)
        text = Text(f"{sum(p.caught for p in self.planted)} of {len(self.planted)} planted mistakes caught", "bold")
        text.append(f"; {len(per_target)} targets, at least {fewest} kinds of mistake in each", "default")
        return Group(*parts, text)


def is_caught(result: Result) -> bool:
    return not result.ok


def run(problems: Sequence[Problem], settings: Settings, progress: Callable[[str], None] | None = None) -> Outcome:
    """Plant every mistake in every problem and check each."""
    settings = Settings(**{**asdict(settings), "behaviour": False})
    planted = []
    for problem in problems:
        probe = Probe(problem, settings)
        for mistake, tensor, mutant in mistakes(problem):
            result = examine(mutant, settings, probe)
            codes = [hint.code for hint in result.hints] + [f.kind for f in result.findings if f.verdict == "wrong"]
            planted.append(
                Planted(problem.name, problem.kernels, mistake, tensor, is_caught(result), list(dict.fromkeys(codes)))
            )
        if progress:
            progress(problem.title)
    return Outcome(planted, settings)
