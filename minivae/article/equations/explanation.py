"""explanation: an equation as text for an 80-column terminal, and as data for programs."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...console import with_error
from .equation import Equation, Number
from .places import ROOT, Place, of_code, of_test
from .table import EQUATIONS

WIDTH = 80
FIELD = "Encoder q(z|x), decoder p(x|z), prior p(z)"
ARTICLE = "The article's letters: encoder p(z|x), decoder q(x|z), prior q(z)"
EITHER = "The formula"


@dataclass(frozen=True)
class Explanation:
    """An equation, its places in the installed code, and its value, computed just now."""

    equation: Equation
    forward: tuple[Place, ...]
    backward: tuple[Place, ...]
    test: Place
    number: Number

    @classmethod
    def of(cls, equation: Equation) -> Explanation:
        forward, backward = (tuple(map(of_code, places)) for places in (equation.forward, equation.backward))
        return cls(equation, forward, backward, of_test(equation.test), equation.toy())

    def text(self, bold: bool = False) -> str:
        e = self.equation
        parts = [_bold(e.heading, bold) + f"\nminivae explain {' | '.join(e.names)}"]
        same = e.article == e.formula
        parts.append(_section(EITHER if same else FIELD, _indent(e.formula), bold))
        if not same:
            parts.append(_section(ARTICLE, _indent(e.article), bold))
        parts.append(_section("In words", _wrapped(e.words), bold))
        if e.gradient:
            parts.append(_section("Gradient", _indent(e.gradient), bold))
        parts.append(_section("In the code", self._places(), bold))
        parts.append(_section("On a live toy", self._toy(), bold))
        return "\n\n".join(parts)

    def _places(self) -> str:
        rows: list[tuple[str, Place | str]] = [("forward", place) for place in self.forward]
        if self.forward == self.backward:
            rows = [("both ways", place) for place in self.forward]
        else:
            rows += [("backward", place) for place in self.backward]
        if not self.backward:
            rows.append(("backward", "none: nothing is trained by it"))
        rows += [("test", self.test), ("page", f"{self.equation.page} (after make docs)")]
        if Path.cwd() != ROOT:
            rows.append(("below", str(ROOT)))
        width = max(len(str(place)) for _, place in rows if isinstance(place, Place))
        return "\n".join(_row(kind, place, width) for kind, place in rows)

    def _toy(self) -> str:
        return f"{_wrapped(self.number.setting)}\n    {self.number.symbol}: {spoken(self.number)}"

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__  # so that `mv.explain(16)` prints at a prompt

    def to_dict(self) -> dict[str, Any]:
        e, n = self.equation, self.number
        return {
            "number": e.number,
            "names": list(e.names),
            "title": e.title,
            "article": e.article,
            "kingma_welling": e.formula,
            "words": e.words,
            "gradient": e.gradient or None,
            "forward": [place.to_dict() for place in self.forward],
            "backward": [place.to_dict() for place in self.backward],
            "test": self.test.to_dict(),
            "page": e.page,
            "toy": {"setting": n.setting, "symbol": n.symbol, "value": n.value, "error": n.error, "unit": n.unit},
        }


class Listing:
    """Every equation: its number, its title and its names."""

    def text(self, bold: bool = False) -> str:
        width = max(len(e.title) for e in EQUATIONS)
        lines = [_bold("The equations", bold) + ": minivae explain N, or a name"]
        for e in EQUATIONS:
            names = list(e.names)
            while width + len(", ".join(names)) > WIDTH - 8:
                names.pop()
            lines.append(f"  {'' if e.number is None else e.number:>2}  {e.title:<{width}}  {', '.join(names)}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__

    def to_dict(self) -> list[dict[str, Any]]:
        return [{"number": e.number, "names": list(e.names), "title": e.title} for e in EQUATIONS]


def spoken(number: Number) -> str:
    """ "0.443147 nats", "2.98 ± 0.017"."""
    value = with_error(number.value, number.error)
    return f"{value} {number.unit}".rstrip()


def _row(kind: str, place: Place | str, width: int) -> str:
    """Format a place and the name defined there, on two lines if they do not fit on one."""
    if isinstance(place, str):
        return f"    {kind:<9}  {place}"
    line = f"    {kind:<9}  {place!s:<{width}}  {place.name}"
    if len(line) <= WIDTH:
        return line
    return f"    {kind:<9}  {place}\n{' ' * min(15, WIDTH - len(place.name))}{place.name}"


def _section(title: str, body: str, bold: bool) -> str:
    return f"{_bold(title, bold)}\n{body}"


def _bold(text: str, bold: bool) -> str:
    return f"\x1b[1m{text}\x1b[0m" if bold else text


def _indent(text: str) -> str:
    return textwrap.indent(text, " " * 4)


def _wrapped(text: str) -> str:
    """Wrap text into lines, without a break before or after an = sign."""
    text = text.replace(" = ", "\u00a0=\u00a0")
    lines = (textwrap.fill(line, WIDTH - 4) for line in text.split("\n"))
    return _indent("\n".join(lines).replace("\u00a0", " "))
