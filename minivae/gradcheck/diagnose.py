"""diagnose: suggest the cause of a wrong gradient from its pattern. `compare.py` decides whether it is wrong.

Each pattern is a hypothesis about how the analytic gradient `a` differs from the true one, `n`: a factor, a sign, a
missing term, the right numbers in the wrong places. A hypothesis is reported only if it explains every entry measured.
Legend: a (shape of the tensor), n at the flat indices `at`; d = a[at] − n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .numeric import Probe
from .paths import explain
from .problem import Arrays, Problem
from .results import Hint

CLOSE = 1e-5  # a hypothesis must explain an entry to within this share of the largest one
MOST = 0.9


@dataclass
class Case:
    """One wrong tensor: its index k in the problem, its analytic gradient, and the true one at flat indices `at`."""

    problem: Problem
    probe: Probe
    k: int
    a: np.ndarray
    at: np.ndarray
    n: np.ndarray
    others: list[np.ndarray | None]
    previous: list[np.ndarray | None] | None = None

    @property
    def a_at(self) -> np.ndarray:
        return self.a.reshape(-1)[self.at]

    @property
    def name(self) -> str:
        return self.problem.names[self.k]

    def explains(self, candidate: np.ndarray, of: np.ndarray | None = None, share: float = 1.0) -> bool:
        """Whether `candidate` equals `of` (default: the true gradient) at every entry, and is not all zero.

        share   the share of entries that must agree; below 1 because a slope measured here may cross a kink
        """
        of = self.n if of is None else of
        size = float(np.abs(of).max(initial=0.0))
        return size > 0 and float(np.mean(np.abs(candidate - of) <= CLOSE * size)) >= share

    def slopes_of(self, name: str, part: Callable[[Arrays], float]) -> np.ndarray:
        """Measure the derivative of a part of f at the entries `at`, once for all backwards of this forward."""
        known = self.probe.of_parts
        for i in self.at.tolist():
            if (self.k, name, i) not in known:
                known[self.k, name, i] = self._slope_of(part, i)
        return np.array([known[self.k, name, i] for i in self.at.tolist()])

    def _slope_of(self, part: Callable[[Arrays], float], i: int) -> float:
        """By central differences, extrapolated by Richardson's formula."""
        x = self.probe.inputs[self.k]
        kept, h = x.flat[i], self.probe.step(self.k, i)

        def value(t: float) -> float:
            x.flat[i] = kept + t
            return part(self.probe.inputs)

        central = (value(h) - value(-h)) / (2 * h)
        wide = (value(2 * h) - value(-2 * h)) / (4 * h)
        x.flat[i] = kept
        return (4 * central - wide) / 3


def diagnose(case: Case) -> list[Hint]:
    """Return the first pattern that explains the case, or a description of where the gradients disagree."""
    for pattern in PATTERNS:
        for hint in pattern(case):
            return [hint]
    return [
        Hint(
            "unknown",
            "no simple pattern. The numeric derivatives agree with each other, not with backward (`--sweep` draws "
            "them): check the factors of the chain rule one by one; `--worst 20` shows where it is worst",
        )
    ]


def independent(probe: Probe, k: int) -> Hint:
    """Say why every slope of tensor k is exactly 0."""
    if any(probe.phi(k, where, probe.step(k, where)) for where in probe.lines(k)):
        return Hint(
            "stationary",
            "every slope is exactly 0: these inputs are a stationary point, where a wrong factor of the gradient does "
            "not show. Take other inputs (is data drawn with the same seed as they?)",
        )
    return Hint(
        "independent",
        "the outputs do not depend on it: every slope is exactly 0, so that a gradient of 0 proves nothing. "
        "Take inputs on which they depend; if it has no gradient, let backward return None for it",
    )


def _independent(case: Case) -> Iterator[Hint]:
    if not np.any(case.n):
        yield independent(case.probe, case.k)


def _zero(case: Case) -> Iterator[Hint]:
    if not np.any(case.a):
        yield Hint("zero", "0 everywhere: never computed, never written, or cut off by a mask of zeros")


UPSTREAM_IGNORED = Hint("upstream-ignored", "right for dY = 1 everywhere: backward ignores its dY")


