"""page: write docs/benchmarks.md and its pictures from one file of figures: `python -m minivae.bench.page FILE`.

A test generates the page again from the file that it names, and compares.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from ..errors import UsageError
from .figures import PEERS, Figures
from .tables import Table, left_out, machine_lines, tables

PAGE, BARS, LINES = "benchmarks.md", "benchmarks.png", "scaling.png"
HOW = """\
Contenders take turns, block by block (A B C A B C …), each in a process of its own on the same cores: whatever else
the machine does meets them all, and the spinning threads of one library do not slow the next. Every time is the median
of its turns, every ratio that of two medians. Before anything is timed, each contender has shown that it computes the
same loss and gradients as float64, on the same parameters, rows and noise. [bench/README.md](../bench/README.md) says
more, and how to run it.
"""


def markdown(figures: Figures, source: str, digest: str) -> str:
    """Return the page. source: the file's path relative to docs/; digest: the SHA-256 of its contents."""
    parts = [
        "# Benchmarks",
        f"<!-- made by `python -m minivae.bench.page` from {source}, sha256 {digest[:16]}: do not edit -->",
        f"Measured {figures.date[:10]} by `{command(figures)}`{', with short runs' if figures.quick else ''}; every "
        f"single time is in [{Path(source).name}]({source}).",
        HOW,
        f"![Every race as bars]({BARS})",
        *(_table(table) for table in tables(figures)),
    ]
    if figures.of("scaling"):
        parts.append(f"![A step against its sizes]({LINES})")
    parts.append("## The machine\n\n" + "\n".join(f"- {line}" for line in machine_lines(figures)))
    missing = left_out(figures)
    if missing:
        parts.append("## Left out\n\n" + "\n".join(f"- {name}: {why}" for name, why in missing.items()))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def command(figures: Figures) -> str:
    """Return the command that measured the figures."""
    raced = {name for cell in figures.cells for name in cell.cell.names}
    return "minivae bench" + " --quick" * figures.quick + " --peers" * bool(raced & set(PEERS))


def _table(table: Table) -> str:
    columns = [column.replace("\n", " ") for column in table.columns]
    lines = [f"| {' | '.join([table.corner, *columns])} |", f"| --- |{' ---: |' * len(columns)}"]
    lines += [f"| {' | '.join([label, *texts])} |" for label, texts in table.rows]
    for label, texts in table.ratios:
        lines.append(f"| {' | '.join([f'*{label}*', *(text.replace(chr(10), '<br>') for text in texts)])} |")
    return f"## {table.title}\n\n" + "\n".join(lines) + f"\n\n{table.note}"


def write(path: Path, docs: Path) -> list[Path]:
    """Write the page and its pictures in `docs` from the figures in `path` → the files written."""
    from . import picture

    figures, digest = Figures.read(path), sha256(path)
    source = os.path.relpath(path.resolve(), docs.resolve()).replace(os.sep, "/")
    (docs / PAGE).write_text(markdown(figures, source, digest))
    picture.bars(figures, docs / BARS, digest)
    written = [docs / PAGE, docs / BARS]
    if figures.of("scaling"):
        picture.lines(figures, docs / LINES, digest)
        written.append(docs / LINES)
    return written


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: list[str]) -> None:
    if len(arguments) not in (1, 2):
        raise UsageError(
            "expected a file of figures and the folder of the page: python -m minivae.bench.page FILE [DOCS]"
        )
    path, docs = Path(arguments[0]), Path(arguments[1] if len(arguments) == 2 else "docs")
    for needed in (path, docs):
        if not needed.exists():
            raise UsageError(f"{needed}: it does not exist")
    for name in write(path, docs):
        print(name)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UsageError as error:
        sys.exit(f"minivae: {error}")
