"""report: what a check found, as data, as JSON and as a table. It measures nothing.

The JSON (`Report.to_json`) is documented in docs/gradients.md; `SCHEMA` is raised when a field changes its meaning or
goes away, not when one is added.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .problem import Settings

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA = 1


@dataclass
class Hint:
    """What a pattern suggests. code: a stable word for machines; text: a sentence or two for people, about a tensor
    whose name goes in front."""

    code: str
    text: str


@dataclass
class Place:
    """One entry (or direction) of a tensor: where, and what was compared there."""

    index: str
    analytic: float
    numeric: float
    error: float
    step: float


@dataclass
class Tensor:
    """One tensor of one target.

    checked    entries or directions compared; kinks: entries apart, where there is no derivative
    method     "central", "complex" or "directions"
    verdict    "ok"; "wrong"; "kinks": too many to check; "none": declared to have no gradient
    worst      the worst places, worst first
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    kinks: int
    method: str
    tolerance: float
    verdict: str
    worst: list[Place] = field(default_factory=list)
    hints: list[Hint] = field(default_factory=list)

    @property
    def error(self) -> float:
        return self.worst[0].error if self.worst else 0.0


@dataclass
class Finding:
    """Something beside the numbers: kind, verdict "ok", "wrong" or "note", and a sentence."""

    kind: str
    verdict: str
    message: str
    error: float | None = None


@dataclass
class Result:
    """One target: its tensors and findings."""

    name: str
    kernels: str
    tensors: list[Tensor]
    findings: list[Finding]
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return all(t.verdict in ("ok", "none") for t in self.tensors) and all(
            f.verdict != "wrong" for f in self.findings
        )

    @property
    def title(self) -> str:
        return f"{self.name} ({self.kernels})" if self.kernels else self.name

    @property
    def hints(self) -> list[Hint]:
        """What is suggested, each thing once, with the names of its tensors in front."""
        names: dict[tuple[str, str], list[str]] = {}
        for tensor in self.tensors:
            for hint in tensor.hints:
                names.setdefault((hint.code, hint.text), []).append(tensor.name)
        return [Hint(code, f"{', '.join(of)}: {text}") for (code, text), of in names.items()]

    def worst(self) -> Tensor | None:
        """The tensor furthest beyond its tolerance, or nearest to it."""
        return max(self.tensors, key=lambda t: (t.verdict == "wrong", t.error / t.tolerance), default=None)


@dataclass
class Report:
    """The results of a check. `ok`, `exit_code` (0 all good, 1 wrong), `worst_error`, `hints`; `str()` is a table."""

    results: list[Result]
    settings: Settings
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)

    @property
    def exit_code(self) -> int:
        return 0 if self.ok else 1

    @property
    def worst_error(self) -> float:
        """The worst relative error of any tensor."""
        return max((t.error for r in self.results for t in r.tensors), default=0.0)

    @property
    def hints(self) -> list[Hint]:
        return [hint for result in self.results for hint in result.hints]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data for `json.dumps(…, allow_nan=False)`; numbers that are not finite are null."""
        return {
            "schema": SCHEMA,
            "kind": "check",
            "ok": self.ok,
            "exit_code": self.exit_code,
            "worst_error": finite(self.worst_error),
            "settings": asdict(self.settings),
            "seconds": round(self.seconds, 3),
            "targets": [
                {
                    "name": result.name,
                    "kernels": result.kernels,
                    "ok": result.ok,
                    "seconds": round(result.seconds, 4),
                    "tensors": [
                        {**_finite_numbers(asdict(tensor)), "error": finite(tensor.error)} for tensor in result.tensors
                    ],
                    "findings": [_finite_numbers(asdict(finding)) for finding in result.findings],
                }
                for result in self.results
            ],
        }

    def render(self, worst: int = 1, every_tensor: bool | None = None) -> RenderableType:
        """The report for a terminal; the options are `tables.render`'s."""
        from .tables import render

        return render(self, worst, every_tensor)

    def print(self, console: Console | None = None, worst: int = 1) -> None:
        """Print the table and, where something is wrong, what it suggests."""
        from rich.console import Console

        (console or Console()).print(self.render(worst))

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=100, color_system=None, force_terminal=False, force_jupyter=False)
        with console.capture() as capture:
            self.print(console)
        return capture.get()


def finite(x: float | None) -> float | None:
    """x, or None where JSON has no number for it."""
    return x if x is not None and math.isfinite(x) else None


def _finite_numbers(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _finite_numbers(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite_numbers(value) for value in data]
    return finite(data) if isinstance(data, float) else data
