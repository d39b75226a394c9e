"""results: the files of bench/results/. Each is JSON, and is replaced atomically after every measured cell."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import machine


def write(path: Path, data: dict[str, Any]) -> None:
    """Replace the file by the JSON of `data`, whose numbers are finite; makes the folder."""
    from ..disk import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(data, allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode())


def fingerprint(paths: Iterable[Path]) -> str:
    """Return a hash of the files' names and contents, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


class Cells:
    """Named cells in one file, which a later run continues. A cell measured from other sources counts as missing.

    sources   the fingerprint of the files that the cells measure
    """

    def __init__(self, path: Path, sources: str):
        self.path, self.sources = path, sources
        self.machine: dict[str, Any] = {}
        held = json.loads(path.read_text())["cells"] if path.exists() else {}
        self.cells: dict[str, dict[str, Any]] = {k: cell for k, cell in held.items() if cell["sources"] == sources}

    def done(self, name: str) -> bool:
        """Whether the cell is there and did not fail."""
        return name in self.cells and bool(self.cells[name].get("ok", True))

    def add(self, name: str, **values: Any) -> None:
        """Add a cell and write the file."""
        self.cells[name] = {**values, "sources": self.sources}
        if not self.machine:
            date = datetime.now(UTC).isoformat(timespec="seconds")
            self.machine = {"date": date, **machine.describe(), **machine.gpu()}
        write(self.path, {"machine": self.machine, "cells": self.cells})
