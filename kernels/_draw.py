"""_draw: Bernoulli draws of rows by their non-zeros, to the bits of `binarize` in `noise.py` on the same rows, dense.

A 0 stays one, whatever would be drawn for it (u ≥ 0): noise is made for the other cells alone, one block of four words
for each, though several cells may lie in it.
"""

import numpy as np

from ._math import like
from ._threads import run, scratch, share, shared
from .noise import COST
from .noise import rounds as philox

CELLS = 512  # at a time, whose words lie side by side for vectors


@shared
def _draw(out, to_columns, to_bounds, all_words, values, columns, starts, index, rows, stream, pass_, seed, t, shares):
    start, stop = share(t, shares, out.shape[0], 1)
    words = all_words[t]
    for r in range(start, stop):
        out[r, :] = like(out, 0.0)
        place = to_bounds[0, 0, r]
        first, last = starts[index[r]], starts[index[r] + 1]
        for begin in range(first, last, CELLS):
            n = min(CELLS, last - begin)
            for k in range(n):
                words[0, k] = np.uint32((stream << 24) + (columns[begin + k] >> 2))
                words[1, k] = np.uint32(0)
                words[2, k] = np.uint32(rows[r])
            philox(words, n, pass_, seed)
            for k in range(n):
                j = columns[begin + k]
                u = like(out, np.int32(words[j & 3, k] >> np.uint32(8))) * like(out, 2.0**-24)
                if u < values[begin + k]:
                    to_columns[place] = j
                    place += 1
                    out[r, j] = like(out, 1.0)
        to_bounds[1, 0, r] = place


def draw(out, to_columns, to_bounds, values, columns, starts, index, rows, stream, pass_, seed):
    """out (B, D) ← draws of mean x, and where they are 1: row r has the columns from to_bounds[0, 0, r] on.

    values, columns, starts   the stored rows, in [0, 1], of which `index` (B,) are taken
    rows                      (B,) what chooses their noise; stream, pass_, seed as in `noise.py`
    """
    counts = starts[index + 1] - starts[index]
    to_bounds[0, 0] = np.cumsum(counts) - counts
    cost = 4 * COST * to_columns.size
    words = scratch("draws", cost, 4 * CELLS, np.uint32).reshape(-1, 4, CELLS)
    numbers = stream, pass_, np.uint64(seed)
    run(_draw, cost, out, to_columns, to_bounds, words, values, columns, starts, index, rows, *numbers, most=len(words))
