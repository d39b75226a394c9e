"""plots: draw the pictures of a run. Matplotlib (extra `viz`) is imported at the first drawing.

Every function takes arrays on the host and a path or a binary file, draws one figure and writes it. Rows that are
pictures are drawn pixel by pixel, enlarged by an integer factor; rows of a table are drawn as heat maps, one row of the
map for each row of the data.

Colours. Two curves: blue and vermilion of Okabe & Ito. Up to ten classes: Petroff's ten (arXiv:2107.02270), each with
its own marker; under Machado's simulations (2009) of the three kinds of colour blindness all pairs differ by ΔE ≥ 17.
Numbers: viridis.
"""

from __future__ import annotations

import os
from textwrap import fill
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import UsageError, how_to_install, printable

if TYPE_CHECKING:
    from ..model import Model
    from ..training.history import History

Shape = tuple[int, int]
Target = str | os.PathLike | BinaryIO  # a path, or a file that takes a .png
Limits = tuple[np.ndarray, np.ndarray]
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#777777"
TEN = (
    ("#3f90da", "o"), ("#ffa90e", "s"), ("#bd1f01", "^"), ("#94a4a2", "D"), ("#832db6", "v"),
    ("#a96b59", "P"), ("#e76300", "X"), ("#b9ac70", "<"), ("#717581", "*"), ("#92dadd", ">"),
)  # fmt: skip
GRID = 20  # pictures along each side of the manifold
SIDE = 900  # approximate length of the longer side of a grid of pictures, in pixels
TALL = 8000  # greatest height in pixels: pictures of many rows are enlarged less
LABEL = 40  # characters of a label in a legend
FEW = 10  # with fewer epochs than this, dots are drawn on the line
WHOLE: dict[str, Any] = {"integer": True, "min_n_ticks": 1, "steps": [1, 2, 5, 10]}  # ticks at integers
GAP = 64  # grey value between pictures, of 255
DPI = 128  # of the manifold: a power of two, so that inches × DPI is exact


def available() -> bool:
    """Whether Matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def require() -> None:
    """Raise a UsageError that says what to install if Matplotlib is missing."""
    if not available():
        raise UsageError(f"pictures need Matplotlib: {how_to_install('viz')}, or write .npy instead of .png")


def _figure(width: float, height: float) -> Any:
    require()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Target, dpi: int) -> None:
    figure.savefig(path, dpi=dpi, format=_format(path))


def _format(path: Target) -> str | None:
    """Return the format of a binary file, which has no name; None for a path, whose ending tells it."""
    return None if isinstance(path, str | os.PathLike) else "png"


# ---- curves ---------------------------------------------------------------------------------------------------------


def loss(history: History, path: Target) -> None:
    """Draw total, NLL and KL against epochs: the total measures progress, its parts trade off against each other."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6.4, 7.2)
    epochs = history["epoch"]
    dots = "o" if len(epochs) < FEW else ""
    panels = figure.subplots(3, 1, sharex=True)
    for axes, name, title in zip(
        panels, ("elbo", "nll", "kl"), ("total  −ELBO (β = 1)", "reconstruction  NLL", "KL"), strict=True
    ):
        sign = -1 if name == "elbo" else 1
        curves = {"training": (BLUE, [sign * value for value in history[name]])}
        held = history[f"val_{name}"]
        if held and held[-1] != "":
            curves["validation"] = (ORANGE, [sign * value for value in held])
        for label, (colour, values) in curves.items():
            axes.plot(epochs, values, color=colour, label=label, marker=dots, markersize=4)
        if history.best_epoch is not None:
            label = f"best epoch on validation: {history.best_epoch}"
            axes.axvline(history.best_epoch, color=GREY, linewidth=1, linestyle=":", label=label)
        for k, (first, last) in enumerate(_runs(epochs, [beta < 1 for beta in history["beta"]])):
            label = "" if k else "β < 1: the optimised loss is not a bound"
            axes.axvspan(first - 0.5, last + 0.5, color=GREY, alpha=0.15, linewidth=0, label=label)
        axes.set_ylabel("nats a row")
        axes.set_title(title, loc="left", fontsize=10)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.grid(alpha=0.25)
        _frame(axes, epochs, list(curves.values()))
    pad = max(0.5, 0.02 * (epochs[-1] - epochs[0]))
    panels[-1].set_xlim(epochs[0] - pad, epochs[-1] + pad)
    panels[-1].xaxis.set_major_locator(MaxNLocator(**WHOLE))
    panels[-1].set_xlabel("epoch")
    figure.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper left", ncols=2)
    _save(figure, path, 120)


