"""rows: the rows of an array in blocks, so that a memory-mapped file is never read into memory at once.

What is found in blocks is put together in an order that is fixed, so that ranks (`distributed/`) can each read some of
them: the results have the same bits for any number of ranks.
"""

from __future__ import annotations

import functools
import math
import mmap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from ..distributed.world import World

Array = np.ndarray
T = TypeVar("T")

_BLOCK = 1 << 22  # bytes read at a time: large enough for NumPy, small enough for the cache
_GROUPS = 256  # of blocks that follow one another: ranks exchange one result for each


def spans(X: Any) -> list[slice]:
    """Slices over the rows of X of about _BLOCK bytes each (one row at least), ascending and without gaps."""
    step = max(1, _BLOCK // max(1, X.dtype.itemsize * math.prod(X.shape[1:])))
    return [slice(start, min(start + step, len(X))) for start in range(0, len(X), step)]


def blocks(X: Any) -> Iterator[slice]:
    """The `spans` of X, one by one; UsageError where X is mapped and its file has been cut."""
    return checked(X, spans(X))


def checked(X: Any, parts: Sequence[slice]) -> Iterator[slice]:
    """Yield each of these `spans` once the file that X may be mapped from is known to be whole still."""
    for rows in parts:
        check_still_there(X)
        yield rows


def reduced(X: Any, function: Callable[[slice], T], join: Callable[[T, T], T], ranks: World | None = None) -> T:
    """Put function(rows) of all blocks of X together by `join`, first those of a group of blocks, then the groups.

    ranks   each reads a share of the groups and all get the result, which is small; None: this process reads all
    """
    parts = spans(X)
    n = min(len(parts), _GROUPS)
    groups = [parts[i * len(parts) // n : (i + 1) * len(parts) // n] for i in range(n)]

    def found(group: list[slice]) -> T:
        return functools.reduce(join, map(function, checked(X, group)))

    return functools.reduce(join, map(found, groups) if ranks is None else ranks.map(found, groups))


def every(X: Any, holds: Callable[[Any], Any], ranks: World | None = None) -> bool:
    """Whether holds(block) is true for all values of X; the first block that differs ends the search of a rank."""

    def found(parts: Sequence[slice]) -> bool:
        return all(bool(holds(X[rows]).all()) for rows in checked(X, parts))

    if ranks is None:
        return found(spans(X))
    with ranks.agreeing():
        mine = found(ranks.mine(spans(X)))
    return all(ranks.all(mine))


class FileRows:
    """Rows (N, D) of a mapped array, read where they are asked for: FileRows[rows] is an array of them.

    A rank needs some of the rows alone, and a copy of all would be one for each rank of a host.

    file      (M, …), the mapped array
    dtype     of the values; divide: they are divided by 255
    index     (N,), the rows of the file that these are; None: all
    columns   (D,), the columns of the file that these are; None: all
    missing   what stands in the place of NaN; None: NaN
    """

    ndim = 2

    def __init__(
        self,
        file: Array,
        dtype: np.dtype,
        divide: bool = False,
        index: Array | None = None,
        columns: Sequence[int] | None = None,
        missing: Any = None,
    ):
        self.file, self.dtype, self.divide, self.index = file, np.dtype(dtype), divide, index
        self.columns, self.missing = columns, missing
        width = math.prod(file.shape[1:]) if columns is None else len(columns)
        self.shape = (len(file) if index is None else len(index), width)
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Array) -> Array:
        check_still_there(self.file)
        values = np.asarray(self.file[rows if self.index is None else self.index[rows]])
        values = np.divide(values, 255, dtype=self.dtype) if self.divide else values.astype(self.dtype, copy=False)
        values = values.reshape(len(values), math.prod(self.file.shape[1:]))
        if self.columns is not None:
            values = values[:, self.columns]
        return values if self.missing is None else np.where(values == values, values, self.missing)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def but(self, **changes: Any) -> FileRows:
        """The same rows with other columns, or another value for missing cells."""
        own = {name: getattr(self, name) for name in ("file", "dtype", "divide", "index", "columns", "missing")}
        return FileRows(**own | changes)

    def chosen(self, rows: slice | Array) -> FileRows:
        """These rows of these rows, none of which is read."""
        if self.index is None and isinstance(rows, slice):
            return self.but(file=self.file[rows])
        return self.but(index=rows if self.index is None else self.index[rows])


def chosen(X: Any, rows: slice | Array) -> Any:
    """X[rows], which are not read yet where X is `FileRows`."""
    return X.chosen(rows) if isinstance(X, FileRows) else X[rows]


def is_mapped(X: Any) -> bool:
    """Whether X is a mapped file's array as it is stored there, of which a contiguous part is a view."""
    if isinstance(X, FileRows):
        stored = isinstance(X.file, np.memmap) and X.index is None and not X.divide and X.dtype == X.file.dtype
        return stored and (X.file.ndim == 2 or X.file.flags.c_contiguous)
    return isinstance(X, np.memmap)


def check_still_there(X: object) -> None:
    """Raise UsageError if X is memory-mapped and its file is shorter now: reading it would kill the process (SIGBUS).

    One system call. If the file is cut while a block is being read, the process is still killed.
    """
    X = X.file if isinstance(X, FileRows) else X
    mapped = getattr(X, "_mmap", None)  # NumPy's name for the map under an np.memmap
    if isinstance(X, np.memmap) and isinstance(mapped, mmap.mmap):
        start = X.offset - X.offset % mmap.ALLOCATIONGRANULARITY
        if mapped.size() < start + len(mapped):
            raise UsageError(f"{X.filename}: the file was cut while it was in use; restore it and start again")


def extent(X: Any, ranks: World | None = None) -> tuple[float, float]:
    """Return the smallest and the largest value of X; NaN if X holds one. Integers are returned as Python ints.

    ranks   as in `reduced`
    """

    def ends(rows: slice) -> tuple[Any, Any]:
        block = X[rows]
        return block.min(), block.max()

    low, high = reduced(X, ends, lambda a, b: (np.minimum(a[0], b[0]), np.maximum(a[1], b[1])), ranks)
    return low.item(), high.item()


def finite_extent(X: Any, where: str, ranks: World | None = None) -> tuple[float, float]:
    """`extent` of finite values. UsageError for NaN and infinities: their number and the place of the first one."""
    low, high = extent(X, ranks)
    if math.isfinite(low) and math.isfinite(high):
        return low, high

    def bad(rows: slice) -> tuple[int, tuple[int, int] | None]:
        mask = ~np.isfinite(X[rows]).reshape(rows.stop - rows.start, -1)
        if not mask.any():
            return 0, None
        row, column = np.unravel_index(int(np.argmax(mask)), mask.shape)
        return int(np.count_nonzero(mask)), (rows.start + int(row), int(column))

    count, first = reduced(X, bad, lambda a, b: (a[0] + b[0], a[1] or b[1]), ranks)
    assert first is not None
    raise UsageError(
        f"{where}: {count} of {X.size} values are NaN or infinite, the first in row {first[0]}, column {first[1]} "
        "(counted from 0); remove or fill them"
    )
