"""behaviour: check gradients for non-contiguous inputs, for one row and in coarser dtypes.

Each check gives one `Finding`. NaN-filled buffers and repeated calls are in `compare.py`, because the numbers cannot be
trusted without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import UsageError
from . import precision
from .problem import Arrays, Problem, Settings
from .results import Finding, Result

SAME = 1e-9  # tolerance for the same gradient summed in another order


def findings(
    problem: Problem, settings: Settings, gradients: list[np.ndarray | None], examine: Callable[..., Result]
) -> list[Finding]:
    """Run every check that applies to the problem. `examine` (`compare.examine`) checks the batch of one row."""
    out = []
    if problem.strided and any(x.ndim > 1 for x in problem.inputs):
        out.append(_strided(problem, gradients))
    if problem.one_row is not None:
        out.append(_one_row(problem, settings, examine))
    out += [_coarse(problem, dtype) for dtype in problem.coarse]
    return out


def _views(x: np.ndarray) -> list[np.ndarray]:
    """Return x in column order, and x as every second element of a larger array with NaN between."""
    if x.ndim == 0:
        return [x, x]
    wide = np.full(tuple(2 * n for n in x.shape), np.nan)
    every_second = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    every_second[...] = x
    return [np.asfortranarray(x), every_second]


def _strided(problem: Problem, gradients: list[np.ndarray | None]) -> Finding:
    kind = "non-contiguous"
    for number, layout in enumerate(("in column order", "with strides")):
        inputs: Arrays = [_views(x)[number] for x in problem.inputs]
        upstream: Arrays = [_views(u)[number] for u in problem.upstream]
        try:
            here = problem.backward(inputs, upstream)
        except Exception as error:
            return Finding(kind, "note", f"inputs {layout} are refused ({_one_line(error)})")
        for name, g, h in zip(problem.names, gradients, here, strict=True):
            if g is None or h is None or g.shape != np.shape(h):
                continue
            off = float(np.abs(g - h).max(initial=0.0))
            if not off <= SAME * max(float(np.abs(g).max(initial=0.0)), 1e-300):
                message = f"inputs {layout} give another gradient for {name} (by {off:.3g}): strides are ignored"
                return Finding(kind, "wrong", message, off)
    return Finding(kind, "ok", "inputs in column order and with strides give the same gradients")


def _one_row(problem: Problem, settings: Settings, examine: Callable[..., Result]) -> Finding:
    """Check a batch of one row, the shape on which squeezes, means and broadcasts go wrong."""
    few = replace(settings, behaviour=False, max_entries=0, directions=4, complex_step=False)
    try:
        assert problem.one_row is not None
        one = problem.one_row()
        result = examine(one, few)
    except UsageError as error:
        return Finding("one-row", "note", f"not tried with one row: {_one_line(error)}")
    worst = result.worst()
    off = worst.error if worst else 0.0
    wrong = [t for t in result.tensors if t.verdict not in ("ok", "none", "flat")]  # a row's mean is 0 whatever the row
    if wrong or any(f.verdict == "wrong" for f in result.findings):
        name = worst.name if worst else ""
        message = f"with one row, {name} is wrong: a squeeze, or an axis taken for another"
        if not one.rows_apart:
            return Finding("one-row", "note", message + "; or the code holds something of the other length", off)
        return Finding("one-row", "wrong", message, off)
    return Finding("one-row", "ok", "one row is right too", off)


def _coarse(problem: Problem, dtype: str) -> Finding:
    """Compare the gradients of a run in a coarser dtype with those of float64; see `precision`."""
    backward = problem.coarse[dtype]
    found = precision.differences(backward, problem.backward, problem.inputs, problem.upstream, dtype)
    pairs = [(d, name, x.shape) for d, name, x in zip(found, problem.names, problem.inputs, strict=True) if d]
    worst, name, shape = max(pairs, key=lambda pair: pair[0].error)
    if not worst.error <= 1:
        message = f"in {dtype}, {worst.describe(name, shape)}: more than its rounding explains"
        return Finding(dtype, "wrong", message, worst.error)
    return Finding(dtype, "ok", f"{dtype} differs by {worst.error:.2g} of what its rounding explains", worst.error)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "…"
