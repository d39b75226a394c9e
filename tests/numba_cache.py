"""The folder that all tests, and the processes that they start, have their compiled kernels in.

    python tests/numba_cache.py      prints it: .ci/run has the notebooks, the book and the benchmarks share it

Numba compiles a kernel again when its own file has changed; a change to a file that other kernels import begins a new
cache.
"""

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def folder():
    """Its path, by the texts of the files that other kernels import."""
    texts = {path.stem: path.read_text() for path in sorted((ROOT / "minivae" / "kernels").glob("*.py"))}
    lines = re.findall(r"^from \.(?:(\w+) import| import ([\w, ]+))", "\n".join(texts.values()), re.MULTILINE)
    imported = {name for line in lines for name in re.findall(r"\w+", " ".join(line))}
    key = hashlib.sha256("".join(text for name, text in texts.items() if name in imported).encode()).hexdigest()[:16]
    return ROOT / ".numba-cache" / key


if __name__ == "__main__":
    print(folder())