def _runs(epochs: list[int], flags: list[bool]) -> list[tuple[int, int]]:
    """Return (first, last) of each sequence of flagged epochs."""
    runs: list[tuple[int, int]] = []
    for epoch, flag in zip(epochs, flags, strict=True):
        if flag and runs and runs[-1][1] == epoch - 1:
            runs[-1] = (runs[-1][0], epoch)
        elif flag:
            runs.append((epoch, epoch))
    return runs


def _frame(axes: Any, epochs: list[int], curves: list[tuple[str, list[float]]]) -> None:
    """Set the y limits; if they leave values out, note how many and mark them."""
    values = np.array([values for _, values in curves])
    low, high = _limits(values)
    pad = 0.05 * (high - low) or max(0.05 * abs(low), 0.01)  # one value: a frame around it
    axes.set_ylim(low - pad, high + pad)
    notes = []
    for outside, edge, marker, extreme, words in (
        (values > high, 1, "^", values.max(), ("↑", "above", "up to ")),
        (values < low, 0, "v", values.min(), ("↓", "below", "down to ")),
    ):
        for (colour, _), cut, size in zip(curves, outside, (60, 15), strict=False):  # the second inside the first
            at = np.array(epochs)[cut]
            axes.scatter(
                at, np.full(len(at), edge), marker=marker, color=colour, s=size, clip_on=False, zorder=3, linewidths=0,
                transform=axes.get_xaxis_transform(),
            ).set_in_layout(False)  # fmt: skip
        if count := int(outside.sum()):
            arrow, where, reach = words
            many = "1 value is" if count == 1 else f"{count} values are"
            notes.append(f"{arrow} {many} {where} the frame: {'' if count == 1 else reach}{extreme:.4g}")
    axes.set_title("   ".join(notes), loc="right", fontsize=8, color=GREY)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Choose the limits of the y axis for values (curves, epochs): all values, unless these flatten the later epochs.

    The later epochs are those after the first quarter; their spread is the distance of their quantiles of 5 and 95 %,
    at least 0.1 nats. A frame extends three spreads beyond those quantiles, but not beyond the values. It is used if
    all values would need more than 1.5 times its height; fewer than five epochs are always shown completely.
    """
    low, high = float(values.min()), float(values.max())
    if values.shape[1] < 5:
        return low, high
    bottom, top = np.quantile(values[:, max(1, values.shape[1] // 4) :], [0.05, 0.95])
    reach = 3 * max(float(top - bottom), 0.1)
    frame = max(low, float(bottom) - reach), min(high, float(top) + reach)
    return frame if high - low > 1.5 * (frame[1] - frame[0]) else (low, high)


# ---- rows -----------------------------------------------------------------------------------------------------------


def grid(
    X: np.ndarray,
    shape: Shape | None,
    path: Target,
    columns: int | None = None,
    limits: Limits | None = None,
) -> None:
    """Draw rows as a grid of pictures (h, w), or as a heat map if they are not pictures.

    limits   for a heat map: (low, high), each (D,), the range of each column in the data; default: that of the rows
    """
    if shape is None:
        _heat_maps([("", X)], limits, path)
        return
    columns = columns or int(np.ceil(np.sqrt(len(X))))
    tiles = _tiles(X, shape, columns)
    _write(_enlarge(tiles, max(1, round(SIDE / max(tiles.shape)))), path)


def reconstructions(
    X: np.ndarray, Y: np.ndarray, shape: Shape | None, path: Target, limits: Limits | None = None
) -> None:
    """Draw data X (n, D) with the reconstruction Y (n, D) below each row; heat maps are drawn side by side.

    limits   for heat maps: (low, high), each (D,), the range of each column in the data; default: that of the rows X
    """
    if shape is None:
        _heat_maps([("data", X), ("model", Y)], limits, path)
        return
    columns = min(len(X), 12)
    bands = []  # a line of data above a line of the model; the last line is filled up
    for start in range(0, len(X), columns):
        pair = np.full((2, columns, X.shape[1]), np.nan)
        for k, part in enumerate((X, Y)):
            some = part[start : start + columns]
            pair[k, : len(some)] = some
        bands.append(_tiles(pair.reshape(2 * columns, -1), shape, columns))
    tiles = np.concatenate(bands)
    factor = max(1, min(round(SIDE / max(bands[0].shape)), TALL // len(tiles)))
    pixels = _enlarge(tiles, factor)
    height = shape[0] * factor
    words = [_word(text, min(14, height)) for text in ("data", "model")]
    margin = np.full((len(pixels), words[0].shape[1]), 255, np.uint8)
    for band in range(len(bands)):
        for line, word in enumerate(words):
            top = (band * len(bands[0]) + 1 + line * (shape[0] + 1)) * factor + (height - len(word)) // 2
            margin[top : top + len(word)] = word
    _write(np.hstack([margin, pixels]), path)


def _tiles(X: np.ndarray, shape: Shape, columns: int) -> np.ndarray:
    """Arrange rows as pictures, `columns` in a line, with one pixel (NaN) between and around them."""
    h, w = shape
    lines = -(-len(X) // columns)
    tiles = np.full((lines, h + 1, columns, w + 1), np.nan)
    for k, row in enumerate(X):
        tiles[k // columns, 1:, k % columns, 1:] = np.asarray(row, np.float64).reshape(h, w)
    return np.pad(tiles.reshape(lines * (h + 1), columns * (w + 1)), ((0, 1), (0, 1)), constant_values=np.nan)


def _enlarge(tiles: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge each pixel to a square of `factor`, as bytes: black is 0, white is 1, NaN is GAP."""
    bytes_ = np.where(np.isnan(tiles), GAP, np.round(255 * np.clip(tiles, 0, 1))).astype(np.uint8)
    return bytes_.repeat(factor, axis=0).repeat(factor, axis=1)