def _factor(case: Case) -> Iterator[Hint]:
    n, a = case.n, case.a_at
    square = float(n @ n)
    if square == 0:
        return
    r = float(a @ n) / square
    if r == 0 or not case.explains(a / r):
        return
    upstream = case.problem.upstream
    u = float(sum(u.sum() for u in upstream))
    if sum(u.size for u in upstream) == 1 and abs(u - 1) > 1e-3 and abs(r * u - 1) < 1e-6:
        yield UPSTREAM_IGNORED
        return
    if abs(r + 1) < 1e-7:
        yield Hint(
            "sign",
            "the wrong sign everywhere: analytic = −numeric. Look for (x − m) where (m − x) is meant, "
            "or the gradient of the ELBO where the loss is −ELBO",
        )
        return
    yield Hint("factor", f"analytic = {_digits(r)} × numeric at every entry. {_why_factor(case.problem, r)}")


def _digits(r: float) -> str:
    """Write a factor that is not 1 with as many digits as tell it from 1 and −1."""
    return next((text for d in range(6, 17) if (text := f"{r:.{d}g}") not in ("1", "-1")), repr(r))


def _why_factor(problem: Problem, r: float) -> str:
    def near(value: float) -> bool:
        return abs(abs(r) - value) < 1e-4 * value

    sign = "The sign is wrong too. " if r < 0 else ""
    reasons = []
    for size_name, size in problem.sizes.items():
        if size > 1 and near(size):
            reasons.append(f"{size} is {size_name}: a sum where the forward takes a mean; divide by {size}")
        if size > 1 and near(1 / size):
            reasons.append(f"1/{size}, and {size} is {size_name}: a mean where the forward takes a sum")
    if near(2):
        reasons.append("a ½ of the forward is missing in the backward: ½‖·‖², ½ logvar in σ = e^{½ logvar}")
    if near(0.5):
        reasons.append("a ½ too many, or the 2 of d(x²) = 2x dx is missing")
    if not reasons:
        reasons.append("a constant factor is wrong or missing in the backward")
    return sign + "; or: ".join(reasons)


def _transposed(case: Case) -> Iterator[Hint]:
    a = case.a
    if a.ndim != 2 or 1 in a.shape:
        return
    turned = a.reshape(a.shape[::-1]).T
    if case.explains(turned.reshape(-1)[case.at]):
        how = "dY Xᵀ for Xᵀ dY" if a.shape[0] == a.shape[1] else "written in the order of the transposed array"
        yield Hint("transposed", f"the transpose of what it should be: {how}, or a reshape for a .T")


def _order(case: Case) -> Iterator[Hint]:
    for k, other in enumerate(case.others):
        if k == case.k or other is None or other.shape != case.a.shape:
            continue
        if case.explains(other.reshape(-1)[case.at]):
            other_name = case.problem.names[k]
            yield Hint(
                "order",
                f"its gradient was returned in {other_name}'s place: return the gradients in the order "
                f"of the inputs, {', '.join(case.problem.names)}",
            )
            return
    for axis in range(case.a.ndim):
        for shift in (1, -1):
            if case.a.shape[axis] > 1 and case.explains(np.roll(case.a, shift, axis).reshape(-1)[case.at]):
                yield Hint(
                    "order",
                    f"the right numbers one place further along axis {axis}: an index is off by one",
                )
                return
    if len(case.at) == case.a.size > 1 and case.explains(np.sort(case.a_at), np.sort(case.n)):
        yield Hint("order", "the right numbers in the wrong places: check the indices, axes and reshapes")


def _missing_term(case: Case) -> Iterator[Hint]:
    d = case.a_at - case.n
    ones = [np.ones_like(u) for u in case.problem.upstream]
    if any(u.ndim > 0 for u in ones) and case.explains(case.a_at, case.slopes_of("dY = 1", _weighted(case, ones))):
        yield UPSTREAM_IGNORED
        return
    size = max(float(np.abs(case.n).max()), float(np.abs(case.a_at).max()))
    slopes = {name: case.slopes_of(name, part) for name, part in _parts(case).items()}
    slopes = {name: slope for name, slope in slopes.items() if np.abs(slope).max() > CLOSE * size}
    for name, slope in slopes.items():
        if case.explains(-d, slope, MOST):
            yield Hint("missing-term", f"the gradient of {name} is missing: it is just the difference")
            return
        if case.explains(d, slope, MOST):
            yield Hint("missing-term", f"the gradient of {name} is counted twice")
            return
    for name, slope in slopes.items():
        if case.explains(case.a_at, slope, MOST):
            code = "missing-sum" if name.startswith("row") else "missing-term"
            rest = "the sum over rows is missing" if code == "missing-sum" else "the rest of the loss is missing"
            yield Hint(code, f"the gradient of {name} alone: {rest}")
            return


