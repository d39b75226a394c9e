"""rows: iterate over the rows of an array in blocks, so that a memory-mapped file is never read into memory at once."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator

import numpy as np

from ..errors import UsageError

Array = np.ndarray

_BLOCK = 1 << 22  # bytes read at a time: large enough for NumPy, small enough for the cache


def blocks(X: Array) -> Iterator[slice]:
    """Yield slices over the rows of X of about _BLOCK bytes each (one row at least), ascending and without gaps."""
    step = max(1, _BLOCK // max(1, X[:1].nbytes))
    for start in range(0, len(X), step):
        check_still_there(X)
        yield slice(start, min(start + step, len(X)))


def check_still_there(X: object) -> None:
    """Raise UsageError if X is memory-mapped and its file is shorter now: reading it would kill the process (SIGBUS).

    One system call. If the file is cut while a block is being read, the process is still killed.
    """
    mapped = getattr(X, "_mmap", None)  # NumPy's name for the map under an np.memmap
    if isinstance(X, np.memmap) and isinstance(mapped, mmap.mmap):
        start = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
        if mapped.size() < start + len(mapped):
            raise UsageError(f"{X.filename}: the file was cut while it was in use; restore it and start again")


def extent(X: Array) -> tuple[float, float]:
    """Return the smallest and the largest value of X; NaN if X holds one. Integers are returned as Python ints."""
    ends = [(X[rows].min(), X[rows].max()) for rows in blocks(X)]
    return np.min([low for low, _ in ends]).item(), np.max([high for _, high in ends]).item()


def finite_extent(X: Array, where: str) -> tuple[float, float]:
    """`extent` of finite values. UsageError for NaN and infinities: their number and the place of the first one."""
    low, high = extent(X)
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    bad, first = 0, (0, 0)
    for rows in blocks(X):
        mask = ~np.isfinite(X[rows]).reshape(rows.stop - rows.start, -1)
        if not bad and mask.any():
            row, column = np.unravel_index(int(np.argmax(mask)), mask.shape)
            first = (rows.start + int(row), int(column))
        bad += int(np.count_nonzero(mask))
    raise UsageError(
        f"{where}: {bad} of {X.size} values are NaN or infinite, the first in row {first[0]}, column {first[1]} "
        "(counted from 0); remove or fill them"
    )
