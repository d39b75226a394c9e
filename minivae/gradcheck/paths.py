"""paths: find the step of a forward whose part in the chain rule a wrong backward has left out, doubled or negated.

The forward is run once with arrays that record every step (a call of a NumPy ufunc): its value, operands and line. Then
derivatives are measured with one step changed:

    held       its value, or one operand, stays what it was: what a backward without that path would return
    moved      its value moves as if its derivative were another: what a backward would return that takes it for 1, or
               multiplies by another saved value

If P is the part of the true derivative n that goes through a held step, a wrong backward is n + c P: c = −1 if the path
is missing, 1 if it is counted twice, −2 if its sign is wrong. The same c must explain every direction tried. Compiled
code and other frameworks record no steps, and then nothing is suggested here.
"""

from __future__ import annotations

import linecache
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from .numeric import Probe
from .problem import Arrays

H = 2.0**-14  # central differences: truncation and round-off near 1e-8, a hypothesis needs 1e-4
AGREE = 1e-4
DIRECTIONS = 6
MOST_STEPS = 400
SECONDS = 5.0
_INSIDE = (str(Path(np.__file__).parent), __file__)
_HERE = str(Path(__file__).parent)


@dataclass
class Step:
    """One recorded step: the ufunc, its operands, its value, its line. None for an operand that no input leads to."""

    name: str
    operands: list[np.ndarray | None]
    value: np.ndarray
    file: str
    line: int

    @property
    def source(self) -> str:
        """The line of the code, quoted, and its number."""
        text = " ".join(linecache.getline(self.file, self.line).split())
        text = text if len(text) <= 60 else text[:59] + "…"
        return f"`{text}` (line {self.line})" if text else f"np.{self.name}"


Held = tuple[tuple[int, int], ...]


@dataclass
class Change:
    """What is changed in a run.

    held      (step, operand): that operand stays what it was; operand −1: the value of the step does
    first, last, operand, moves
              the value of step `last` moves by moves(δ), δ being the movement of an operand of step `first`, in the
              place of what that operand contributes
    """

    held: Held = ()
    first: int = -1
    last: int = -1
    operand: int = 0
    moves: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass
class Recorder:
    """Records the steps of a run, or repeats it with a change."""

    base: list[Step] = field(default_factory=list)
    change: Change | None = None
    at: int = 0
    movement: Any = None

    def operands(self, inputs: tuple[Any, ...]) -> list[Any]:
        """Return the operands without the class that records, those that are held at their recorded values."""
        out = [x.view(np.ndarray) if isinstance(x, _Recorded) else x for x in inputs]
        if self.change is not None and self.at < len(self.base):
            for step, position in self.change.held:
                if step == self.at and position >= 0:
                    out[position] = self.base[step].operands[position]
        return out

    def result(
        self, name: str, inputs: tuple[Any, ...], operands: list[Any], value: np.ndarray, again: Any
    ) -> np.ndarray:
        """Record a step; or return its value, changed. `again(operands)` computes it anew."""
        i, self.at = self.at, self.at + 1
        change = self.change
        if change is None:
            if len(self.base) >= MOST_STEPS:
                raise _TooMany
            kept = [
                np.array(x) if isinstance(given, _Recorded) else None for given, x in zip(inputs, operands, strict=True)
            ]
            self.base.append(Step(name, kept, np.array(value), *_line()))
            return value
        if i >= len(self.base) or self.base[i].name != name or self.base[i].value.shape != value.shape:
            raise _Different
        if i == change.first:
            kept_operand = self.base[i].operands[change.operand]
            self.movement = operands[change.operand] - kept_operand
        if i == change.last and change.moves is not None:
            rest = self.base[i].value
            if change.first == change.last and len(operands) > 1:
                rest = again([kept_operand if j == change.operand else x for j, x in enumerate(operands)])
            return np.asarray(rest + change.moves(self.movement))
        return self.base[i].value if (i, -1) in change.held else value


class _TooMany(Exception):
    pass


class _Different(Exception):
    """A repeated run does not take the recorded steps."""


class _Recorded(np.ndarray):
    """An array whose ufuncs are steps of `recorder`."""

    recorder: Recorder

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        recorder, operands = self.recorder, self.recorder.operands(inputs)
        kwargs = {k: v.view(np.ndarray) if isinstance(v, _Recorded) else v for k, v in kwargs.items()}
        if out is not None:
            kwargs["out"] = tuple(o.view(np.ndarray) if isinstance(o, _Recorded) else o for o in out)
        value = getattr(ufunc, method)(*operands, **kwargs)
        if method == "at" or isinstance(value, tuple) or np.asarray(value).dtype.kind != "f":
            return value
        plain = np.asarray(value)
        kept = {name: x for name, x in kwargs.items() if name != "out"}
        value = recorder.result(ufunc.__name__, inputs, operands, plain, lambda xs: getattr(ufunc, method)(*xs, **kept))
        if out is not None:
            if value is not plain:
                kwargs["out"][0][...] = value
            return out[0]
        return np.array(value).view(type(self))


