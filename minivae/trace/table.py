"""trace_table: a trace for the eye. Plain data in, a rich table out; nothing is measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from .recorder import Held, Step, Trace

WIDE = 112  # columns of a terminal; narrower ones do without WIDE_ONLY
WIDTH = 120  # where there is no terminal
COLUMNS = {"array": 17, "formula": 22, "eq.": 6, "shape": 9, "bytes": 5, "flop": 5, "time": 6, "norm": 7, "min": 7,
           "max": 7, "NaN, ∞": 6}  # name → width: 80 without WIDE_ONLY  # fmt: skip
WORDS, WIDE_ONLY = ("array", "formula", "eq.", "shape"), ("formula", "bytes")


def render(trace: Trace, width: int = WIDTH) -> RenderableType:
    """What was given, the forward, the mirror, the terms, and the first array that is not finite."""
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for name, least in COLUMNS.items():
        if wide or name not in WIDE_ONLY:
            justify: Any = "left" if name in WORDS else "right"
            table.add_column(name, justify=justify, no_wrap=True, overflow="ellipsis", min_width=least)
    _section(table, "given")
    for held in trace.given:
        _row(table, held, None, wide)
    for title, mirror in (("forward", False), ("mirror", True)):
        _section(table, title)
        for step in trace.steps:
            if step.mirror == mirror:
                for k, held in enumerate(step.results):
                    _row(table, held, step if k == 0 else None, wide)
    return Group(table, _conclusion(trace))


def text(trace: Trace) -> str:
    """The table as plain text."""
    console = Console(width=WIDTH, color_system=None, force_terminal=False, force_jupyter=False)
    with console.capture() as capture:
        console.print(render(trace))
    return capture.get()


def _section(table: Table, title: str) -> None:
    table.add_row(Text(title, style="bold"))


def _row(table: Table, held: Held, step: Step | None, wide: bool) -> None:
    """One array; `step` where it is the first that the step left."""
    cells = {"array": held.name, "shape": "×".join(map(str, held.array.shape)) or "()"}
    if step:
        cells |= {"formula": step.what, "eq.": step.equation.removeprefix("eq. "), "bytes": quantity(step.bytes)}
        cells |= {"flop": "—" if step.flops is None else quantity(step.flops), "time": quantity(step.seconds) + "s"}
    cells |= {"norm": _value(held.norm), "min": _value(held.smallest), "max": _value(held.largest)}
    cells |= {"NaN, ∞": _count(held.nonfinite)}
    shown = [cells.get(name, "") for name in COLUMNS if wide or name not in WIDE_ONLY]
    table.add_row(*shown, style="bold red" if held.nonfinite else "")


def _value(x: float) -> str:
    """A number in at most seven characters, nearly always: 0.0123, -248, 5.2e3."""
    if x != x:
        return "—"
    if x == 0 or 0.01 <= abs(x) < 1000:
        return f"{x:.3g}"
    return f"{x:.1e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def _count(n: int) -> str:
    return "" if n == 0 else f"{n:,}" if n < 100_000 else quantity(n)


def quantity(x: float) -> str:
    """A number with three digits and its prefix: 1.57M, 21.4µ."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if x >= factor:
            return f"{x / factor:.3g}{prefix}"
    return "0" if x == 0 else f"{x / 1e-9:.3g}n"


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
