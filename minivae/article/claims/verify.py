"""verify: run claims one after the other and report which hold. The runner of `minivae verify`.

A claim that raises an error fails. Results are reproducible: every claim has its own seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module

from ...errors import UsageError
from ..equations.table import equation_number
from .claim import CLAIMS, Claim
from .report import Report, Result

CHAPTERS = ("expectations", "divergences", "framework", "encoder", "decoders", "sampling", "training", "bounds")


def claims() -> list[Claim]:
    """Return every claim in the article's order; its number is its position, from 1."""
    for chapter in CHAPTERS:
        import_module(f"{__package__}.{chapter}")
    return sorted(CLAIMS.values(), key=lambda claim: CHAPTERS.index(claim.chapter))


def select(names: list[str]) -> list[tuple[int, Claim]]:
    """Return (number, claim) of the named claims, in order; no names: all.

    A name is a claim's number ("17"), its name ("kl-formula"), its chapter ("encoder"), or an equation ("eq16").
    """
    if isinstance(names, str):
        raise UsageError(f"{names!r}: expected a list of names, as in [{names!r}]")
    numbered = list(enumerate(claims(), 1))
    chosen: set[int] = set()
    for name in names:
        hits = {number for number, claim in numbered if _means(name.strip(), number, claim)}
        if not hits:
            raise UsageError(
                f"--only {name}: expected a claim's number, 1 to {len(numbered)}, its name, such as kl-formula, a "
                f"chapter ({', '.join(CHAPTERS)}), or an equation, eq1 to eq24; --list shows all"
            )
        chosen |= hits
    return [(number, claim) for number, claim in numbered if not names or number in chosen]


def _means(name: str, number: int, claim: Claim) -> bool:
    if name.lower().startswith("eq"):
        return equation_number(name) in claim.equations
    return name in (str(number), claim.name, claim.chapter)


def run(names: list[str] | None = None, begin: Callable[[int, int, str], None] | None = None) -> Report:
    """Measure the named claims, or all. begin(done, total, name) is called before each."""
    chosen, results = select(names or []), []
    for done, (number, claim) in enumerate(chosen):
        if begin is not None:
            begin(done, len(chosen), claim.name)
        results.append(measure(number, claim))
    return Report(results)


def measure(number: int, claim: Claim) -> Result:
    """Measure one claim; an error makes it fail."""
    started, checks, error = time.perf_counter(), [], ""
    try:
        checks = claim.measure()
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    return Result(number, claim, checks, time.perf_counter() - started, error)
