"""results: the results of checking one target, as data. It measures nothing and draws nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

SCHEMA = 1


@dataclass
class Hint:
    """A suggested cause of a wrong gradient.

    code   a stable identifier for programs
    text   a sentence or two for people, to be printed after the tensor's name
    """

    code: str
    text: str


@dataclass
class Place:
    """One entry (or direction) of a tensor: its index and the two derivatives compared there."""

    index: str
    analytic: float
    numeric: float
    error: float
    step: float


@dataclass
class Tensor:
    """One tensor of one target.

    checked    entries or directions compared; kinks: entries left out because they have no derivative
    method     "central", "complex" or "directions"
    verdict    "ok"; "wrong"; "kinks": too many to check; "flat": the outputs do not depend on it; "none": declared to
               have no gradient
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
    """The result of a check beside the numbers: kind, verdict "ok", "wrong" or "note", and a sentence."""

    kind: str
    verdict: str
    message: str
    error: float | None = None


@dataclass
class Result:
    """One target: its tensors and findings; file and line of its backward, "" and 0 if unknown."""

    name: str
    kernels: str
    tensors: list[Tensor]
    findings: list[Finding]
    seconds: float = 0.0
    file: str = ""
    line: int = 0

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
        """The suggestions, each once, with the names of the tensors that it is about in front."""
        names: dict[tuple[str, str], list[str]] = {}
        for tensor in self.tensors:
            for hint in tensor.hints:
                names.setdefault((hint.code, hint.text), []).append(tensor.name)
        return [Hint(code, f"{', '.join(of)}: {text}") for (code, text), of in names.items()]

    def worst(self) -> Tensor | None:
        """Return the tensor whose error is the largest multiple of its tolerance, wrong ones first."""
        return max(self.tensors, key=lambda t: (t.verdict == "wrong", t.error / t.tolerance), default=None)


@dataclass
class Failure:
    """A target that cannot be checked, and why."""

    name: str
    message: str


def decode(kind: Any, data: Any) -> Any:
    """Make a dataclass of what `asdict` and JSON have made of it; lists, dicts and tuples of dataclasses likewise."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{f.name: decode(hints[f.name], data[f.name]) for f in fields(kind)})  # type: ignore[operator]
    inner = get_args(kind)
    if get_origin(kind) is list:
        return [decode(inner[0], x) for x in data]
    if get_origin(kind) is dict:
        return {key: decode(inner[1], x) for key, x in data.items()}
    return tuple(data) if get_origin(kind) is tuple else data
