"""dealt: work on blocks of rows, each done by one rank, its results put together in order on every rank.

The blocks are those of one process, and each is computed as there: results have the same bits for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import numpy as np

from ..model import Model
from ..training.batches import Batches

if TYPE_CHECKING:
    from ..datasets.scale import Scale
    from ..distributed.world import World

BATCH_ROWS = 1024  # rows at a time where a function streams over many
BLOCK_VALUES = 1 << 22  # and no more than have so many values
R = TypeVar("R")


def agreeing(ranks: World | None) -> Any:
    """Around what may fail on one rank: all raise the same error (`distributed/world.py`)."""
    return nullcontext() if ranks is None else ranks.agreeing()


def checked(
    vae: Model,
    X: Any,
    rows: Any = None,
    scale: Scale | None = None,
    binarize: str | None = None,
    ranks: World | None = None,
) -> Batches:
    """Make `Batches` of X, whose values ranks check together, each a share."""
    with agreeing(ranks):
        return Batches(vae, X, rows, scale, binarize, ranks=ranks)


def at_a_time(vae: Model, most: int) -> int:
    """Return how many rows are dense at a time: at most so many, and no more than have BLOCK_VALUES values."""
    return max(1, min(most, BLOCK_VALUES // max(vae.features, vae.likelihood.width)))


def parts(n: int, size: int) -> list[slice]:
    """Return n rows as slices of `size` rows; the last one may be shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def over_blocks(ranks: World | None, n: int, size: int, function: Callable[[slice], R]) -> Iterable[R]:
    """function(rows) for each block of n rows, in order; its results are small. ranks=None: by this process alone."""
    blocks = parts(n, size)
    return map(function, blocks) if ranks is None else ranks.map(function, blocks)


def in_order(ranks: World | None, results: list[R]) -> list[R]:
    """Every rank's results of its blocks, which are small, one after the other in order of ranks."""
    return results if ranks is None else [result for part in ranks.all(results) for result in part]


def over_rows(
    ranks: World | None,
    n: int,
    size: int,
    function: Callable[[slice], Sequence[Any]],
    shapes: Sequence[tuple[int, ...]],
    dtype: Any = np.float64,
    everywhere: bool = True,
) -> list[np.ndarray]:
    """Put the arrays (b, *shape) of function(b rows) together: one array (n, *shape) for each of `shapes`.

    everywhere   False: rank 0 alone gets them, and the others their own rows
    """
    own: Sequence[slice] = parts(n, size)
    if ranks is not None:
        own = ranks.mine(own)
    first, stop = (own[0].start, own[-1].stop) if own else (0, 0)
    arrays = [np.empty((stop - first, *shape), dtype) for shape in shapes]
    with agreeing(ranks):
        for rows in own:
            for array, found in zip(arrays, function(rows), strict=True):
                array[rows.start - first : rows.stop - first] = found
    return arrays if ranks is None else [ranks.joined(array, everywhere) for array in arrays]


def by_first(ranks: World | None, function: Callable[[], R]) -> R:
    """function() by rank 0, from arrays that it alone has whole; its result, which is small, goes to all ranks."""
    return function() if ranks is None else ranks.first(function)


def row_hashes(X: np.ndarray) -> np.ndarray:
    """X (N, D) → (N,) int64: a number for each row that depends on its values alone, where rows have none of their own.

    It is the CRC-32 of the row's float64 bytes, little-endian, −0 taken as +0 and every NaN as one.
    """
    values = np.array(X, "<f8", order="C") + 0.0
    values[np.isnan(values)] = np.nan
    return np.fromiter(map(crc32, values), np.int64, len(values))


def hashes(X: Any, ranks: World | None) -> np.ndarray:
    """`row_hashes` of X (N, D), each block by one rank."""
    return over_rows(ranks, X.shape[0], BATCH_ROWS, lambda rows: [row_hashes(X[rows])], [()], np.int64)[0]
