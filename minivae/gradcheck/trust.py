"""trust: test whether gradients can be compared at all, before any number is compared.

The value must be finite, and the same in two calls; otherwise nothing can be checked. Backward must not change its
inputs or its dY, and must return the same gradient in two calls. A gradient that is left over from an earlier call,
accumulated, or computed with new noise is wrong even if its numbers agree.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import UsageError
from .diagnose import STALE
from .numeric import EPS, FLOOR
from .problem import Arrays, Problem
from .results import Finding, Hint


def same_twice(problem: Problem, findings: list[Finding]) -> Problem:
    """Call forward twice: the values must be finite and equal. A forward that changes its inputs is given copies."""
    inputs = [x.copy() for x in problem.inputs]
    first = problem.forward(inputs)
    touched = [n for n, x, x0 in zip(problem.names, inputs, problem.inputs, strict=True) if not _same(x, x0)]
    if touched:
        findings.append(
            Finding("inputs", "wrong", f"forward changes its input {', '.join(touched)} in place: work on a copy")
        )
        forward = problem.forward
        problem = replace(problem, forward=lambda xs: forward([x.copy() for x in xs]))
    for j, y in enumerate(first):
        if not np.isfinite(y).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(y))[0])
            raise UsageError(
                f"{problem.title}: output {j} is {y[where]} at {where}: a gradient can only be checked where the "
                "function is finite (if the inputs are meant to be legal: a buffer is not fully written, or log 0, 0/0)"
            )
    second = problem.forward([x.copy() for x in problem.inputs])
    off = max((float(np.abs(a - b).max(initial=0.0)) for a, b in zip(first, second, strict=True)), default=0.0)
    if off > 64 * EPS * max(float(np.abs(y).max(initial=0.0)) for y in first):
        raise UsageError(
            f"{problem.title}: non-deterministic: the same inputs gave values that differ by {off:.3g}, so there is no "
            "slope to compare with. Freeze the noise: make it an input, or seed it inside forward"
        )
    return problem


def agrees(problem: Problem, others: Arrays, tolerance: float) -> Finding:
    """Compare the outputs with the reference's, here and at other inputs: another function's right gradient is wrong.

    An output may differ by tolerance · max(|y|, |reference|, 10⁻³ of the largest).
    """
    assert problem.reference is not None
    name = problem.reference_name
    for inputs in (problem.inputs, others):
        try:
            ours = problem.forward([x.copy() for x in inputs])
            theirs = problem.reference([x.copy() for x in inputs])
        except UsageError:
            if inputs is problem.inputs:
                raise
            continue  # outside the domain
        if [y.shape for y in ours] != [y.shape for y in theirs]:
            shapes, expected = (" and ".join(str(y.shape) for y in ys) for ys in (ours, theirs))
            return Finding("reference", "wrong", f"forward returns shape {shapes}, and {name} {expected}")
        for j, (y, r) in enumerate(zip(ours, theirs, strict=True)):
            scale = np.maximum(np.maximum(np.abs(y), np.abs(r)), FLOOR * np.abs(r).max(initial=0.0))
            off = ~(np.abs(y - r) <= tolerance * scale)
            if off.any():
                at = tuple(int(i) for i in np.argwhere(off)[0])
                which = f"output {j}" if len(ours) > 1 else "the output"
                message = f"forward is not that of {name}: {which} is {y[at]:.6g} at {at}, and {name} gives {r[at]:.6g}"
                return Finding("reference", "wrong", message, float((np.abs(y - r) / np.where(off, scale, 1)).max()))
    return Finding("reference", "ok", f"forward gives what {name} does")


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    return x.shape == y.shape and np.array_equal(x, y, equal_nan=True)


def call_backward(
    problem: Problem, inputs: Arrays, findings: list[Finding], upstream: Arrays | None = None
) -> list[np.ndarray | None]:
    """Call backward with copies of the inputs and of dY; it is a finding if it changes either in place."""
    xs, dYs = [x.copy() for x in inputs], [u.copy() for u in (upstream or problem.upstream)]
    gradients = problem.backward(xs, dYs)
    touched = [n for n, x, x0 in zip(problem.names, xs, inputs, strict=True) if not _same(x, x0)]
    if touched and not _has(findings, "inputs"):
        findings.append(Finding("inputs", "wrong", f"backward changes the input {', '.join(touched)} in place"))
    changed = any(not _same(u, u0) for u, u0 in zip(dYs, upstream or problem.upstream, strict=True))
    if changed and not _has(findings, "upstream"):
        message = "backward changes its dY in place: what takes dY next gets other numbers. Work on a copy"
        findings.append(Finding("upstream", "wrong", message))
    if len(gradients) != len(problem.names):
        raise UsageError(
            f"{problem.title}: backward returned {len(gradients)} gradient{'s' * (len(gradients) != 1)} for the "
            f"{len(problem.names)} inputs {', '.join(problem.names)}: one each, in that order, None where there is none"
        )
    return gradients


def unmodified(findings: list[Finding]) -> None:
    """Add what is said where no call has changed the inputs or dY."""
    for kind in ("inputs", "upstream"):
        if not _has(findings, kind):
            findings.append(
                Finding(kind, "ok", "come back unmodified" if kind == "inputs" else "comes back unmodified")
            )


def _has(findings: list[Finding], kind: str) -> bool:
    return any(f.kind == kind for f in findings)


def differs(
    problem: Problem,
    k: int,
    g: np.ndarray | None,
    again: np.ndarray | None,
    previous: np.ndarray | None,
    findings: list[Finding],
) -> list[Hint]:
    """Compare two calls of backward on the same inputs; if they differ: is the gradient stale, accumulated, redrawn?"""
    if g is None or again is None or g.shape != again.shape:
        return []
    size = float(np.abs(g).max(initial=0.0))
    if not np.isfinite(size) or np.abs(g - again).max(initial=0.0) <= 1e-9 * size:
        return []
    name = problem.names[k]
    if previous is not None and _same(g, previous):
        hint = STALE
    elif _is_accumulated(problem, k, g, again, findings):
        hint = Hint("accumulated", "grows with every call of backward: it is added to (+=) and never reset")
    else:
        hint = Hint(
            "noise-redrawn",
            "two calls of backward with the same inputs gave different gradients, though the value is the "
            "same: the noise is drawn again in the backward. Keep what the forward drew",
        )
    findings.append(Finding("deterministic", "wrong", f"{name}: {hint.text}"))
    return [hint]


def _is_accumulated(problem: Problem, k: int, g: np.ndarray, again: np.ndarray, findings: list[Finding]) -> bool:
    third = call_backward(problem, problem.inputs, findings)[k]
    if third is None:
        return False
    growth, more = again - g, third - again
    return bool(np.abs(growth - more).max() <= 1e-6 * np.abs(growth).max())
