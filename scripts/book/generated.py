"""generated: the pages that are generated when the book is built, and not committed. A hook of mkdocs."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

REPRODUCTIONS = str(Path(__file__).resolve().parents[2] / "reproductions")


@cache
def pages() -> dict[str, str]:
    """Return {address under docs/: Markdown}. claims.md takes seconds to measure: `on_files` alone makes it."""
    if REPRODUCTIONS not in sys.path:  # mkdocs resets the path once it has read its hooks
        sys.path.append(REPRODUCTIONS)
    import page as results

    from minivae.article.equations import page as equations

    return {equations.PAGE: equations.markdown(), "results.md": results.markdown()}


def claims() -> str:
    """Measure every claim; return the page with all measurements."""
    from minivae.article.claims import report, verify

    parts = ["# Every claim, measured", "`minivae verify`, run when this book was built: [how](bayes.md)."]
    for result in verify.run().results:
        claim, checks = result.claim, [f"- {report.measured(check)}" for check in result.checks]
        parts.append(f"**{result.number}. {claim.sentence}** {report.equations(claim)} · `{claim.name}`")
        if claim.loose:
            parts.append(f"Loose: {claim.loose}.")
        parts.append("\n".join(checks).replace("*", r"\*"))
    return "\n\n".join(parts) + "\n"


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for name, text in {**pages(), "claims.md": claims()}.items():
        files.append(File.generated(config, name, content=text))
    return files
