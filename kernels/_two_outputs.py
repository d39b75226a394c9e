"""_two_outputs: the loop of `_likelihood.py` for likelihoods of two raw outputs a feature, the second of them clamped.

Shapes: as there; out, d_out (R, 2D): the first outputs of all features, then the second; clamped (1,) int64, counts the
outputs that were clamped.
"""

from typing import Any

from ._likelihood import copy_for
from ._math import like
from ._rows import as_vector
from ._threads import add, run, share

point: Any = None  # in each copy of the loop, the formula of one feature


def _two_clamped(nll_rows, d_out, clamped, out, X, weight, weight_step, constant, t, shares):
    B, D = X.shape
    constant = like(X, constant)
    start, stop = share(t, shares, out.shape[0], 1)
    count = 0
    for r in range(start, stop):
        b = r % B
        w = weight[r * weight_step]
        nll = like(X, 0.0)
        outside = 0
        for j in range(D):
            loss, first, second, inside = point(out[r, j], out[r, D + j], X[b, j])
            nll += loss
            if d_out is not None:
                d_out[r, j] = w * first
                d_out[r, D + j] = w * second
                outside += not inside
        nll_rows[r] = nll + constant
        count += outside
    if d_out is not None:
        add(clamped, count)


def two_clamped_outputs(point, constant=0.0):
    """The fused kernel of point(first, second, x) → (loss, slopes by both, whether the second is inside its range).

    constant   of each feature's loss, left out by the point. It is added once a row, times D: as a term of the sum it
               would round the same way D times.
    """
    loop = copy_for(_two_clamped, point)

    def fused(nll_rows, d_out, clamped, out, X, weight):
        """The fused `reference`."""
        weight, step = as_vector(weight, X.dtype)
        features = X.shape[1]
        run(loop, out.shape[0] * features, nll_rows, d_out, clamped, out, X, weight, step, features * constant)

    vars(fused)["loop"] = loop  # for tests, which look at the code that it runs
    return fused