def _parts(case: Case) -> dict[str, Callable[[Arrays], float]]:
    """Parts of f that a backward might leave out: those of the problem, each output, the first and the last row."""
    parts = dict(case.problem.parts)
    upstream = case.problem.upstream

    if len(upstream) > 1:
        for j in range(len(upstream)):
            parts[f"output {j}"] = _weighted(case, [u if i == j else np.zeros_like(u) for i, u in enumerate(upstream)])
    rows = upstream[0].shape[0] if upstream[0].ndim > 0 else 0
    for row in {0, rows - 1} if rows > 1 else ():
        weights = [np.zeros_like(u) for u in upstream]
        for w, u in zip(weights, upstream, strict=True):
            if w.ndim > 0 and w.shape[0] == rows:
                w[row] = u[row]
        parts[f"row {row}"] = _weighted(case, weights)
    return parts


def _suspect(case: Case) -> Iterator[Hint]:
    if case.problem.suspects is None:
        return
    for mistake, gradients in case.problem.suspects().items():
        g = gradients[case.k]
        if g is not None and g.shape == case.a.shape and case.explains(case.a_at, g.reshape(-1)[case.at]):
            yield Hint("known-mistake", f"just what comes of a classic mistake: {mistake}")
            return


def _weighted(case: Case, weights: Arrays) -> Callable[[Arrays], float]:
    """Return f with these upstream gradients."""

    def part(inputs: Arrays) -> float:
        return sum(float(np.sum(w * y)) for w, y in zip(weights, case.problem.forward(inputs), strict=True))

    return part


def _mask(case: Case) -> Iterator[Hint]:
    n, a = case.n, case.a_at
    flat = np.abs(n) <= CLOSE * np.abs(n).max(initial=0.0)
    wrong = np.abs(a - n) > CLOSE * np.abs(n).max(initial=0.0)
    if flat.any() and not flat.all() and np.array_equal(wrong, wrong & flat):
        yield Hint(
            "mask",
            "not 0 where the function is flat, and right elsewhere: the mask of a ReLU, a clamp or "
            "free bits is missing in the backward",
        )


def _offset(case: Case) -> Iterator[Hint]:
    d = case.a_at - case.n
    if len(d) > 2 and np.abs(d - d.mean()).max() <= CLOSE * abs(d.mean()):
        yield Hint("constant", f"analytic − numeric = {d.mean():.6g} at every entry: a constant was added")


def _stale(case: Case) -> Iterator[Hint]:
    if case.previous is None or case.previous[case.k] is None:
        return
    before = case.previous[case.k]
    if before is not None and before.shape == case.a.shape and np.any(case.a) and np.array_equal(before, case.a):
        yield STALE


STALE = Hint(
    "stale",
    "what backward gave for the other inputs, and another dY, of the call before: its buffer is not "
    "written in this call, or a value saved by an earlier call is used",
)