def _line() -> tuple[str, int]:
    """Return the file and line of the checked code: of the outermost frame of it."""
    frame = sys._getframe(1)
    found = ("", 0)
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_INSIDE):
            if name.startswith(_HERE):
                return found
            found = (name, frame.f_lineno)
        frame = frame.f_back  # type: ignore[assignment]
    return found


class Paths:
    """The steps of a problem's forward, and the derivatives of tensor k with some of them changed."""

    def __init__(self, probe: Probe, k: int, at: np.ndarray):
        self.probe, self.k, self.at = probe, k, at
        self.recorder = Recorder()
        self.kind: Any = type("Recorded", (_Recorded,), {"recorder": self.recorder})
        self._run(probe.inputs, None)
        rng = np.random.default_rng(0)
        count = min(DIRECTIONS, max(2, len(at)))
        self.directions = [rng.choice([-1.0, 1.0], len(at)) * rng.uniform(0.5, 1.5, len(at)) for _ in range(count)]

    @property
    def steps(self) -> list[Step]:
        return self.recorder.base

    def _run(self, inputs: Arrays, change: Change | None) -> Arrays:
        self.recorder.change, self.recorder.at = change, 0
        return self.probe.problem.forward([np.array(x).view(self.kind) for x in inputs])

    def slope(self, m: int, change: Change) -> float:
        """Return the derivative of f along direction m with a change."""
        x, v = self.probe.inputs[self.k], np.zeros(self.probe.inputs[self.k].size)
        h = H * max(1.0, float(np.abs(x).max(initial=0.0)))
        v[self.at] = self.directions[m]
        values = []
        for t in (h, -h):
            inputs = [*self.probe.inputs]
            inputs[self.k] = x + t * v.reshape(x.shape)
            values.append(self._run(inputs, change))
        u = self.probe.problem.upstream
        return sum(float(np.sum(w * (p - q))) for w, p, q in zip(u, *values, strict=True)) / (2 * h)


def explain(probe: Probe, k: int, a_at: np.ndarray, at: np.ndarray, n: np.ndarray) -> str | None:
    """Return what a wrong gradient has left out of the chain rule, or None.

    a_at, n   the analytic gradient of tensor k and the true one, at the flat indices `at`
    """
    try:
        with np.errstate(all="ignore"):
            paths = Paths(probe, k, at)
            return _explain(_Hypotheses(paths, a_at - n, n)) if paths.steps else None
    except Exception:  # the code does not take arrays that record, or takes too long: nothing is suggested
        return None


class _Hypotheses:
    """Compares what a change takes away from the true derivative with what a wrong one lacks: d = a − n."""

    def __init__(self, paths: Paths, d: np.ndarray, n: np.ndarray):
        self.paths, self.steps = paths, paths.steps
        self.wanted = np.array([float(v @ d) for v in paths.directions])
        self.true = np.array([float(v @ n) for v in paths.directions])
        self.scale = float(np.abs([self.wanted, self.true]).max())
        self.end = time.monotonic() + SECONDS
        self.always: Held = ()
        # A maximum that is taken off before exp has no part in the derivative, and every backward leaves it out.
        self.always = tuple(
            ((i, -1))
            for i, s in enumerate(self.steps)
            if s.name == "maximum" and not self.parts(Change(held=((i, -1),))).any()
        )

    def parts(self, change: Change) -> np.ndarray:
        """Return P, what the change takes away in each direction; 0 if it is negligible in the first two."""
        parts: list[float] = []
        change = replace(change, held=(*change.held, *self.always))
        for m in range(len(self.wanted)):
            if time.monotonic() > self.end:
                raise _TooMany
            parts.append(self.true[m] - self.paths.slope(m, change))
            if m == 1 and max(map(abs, parts)) <= AGREE * self.scale:
                return np.zeros(len(self.wanted))
            if m == 1 and abs(self.wanted[0] * parts[1] - self.wanted[1] * parts[0]) > AGREE * self.scale * max(
                map(abs, parts)
            ):
                return np.full(len(self.wanted), np.inf)
        return np.array(parts)

    def times(self, change: Change) -> float | None:
        """Return the c for which d = c P in every direction; None if there is none."""
        P = self.parts(change)
        if not P.any() or not np.isfinite(P).all():
            return None
        c = float(self.wanted @ P / (P @ P))
        return c if np.abs(self.wanted - c * P).max() <= AGREE * self.scale else None

    def equals(self, change: Change) -> bool:
        """Whether the wrong gradient is what the change leaves."""
        c = self.times(change)
        return c is not None and abs(c + 1) <= AGREE


