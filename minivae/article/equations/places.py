"""places: find the file and line of a name. Files are read at each call, not imported, so line numbers are current.

A wheel has no tests: a place that does not exist has no line.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
ROOT = PACKAGE.parent  # of a checkout, or the folder that minivae is installed in


@dataclass(frozen=True)
class Place:
    """A name, its file (relative to ROOT), and its line; None if the file or the name does not exist."""

    name: str
    file: str
    line: int | None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def to_dict(self) -> dict[str, str | int | None]:
        return {"name": self.name, "file": self.file, "line": self.line}


def of_code(place: str) -> Place:
    """Find "kernels.latent:forward_reference"."""
    module, name = place.split(":")
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    real = path.resolve()
    shown = real if real.is_relative_to(ROOT) else path  # kernels/ is a link in a checkout
    return Place(name, shown.relative_to(ROOT).as_posix(), _line(path, name))


def of_test(test: str) -> Place:
    """Find "tests/test_latent.py::test_name"."""
    file, name = test.split("::")
    return Place(name, file, _line(ROOT / file, name))


def _line(path: Path, name: str) -> int | None:
    node = definition(path, name)
    return None if node is None else node.lineno


def definition(path: Path, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """Find the function or class `name`, or "Class.method", in the file; None if there is none."""
    found: ast.AST | None = _tree(path)
    for part in name.split("."):
        inside = getattr(found, "body", [])
        found = next((n for n in inside if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part), None)
    assert found is None or isinstance(found, ast.FunctionDef | ast.ClassDef)
    return found


@cache
def _tree(path: Path) -> ast.Module | None:
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None
