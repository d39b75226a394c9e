"""sweep: plot the error of a derivative against the step, to show why the step in use is right.

If the step is too long, the function bends between the two points (truncation error, falling with h). If it is too
short, the two values differ only in their last digits (round-off, growing as 1/h). The best step lies between: the
curve is a U. Complex-step has only the truncation branch, because it subtracts nothing.

The error is against the best numeric derivative, not against the backward that is to be checked: complex-step at
10⁻³⁰ where the code permits it, else three central differences extrapolated to an error of h⁶, at the step where it
agrees best with the next. How far the backward is from that is said beside the curve.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ..console import error, plain, table
from ..errors import UsageError
from ..hints import how_to_install
from .compare import relative_error
from .numeric import EPS, FLOOR, STEP, Probe
from .problem import Problem, Settings
from .results import SCHEMA

STEPS = [2.0**-k for k in range(49)]
ENTRIES = 12  # random entries of each tensor, seeded
METHODS = {
    "forward": "[f(x+h) − f(x)] / h, error ~ h",
    "central": "[f(x+h) − f(x−h)] / 2h, error ~ h²",
    "richardson": "two central differences, error ~ h⁴",
    "complex": "Im f(x+ih) / h, error ~ h², no round-off",
}


@dataclass
class Curve:
    """The errors of every method at every step.

    errors     errors[method][i]: the median relative error of the entries at steps[i]
    backward   the largest relative error of the hand-written gradient; exit_code is 1 if it is above the tolerance
    """

    target: str
    steps: list[float]
    errors: dict[str, list[float]]
    entries: int
    backward: float
    picture: str | None = None
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": "sweep",
            "target": self.target,
            "steps": self.steps,
            "errors": {method: [plain(e) for e in errors] for method, errors in self.errors.items()},
            "best": {method: self.best(method) for method in self.errors},
            "step": STEP,
            "backward": plain(self.backward),
            "picture": self.picture,
        }

    def best(self, method: str) -> float:
        """Return the step with the smallest error."""
        return self.steps[int(np.nanargmin(self.errors[method]))]

    def render(self) -> RenderableType:
        """Tabulate the best step of each method; `picture` draws the curve."""
        made = table("method", "least error", "at h", "", left=(0, 3))
        for method, errors in self.errors.items():
            cells = (error(float(np.nanmin(errors))), error(self.best(method)))
            made.add_row(method, *cells, Text(METHODS[method]))
        head = Text(f"{self.target}: median relative error of {self.entries} entries, smallest over the step h", "bold")
        used = f"the step in use for |x| ≤ 1: h = {STEP:.0e}, {METHODS['richardson']}"
        wrote = f"wrote {self.picture}" if self.picture else "-o FILE.png draws the error against h"
        agree = min(np.nanmin(errors) for errors in self.errors.values())
        told = f"the hand-written gradient is {error(self.backward)} from the best of these, at worst"
        if self.exit_code:
            told += f": they agree with each other to {error(agree)}, not with it. The backward is wrong"
        backward = Text(told, "bold red" if self.exit_code else "")
        return Group(head, made, Text(used), backward, Text(wrote))


def run(problem: Problem, settings: Settings) -> Curve:
    """Measure the curve at some entries of every tensor, against the best numeric derivative there."""
    probe = Probe(problem, settings)
    gradients = problem.backward([x.copy() for x in problem.inputs], [u.copy() for u in problem.upstream])
    rng = np.random.default_rng(settings.seed)
    errors: dict[str, list[list[float]]] = {method: [[] for _ in STEPS] for method in METHODS}
    entries, worst = 0, 0.0
    for k, g in enumerate(gradients):
        if g is None or g.shape != problem.inputs[k].shape:
            continue
        largest = float(np.abs(g).max(initial=0.0))
        exact = probe.complex_slopes(k) is not None
        for i in rng.choice(g.size, min(ENTRIES, g.size), replace=False).tolist():
            slope = probe.measure(k, i, probe.step(k, i))
            if slope.kind != "smooth":
                continue
            truth, a = probe.complex_slope(k, i) if exact else None, float(g.flat[i])
            best, noise = (truth, EPS) if truth is not None else _best(probe, k, i)
            scale = max(abs(best), FLOOR * largest)
            if best == a == 0 or scale == 0:
                continue
            entries += 1
            worst = max(worst, relative_error(a, best, largest, max(noise, slope.noise), settings.tolerance))
            for s, h in enumerate(STEPS):
                for method, value in _slopes(probe, k, i, h, exact).items():
                    errors[method][s].append(abs(best - value) / scale)
    if entries == 0:
        raise UsageError(f"{problem.title}: no entry with a gradient to draw a curve of")
    median = {m: [float(np.median(e)) if e else float("nan") for e in rows] for m, rows in errors.items() if any(rows)}
    return Curve(problem.title, STEPS, median, entries, worst, exit_code=int(worst > settings.tolerance))


def _best(probe: Probe, k: int, i: int) -> tuple[float, float]:
    """Return the best numeric derivative of an entry, and how far it is from that of the next step.

    [64 D(h) − 20 D(2h) + D(4h)] / 45, whose error falls as h⁶, at the step where two neighbours agree best.
    """
    D, steps = [], STEPS[2:30]
    for h in steps:
        with np.errstate(all="ignore"):
            D.append((probe.phi(k, i, h) - probe.phi(k, i, -h)) / (2 * h))
    found = [(64 * D[j] - 20 * D[j - 1] + D[j - 2]) / 45 for j in range(2, len(D))]
    off = [abs(b - a) + 4 * EPS * probe.f / h for (a, b), h in zip(pairwise(found), steps[3:], strict=True)]
    j = int(np.nanargmin(off))
    return found[j + 1], off[j]


def _slopes(probe: Probe, k: int, i: int, h: float, exact: bool) -> dict[str, float]:
    with np.errstate(all="ignore"):
        p1, m1, p2, m2 = (probe.phi(k, i, t) for t in (h, -h, 2 * h, -2 * h))
    central, wide = (p1 - m1) / (2 * h), (p2 - m2) / (4 * h)
    slopes = {"forward": p1 / h, "central": central, "richardson": (4 * central - wide) / 3}
    if exact:
        value = probe.complex_slope(k, i, h)
        if value is not None:
            slopes["complex"] = value
    return slopes


def picture(curve: Curve, path: Path) -> None:
    """Write the curve as a picture."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise UsageError(f"-o: a picture needs Matplotlib: {how_to_install('viz')}") from None
    if not path.resolve().parent.is_dir():
        raise UsageError(f"-o {path}: there is no folder {path.parent}")
    figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    steps = np.array(curve.steps)
    for method, values in curve.errors.items():
        axes.loglog(
            steps,
            np.maximum(values, 1e-17),
            marker=".",
            linestyle=":" if method == "complex" else "-",
            label=f"{method}: {METHODS[method]}",
        )
    axes.loglog(steps, EPS / steps, "--", color="0.6", linewidth=1, label="round-off ~ ε/h")
    axes.axvline(STEP, color="0.6", linewidth=1, linestyle=":")
    axes.text(STEP, 3e-17, " step in use", color="0.4", fontsize=8)
    axes.set_ylim(1e-17, 10)
    axes.set_xlabel("step h")
    axes.set_ylabel("median relative error")
    axes.set_title(curve.target, parse_math=False)
    axes.legend(fontsize=8, loc="upper center")
    axes.grid(alpha=0.25)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise UsageError(f"-o {path}: {error}") from None
    finally:
        plt.close(figure)
    curve.picture = str(path)
