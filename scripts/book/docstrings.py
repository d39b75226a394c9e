"""docstrings: an extension of griffe, which reads the code for the API page.

Docstrings contain columns and formulas, so they are shown unchanged, as preformatted text.
"""

from __future__ import annotations

from typing import Any

import griffe


class AsTheyStand(griffe.Extension):
    """Fence each docstring."""

    def on_instance(self, *, obj: Any, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = f"````text\n{obj.docstring.value}\n````"
