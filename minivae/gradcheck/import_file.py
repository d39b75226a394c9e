"""import_file: run a Python file of the user's as a module."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def import_file(path: Path, private: str) -> ModuleType:
    """Run a file, and return its module, which bears the name that `import` gives it in the file's folder.

    Numba's cache on disk knows a compiled function by its file, and loads it into the module of the name that it had
    when it was compiled: under another name, every process that imports the file later would fail.

    private   the name where the file's own is no identifier, or is that of another module
    """
    path = path.resolve()
    name = path.stem if _is_free(path) else private
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _is_free(path: Path) -> bool:
    """Whether no module but this file's would have its name."""
    name = path.stem
    if not name.isidentifier() or name in sys.modules or name in sys.stdlib_module_names:
        return False
    elsewhere = [folder for folder in sys.path if Path(folder).resolve() != path.parent]
    return PathFinder.find_spec(name, elsewhere) is None
