"""report: the results of a check as JSON and as a table. It measures nothing.

The JSON (`Report.to_json`) is documented in docs/gradients.md. `SCHEMA` increases when a field changes its meaning or
is removed, not when one is added.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..console import as_text, error, number, plain, stdout, table, verdict
from .problem import Settings
from .results import SCHEMA, Failure, Hint, Result, Tensor

EVERY_TARGET = 6  # with at most this many targets, every tensor has a line


@dataclass
class Report:
    """The results of a check; `str()` is a table.

    failures    the targets that cannot be checked
    left_out    functions of a file that need arguments, and that torch or JAX differentiates
    ok          whether all were checked and are right
    exit_code   0 all right, 1 a gradient is wrong, 2 something cannot be checked
    """

    results: list[Result]
    settings: Settings
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    left_out: list[Failure] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self._unchecked and all(result.ok for result in self.results)

    @property
    def exit_code(self) -> int:
        return 2 if self._unchecked else 0 if self.ok else 1

    @property
    def _unchecked(self) -> bool:
        """Whether something cannot be checked, or nothing was."""
        return bool(self.failures or (self.left_out and not self.results))

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
            "worst_error": plain(self.worst_error),
            "settings": asdict(self.settings),
            "failures": [asdict(failure) for failure in self.failures],
            "left_out": [asdict(failure) for failure in self.left_out],
            "seconds": round(self.seconds, 3),
            "targets": [
                {
                    "name": result.name,
                    "kernels": result.kernels,
                    "ok": result.ok,
                    "file": result.file,
                    "line": result.line,
                    "seconds": round(result.seconds, 4),
                    "tensors": [plain({**asdict(tensor), "error": tensor.error}) for tensor in result.tensors],
                    "findings": [plain(asdict(finding)) for finding in result.findings],
                }
                for result in self.results
            ],
        }

    def render(self, worst: int = 1, every_tensor: bool | None = None) -> RenderableType:
        """Draw the report: the tables, the findings, and suggested causes of wrong gradients.

        worst         number of the worst places of each tensor to show
        every_tensor  whether each tensor has a line; None: if there are few targets
        """
        return _render(self, worst, every_tensor)

    def print(self, console: Console | None = None, worst: int = 1) -> None:
        """Print the table and, if a gradient is wrong, the suggested causes."""
        (console or stdout()).print(self.render(worst))

    def __str__(self) -> str:
        return as_text(self.render(), width=100)


def _render(report: Report, worst: int, every_tensor: bool | None) -> RenderableType:
    """Draw the complete report: tables, findings, suggestions and conclusion."""
    if every_tensor is None:
        every_tensor = len(report.results) <= EVERY_TARGET or not any(result.kernels for result in report.results)
    parts: list[RenderableType] = []
    if every_tensor:
        parts += [tensors(result, worst) for result in report.results]
    else:
        parts.append(families(report.results))
        parts += [tensors(result, worst) for result in report.results if not result.ok]
    if report.results:
        parts.append(beside(report))
    wrong = [result for result in report.results if not result.ok]
    for result in wrong:
        parts.append(suggestions(result))
    parts += [Text(f"{failure.name} cannot be checked: {failure.message}", "yellow") for failure in report.failures]
    for failure in report.left_out:
        parts.append(Text(f"{failure.name} is not checked: {failure.message}", "yellow"))
    if report.results:
        parts.append(conclusion(report))
    return Group(*parts)


def families(results: list[Result]) -> Table:
    """One line for each family of targets, with the worst error of each kind of kernel side by side."""

    def family(result: Result) -> str:
        return ".".join(result.name.split(".")[:2]) if not result.name.startswith("likelihoods") else "likelihoods"

    made = table("", "targets", "entries", "fused", "reference", "complex", "worst tensor", "", left=(0, 6, 7))
    order: dict[str, list[Result]] = {}
    for result in results:
        order.setdefault(family(result), []).append(result)
    for name, members in order.items():
        tensors = [(t, r) for r in members for t in r.tensors]

        def of(kernels: str, complex_step: bool = False, tensors: list = tensors) -> str:
            errors = [t.error for t, r in tensors if r.kernels == kernels and (t.method == "complex") == complex_step]
            return error(max(errors)) if errors else "—"

        exact = [t.error for t, _ in tensors if t.method == "complex"]
        tensor, result = max(tensors, key=lambda pair: pair[0].error / pair[0].tolerance)
        ok = all(r.ok for r in members)
        where = result.name.removeprefix(name + ".") if result.name != name else ""
        made.add_row(
            name,
            str(len(members)),
            f"{sum(t.checked for t, _ in tensors)}",
            of("fused"),
            of("reference"),
            error(max(exact)) if exact else "—",
            f"{where + ' ' if where else ''}{tensor.name}",
            verdict("ok" if ok else "wrong"),
        )
    return made


def tensors(result: Result, worst: int = 1) -> Table:
    """One line for each tensor of a target; with worst > 1, more of its worst places below it."""
    made = table(
        "tensor", "shape", "checked", "error", "worst at", "analytic", "numeric", "", left=(0, 4), title=result.title
    )
    for tensor in result.tensors:
        place = tensor.worst[0] if tensor.worst else None
        made.add_row(
            tensor.name,
            "×".join(map(str, tensor.shape)) or "()",
            checked(tensor),
            error(tensor.error) if place else "—",
            place.index if place else "",
            number(place.analytic) if place else "",
            number(place.numeric) if place else "",
            verdict(tensor.verdict),
        )
        for more in tensor.worst[1:worst]:
            made.add_row("", "", "", error(more.error), more.index, number(more.analytic), number(more.numeric), "")
    return made


def checked(tensor: Tensor) -> str:
    """Return how much of a tensor was checked, and how: "42", "42 complex", "16 dirs", "40 + 2 kinks"."""
    how = {"central": "", "directions": " dirs", "none": ""}.get(tensor.method, f" {tensor.method}")
    return f"{tensor.checked}{how}" + (f" + {tensor.kinks} kinks" if tensor.kinks else "")


_TITLES = {
    "reference": "same forward as the reference",
    "inputs": "inputs unmodified",
    "upstream": "dY unmodified",
    "passed": "not differentiated by",
    "none": "no gradient returned",
    "deterministic": "the same twice",
    "whole": "poisoned buffers",
    "non-contiguous": "non-contiguous inputs",
    "one-row": "one row",
    "float32": "float32",
    "float16": "float16",
    "bfloat16": "bfloat16",
}


def beside(report: Report) -> Table | Text:
    """The findings beside the numbers: how often each was checked, and the worst of each."""
    findings = [(f, r) for r in report.results for f in r.findings]
    if not findings:
        return Text("")
    order = [*_TITLES, *(f.kind for f, _ in findings if f.kind not in _TITLES)]
    made = table("beside the numbers", "tried", "", "", left=(0, 2, 3))
    for kind, pairs in groupby(sorted(findings, key=lambda p: order.index(p[0].kind)), lambda p: p[0].kind):
        group = list(pairs)
        rank = {"ok": 0, "note": 1, "wrong": 2}
        worst, result = max(group, key=lambda pair: (rank[pair[0].verdict], pair[0].error or 0.0))
        where = f"{result.title}: " if worst.verdict != "ok" and len(report.results) > 1 else ""
        made.add_row(_TITLES.get(kind, kind), str(len(group)), where + worst.message, verdict(worst.verdict))
    return made


def suggestions(result: Result) -> RenderableType:
    """The suggested causes for a target that is wrong."""
    lines: list[RenderableType] = []
    messages = [hint.text for hint in result.hints]
    for finding in result.findings:
        if finding.verdict == "wrong" and finding.kind != "deterministic":  # that one is a hint already
            messages.append(finding.message)
    if not messages:
        return Text("")
    lines.append(Text.assemble((result.title, "bold"), (" is wrong, and what that suggests:", "")))
    for message in messages:
        bullet = Table.grid(padding=(0, 1))
        bullet.add_row("  •", message)
        lines.append(bullet)
    return Padding(Group(*lines), (0, 0, 1, 0))


def conclusion(report: Report) -> Text:
    """The last lines: the definition of the error, and the verdict."""
    tensors = [t for r in report.results for t in r.tensors]
    total, kinks = sum(t.checked for t in tensors), sum(t.kinks for t in tensors)
    by_direction = [t for t in tensors if t.method == "directions"]
    wrong = [r for r in report.results if not r.ok]
    allowed = f"{report.settings.tolerance:.0e}"
    for method in dict.fromkeys(t.method for t in tensors):
        tolerance = max(t.tolerance for t in tensors if t.method == method)
        if tolerance != report.settings.tolerance and method != "none":
            allowed += f", {method} {tolerance:.0e}"
    text = Text(f"error: |analytic − numeric| / max(|analytic|, |numeric|, floor); allowed: {allowed}\n", style="dim")
    if by_direction:
        seeded = f"{report.settings.directions} random directions each, seed {report.settings.seed}"
        text.append(f"{len(by_direction)} large tensors along {seeded}\n", style="dim")
    if kinks:
        text.append(
            f"{kinks} {'entry' if kinks == 1 else 'entries'} on a kink, where there is no derivative, left out\n",
            style="yellow",
        )
    many = f"{len(report.results)} target{'s' * (len(report.results) != 1)}"
    if wrong:
        text.append(f"{len(wrong)} of {many} wrong" if len(report.results) > 1 else "wrong", style="bold red")
    else:
        text.append(f"{many} right", style="bold green")
    text.append(f": {total} derivatives in {report.seconds:.1f} s, worst error {error(report.worst_error)}")
    return text
