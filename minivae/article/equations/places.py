"""places: where a name stands. Files are read, not imported, at the moment of asking: a line number is never stale.

A tree of files has no tests where minivae is installed from a wheel; a place that is not there has no line.
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
    """A name, the file it is in (as seen from ROOT), and its line, or None where the file or the name is not there."""

    name: str
    file: str
    line: int | None

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def to_dict(self) -> dict[str, str | int | None]:
        return {"name": self.name, "file": self.file, "line": self.line}


def of_code(place: str) -> Place:
    """Where "kernels.latent:forward_reference" is."""
    module, name = place.split(":")
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    real = path.resolve()
    shown = real if real.is_relative_to(ROOT) else path  # kernels/ is a link in a checkout
    return Place(name, shown.relative_to(ROOT).as_posix(), _line(path, name))


def of_test(test: str) -> Place:
    """Where "tests/test_latent.py::test_name" is."""
    file, name = test.split("::")
    return Place(name, file, _line(ROOT / file, name))


def _line(path: Path, name: str) -> int | None:
    node = definition(path, name)
    return None if node is None else node.lineno


def definition(path: Path, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    """The function or class called `name`, "Class.method" too, in the file; None where there is none."""
    found: ast.AST | None = _tree(path)
    for part in name.split("."):
        inside = getattr(found, "body", [])
        found = next((n for n in inside if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part), None)
    assert found is None or isinstance(found, ast.FunctionDef | ast.ClassDef)
    return found


@cache
def _tree(path: Path) -> ast.Module | None:
    return ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else None
