"""numeric: measure derivatives from the forward alone: central differences, detection of kinks, complex-step.

Along a line through the point, φ(t) = f(x + t v) − f(x), with v one entry or a random direction:

    central       D(h) = [φ(h) − φ(−h)] / 2h                          error ≈ h² f‴/6
    Richardson    R(h) = [4 D(h) − D(2h)] / 3                         error ≈ h⁴ f⁽⁵⁾/30: used here
    round-off     4 ε |f| / h                                         grows as h falls: hence the U-curve
    step          h = 2⁻¹⁰ · (the power of two at or below max(1, |x|)) ≈ ε^{1/5} |x|, where the two meet; a power of
                  two, because x + h is then exact
    kink          g(h) = [φ(h) + φ(−h)] / h, the one-sided slopes' difference: ≈ h f″ if smooth, the jump J if kinked.
                  J(h) = 2 g(h) − g(2h): ≈ h³ f⁗/2 if smooth, J at a kink

If J(h) is not small, or the analytic and numeric derivatives disagree, the step is shortened (÷8, four times) until two
steps agree and no jump remains: a shorter step no longer reaches a kink nearby. If no two steps agree and a jump
remains, the point lies on a kink (or within 4·10⁻⁶ of one). It has no derivative to compare with, and is counted apart.

Complex-step, Im f(x + i h v)/h with h = 10⁻³⁰, subtracts nothing and so has no cancellation error. It needs f to be
analytic code. This is tested: the result must be complex, finite, and equal to R(h) within the tolerance.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ..errors import UsageError
from .problem import Arrays, Problem, Settings, magnitude

EPS = float(np.finfo(np.float64).eps)
STEP = 2.0**-10
SHORTER = 8.0
LEVELS = 5
COMPLEX_STEP = 1e-30
FLOOR = 1e-3  # the error of an entry is relative to at least this share of its tensor's largest entry

Where = int | np.ndarray  # a flat index, or a direction of the tensor's shape


@dataclass(frozen=True)
class Slope:
    """A derivative along one line: its value, step, round-off and kind.

    kind    "smooth"; "kink": no derivative; "undefined": f is not finite near the point
    jump    the remaining difference of the one-sided slopes
    """

    value: float
    step: float
    noise: float
    kind: str = "smooth"
    jump: float = 0.0
    looked_twice: bool = False


def _has_jump(found: list[Slope], negligible: float) -> bool:
    """Whether the one-sided slopes still differ at the shortest steps.

    For a smooth function, J falls by 8³ a step; noise grows by 8, with either sign. At a kink J is constant until the
    step is too short to reach the kink; if f itself jumps, J grows by 8 with one sign.
    """
    for before, after in pairwise(found):
        big = abs(after.jump) > 16 * after.noise + negligible and before.jump * after.jump > 0
        ratio = abs(after.jump / before.jump) if before.jump else math.inf
        if big and (0.5 < ratio < 4 or (0.5 < ratio < 16 and abs(after.jump) > 1e3 * after.noise)):
            return True
    return False


def step_for(x: float) -> float:
    """Return the step for an entry of this size."""
    return STEP * 2.0 ** math.floor(math.log2(max(1.0, abs(x))))


class Probe:
    """Measures the derivatives of one problem and caches them: mutations change only the backward."""

    def __init__(self, problem: Problem, settings: Settings):
        self.problem, self.settings = problem, settings
        self.inputs = [np.array(x, dtype=np.float64) for x in problem.inputs]
        self.outputs = problem.forward(self.inputs)
        self.f = magnitude(self.outputs, problem.upstream)
        self._known: dict[int, list[Slope]] = {}
        self._measured: dict[tuple[int, int, float], Slope] = {}
        self.of_parts: dict[tuple[int, str, int], float] = {}  # `Case.slopes_of`: tensor, part, entry
        self._complex: dict[int, np.ndarray | None] = {}

    # ---- where ----------------------------------------------------------------------------------------------------

    def lines(self, k: int) -> list[Where]:
        """Return the lines along which tensor k is checked: every entry, or seeded random directions (±1/√n each)."""
        x = self.inputs[k]
        if x.size <= self.settings.max_entries:
            return list(range(x.size))
        rng = np.random.default_rng([self.settings.seed, k])
        return [rng.choice([-1.0, 1.0], x.shape) / math.sqrt(x.size) for _ in range(self.settings.directions)]

    def phi(self, k: int, where: Where, t: float) -> float:
        """Return f(x + t v) − f(x), summed output by output, so that unchanged outputs cancel exactly."""
        x = self.inputs[k]
        if isinstance(where, int):
            kept = x.flat[where]
            x.flat[where] = kept + t
            outputs = self._outside_too()
            x.flat[where] = kept
        else:
            original = x.copy()
            x += t * where
            outputs = self._outside_too()
            x[...] = original
        if outputs is None:
            return math.nan
        total = 0.0
        for u, y, y0 in zip(self.problem.upstream, outputs, self.outputs, strict=True):
            total += float(np.sum(u * (y - y0)))
        return total

    def _outside_too(self) -> Arrays | None:
        """Return the outputs at the current, shifted inputs; None if the code rejects them."""
        try:
            return self.problem.forward(self.inputs)
        except UsageError:
            return None

    # ---- one line -------------------------------------------------------------------------------------------------

    def measure(self, k: int, where: Where, h: float) -> Slope:
        """Compute R(h) and J(h) from four values of f; for one entry, once."""
        if not isinstance(where, int):
            return self._measure(k, where, h)
        if (k, where, h) not in self._measured:
            self._measured[k, where, h] = self._measure(k, where, h)
        return self._measured[k, where, h]

    def _measure(self, k: int, where: Where, h: float) -> Slope:
        with np.errstate(all="ignore"):
            p1, m1, p2, m2 = (self.phi(k, where, t) for t in (h, -h, 2 * h, -2 * h))
            central, wide = (p1 - m1) / (2 * h), (p2 - m2) / (4 * h)
            jump = 2 * (p1 + m1) / h - (p2 + m2) / (2 * h)
        value = (4 * central - wide) / 3
        kind = "smooth" if math.isfinite(value) and math.isfinite(jump) else "undefined"
        return Slope(value, h, 4 * EPS * self.f / h, kind, jump)

    def step(self, k: int, where: Where) -> float:
        x = self.inputs[k]
        return step_for(x.flat[where] if isinstance(where, int) else float(np.abs(x).max()))

    def second_look(self, k: int, where: Where, first: Slope, scale: float) -> Slope:
        """Shorten the step until two steps agree and no jump remains; see the top of this file."""
        allowed = 0.1 * self.settings.tolerance

        def clean(slope: Slope) -> bool:
            return slope.kind == "smooth" and abs(slope.jump) <= 4 * slope.noise + 10 * allowed * scale

        found = [first]
        for _ in range(LEVELS - 1):
            before, here = found[-1], self.measure(k, where, found[-1].step / SHORTER)
            found.append(here)
            apart = abs(here.value - before.value)
            if clean(before) and clean(here) and apart <= here.noise + allowed * max(abs(here.value), scale):
                return replace(before if apart <= 2 * before.noise else here, looked_twice=True)
        if found[-1].kind != "smooth" or _has_jump(found, 10 * allowed * scale):
            kind = "kink" if found[-1].kind == "smooth" else "undefined"
            return replace(found[-1], kind=kind, looked_twice=True)
        pairs = [(abs(b.value - a.value) + b.noise, b) for a, b in pairwise(found) if a.kind == b.kind == "smooth"]
        return replace(min(pairs, key=lambda pair: pair[0])[1], looked_twice=True)

    # ---- a tensor -------------------------------------------------------------------------------------------------

    def slopes(self, k: int) -> list[Slope]:
        """Measure the derivative along every line of tensor k."""
        found = [self.measure(k, where, self.step(k, where)) for where in self.lines(k)]
        largest = max((abs(s.value) for s in found if s.kind == "smooth"), default=0.0)
        scale = FLOOR * largest
        for i, (where, slope) in enumerate(zip(self.lines(k), found, strict=True)):
            if slope.kind != "smooth" or abs(slope.jump) > 4 * slope.noise + self.settings.tolerance * largest:
                found[i] = self.second_look(k, where, slope, scale)
        return found

    def known(self, k: int) -> list[Slope]:
        """Return `slopes(k)`, measured at the first call."""
        if k not in self._known:
            self._known[k] = self.slopes(k)
        return self._known[k]

    def look_again(self, k: int, i: int) -> Slope:
        """Measure line i of tensor k again with shorter steps, because it disagrees with the backward; cached."""
        slopes = self.known(k)
        if not slopes[i].looked_twice:
            scale = FLOOR * max((abs(s.value) for s in slopes if s.kind == "smooth"), default=0.0)
            slopes[i] = self.second_look(k, self.lines(k)[i], slopes[i], scale)
        return slopes[i]

    def complex_slopes(self, k: int) -> np.ndarray | None:
        """Return the complex-step derivative along every line of tensor k; None if the function does not permit it."""
        if k not in self._complex:
            self._complex[k] = self._try_complex(k) if self.problem.complex_step else None
        return self._complex[k]

    def _try_complex(self, k: int) -> np.ndarray | None:
        slopes, tolerance = self.known(k), self.settings.tolerance
        scale = FLOOR * max((abs(s.value) for s in slopes if s.kind == "smooth"), default=0.0)
        out = np.empty(len(slopes))
        for i, (where, slope) in enumerate(zip(self.lines(k), slopes, strict=True)):
            value = self.complex_slope(k, where)
            if value is None:
                return None
            allowed = 0.5 * tolerance * max(abs(slope.value), scale, slope.noise / tolerance)
            if slope.kind == "smooth" and abs(value - slope.value) > allowed:
                return None
            out[i] = value
        return out

    def complex_slope(self, k: int, where: Where, h: float = COMPLEX_STEP) -> float | None:
        inputs: Arrays = list(self.inputs)
        x = inputs[k] = self.inputs[k].astype(np.complex128)
        if isinstance(where, int):
            x.flat[where] += 1j * h
        else:
            x += 1j * h * where
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                outputs = self.problem.forward(inputs)
            except Exception:  # user code may reject complex numbers with any exception
                return None
        if not any(np.iscomplexobj(y) for y in outputs):
            return None
        value = sum(float(np.sum(u * np.imag(y))) for u, y in zip(self.problem.upstream, outputs, strict=True))
        return value / h if math.isfinite(value) else None
