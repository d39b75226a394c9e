"""_counts: a batch of counts as the kernels of likelihoods take it: an array (B, D), or each row's non-zeros alone.

By its non-zeros X is a tuple (values, columns, bounds) in one block of columns, as `matmul/sparse.py` describes them. A
loop over all features takes `in_line` for the count of a cell, which then is 0, and a second loop puts right what the
counts of `left_out` change. It takes GATHERED of them at a time, whose numbers lie side by side for vectors.
"""

import numpy as np
from numba import extending, types

from ._nonzeros import list_nonzeros
from ._threads import scratch

GATHERED = 256


def prepared(X, out):
    """X, an array (B, D) or a `Sparse` batch with values, and the outputs (R, D) → what a kernel takes, and scratch.

    X          itself, or the tuple
    size       how many counts there are to look at
    sums       (B,) float64
    places     (shares, D) uint32: where the non-zeros of an array are listed
    gathered   (shares, 4, GATHERED) float64
    """
    B, D = X.shape
    array = isinstance(X, np.ndarray)
    sums = scratch("counts of rows", 0, B, np.float64)[0, :B]
    places = scratch("counts", out.size, D if array else 1, np.uint32)
    gathered = scratch("counts", out.size, 4 * GATHERED, np.float64).reshape(-1, 4, GATHERED)
    return X if array else (X.values, X.columns, X.bounds), X.size, sums, places, gathered


def _either(of_array, of_tuple):
    """One name for two functions: compiled code calls the one of its first argument's type."""

    def dispatch(*_):
        raise TypeError("only for compiled code")

    def choose(X, *_):
        return of_tuple if isinstance(X, types.BaseTuple) else of_array

    extending.overload(dispatch, strict=False, jit_options={"error_model": "numpy", "forceinline": True})(choose)
    return dispatch


def _bounds(X, b):
    return X[2][0, 0, b], X[2][1, 0, b]


# is_array(X)                   whether it is one
# in_line(X, b, j)              the count of a cell, for a loop over all features
# left_out(X, b)                the first place, and the end of them, of the counts of row b that `in_line` leaves out
# listed(X, places, b, most)    … of all its non-zeros. Those of an array are listed now: no more than `most` and a few
# entry(X, places, b, k)        (column, count) at a place
is_array = _either(lambda X: True, lambda X: False)
in_line = _either(lambda X, b, j: float(X[b, j]), lambda X, b, j: 0.0)
left_out = _either(lambda X, b: (0, 0), _bounds)
listed = _either(
    lambda X, places, b, most: (0, list_nonzeros(places, X[b], most)),
    lambda X, places, b, most: (X[2][0, 0, b], X[2][1, 0, b]),
)
entry = _either(
    lambda X, places, b, k: (places[k], float(X[b, places[k]])),
    lambda X, places, b, k: (np.uint32(X[1][k]), float(X[0][k])),
)
