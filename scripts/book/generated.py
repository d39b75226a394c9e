"""generated: pages that are generated when the book is built, and not committed."""

from __future__ import annotations

from functools import cache


@cache
def pages() -> dict[str, str]:
    """Address under docs/ → markdown."""
    from minivae.article.equations import page

    return {page.PAGE: page.markdown()}
