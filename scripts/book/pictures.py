"""pictures: the book's figures, drawn when it is built. A hook of mkdocs, and a command.

    python scripts/book/pictures.py [--full] [NAME …]

`docs/figures/NAME.py` defines `draw(full) → Figure`; its picture is docs/figures/out/NAME.svg, which git ignores.
The build draws pictures that are missing or older than their script. `--full` (`make figures`) draws all, with long
settings.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures"
OUT = FIGURES / "out"


def scripts() -> list[Path]:
    """Return the scripts, one for each figure; files that begin with _ are shared."""
    return sorted(path for path in FIGURES.glob("*.py") if not path.name.startswith("_"))


def draw(script: Path, full: bool) -> Path:
    """Run one script and write its picture."""
    sys.path.insert(0, str(FIGURES))
    try:
        spec = importlib.util.spec_from_file_location(f"figure_{script.stem}", script)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        figure = module.draw(full)
    finally:
        sys.path.remove(str(FIGURES))
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{script.stem}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def main(arguments: list[str]) -> None:
    full, names = "--full" in arguments, [a for a in arguments if a != "--full"]
    for script in scripts():
        if not names or script.stem in names:
            start = time.perf_counter()
            path = draw(script, full)
            print(f"{path.relative_to(FIGURES.parents[1])}  {time.perf_counter() - start:.1f} s", flush=True)


def on_pre_build(config: Any) -> None:
    for script in scripts():
        path = OUT / f"{script.stem}.svg"
        if not path.exists() or path.stat().st_mtime < script.stat().st_mtime:
            draw(script, full=False)


if __name__ == "__main__":
    main(sys.argv[1:])