def _word(text: str, size: int) -> np.ndarray:
    """Draw a short word as pixels (size, 4·size), black on white, right-aligned."""
    require()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * size / DPI, size / DPI), dpi=DPI)
    figure.text(0.92, 0.55, text, ha="right", va="center_baseline", fontsize=0.85 * size * 72 / DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., 0].copy()


def _write(pixels: np.ndarray, path: Target) -> None:
    """Write bytes as a grey picture, one byte a pixel."""
    require()
    from matplotlib.image import imsave

    imsave(path, np.dstack([pixels] * 3), format=_format(path))


def _heat_maps(parts: list[tuple[str, np.ndarray]], limits: Limits | None, path: Target) -> None:
    """Draw tables side by side, each column in units of its range in the data, because ranges may differ by 10⁶.

    Without `limits` the data are the first part; a single row then has no range, and its values share one scale.
    """
    from matplotlib.ticker import MaxNLocator

    tables = [np.asarray(X, np.float64) for _, X in parts]
    if limits is None and len(tables[0]) == 1:
        label = "value"
        least, greatest = min(X.min() for X in tables), max(X.max() for X in tables)
        extend = "neither"
    else:
        low, high = (tables[0].min(axis=0), tables[0].max(axis=0)) if limits is None else limits
        where = "the data" if limits is not None else "these rows" if len(parts) == 1 else "these rows of the data"
        label = f"0 and 1: minimum and maximum of the column in {where}"
        span = np.subtract(high, low, dtype=np.float64)
        if (span == 0).any():
            label += "; grey: constant there"
        with np.errstate(over="ignore"):
            tables = [np.where(span > 0, (X - low) / np.where(span > 0, span, 1), np.nan) for X in tables]
        least, greatest = 0.0, 1.0
        both = np.concatenate(tables)  # fmin and fmax ignore NaN, without a warning if all are NaN
        below = np.fmin.reduce(both, axis=None, initial=0.0) < -1e-6
        above = np.fmax.reduce(both, axis=None, initial=1.0) > 1 + 1e-6
        extend = "both" if below and above else "min" if below else "max" if above else "neither"
    figure = _figure(5.0 * len(parts), min(5.8, 2.4 + 0.25 * len(tables[0])))
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (title, own), X in zip(panels, parts, tables, strict=True):
        image = axes.imshow(X, aspect="auto", interpolation="nearest", cmap="viridis", vmin=least, vmax=greatest)
        axes.set_facecolor("#cccccc")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("column")
        axes.xaxis.set_major_locator(MaxNLocator(**WHOLE))
        if own.shape[0] == 1 and own.shape[1] <= 12:  # few enough to print the numbers
            for column, (value, shade) in enumerate(zip(own[0], image.norm(X[0]), strict=True)):
                ink = "white" if shade < 0.6 else "black"
                axes.text(column, 0, f"{value:.3g}", ha="center", va="center", fontsize=7, color=ink)
    panels[0].yaxis.set_major_locator(MaxNLocator(**WHOLE))
    panels[0].set_ylabel("row")
    bar = figure.colorbar(image, ax=list(panels), location="bottom", extend=extend, shrink=0.5, aspect=30)
    bar.set_label(label, fontsize=8)
    _save(figure, path, 120)