def _few(case: Case) -> Iterator[Hint]:
    size = float(np.abs(case.n).max(initial=0.0))
    wrong = case.at[np.abs(case.a_at - case.n) > 1e-6 * size]
    if len(wrong) == 0 or len(wrong) > max(1, case.a.size // 2):
        return
    places = np.array(np.unravel_index(wrong, case.a.shape)).T
    for axis, length in enumerate(case.a.shape):
        lines = set(places[:, axis].tolist())
        if case.a.ndim > 1 and len(lines) == 1 and len(wrong) > 1:
            line = lines.pop()
            which = "the last" if line == length - 1 else "the first" if line == 0 else "one"
            yield Hint(
                "entries",
                f"only index {line} of axis {axis} is wrong, {which} of {length}: a loop's bound, an edge",
            )
            return
    first = tuple(places[0].tolist())
    many = "1 entry is" if len(wrong) == 1 else f"{len(wrong)} entries are"
    yield Hint(
        "entries",
        f"only {many} wrong of {len(case.at)} measured, {first} first: a special case, an edge, or an "
        "index written twice",
    )


def _path(case: Case) -> Iterator[Hint]:
    text = explain(case.probe, case.k, case.a_at, case.at, case.n)
    if text is not None:
        yield Hint("path", text)


def _diagonal(case: Case) -> Iterator[Hint]:
    """Find a backward that has only the derivatives of each output by the input of the same index."""
    x, upstream = case.probe.inputs[case.k], case.problem.upstream
    if len(upstream) != 1 or upstream[0].shape != x.shape:
        return
    own = np.empty(len(case.at))
    for j, i in enumerate(case.at):
        moved = []
        for h in (2.0**-14, -(2.0**-14)):
            inputs = [y.copy() for y in case.probe.inputs]
            inputs[case.k].flat[i] += h
            moved.append(case.problem.forward(inputs)[0].flat[i])
        own[j] = upstream[0].flat[i] * (moved[0] - moved[1]) / 2.0**-13
    if case.explains(case.a_at, own):
        yield Hint(
            "path",
            "only the derivative of each output by the input of the same index: each input moves the other outputs "
            "too, through a sum, a mean or a maximum, and those terms are missing",
        )


def _along(case: Case) -> Iterator[Hint]:
    """Recognise the difference a − n, line by line along an axis, as what a sum over that axis contributes."""
    x = case.probe.inputs[case.k]
    if len(case.at) != x.size:
        return
    d = case.a - case.n.reshape(x.shape)
    close = CLOSE * float(np.abs(d).max())
    for axis in range(x.ndim):
        if x.shape[axis] < 4 or close == 0:
            continue
        lines, points = (np.moveaxis(t, axis, -1).reshape(-1, x.shape[axis]) for t in (d, x))
        one = np.ones_like(points)
        for basis, what in (
            ([one], "a sum or mean"),
            ([points - points.mean(axis=1, keepdims=True)], "the variance"),
            ([points], "a sum of squares"),
            ([np.exp(points - points.max(axis=1, keepdims=True))], "a sum of exponentials (a softmax)"),
            ([one, points], "mean and variance"),
        ):
            left = 0.0
            for row, line in enumerate(lines):
                B = np.stack([b[row] for b in basis], axis=1)
                left = max(left, float(np.abs(line - B @ np.linalg.lstsq(B, line, rcond=None)[0]).max()))
            if left <= close and x.shape[axis] > len(basis) + 2:
                said = f"the difference is what {what} over axis {axis} contributes"
                yield Hint("path", f"{said}: that path is missing or wrong")
                return


PATTERNS = (
    _independent,
    _zero,
    _factor,
    _transposed,
    _order,
    _missing_term,
    _suspect,
    _mask,
    _stale,
    _path,
    _diagonal,
    _offset,
    _along,
    _few,
)


def shape_hint(problem: Problem, gradients: list[np.ndarray | None], k: int) -> Hint:
    """Suggest the cause of a gradient of the wrong shape."""
    a, x, names = gradients[k], problem.inputs[k], problem.names
    assert a is not None
    said = f"the gradient has shape {a.shape}, the tensor {x.shape}. "
    for j, other in enumerate(gradients):
        here = problem.inputs[j].shape
        if j != k and a.shape == here and other is not None and other.shape == x.shape != here:
            return Hint("order", said + f"It and that of {names[j]} were returned in each other's place")
    if a.shape == (1, *x.shape) or (a.size == x.size and a.squeeze().shape == x.squeeze().shape):
        how = "summed with keepdims=True: leave it out" if a.ndim > x.ndim else "summed without keepdims=True: add it"
        return Hint("keepdims", f"the gradient has shape {a.shape} for {x.shape}: {how}, or reshape")
    if a.shape == x.shape[::-1]:
        return Hint("transposed", said + "It is transposed: dY Xᵀ where Xᵀ dY is meant, or a .T left out")
    if a.ndim == x.ndim + 1 and a.shape[1:] == x.shape:
        return Hint("missing-sum", said + "The sum over rows is missing: backward of a broadcast is .sum(axis=0)")
    if a.size == x.size:
        return Hint("shape", said + "The number of entries fits: reshape it")
    if a.ndim > 0 and math.prod(a.shape) > x.size:
        return Hint("missing-sum", said + "An axis that the forward broadcast has not been summed over")
    return Hint("shape", said + "A sum over too many axes, or another tensor's gradient")
