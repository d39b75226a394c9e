"""equations: the article's equations, each with its code, its test, its page and its value on a small example.

    import minivae as mv
    print(mv.explain(16))         # or "kl", as `minivae explain 16`
    print(mv.explain())           # the list

Reading order: equation (one entry of the table), theory and model (the two halves of the table), toys (the values),
places (lines of the code), explanation (the text), page (of the book), command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .explanation import Explanation, Listing


def explain(which: int | str | None = None) -> Explanation | Listing:
    """Explain equation `which`, a number (1–24) or a name such as "kl", with its value on an example; None: the list.

    The result prints as text; `.to_dict()` returns it as data. Raises UsageError for an unknown equation.
    """
    from .explanation import Explanation, Listing
    from .table import find

    return Listing() if which is None else Explanation.of(find(which))
