"""hints: how a message ends. What to install, which name was meant, what makes an array, where a value is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

# The packages that an optional part of minivae needs, by the extra of pyproject.toml that lists them.
EXTRAS = {
    "digits": "scikit-learn",
    "sklearn": '"scikit-learn>=1.6"',
    "viz": "matplotlib",
    "mkl": "mkl",
    "onnx": "onnx",
    "mpi": '"mpi4py>=4.1" "mpich>=5"',
    "h5ad": "h5py",
    "torch": "torch",
    "peers": "torch jax",
    "gpu": '"cupy-cuda12x[ctk]" nvmath-python',
    "gpu13": '"cupy-cuda13x[ctk]" nvmath-python',
}


def how_to_install(extra: str) -> str:
    """Say how to install the packages of an extra; the end of a UsageError about a missing package."""
    return f'pip install {EXTRAS[extra]} (or, in the folder of minivae\'s source, pip install ".[{extra}]")'


def meant(asked: str, known: Iterable[str] | dict[str, str], form: str = "; {}", most: int = 1) -> str:
    """Ask "did you mean 'x'?" about the names that are closest, in whatever case; "" where none is close.

    known   the names, or what to write for each
    form    the part of a message that the question, {}, stands in
    """
    written = known if isinstance(known, dict) else {name: name for name in known}
    by_name = {name.lower(): text for name, text in written.items()}
    close = [repr(by_name[name]) for name in get_close_matches(asked.lower(), by_name, n=most)]
    return form.format(f"did you mean {' or '.join(close)}?") if close else ""


def place(found: Any, first: int = 0, columns: Sequence[str] | None = None) -> str:
    """Where the first True of found (…, rows, columns) is; first: the number of its first row."""
    *before, row, column = (int(index[0]) for index in found.nonzero())
    where = "".join(f"sample {sample}, " for sample in before) + f"row {first + row}, column {column}"
    return where + (f" ({columns[column]})" if columns else "")


def way_to_array(X: Any) -> str:
    """How the caller makes an array of X, for a message; "" where there is no known way."""
    if isinstance(X, (list, tuple)):
        return "; np.array(…) makes one"
    return next(
        (f"; its .{way} is one" for way in ("X", "toarray()", "to_numpy()") if hasattr(X, way.rstrip("()"))), ""
    )
