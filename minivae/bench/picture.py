"""picture: draw the figures as bars, and the scaling of a step as lines. Matplotlib is imported at the first use."""

from __future__ import annotations

from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from ..console import measure
from ..plots.draw import BLUE, GREY, ORANGE, require
from . import scaling
from .figures import FLOORS, OURS, Measured
from .tables import ORDER, growth

if TYPE_CHECKING:
    from .figures import Figures

COLOURS = {"minivae": BLUE, "minivae-mkl": ORANGE}
COLUMNS = 5  # panels in a row


def bars(figures: Figures, path: Path, digest: str) -> None:
    """Draw a panel for each race, a bar for each contender; floors are lines. `digest` is written into the file."""
    require()
    from matplotlib.figure import Figure

    panels = [(cell, f"step, batch {cell.cell.case['batch']}", 1e3) for cell in figures.of("step")]
    panels += [(cell, "an epoch", 1.0) for cell in figures.of("epoch")]
    for cell in figures.of("kernel"):
        panels.append((cell, f"{cell.cell.case['likelihood']}, {cell.cell.case['rows']} rows", 1e3))
    panels += [(cell, f"ln p(x), K = {cell.cell.case['samples']}", 1.0) for cell in figures.of("evaluate")]
    down = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(13, 2.7 * down), layout="constrained")
    axes = figure.subplots(down, COLUMNS, squeeze=False).ravel()
    for at, (cell, title, factor) in zip(axes, panels, strict=False):
        _panel(at, cell, factor)
        at.set_title(f"{title}, {'ms' if factor > 1 else 's'}", loc="left", fontsize=10)
    for at in axes[len(panels) :]:
        at.set_axis_off()
    figure.suptitle("shorter is faster; dotted: the floor, on NumPy's BLAS (grey) and on MKL (orange)", fontsize=10)
    _save(figure, path, digest)


def _panel(at: Any, cell: Measured, factor: float) -> None:
    names = [name for name in ORDER if cell.median(name) and name not in FLOORS]
    times = [factor * (cell.median(name) or 0.0) for name in names]
    widest, paper = max(times), {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8}
    at.barh(names, times, color=[COLOURS.get(name, "#c8c8c8") for name in names])
    for name, t in zip(names, times, strict=True):
        at.text(t + 0.02 * widest, name, measure(t), va="center", fontsize=8, bbox=paper)
    for floor, ours, colour in zip(FLOORS, OURS, (GREY, ORANGE), strict=True):
        if least := cell.median(floor):
            at.axvline(factor * least, color=colour if cell.median(ours) else GREY, linestyle=":", linewidth=1.2)
    at.set_xlim(0, 1.22 * widest)
    at.invert_yaxis()
    at.tick_params(labelsize=8)
    at.spines[["top", "right"]].set_visible(False)


def lines(figures: Figures, path: Path, digest: str) -> None:
    """Draw a panel for each axis: milliseconds against the value, both logarithmic, and the fitted slope."""
    require()
    from matplotlib.figure import Figure

    cells = figures.of("scaling")
    figure = Figure(figsize=(13, 2.8), layout="constrained")
    panels = figure.subplots(1, len(cells), squeeze=False, sharey=True).ravel()
    for at, cell in zip(panels, cells, strict=True):
        axis = cell.cell.case["axis"]
        values, seconds = growth(cell)
        at.loglog(values, [1e3 * t for t in seconds], "o-", color=BLUE, markersize=4)
        last, slope = values[-scaling.FITTED :], scaling.exponent(values, seconds)
        middle = geometric_mean(last), 1e3 * geometric_mean(seconds[-scaling.FITTED :])
        at.loglog(last, [middle[1] * (n / middle[0]) ** slope for n in last], color=ORANGE, linewidth=4, alpha=0.4)
        at.set_title(f"{axis}, {scaling.WHAT[axis]}: {slope:.2f}", loc="left", fontsize=10)
        at.set_xticks(values, [str(value) for value in values])
        at.minorticks_off()
        at.tick_params(labelsize=8)
        at.grid(alpha=0.25)
    panels[0].yaxis.set_major_formatter("{x:g}")
    panels[0].set_ylabel("ms a step")
    _save(figure, path, digest)


def _save(figure: Any, path: Path, digest: str) -> None:
    figure.savefig(path, dpi=100, metadata={"Description": digest, "Software": None})
