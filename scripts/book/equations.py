r"""equations: LaTeX to MathML when the book is built. A hook of mkdocs.

`\(…\)` and `$…$` in a line, `$$…$$` on lines of their own (pymdownx.arithmatex). Browsers draw MathML themselves,
without a script or a font. A command that the converter does not know would keep its backslash: that is an error.
"""

from __future__ import annotations

import html
import re
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.S)
TAG = re.compile(r"\\tag\{(\w+)\}")


class Unknown(ValueError):
    """LaTeX that does not become MathML."""


def convert(latex: str, display: bool) -> str:
    """Convert one formula to MathML."""
    from latex2mathml import converter

    # The converter leaves no gap after a function's name; before a bracket there is to be none.
    latex = re.sub(r"\\ln(?![a-z])(?!\s*\()\s*", r"\\ln\\, ", latex)
    try:
        mathml = converter.convert(latex, display="block" if display else "inline")
    except Exception as error:
        raise Unknown(f"{latex}: {type(error).__name__} {error}") from error
    if "\\" in mathml:
        raise Unknown(f"{latex}: contains a command that latex2mathml does not know")
    return mathml


def replace(page: str) -> str:
    """Return the HTML of a page with every formula converted."""

    def one(match: re.Match) -> str:
        display = match.group(1) == "div"
        latex = html.unescape(match.group(2)).strip()
        number = "".join(f'<span class="number">({n})</span>' for n in TAG.findall(latex))
        mathml = convert(TAG.sub("", latex).strip(), display)
        return f'<div class="equation">{mathml}{number}</div>' if display else mathml

    return FORMULA.sub(one, page)


def on_page_content(content: str, page: Any, **_: Any) -> str:
    from mkdocs.exceptions import PluginError

    try:
        return replace(content)
    except Unknown as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error
