"""plots: the pictures a run leaves. Matplotlib, imported when the first one is drawn (extra `viz`).

Every function takes arrays on the host and a path, draws one figure and writes it. Colours are a colour-blind safe pair
and viridis; rows that are no pictures are drawn as heat maps, a row of the data to a row of the map.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UsageError

if TYPE_CHECKING:
    from .train import History
    from .vae import VAE

Shape = tuple[int, int]
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#777777"
GRID = 20  # pictures along each side of the manifold


def available() -> bool:
    """Whether Matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def require() -> None:
    """Raise the UsageError that says what to install, where Matplotlib is not."""
    if not available():
        raise UsageError('pictures need Matplotlib: pip install "minivae[viz]" (or write .npy instead of .png)')


def _figure(width: float, height: float) -> Any:
    require()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def loss(history: History, path: str | os.PathLike) -> None:
    """Total, NLL and KL against epochs: the total is the indicator, its parts pull against each other."""
    figure = _figure(6.4, 7.2)
    epochs = history["epoch"]
    panels = figure.subplots(3, 1, sharex=True)
    for axes, name, title in zip(
        panels, ("elbo", "nll", "kl"), ("total  −ELBO (β = 1)", "reconstruction  NLL", "KL"), strict=True
    ):
        sign = -1 if name == "elbo" else 1
        axes.plot(epochs, [sign * value for value in history[name]], color=BLUE, label="training")
        held = history[f"val_{name}"]
        if held and held[-1] != "":
            axes.plot(epochs, [sign * value for value in held], color=ORANGE, label="validation")
            if history.best_epoch is not None:
                axes.axvline(history.best_epoch, color=GREY, linewidth=0.8, linestyle=":")
        axes.set_ylabel("nats a row")
        axes.set_title(title, loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        axes.margins(x=0.02)
    warm = [epoch for epoch, beta in zip(epochs, history["beta"], strict=True) if beta < 1]
    if warm:
        panels[0].axvspan(min(warm) - 0.5, max(warm) + 0.5, color=GREY, alpha=0.12, label="β < 1: loss is no bound")
    panels[0].legend(frameon=False)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(path, dpi=120)


def grid(X: np.ndarray, shape: Shape | None, path: str | os.PathLike, columns: int | None = None) -> None:
    """Rows as a grid of pictures (h, w), or as a heat map where they are none."""
    if shape is None:
        _heat_maps([("", X)], path)
        return
    columns = columns or int(np.ceil(np.sqrt(len(X))))
    _save_tiles(_tiles(X, shape, columns), path)


def reconstructions(X: np.ndarray, Y: np.ndarray, shape: Shape | None, path: str | os.PathLike) -> None:
    """Data X (n, D), and below each row its reconstruction Y (n, D)."""
    if shape is None:
        _heat_maps([("data", X), ("reconstruction", Y)], path)
        return
    columns = min(len(X), 12)
    bands = [
        _tiles(part[start : start + columns], shape, columns) for start in range(0, len(X), columns) for part in (X, Y)
    ]
    _save_tiles(np.concatenate(bands), path)


def manifold(vae: VAE, shape: Shape, path: str | os.PathLike, undo: Any = None) -> None:
    """For L = 2: decoded means on a grid of z at the prior's quantiles (inverse CDF), so that area is probability."""
    from scipy.stats import norm

    quantiles = norm.ppf((np.arange(GRID) + 0.5) / GRID)
    Z = np.array([(a, b) for b in quantiles[::-1] for a in quantiles])
    X = vae.decode(Z)
    _save_tiles(_tiles(X if undo is None else undo(X), shape, GRID), path)


def latent(mean: np.ndarray, y: np.ndarray | None, path: str | os.PathLike) -> None:
    """For L = 2: posterior means (n, 2), coloured by label where there are labels."""
    figure = _figure(6.4, 5.6)
    axes = figure.subplots()
    colours: dict[str, Any] = {"color": BLUE}
    if y is not None:
        names, numbers = np.unique(y, return_inverse=True)
        if len(names) <= 10:
            colours = {"c": numbers, "cmap": "tab10", "vmin": -0.5, "vmax": 9.5}
        else:
            colours = {"c": y if y.dtype.kind in "iuf" else numbers, "cmap": "viridis"}
    dots = axes.scatter(mean[:, 0], mean[:, 1], s=8, alpha=0.8, linewidths=0, **colours)
    if y is not None and len(names) <= 10:
        handles = [dots.legend_elements(num=list(range(len(names))))[0][k] for k in range(len(names))]
        axes.legend(handles, [str(name) for name in names], frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    elif y is not None:
        figure.colorbar(dots, ax=axes)
    axes.set_aspect("equal")
    axes.set_xlabel("z₁")
    axes.set_ylabel("z₂")
    axes.set_title("posterior means", loc="left", fontsize=10)
    figure.savefig(path, dpi=120)


def _tiles(X: np.ndarray, shape: Shape, columns: int) -> np.ndarray:
    """Rows as pictures side by side with a gap of one pixel (NaN), `columns` to a line."""
    h, w = shape
    lines = -(-len(X) // columns)
    tiles = np.full((lines, h + 1, columns, w + 1), np.nan)
    for k, row in enumerate(X):
        tiles[k // columns, :h, k % columns, :w] = np.asarray(row, np.float64).reshape(h, w)
    return tiles.reshape(lines * (h + 1), columns * (w + 1))


def _save_tiles(tiles: np.ndarray, path: str | os.PathLike) -> None:
    """Write the pixels themselves, enlarged by a whole factor: black is 0, white is 1, gaps grey."""
    require()
    from matplotlib.image import imsave

    factor = max(1, round(900 / max(tiles.shape)))
    values = np.where(np.isnan(tiles), 0.25, np.clip(tiles, 0, 1))
    imsave(path, np.kron(values, np.ones((factor, factor))), cmap="gray", vmin=0, vmax=1)


def _heat_maps(parts: list[tuple[str, np.ndarray]], path: str | os.PathLike) -> None:
    figure = _figure(5.0 * len(parts), 5.0)
    low = min(float(X.min()) for _, X in parts)
    high = max(float(X.max()) for _, X in parts)
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, (title, X) in zip(panels, parts, strict=True):
        image = axes.imshow(X, aspect="auto", interpolation="nearest", cmap="viridis", vmin=low, vmax=high)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("feature")
    panels[0].set_ylabel("row")
    figure.colorbar(image, ax=list(panels))
    figure.savefig(path, dpi=120)
