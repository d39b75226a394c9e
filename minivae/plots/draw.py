"""draw: what the pictures share. Figures, files, colours, and rows of pixels.

Colours. Two curves: blue and vermilion of Okabe & Ito. Up to ten classes: TEN, found by a search for ten colours that
part as far as may be, to the trichromat and under Machado's simulations (2009) of the three kinds of colour blindness:
tests hold the distances. Numbers: viridis.
"""

from __future__ import annotations

import os
from textwrap import fill
from typing import Any, BinaryIO

import numpy as np

from ..errors import UsageError, printable
from ..hints import how_to_install

Shape = tuple[int, int]
Target = str | os.PathLike | BinaryIO | None  # a path, a file that takes a .png, or None: the Figure is only returned
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#777777"
TEN = (
    ("#3090ff", "o"), ("#92031e", "s"), ("#b2ce00", "^"), ("#6f149c", "D"), ("#00db6d", "v"),
    ("#ff00a8", "P"), ("#976e00", "X"), ("#1b00ff", "<"), ("#ff9eaf", "*"), ("#177650", ">"),
)  # fmt: skip
SIDE = 900  # approximate length of the longer side of a grid of pictures, in pixels
LABEL = 40  # characters of a label in a legend
WHOLE: dict[str, Any] = {"integer": True, "min_n_ticks": 1, "steps": [1, 2, 5, 10]}  # ticks at integers
GAP = 64  # grey value between pictures, of 255
DPI = 128  # a power of two, so that inches × DPI is exact
FORMATS = (".png", ".svg", ".pdf")


def available() -> bool:
    """Whether Matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def require(otherwise: str = "") -> None:
    """Raise a UsageError that says what to install, and what else can be done, if Matplotlib is missing."""
    if not available():
        raise UsageError(f"pictures need Matplotlib: {how_to_install('viz')}{otherwise}")


def new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A Figure of so many inches, of DPI pixels each."""
    require()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def finished(figure: Any, path: Target) -> Any:
    """Save the figure, if there is a path, and return it."""
    if path is not None:
        save(figure, path)
    return figure


def save(figure: Any, path: Any, kind: str | None = None) -> None:
    """Write a figure, the same bytes each time. `kind`, such as "svg", is that of a binary file: "png" unless given."""
    require()
    from matplotlib import rc_context

    if isinstance(path, str | os.PathLike):
        kind = os.path.splitext(path)[1].removeprefix(".").lower() or "png"
        if f".{kind}" not in FORMATS:
            raise UsageError(f"{path}: expected a name that ends in {', '.join(FORMATS)}")
    kind = kind or "png"
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with rc_context({"svg.hashsalt": "minivae"}):
        figure.savefig(path, dpi="figure", format=kind, metadata=undated)


def label(name: Any) -> str:
    """Format a label for a legend, printable and short. Matplotlib would omit an empty one, and one with _ in front."""
    text = printable(name)
    text = text if len(text) <= LABEL else text[: LABEL - 1] + "…"
    return f"\u200b{text}" if text[:1] in ("", "_") else text


def z_name(dimension: int) -> str:
    """The name of a latent dimension, which is counted from 0: z₁ is the first."""
    return "z" + "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(dimension + 1))


def tiles(X: np.ndarray, shape: Shape, columns: int) -> np.ndarray:
    """Rows as pictures, `columns` in a line, a pixel of GAP between and around them: bytes, 0 is black, 255 is 1."""
    h, w = shape
    lines = -(-len(X) // columns)
    grid = np.full((lines, h + 1, columns, w + 1), GAP, np.uint8)
    for k, row in enumerate(X):
        row = np.asarray(row, np.float64).reshape(h, w)
        grid[k // columns, 1:, k % columns, 1:] = np.where(np.isnan(row), GAP, np.round(255 * np.clip(row, 0, 1)))
    return np.pad(grid.reshape(lines * (h + 1), columns * (w + 1)), ((0, 1), (0, 1)), constant_values=GAP)


def pixels(
    grey: np.ndarray, title: str = "", margins: tuple[int, int, int] = (0, 0, 0), factor: int | None = None
) -> tuple[Any, Any]:
    """A figure of bytes (h, w), each a square of the same number of pixels → (Figure, Axes of [0, 1]² over them).

    margins   pixels to the left, to the right and below;  factor: side of a square, for about SIDE pixels unless given
    """
    factor = max(1, factor or round(SIDE / max(grey.shape)))
    (height, width), (left, right, bottom) = (side * factor for side in grey.shape), margins
    lines = fill(printable(title), max(16, (left + width + right) // 8)).splitlines()
    top = 18 * len(lines) + 10 if lines else 0
    whole = np.array([left + width + right, bottom + height + top])
    figure = new_figure(whole[0] / DPI, whole[1] / DPI, layout=None)
    if lines:
        middle = (bottom + height + top / 2) / whole[1]
        figure.text((left + 2) / whole[0], middle, "\n".join(lines), fontsize=9, va="center", parse_math=False)
    box = np.array([left, bottom, width, height]) / np.tile(whole, 2)
    axes = figure.add_axes((box[0], box[1], box[2], box[3]))
    axes.imshow(np.dstack([grey] * 3), interpolation="none", extent=(0, 1, 0, 1), aspect="auto")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    return figure, axes
