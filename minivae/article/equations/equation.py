"""equation: one equation with its words, code and test, as plain data. Only `toy` computes, when it is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

FIRST_OF_THE_MODEL = 7
LETTERS = {"p": "q", "q": "p"}


def in_the_articles_letters(formula: str) -> str:
    """Translate a formula to the article's letters: p and q are exchanged, the exact posterior p(z|x) becomes p̂(z|x).

    The data's distribution p̃(x) is the same in both. Lines keep their width.
    """
    return re.sub(r"p\(z\|x\)|\b[pq](?=\()", lambda found: LETTERS.get(found[0], "p̂(z|x)"), formula)


@dataclass(frozen=True)
class Number:
    """The value of an equation on an example that is small enough to be checked by hand.

    setting  the example, in words and symbols
    symbol   the quantity computed
    value    the number; error: its standard error if it was sampled; unit: "nats", or ""
    """

    setting: str
    symbol: str
    value: float
    unit: str = ""
    error: float | None = None


@dataclass(frozen=True)
class Equation:
    """One equation of the article, or (number None) a further one that the code needs.

    names           names for `explain`, the principal one first
    formula         in the field's letters, in lines of at most 72 columns; `article` has the article's letters
    gradient        its derivatives, as the code computes them; "" if nothing is differentiated
    words           one paragraph
    forward, backward   the code of the equation and of its gradient: "module:qualified.name", relative to minivae
    test            "tests/file.py::name"
    toy             computes the value with the functions that `forward` names
    cited           the source, if it has no number
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
        """The tag that the docstring or a comment of its code must have."""
        return self.cited if self.number is None else f"eq. {self.number}"

    @property
    def heading(self) -> str:
        return f"{self.tag} · {self.title}"

    @property
    def page(self) -> str:
        return f"site/equations.html#{self.names[0] if self.number is None else f'eq-{self.number}'}"
