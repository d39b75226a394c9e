"""_likelihood: the loops over rows and features, for likelihoods that are a sum of one formula over the features.

The file of such a likelihood has a *point*, a compiled function of one feature: raw output and x → the loss and its
slope. `one_output` makes a fused kernel of it, or `two_clamped_outputs` (`_two_outputs.py`). `_likelihood.cuh` has the
same loops for its `.cu`.

Shapes: rows R = S·B, sample by sample; out, d_out (R, D); X (B, D), row r of `out` belongs to row r mod B of X;
nll_rows (R,); weight a number, or (R,) or (S, B). Nats. dtype: float32 or float64, all the same, C-contiguous. A point
may compute in float64 whatever the dtype.

Without d_out (None) a kernel writes nll_rows alone: the loop is compiled once more, without the slopes, which the
compiler then drops from the point.
"""

from typing import Any

from ._math import like
from ._rows import as_vector
from ._specialise import specialised
from ._threads import run, share, shared

point: Any = None  # in each copy of a loop, the formula of one feature


def _one(nll_rows, d_out, out, X, weight, weight_step, factor, constant, t, shares):
    B, D = X.shape
    factor, constant = like(X, factor), like(X, constant)
    start, stop = share(t, shares, out.shape[0], 1)
    for r in range(start, stop):
        b = r % B
        w = weight[r * weight_step] * factor
        nll = like(X, 0.0)
        for j in range(D):
            loss, slope = point(out[r, j], X[b, j])
            nll += loss
            if d_out is not None:
                d_out[r, j] = w * slope
        nll_rows[r] = factor * nll + constant


def copy_for(loop, point):
    """The copy of a loop that calls this point."""
    formula = point.py_func
    return shared(specialised(loop, formula, f"{formula.__name__}_rows", point=point))


def one_output(point):
    """The fused kernel of point(output, x) → (loss, slope).

    factor, constant   for a point whose loss is factor × its own, plus the constant (for all features together)
    """
    loop = copy_for(_one, point)

    def fused(nll_rows, d_out, out, X, weight, factor=1.0, constant=0.0):
        """The fused `reference`."""
        weight, step = as_vector(weight, X.dtype)
        run(loop, out.size, nll_rows, d_out, out, X, weight, step, factor, constant)

    vars(fused)["loop"] = loop  # for tests, which look at the code that it runs
    return fused
