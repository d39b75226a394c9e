"""result: a recorded trace as data and as a table. Nothing is measured here."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..console import WIDTH, as_text, compact, plain, quantity
from ..objectives import Terms

WIDE = 112  # columns of a terminal; narrower ones leave out WIDE_ONLY
COLUMNS = {"array": 17, "formula": 22, "eq.": 6, "shape": 9, "bytes": 5, "flop": 5, "time": 6, "norm": 7, "min": 7,
           "max": 7, "NaN, ∞": 6}  # name → width: 80 without WIDE_ONLY  # fmt: skip
WORDS, WIDE_ONLY = ("array", "formula", "eq.", "shape"), ("formula", "bytes")


@dataclass(frozen=True)
class Held:
    """An array after a step, on the host: norm, minimum and maximum of its finite entries, and the number of others.

    The three are NaN if no entry is finite.
    """

    name: str
    array: np.ndarray = field(repr=False)
    norm: float
    smallest: float
    largest: float
    nonfinite: int

    @classmethod
    def of(cls, name: str, array: np.ndarray) -> Held:
        finite = array[np.isfinite(array)].astype(np.float64)
        if not finite.size:
            return cls(name, array, np.nan, np.nan, np.nan, array.size)
        size = float(np.abs(finite).max()) or 1.0  # so that no square overflows
        norm = size * float(np.sqrt(((finite / size) ** 2).sum()))
        return cls(name, array, norm, float(finite.min()), float(finite.max()), array.size - finite.size)

    def to_dict(self) -> dict[str, Any]:
        numbers = {"norm": self.norm, "smallest": self.smallest, "largest": self.largest}
        return {
            "name": self.name,
            "shape": list(self.array.shape),
            **plain(numbers),
            "nonfinite": self.nonfinite,
        }


@dataclass(frozen=True)
class Step:
    """One step: its place in the model, its formula and its results.

    place     "noise", "encoder.0", "posterior", "decoder.1", "objective" or the likelihood's name
    what      the formula;  equation: its number in the article, or ""
    mirror    whether it belongs to the backward pass (the attribute has the name of the JSON key)
    flops     None if they are not counted
    """

    place: str
    what: str
    equation: str
    mirror: bool
    bytes: int
    flops: int | None
    seconds: float
    results: tuple[Held, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**vars(self), "results": [held.to_dict() for held in self.results]}


@dataclass(frozen=True)
class Trace:
    """A recorded pass: the batch and parameters given, the steps in order, and the resulting terms.

    trace["encoder.0.Y"]   the array of that name, on the host; the last one if there are several
    print(trace)           the table
    """

    given: tuple[Held, ...]
    steps: tuple[Step, ...]
    terms: Terms
    backend: str

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Name → array, of the batch, the parameters and every result."""
        return {held.name: held.array for held in self._all()}

    def __getitem__(self, name: str) -> np.ndarray:
        arrays = self.arrays
        if name not in arrays:
            raise KeyError(f"no array {name!r}: there are {', '.join(arrays)}")
        return arrays[name]

    @property
    def first_nonfinite(self) -> Held | None:
        """The first array with a NaN or an infinity: the batch, then the parameters, then the steps in order."""
        return next((held for held in self._all() if held.nonfinite), None)

    def _all(self) -> Iterator[Held]:
        yield from self.given
        for step in self.steps:
            yield from step.results

    def to_dict(self) -> dict[str, Any]:
        first, terms = self.first_nonfinite, self.terms
        numbers = {"loss": terms.loss, "elbo": terms.elbo, "nll": terms.nll, "kl": terms.kl}
        return {
            "backend": self.backend,
            "rows": len(self.given[0].array),
            **plain(numbers),
            "first_nonfinite": None if first is None else first.name,
            "given": [held.to_dict() for held in self.given],
            "steps": [step.to_dict() for step in self.steps],
        }

    def render(self, width: int = WIDTH) -> RenderableType:
        """Draw the table for a console of this width."""
        return _render(self, width)

    def __str__(self) -> str:
        return as_text(_render(self, WIDTH))

    __repr__ = __str__  # so that it is a table at a prompt

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def _render(trace: Trace, width: int) -> RenderableType:
    """Draw the given arrays, the forward and backward steps, the terms, and the first array that is not finite."""
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name, least in COLUMNS.items():
        if wide or name not in WIDE_ONLY:
            justify: Any = "left" if name in WORDS else "right"
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", min_width=least)
    _section(table, "given")
    for held in trace.given:
        _row(table, held, None, wide)
    for title, mirror in (("forward", False), ("backward", True)):
        _section(table, title)
        for step in trace.steps:
            if step.mirror == mirror:
                for k, held in enumerate(step.results):
                    _row(table, held, step if k == 0 else None, wide)
    return Group(table, _conclusion(trace))


def _section(table: Table, title: str) -> None:
    table.add_row(Text(title, style="bold"))


def _row(table: Table, held: Held, step: Step | None, wide: bool) -> None:
    """Add the line of one array; `step` is given for the first result of a step."""
    cells = {"array": held.name, "shape": "×".join(map(str, held.array.shape)) or "()"}
    if step:
        cells |= {"formula": step.what, "eq.": step.equation.removeprefix("eq. "), "bytes": quantity(step.bytes)}
        cells |= {"flop": "—" if step.flops is None else quantity(step.flops), "time": quantity(step.seconds) + "s"}
    cells |= {"norm": compact(held.norm), "min": compact(held.smallest), "max": compact(held.largest)}
    cells |= {"NaN, ∞": _count(held.nonfinite)}
    shown = [cells.get(name, "") for name in COLUMNS if wide or name not in WIDE_ONLY]
    table.add_row(*shown, style="bold red" if held.nonfinite else "")


def _count(n: int) -> str:
    return "" if n == 0 else f"{n:,}" if n < 100_000 else quantity(n)


def _conclusion(trace: Trace) -> Text:
    terms, first = trace.terms, trace.first_nonfinite
    steps = [step for step in trace.steps if step.flops is not None]
    seconds, flops = sum(step.seconds for step in trace.steps), sum(step.flops or 0 for step in steps)
    said = Text(f"loss {terms.loss:.3f}  elbo {terms.elbo:.3f}  nll {terms.nll:.3f}  kl {terms.kl:.3f}  nats a row\n")
    said.append(
        f"{len(trace.steps)} steps, {quantity(seconds)}s, {quantity(flops)} FLOP; {trace.backend}\n", style="dim"
    )
    if first is None:
        said.append("every number is finite", style="green")
    else:
        said.append(
            f"the first array with a NaN or an infinity: {first.name}, {first.nonfinite:,} of its {first.array.size:,} "
            "entries",
            style="bold red",
        )
    return said
