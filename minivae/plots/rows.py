"""rows: rows of data, pixel by pixel where they are pictures, as heat maps where they are tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .draw import SIDE, WHOLE, Shape, Target, finished, label, new_figure, pixels, tiles

Limits = tuple[np.ndarray, np.ndarray]
NAMED = 40  # columns at most whose names stand below a heat map
TALL = 8000  # about the greatest height in pixels: pictures of many rows are enlarged less


def grid(
    X: np.ndarray,
    shape: Shape | None,
    path: Target = None,
    columns: int | None = None,
    limits: Limits | None = None,
    title: str = "",
    names: Sequence[str] | None = None,
) -> Any:
    """Draw rows as a grid of pictures (h, w), or as a heat map if they are not pictures.

    limits   for a heat map: (low, high), each (D,), the range of each column in the data; default: that of the rows
    names    of the columns of a heat map
    """
    if shape is None:
        return heat_maps([(title, X)], limits, path, names=names)
    columns = columns or int(np.ceil(np.sqrt(len(X))))
    return finished(pixels(tiles(X, shape, columns), title)[0], path)


def reconstructions(
    X: np.ndarray, Y: np.ndarray, shape: Shape | None, path: Target = None, limits: Limits | None = None,
    names: Sequence[str] | None = None,
) -> Any:  # fmt: skip
    """Draw data X (n, D) with the reconstruction Y (n, D) below each row; heat maps are drawn side by side.

    limits   for heat maps: (low, high), each (D,), the range of each column in the data; default: that of the rows X
    names    of the columns of heat maps
    """
    if shape is None:
        return heat_maps([("data", X), ("model: E[x|z] at the posterior mean", Y)], limits, path, names=names)
    columns = min(len(X), 12)
    bands = []  # a line of data above a line of the model; the last line is filled up
    for start in range(0, len(X), columns):
        pair = np.full((2, columns, X.shape[1]), np.nan)
        for k, part in enumerate((X, Y)):
            some = part[start : start + columns]
            pair[k, : len(some)] = some
        bands.append(tiles(pair.reshape(2 * columns, -1), shape, columns))
    title = "rows of the data, and below each its reconstruction: E[x|z] at the posterior mean"
    grey = np.concatenate(bands)
    factor = min(round(SIDE / max(bands[0].shape)), TALL // len(grey))
    return finished(pixels(grey, title, factor=factor)[0], path)


def heat_maps(
    parts: list[tuple[str, np.ndarray]], limits: Limits | None, path: Target, ticks: list[str] | None = None,
    names: Sequence[str] | None = None,
) -> Any:  # fmt: skip
    """Draw tables side by side, each column in units of its range in the data, because ranges may differ by 10⁶.

    limits  (low, high), each (D,), the range of each column in the data
    ticks, names   the names of the rows and of the columns

    Without `limits` the data are the first part; a single row then has no range, and its values share one scale.
    """
    from matplotlib.ticker import MaxNLocator

    tables = [np.asarray(X, np.float64) for _, X in parts]
    if limits is None and len(tables[0]) == 1:
        unit = "value"
        least, greatest = min(X.min() for X in tables), max(X.max() for X in tables)
        extend = "neither"
    else:
        low, high = (tables[0].min(axis=0), tables[0].max(axis=0)) if limits is None else limits
        where = "the data" if limits is not None else "these rows" if len(parts) == 1 else "these rows of the data"
        unit = f"0 and 1: minimum and maximum of the column in {where}"
        span = np.subtract(high, low, dtype=np.float64)
        grey = ["missing"] if any(np.isnan(X).any() for X in tables) else []
        grey += ["constant there"] if (span == 0).any() else []
        unit += f"; grey: {' or '.join(grey)}" if grey else ""
        with np.errstate(over="ignore"):
            tables = [np.where(span > 0, (X - low) / np.where(span > 0, span, 1), np.nan) for X in tables]
        least, greatest = 0.0, 1.0
        both = np.concatenate(tables)  # fmin and fmax ignore NaN, without a warning if all are NaN
        below = np.fmin.reduce(both, axis=None, initial=0.0) < -1e-6
        above = np.fmax.reduce(both, axis=None, initial=1.0) > 1 + 1e-6
        extend = "both" if below and above else "min" if below else "max" if above else "neither"
    figure = new_figure(5.0 * len(parts), min(5.8, 2.4 + 0.25 * len(tables[0])))
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (title, own), X in zip(panels, parts, tables, strict=True):
        image = axes.imshow(X, aspect="auto", interpolation="nearest", cmap="viridis", vmin=least, vmax=greatest)
        axes.set_facecolor("#cccccc")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("column")
        axes.xaxis.set_major_locator(MaxNLocator(**WHOLE))
        if names is not None and len(names) <= NAMED:
            shown = [label(name) for name in names]
            axes.set_xticks(range(len(names)), shown, fontsize=7, rotation=90, parse_math=False)
            axes.set_xlabel("")
        if own.shape[0] == 1 and own.shape[1] <= 12:  # few enough to print the numbers
            for column, (value, shade) in enumerate(zip(own[0], image.norm(X[0]), strict=True)):
                ink = "white" if shade < 0.6 else "black"
                axes.text(column, 0, f"{value:.3g}", ha="center", va="center", fontsize=7, color=ink)
    panels[0].yaxis.set_major_locator(MaxNLocator(**WHOLE))
    panels[0].set_ylabel("row")
    if ticks is not None:
        panels[0].set_yticks(range(len(ticks)), ticks, fontsize=8)
        panels[0].set_ylabel("z")
    bar = figure.colorbar(image, ax=list(panels), location="bottom", extend=extend, shrink=0.5, aspect=30)
    bar.set_label(unit, fontsize=8)
    return finished(figure, path)
