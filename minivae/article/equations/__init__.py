"""equations: the article's equations, each with its code, its test, its page and its number on a live toy.

    import minivae as mv
    print(mv.explain(16))         # or "kl", as `minivae explain 16`
    print(mv.explain())           # the list

Reading order: equation (what is known of one), theory and model (the two halves of the table), toys (the numbers),
places (where a name stands in the code), explanation (the text), page (of the book), command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .explanation import Explanation, Listing


def explain(which: int | str | None = None) -> Explanation | Listing:
    """Equation `which`, a number (1–24) or a name such as "kl", computed on a live toy; None: the list.

    What comes back prints as text; `.to_dict()` is the same for a machine. Raises UsageError for an unknown equation.
    """
    from .explanation import Explanation, Listing
    from .table import find

    return Listing() if which is None else Explanation.of(find(which))