# ---- the plane of two latent dimensions -----------------------------------------------------------------------------


def manifold(vae: Model, shape: Shape, path: Target) -> None:
    """For L = 2: draw decoded means on a grid of z at the prior's quantiles (inverse CDF): area is probability."""
    from scipy.stats import norm

    require()
    from matplotlib.figure import Figure

    quantiles = norm.ppf((np.arange(GRID) + 0.5) / GRID)
    Z = np.array([(a, b) for b in quantiles[::-1] for a in quantiles])
    tiles = _tiles(vae.decode(Z), shape, GRID)
    pixels = _enlarge(tiles, max(1, round(SIDE / max(tiles.shape))))
    (height, width), (left, right, bottom, top) = pixels.shape, (76, 24, 66, 40)
    inches = np.array([left + width + right, bottom + height + top])
    figure = Figure(figsize=tuple(inches / DPI), dpi=DPI)
    figure.figimage(np.dstack([pixels] * 3), left, bottom, origin="upper")  # one pixel to a pixel: not resampled
    box = np.array([left, bottom, width, height]) / np.tile(inches, 2)
    axes = figure.add_axes((box[0], box[1], box[2], box[3]), facecolor="none", xlim=(0, 1), ylim=(0, 1))
    axes.spines[:].set_visible(False)
    ticks = [-2, -1, -0.5, 0, 0.5, 1, 2]
    names = [f"{z:g}".replace("-", "−") for z in ticks]
    axes.set_xticks(norm.cdf(ticks), names, fontsize=8)
    axes.set_yticks(norm.cdf(ticks), names, fontsize=8)
    axes.set_xlabel("z₁", fontsize=9)
    axes.set_ylabel("z₂", fontsize=9)
    axes.set_title("E[x|z] on a grid of the prior's quantiles: area is probability", loc="left", fontsize=8)
    _save(figure, path, DPI)


def latent(mean: np.ndarray, y: np.ndarray | None, path: Target, rows: str = "") -> None:
    """For L = 2: draw posterior means (n, 2), coloured by label if there are labels.

    rows   description of the rows, for the title: "360 rows of the test part of digits"
    """
    figure = _figure(6.4, 5.6)
    axes = figure.subplots()
    look: dict[str, Any] = {"s": 22 if len(mean) <= 1000 else 9, "alpha": 0.8, "linewidths": 0}
    names, numbers = (None, None) if y is None else np.unique(y, return_inverse=True)
    if names is None:
        axes.scatter(mean[:, 0], mean[:, 1], color=BLUE, **look)
    elif len(names) <= len(TEN):
        for k, name in enumerate(names):
            colour, marker = TEN[k]
            some = mean[numbers == k]
            axes.scatter(some[:, 0], some[:, 1], color=colour, marker=marker, label=_label(name), **look)
        legend = figure.legend(frameon=False, loc="outside right center", markerscale=1.5)
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        numeric = y is not None and y.dtype.kind in "iuf"
        dots = axes.scatter(mean[:, 0], mean[:, 1], c=y if numeric else numbers, cmap="viridis", **look)
        figure.colorbar(dots, ax=axes).set_label("label" if numeric else "label: its place in sorted order")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("z₁")
    axes.set_ylabel("z₂")
    title = fill(printable("posterior means" + (f" of {rows}" if rows else "")), 64)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    _save(figure, path, 120)


def _label(name: Any) -> str:
    """Format a label for a legend, printable and short. Matplotlib would omit an empty one, and one with _ in front."""
    text = printable(name)
    text = text if len(text) <= LABEL else text[: LABEL - 1] + "…"
    return f"\u200b{text}" if text[:1] in ("", "_") else text
