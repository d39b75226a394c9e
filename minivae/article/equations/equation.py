"""equation: what is known of one equation. Plain data; nothing is computed here but `toy`, when it is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

FIRST_OF_THE_MODEL = 7
LETTERS = {"p": "q", "q": "p"}


def in_the_articles_letters(formula: str) -> str:
    """The formula with the article's letters: p and q change places, and the exact posterior p(z|x) becomes p̂(z|x).

    The data's distribution p̃(x) is the same in both. No line changes its width.
    """
    return re.sub(r"p\(z\|x\)|\b[pq](?=\()", lambda found: LETTERS.get(found[0], "p̂(z|x)"), formula)


@dataclass(frozen=True)
class Number:
    """What an equation gives on a toy that is small enough to be checked by hand.

    setting  what the toy is, in words and symbols
    symbol   what was computed
    value    the number; error: its standard error, where it was sampled; unit: "nats", or ""
    """

    setting: str
    symbol: str
    value: float
    unit: str = ""
    error: float | None = None


@dataclass(frozen=True)
class Equation:
    """One equation of the article, or (number None) one that the code needs beside it.

    names           what it is asked for by, the first being its own
    formula         in the field's letters, in lines of at most 72 columns; `article` is the same in the article's
    gradient        its derivatives, as the code has them; "" where nothing is differentiated
    words           one paragraph
    forward, backward   where it and its gradient are computed: "module:qualified.name", the module being below minivae
    test            "tests/file.py::name"
    toy             computes the number, by the functions that `forward` names
    cited           whose it is, where it has no number
    """

    number: int | None
    names: tuple[str, ...]
    title: str
    formula: str
    words: str
    forward: tuple[str, ...]
    test: str
    toy: Callable[[], Number]
    backward: tuple[str, ...] = ()
    gradient: str = ""
    cited: str = ""

    @property
    def article(self) -> str:
        """The formula in the article's letters; eq. 1–6 are about any two distributions, and the same in both."""
        return (
            self.formula if self.number and self.number < FIRST_OF_THE_MODEL else in_the_articles_letters(self.formula)
        )

    @property
    def key(self) -> str:
        return self.names[0] if self.number is None else str(self.number)

    @property
    def tag(self) -> str:
        """What the code that computes it says in a docstring or a comment."""
        return self.cited if self.number is None else f"eq. {self.number}"

    @property
    def heading(self) -> str:
        return f"{self.tag} · {self.title}"

    @property
    def page(self) -> str:
        return f"site/equations.html#{self.names[0] if self.number is None else f'eq-{self.number}'}"
