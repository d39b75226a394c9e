"""`--plugin FILE.py`: runs a Python file of the user's before the command, so that it can register a likelihood."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError


def load(paths: list[Path] | None) -> None:
    """Run each file, once a process. UsageError for one that is not there or raises."""
    for path in paths or ():
        name = f"minivae_plugin_{path.stem}"
        if path.suffix != ".py" or not path.is_file():
            raise UsageError(f"--plugin {path}: expected a Python file (.py) that exists")
        loaded = sys.modules.get(name)
        if loaded is not None and loaded.__file__ == str(path.resolve()):
            continue
        spec = spec_from_file_location(name, path.resolve())
        module = module_from_spec(spec)  # type: ignore[arg-type]
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        except Exception as error:
            del sys.modules[name]
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
