"""A notebook as a page of Markdown, with the outputs that are kept in it: for a book, or to read beside it.

    python scripts/notebook_pages.py docs/notebooks     each of examples/*.ipynb → NAME.md and NAME-1.png …

Nothing is executed, and nothing but the standard library is needed. Displayed equations become paragraphs of their own,
which is where Markdown renderers look for them.
"""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


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


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(EXAMPLES.glob("*.ipynb")):
        text, pictures = page(path)
        (folder / f"{path.stem}.md").write_text(text, encoding="utf-8")
        for name, png in pictures.items():
            (folder / name).write_bytes(png)
        print(folder / f"{path.stem}.md")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/notebook_pages.py FOLDER")
    main(Path(sys.argv[1]))
