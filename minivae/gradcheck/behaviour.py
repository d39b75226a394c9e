"""behaviour: check gradients for non-contiguous inputs, for one row and in float32, beside the numbers at one point.

Each check gives one `Finding`. NaN-filled buffers and repeated calls are in `compare.py`, because the numbers cannot be
trusted without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import UsageError
from .numeric import FLOOR
from .problem import Arrays, Problem, Settings
from .results import Finding, Result

EPS_32 = float(np.finfo(np.float32).eps)
SINGLE_TOLERANCE = 64 * EPS_32
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
    if problem.single is not None:
        out.append(_single(problem, problem.single))
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


def _single(problem: Problem, single: Problem) -> Finding:
    """Compare the float32 gradient with the float64 gradient of the same code, at inputs that both can represent.

    The effect of rounding is measured: it is the change of the float64 gradient when the inputs move by ε₃₂ at random,
    as if they were rounded once more. round-off = 4 ε₃₂ · the tensor's largest entry + 16 · that change (a model rounds
    some ten times in a row), tolerance = 64 ε₃₂.
    """
    inputs = [x.astype(np.float32).astype(np.float64) for x in problem.inputs]
    upstream = [u.astype(np.float32).astype(np.float64) for u in problem.upstream]
    shadow = problem.backward([x.copy() for x in inputs], [u.copy() for u in upstream])
    mine = single.backward([x.astype(np.float32) for x in inputs], [u.astype(np.float32) for u in upstream])
    change = [0.0] * len(inputs)
    rng = np.random.default_rng(0)
    for _ in range(3):
        moved = problem.backward([_moved(x, rng) for x in inputs], [_moved(u, rng) for u in upstream])
        for k, (n, m) in enumerate(zip(shadow, moved, strict=True)):
            if n is not None and m is not None:
                change[k] = max(change[k], float(np.abs(n - m).max(initial=0.0)))
    worst, where = 0.0, ""
    for k, (a, n) in enumerate(zip(mine, shadow, strict=True)):
        if a is None or n is None:
            continue
        a = a.astype(np.float64)
        largest = float(np.abs(n).max(initial=0.0))
        round_off = 4 * EPS_32 * largest + 16 * change[k]
        scale = np.maximum(np.maximum(np.abs(a), np.abs(n)), max(FLOOR * largest, round_off / SINGLE_TOLERANCE))
        error = np.abs(a - n) / np.where(scale > 0, scale, 1)
        if error.size and not error.max() <= worst:
            worst = float(error.max())
            at = np.unravel_index(int(np.argmax(error)), error.shape)
            where = f"{problem.names[k]}[{', '.join(map(str, at))}]"
    if not worst <= SINGLE_TOLERANCE:
        message = f"float32 is {worst / EPS_32:.3g} ε from its float64 shadow at {where}: expected at most 64 ε"
        return Finding("float32", "wrong", message, worst)
    return Finding("float32", "ok", f"float32 is within {worst / EPS_32:.2g} ε of its float64 shadow", worst)


def _moved(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return x * (1 + EPS_32 * rng.choice([-1.0, 1.0], x.shape))


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "…"
