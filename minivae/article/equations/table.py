"""table: all equations in order, and the search for one by number or name."""

from __future__ import annotations

import re

from ...errors import UsageError
from ...hints import meant
from .equation import Equation
from .model import MODEL
from .theory import THEORY

EQUATIONS: tuple[Equation, ...] = (*THEORY, *MODEL)
BY_NAME = {name: equation for equation in EQUATIONS for name in (equation.key, *equation.names)}
LAST = max(equation.number or 0 for equation in EQUATIONS)


def find(which: int | str) -> Equation:
    """Return the equation for a number or a name: 16, "16", "eq. 16", "eq16", "(16)", "kl", "Gaussian KL"."""
    asked = str(which).strip()
    number = equation_number(asked)
    name = asked.lower().strip(" ()").replace(" ", "-").replace("_", "-") if number is None else str(number)
    if name in BY_NAME:
        return BY_NAME[name]
    if name.lstrip("-").isdigit():
        hint = f"the article's are 1 to {LAST}"
    else:
        hint = meant(name, list(BY_NAME), "{}", 3) or f"expected 1 to {LAST}, or a name such as kl or elbo"
    raise UsageError(f"there is no equation {asked[:40]!r}: {hint} (`minivae explain` lists them)")


def equation_number(asked: str) -> int | None:
    """Return 16 for "16", "(16)", "eq16" and "eq. 16"; None for anything else."""
    found = re.fullmatch(r"(?:eq\.?[\s_-]*)?\(?(\d+)\)?", asked.strip().lower())
    return int(found[1]) if found else None
