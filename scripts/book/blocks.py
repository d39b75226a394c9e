"""blocks: find and run the code blocks of a page, in order. tests/test_book.py runs them all.

    python scripts/book/blocks.py --write docs/book/*.md      fills in what the Python blocks print

A ```python block runs after those above it, in one namespace; a ```text block right under it is what it prints. Of a
```sh block every line that begins with `minivae` runs, in a folder of its own, with MNIST and long trainings
replaced by what is quick (QUICK); a line of another program must be `pip install …` or a target of the Makefile.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
OUTPUT = re.compile(r"^( *)(```python\n.*?^\1```)\n(?:\n? *```text\n.*?^ *```\n)?", re.M | re.S)
# Options and data that are slow or need a download → their replacements
QUICK = {
    "mnist": "digits",
    "fashion-mnist": "digits",
    "--epochs": "1",
    "--hidden": "16",
    "--importance": "5",
    "--ais": "4",
    "-n": "8",
}
# Commands that measure everything where nothing is selected → what they measure instead; tests measure everything
EVERYTHING = {"gradcheck": ["layers"], "verify": ["--only", "normalised"]}


@dataclass
class Block:
    language: str
    text: str
    line: int
    output: str | None = field(default=None)  # the output on the page


def blocks(markdown: str) -> list[Block]:
    """Return every fenced block; a text block right below Python is its output."""
    found: list[Block] = []
    last_end = -1
    for match in BLOCK.finditer(markdown):
        block = Block(match.group(2), dedent(match.group(3)), markdown[: match.start()].count("\n") + 1)
        between = markdown[last_end : match.start()].strip() if last_end >= 0 else "x"
        if block.language == "text" and found and found[-1].language == "python" and not between:
            found[-1].output = block.text
        else:
            found.append(block)
        last_end = match.end()
    return found


def run_python(block: Block, namespace: dict, page: str) -> str:
    """Run a Python block and return its output."""
    said = io.StringIO()
    code = compile("\n" * block.line + block.text, page, "exec")  # a traceback names the page's own line
    with contextlib.redirect_stdout(said):
        exec(code, namespace)
    return said.getvalue()


def commands(block: Block) -> list[list[str]]:
    """Return the commands of a shell block as words, without comments; a backslash continues a line."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def quick(words: list[str]) -> list[str]:
    """Return the same command with less work: options' values, data sets and whole selections are replaced."""
    out = list(words)
    for i, word in enumerate(out):
        if i and out[i - 1].startswith("-") and out[i - 1] in QUICK:
            out[i] = QUICK[out[i - 1]]
        elif not word.startswith("-") and word in QUICK:
            out[i] = QUICK[word]
    return out + EVERYTHING.get(out[1], []) if not {*out[2:]} - {"--json"} else out


def prepare(folder: Path) -> None:
    """Link the repository's examples, exercises and solutions into the folder, where the pages' blocks use them."""
    for name in ("examples", "exercises", "docs", "bench"):
        (folder / name).symlink_to(ROOT / name)


def write_outputs(path: Path) -> None:
    """Run the page's Python blocks and write each output right below its block."""
    text, namespace = path.read_text(), {"__name__": "__main__"}

    def fill(match: re.Match) -> str:
        margin, fenced = match.group(1), match.group(2)
        block = Block("python", dedent("\n".join(fenced.split("\n")[1:-1])), 0)
        said = run_python(block, namespace, str(path))
        lines = "".join(f"{margin}{line}\n" if line else "\n" for line in said.splitlines())
        return f"{margin}{fenced}\n" + (f"\n{margin}```text\n{lines}{margin}```\n" if said else "")

    path.write_text(OUTPUT.sub(fill, text))


if __name__ == "__main__":
    for name in sys.argv[2:]:
        write_outputs(Path(name))
