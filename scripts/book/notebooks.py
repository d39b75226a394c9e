"""notebooks: show the notebooks of examples/ as pages of the book, with their saved outputs. A hook of mkdocs.

Nothing is executed (`make notebooks` does that). nbconvert writes the Markdown; displayed equations become paragraphs
of their own, where Markdown finds them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the Markdown of the notebook at `path`, and its pictures: name → PNG."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(str(path), resources={"unique_key": path.stem})
    text = re.sub(r"\s*\$\$\s*(.+?)\s*\$\$\s*", r"\n\n$$\n\1\n$$\n\n", text, flags=re.S)
    return text.replace("![png](", "![What the cell above draws]("), resources["outputs"]


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path in sorted(EXAMPLES.glob("*.ipynb")):
        text, pictures = page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, png in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=png))
    return files
