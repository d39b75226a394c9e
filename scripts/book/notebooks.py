"""notebooks: those of examples/ as pages of the book, with the outputs that are kept in them. A hook of mkdocs.

Nothing is executed (`make notebooks` does that). Displayed equations become paragraphs of their own, which is where
Markdown looks for them.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def page(path: Path) -> tuple[str, dict[str, bytes]]:
    """The notebook at `path` → its Markdown, and its pictures: name → PNG."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(_equations_apart(source))
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            png, text = _png(output), _text(output)
            if png is not None:
                name = f"{path.stem}-{len(pictures) + 1}.png"
                pictures[name] = png
                parts.append(f"![What the cell above draws]({name})")
            elif text:
                parts.append(f"```text\n{text}\n```")
    return "\n\n".join(parts) + "\n", pictures


def _equations_apart(markdown: str) -> str:
    """$$…$$ on lines of their own, blank lines around."""
    apart = re.sub(r"\s*\$\$\s*(.+?)\s*\$\$\s*", r"\n\n$$\n\1\n$$\n\n", markdown, flags=re.S)
    return apart.strip()


def _png(output: dict[str, Any]) -> bytes | None:
    coded = output.get("data", {}).get("image/png")
    return None if coded is None else base64.b64decode("".join(coded))


def _text(output: dict[str, Any]) -> str:
    text = "".join(output.get("text", [])) or "".join(output.get("data", {}).get("text/plain", []))
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path in sorted(EXAMPLES.glob("*.ipynb")):
        text, pictures = page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, png in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=png))
    return files
