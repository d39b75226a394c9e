"""Shared by the book's figures: colours of Okabe & Ito, sizes, and axes without a box."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "minivae",  # the same picture is the same file
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
    }
)

BLUE, ORANGE, GREEN, PINK, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#777777"


def axes(count: int = 1, width: float = 7.0, height: float = 3.0, **more: Any) -> tuple[Figure, Any]:
    """(figure, axes): one, or a row of `count`."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, count, **more)