_TIMES = {
    -1.0: "the path through {} is missing: backward takes it for a constant",
    1.0: "the path through {} is counted twice",
    -2.0: "the path through {} has the wrong sign",
    -0.5: "the path through {} has half of its size: a factor 2 is missing",
}
_DERIVATIVES: dict[str, Callable[[np.ndarray, np.ndarray], Any]] = {  # of y by x, right for some function, wrong here
    "1": lambda x, y: 1.0,
    "1 − x²": lambda x, y: 1 - x**2,
    "1 − y²": lambda x, y: 1 - y**2,
    "1 − y": lambda x, y: 1 - y,
    "y (1 − y)": lambda x, y: y * (1 - y),
    "x (1 − x)": lambda x, y: x * (1 - x),
    "y": lambda x, y: y,
    "x": lambda x, y: x,
    "1/x": lambda x, y: 1 / x,
    "1/y": lambda x, y: 1 / y,
}


def _explain(test: _Hypotheses) -> str | None:
    steps = test.steps
    found: list[tuple[float, str]] = []
    for change, what in _held(steps):
        if (c := test.times(change)) is None:
            continue
        nice = next((text for value, text in _TIMES.items() if abs(c - value) <= 1e-3), None)
        if nice is not None:
            return nice.format(what)
        found.append((c, what))
    for hypotheses in (_derivatives(steps), _values(steps), _pairs(steps)):
        for change, text in hypotheses:
            if test.equals(change):
                return text
    if found and len(test.paths.at) >= 3:
        c, what = found[0]
        return f"the path through {what} has {1 + c:.4g} times its size"
    return None


def _held(steps: list[Step]) -> Iterator[tuple[Change, str]]:
    """Yield every value held, the last first, then every operand held."""
    for i in range(len(steps) - 1, -1, -1):
        yield Change(held=((i, -1),)), _what(steps, i, i)
    for i in range(len(steps) - 1, -1, -1):
        for position, operand in enumerate(steps[i].operands):
            if operand is not None and len(steps[i].operands) > 1:
                yield Change(held=((i, position),)), f"the {_ORDINAL[position]} operand of {_what(steps, i, i, True)}"


def _derivatives(steps: list[Step]) -> Iterator[tuple[Change, str]]:
    """Yield steps, and runs of steps of one line, whose derivative is taken for another function's."""
    for j, last in enumerate(steps):
        for i in range(j, max(-1, j - 8), -1):
            first = steps[i]
            if (first.file, first.line) != (last.file, last.line):
                break
            for position, x in enumerate(first.operands):
                if x is None or x.shape != last.value.shape:
                    continue
                binary = i == j and len(first.operands) > 1
                of = f" by its {_ORDINAL[position]} operand" if binary else ""
                for formula, derivative in _DERIVATIVES.items():
                    if binary and formula != "1":
                        continue  # `_values` tries what a product may be multiplied by
                    weight = derivative(x, last.value)
                    text = f"the derivative of {_what(steps, i, j, binary)}{of} is taken for {formula}"
                    if formula == "1":
                        text += ", as if it were left out"
                    elif "x" in formula:
                        text += f", x being what goes in{' and y what comes out' * ('y' in formula)}"
                    else:
                        text += ", y being what comes out"
                    yield Change((), i, j, position, lambda delta, weight=weight: weight * delta), text  # type: ignore[misc]


def _values(steps: list[Step]) -> Iterator[tuple[Change, str]]:
    """Yield products in whose derivative another value of the same shape stands in for the right one."""
    for i, step in enumerate(steps):
        if step.name not in ("multiply", "matmul") or len(step.operands) != 2:
            continue
        for position in (0, 1):
            x, factor = step.operands[position], step.operands[1 - position]
            if x is None or factor is None:
                continue
            for j, other in enumerate(steps):
                if other.value.shape != factor.shape or np.array_equal(other.value, factor):
                    continue
                V = other.value
                if step.name == "multiply":
                    moves = lambda delta, V=V: delta * V  # noqa: E731
                else:
                    moves = (lambda delta, V=V: delta @ V) if position == 0 else (lambda delta, V=V: V @ delta)
                what = f"in the derivative of {_what(steps, i, i, True)} by its {_ORDINAL[position]} operand"
                wrong = _what(steps, j, j)
                yield (
                    Change((), i, i, position, moves),
                    f"{what}, the value of {wrong} stands where the other operand belongs",
                )


def _pairs(steps: list[Step]) -> Iterator[tuple[Change, str]]:
    """Yield the values of two lines held together."""
    last = {(step.file, step.line): i for i, step in enumerate(steps)}
    for i, j in combinations(sorted(last.values())[-20:], 2):
        text = (
            f"the paths through {steps[i].source} and {steps[j].source} are missing: backward takes both for constants"
        )
        yield Change(held=((i, -1), (j, -1))), text


_ORDINAL = ("first", "second", "third")


def _what(steps: list[Step], first: int, last: int, exactly: bool = False) -> str:
    """Name a step, or a run of them: its line, and the ufuncs too if the line has other steps that follow it."""
    step = steps[last]
    same = [s for s in steps if (s.file, s.line) == (step.file, step.line)]
    if not step.line or len(same) == 1 or (step is same[-1] and not exactly and first == last):
        return step.source
    names = f"np.{step.name}" if first == last else f"np.{steps[first].name} … np.{step.name}"
    return f"{names} in {step.source}"
