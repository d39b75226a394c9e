"""Count the lines of the engine that the README's example runs: non-blank lines, docstrings and comments included.

    python scripts/engine_lines.py [--write]

Counted are the mathematics and the public face at the top of `minivae/`, the likelihoods, objectives, optimisers and
kernels that the example runs, and the matrix products of the CPU. The tools (training, evaluation, data, command
line …) are not.
`--write` puts the figures into README.md: the total, and the lines of each file of its reading list.
"""

from __future__ import annotations

import argparse
import ast
import re
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from step_path import ROOT, own, run_example

ENGINE = ["errors", "checks", "backend", "buffers", "noise", "layers", "latent", "model", "vae"]
README = ROOT / "README.md"


def used() -> list[Path]:
    """Return the engine's files, relative to the root, sorted."""
    ran: set[CodeType] = set()

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        ran.add(frame.f_code)

    run_example(profile)
    files = {path for code in ran if (path := own(code)) and path.suffix == ".py"}
    kernels = {path for path in files if path.parts[0] == "kernels"}
    while more := {found for path in kernels for found in imports(path)} - kernels:
        kernels |= more
    chosen = {path for path in files if path.parts[1] in ("likelihoods", "objectives", "optim")}
    chosen |= {path.parent / "__init__.py" for path in chosen}
    matmul = {Path("minivae/matmul/cpu.py")}
    return sorted({Path(f"minivae/{name}.py") for name in ENGINE} | chosen | matmul | kernels)


def imports(path: Path) -> set[Path]:
    """Return the files of `kernels/` that a kernel's file imports, without those for CUDA alone."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {Path(f"kernels/{name}.py") for name in names if name != "_cuda"}
    return {path for path in found if (ROOT / path).exists()}


def count(path: Path) -> int:
    """Count the non-blank lines of a file."""
    return sum(1 for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if line.strip())


def written(text: str, lines: dict[Path, int]) -> str:
    """Put these figures into README's text: `**N lines**` in `M files`, and the second column of its reading list."""
    total = f"**{sum(lines.values()):,} lines** in {len(lines)} files"
    text, found = re.subn(r"\*\*[\d,]+ lines\*\* in \d+ files", total, text)
    assert found == 1, "README.md: expected one '**N lines** in M files'"

    def row(match: re.Match[str]) -> str:
        files = re.findall(r"\]\((\S+?)\)", match[1])
        return f"{match[1]} {sum(count(Path(name)) for name in files)} |"

    return re.sub(r"(\| \[`\S+`\]\(\S+?\.py\)(?:, \[`\S+`\]\(\S+?\.py\))* \|) \d+ \|", row, text)


def main() -> None:
    parser = argparse.ArgumentParser(description="Count the lines of the engine.")
    parser.add_argument("--write", action="store_true", help="put the figures into README.md")
    options = parser.parse_args()
    lines = {path: count(path) for path in used()}
    for path, number in lines.items():
        print(f"{number:6,}  {path}")
    print(f"{sum(lines.values()):6,}  in {len(lines)} files")
    if options.write:
        README.write_text(written(README.read_text(encoding="utf-8"), lines), encoding="utf-8")


if __name__ == "__main__":
    main()
