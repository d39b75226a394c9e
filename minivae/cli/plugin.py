"""`--plugin FILE.py`: runs a Python file of the user's before the command, so that it can register a likelihood."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from ..gradcheck.import_file import import_file


def load(paths: list[Path] | None) -> None:
    """Run each file, once a process. UsageError for one that is not there or raises."""
    for path in paths or ():
        name = f"minivae_plugin_{path.stem}"
        if path.suffix != ".py" or not path.is_file():
            raise UsageError(f"--plugin {path}: expected a Python file (.py) that exists")
        loaded = sys.modules.get(name)
        if loaded is not None and loaded.__file__ == str(path.resolve()):
            continue
        try:
            sys.modules[name] = import_file(path, name)
        except Exception as error:
            raise UsageError(f"--plugin {path}: it raises {type(error).__name__}: {error}") from error


Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        callback=load,
        is_eager=True,
        expose_value=False,
        help="A Python file to run first, such as one that calls mv.register_likelihood. Only run files you trust.",
    ),
]
