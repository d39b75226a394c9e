"""plane: the latent space. Where rows lie in it, and what is decoded from it.

Dimensions are counted from 0 in Python; pictures call the first z₁.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError, printable
from .draw import BLUE, TEN, Shape, Target, finished, label, new_figure, pixels, tiles, z_name
from .rows import Limits, heat_maps

if TYPE_CHECKING:
    from ..vae import VAE

GRID = 20  # pictures along each side of the manifold
LEAST = 3.3  # the plane is shown from −3.3 to 3.3 at least: a collapsed posterior is to look collapsed
PANELS = 6  # heat maps side by side


def _pair(dims: Sequence[int], latent_dim: int) -> tuple[int, int]:
    """Two different dimensions of the L that there are."""
    if len(dims) != 2 or dims[0] == dims[1] or not all(0 <= l < latent_dim for l in dims):
        names = ", ".join(z_name(l) for l in dims)
        raise UsageError(f"dimensions {names}: expected two different ones of {latent_dim}")
    return int(dims[0]), int(dims[1])


def manifold(
    vae: VAE, shape: Shape, path: Target = None, dims: Sequence[int] = (0, 1), reach: float | None = None,
    size: int = GRID, z: np.ndarray | None = None,
) -> Any:  # fmt: skip
    """Draw decoded means on a grid of two latent dimensions; the others stay at z (L,), 0 unless given.

    reach   None: at the prior's quantiles (inverse CDF), so that area is probability; r: evenly from −r to r
    size    pictures along each side
    """
    from scipy.stats import norm

    across, up = _pair(dims, vae.latent_dim)
    places = norm.ppf((np.arange(size) + 0.5) / size) if reach is None else np.linspace(-reach, reach, size)
    Z = np.tile(np.zeros(vae.latent_dim) if z is None else np.asarray(z, np.float64), (size * size, 1))
    Z[:, up], Z[:, across] = np.repeat(places[::-1], size), np.tile(places, size)
    rest = "" if vae.latent_dim == 2 else "; the other z are 0" if z is None else "; the other z are those of a row"
    how = "at the prior's quantiles: area is probability" if reach is None else f"from −{reach:g} to {reach:g}"
    figure, axes = pixels(tiles(vae.decode(Z), shape, size), f"E[x|z], z {how}{rest}", (84, 14, 58))
    axes.set_facecolor("none")
    if reach is None:
        ticks = [-2, -1, -0.5, 0, 0.5, 1, 2]
        at = norm.cdf(ticks)
    else:
        ticks = [t for t in range(-99, 100) if abs(t) <= reach] if reach >= 1 else [-reach, 0, reach]
        at = (np.array(ticks) / reach * (1 - 1 / size) + 1) / 2  # a picture's middle is its place
    names = [f"{value:g}".replace("-", "−") for value in ticks]
    axes.set_xticks(at, names, fontsize=8)
    axes.set_yticks(at, names, fontsize=8)
    axes.set_xlabel(z_name(across), fontsize=10)
    axes.set_ylabel(z_name(up), fontsize=10)
    return finished(figure, path)


def latent(
    mean: np.ndarray, y: np.ndarray | None = None, path: Target = None, rows: str = "", dims: Sequence[int] = (0, 1)
) -> Any:
    """Draw posterior means (n, L) in two dimensions over the prior's circles, coloured by label if there are labels.

    rows   description of the rows, for the title: "360 rows of the test part of digits"
    """
    from matplotlib.patches import Circle

    mean = np.asarray(mean)[:, _pair(dims, mean.shape[1])]
    reach = max(LEAST, 1.05 * float(np.abs(mean).max(initial=0)))
    figure = new_figure(8.2, 8.4)
    axes = figure.subplots()
    for radius in (1, 2, 3):
        axes.add_patch(Circle((0, 0), radius, fill=False, color="#9aa0aa", linewidth=0.9, zorder=1))
        axes.text(0, -radius, f"{radius}σ", fontsize=8, color="#6a707a", ha="center", va="top", zorder=1)
    n = len(mean)
    look: dict[str, Any] = {
        "s": 26 if n <= 500 else 14 if n <= 2000 else 7,
        "alpha": 0.75,
        "linewidths": 0,
        "zorder": 2,
    }
    names, numbers = (None, None) if y is None else np.unique(y, return_inverse=True)
    if names is None:
        axes.scatter(mean[:, 0], mean[:, 1], color=BLUE, **look)
    elif len(names) <= len(TEN):
        for k, name in enumerate(names):
            colour, marker = TEN[k]
            some = mean[numbers == k]
            axes.scatter(some[:, 0], some[:, 1], color=colour, marker=marker, label=label(name), **look)
            _name_at(axes, np.median(some, axis=0), label(name))
        legend = figure.legend(frameon=False, loc="outside right center", markerscale=30 / look["s"])
        for text in legend.get_texts():
            text.set_parse_math(False)
    else:
        numeric = y is not None and y.dtype.kind in "iuf"
        dots = axes.scatter(mean[:, 0], mean[:, 1], c=y if numeric else numbers, cmap="viridis", **look)
        figure.colorbar(dots, ax=axes, shrink=0.7).set_label("label" if numeric else "label: its place in sorted order")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.set_xlabel(z_name(dims[0]), fontsize=12)
    axes.set_ylabel(z_name(dims[1]), fontsize=12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    title = fill(printable("posterior means" + (f" of {rows}" if rows else "")), 80)
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.text(1, 0.01, "circles: the prior's σ", transform=axes.transAxes, fontsize=8, color="#6a707a", ha="right")
    return finished(figure, path)


def _name_at(axes: Any, place: np.ndarray, name: str) -> None:
    """Write a class's name where it lies, dark on a white rim."""
    from matplotlib.patheffects import withStroke

    axes.text(
        *place, name, fontsize=17 if len(name) < 4 else 11, weight="bold", ha="center", va="center", zorder=4,
        path_effects=[withStroke(linewidth=3.5, foreground="white")], parse_math=False,
    )  # fmt: skip


def traverse(
    vae: VAE, shape: Shape | None, path: Target = None, z: np.ndarray | None = None,
    dims: Sequence[int] | None = None, reach: float = 3.0, steps: int = 11, limits: Limits | None = None,
) -> Any:  # fmt: skip
    """Draw E[x|z] while one dimension goes from −reach to reach and the others stay: a line for each dimension.

    z        (L,) where they stay, 0 unless given
    dims     the dimensions, in their order; default: the first twelve, for tables the first six
    limits   for tables: (low, high), each (D,), the range of each column in the data
    """
    L = vae.latent_dim
    dims = range(min(L, PANELS if shape is None else 12)) if dims is None else dims
    if not len(dims) or not all(0 <= l < L for l in dims):
        raise UsageError(f"dimensions {', '.join(map(z_name, dims))}: expected some of {L}")
    places = np.linspace(-reach, reach, steps)
    Z = np.tile(np.zeros(L) if z is None else np.asarray(z, np.float64), (len(dims), steps, 1))
    for k, l in enumerate(dims):
        Z[k, :, l] = places
    X = vae.decode(Z.reshape(-1, L))
    names = [f"{value:.2g}".replace("-", "−") for value in places]
    if shape is None:
        parts = [(f"E[x|z] along {z_name(l)}", own) for l, own in zip(dims, np.split(X, len(dims)), strict=True)]
        own = (X.min(axis=0), X.max(axis=0)) if limits is None else limits
        return heat_maps(parts, own, path, names, vae.columns)
    rest = "0" if z is None else "those of a row"
    figure, axes = pixels(
        tiles(X, shape, steps), f"E[x|z] along one dimension each; the other z are {rest}", (52, 8, 34)
    )
    axes.set_yticks(1 - (np.arange(len(dims)) + 0.5) / len(dims), [z_name(l) for l in dims], fontsize=10)
    axes.set_xticks((np.arange(steps) + 0.5) / steps, names, fontsize=8)
    axes.tick_params(length=0)
    return finished(figure, path)


def interpolate(
    vae: VAE, X: np.ndarray, Y: np.ndarray, shape: Shape | None, path: Target = None, steps: int = 9,
    limits: Limits | None = None,
) -> Any:  # fmt: skip
    """Draw E[x|z] on the straight line between the posterior means of rows X (n, D) and Y (n, D), pair by pair."""
    (start, _), (end, _) = vae.encode(X), vae.encode(Y)
    share = np.linspace(0, 1, steps)[None, :, None]
    Z = (1 - share) * start[:, None] + share * end[:, None]
    between = np.asarray(vae.decode(Z.reshape(-1, vae.latent_dim))).reshape(len(X), steps, -1)
    if shape is None:
        parts = [(f"E[x|z], pair {k + 1}", own) for k, own in enumerate(between[:PANELS])]
        own = (between.min(axis=(0, 1)), between.max(axis=(0, 1))) if limits is None else limits
        return heat_maps(parts, own, path, [f"{t:.2g}" for t in share.ravel()], vae.columns)
    lines = np.concatenate([np.asarray(X)[:, None], between, np.asarray(Y)[:, None]], axis=1)
    columns = steps + 2
    title = "E[x|z] on the line between two posterior means; at the ends, the rows themselves"
    figure, axes = pixels(tiles(lines.reshape(len(X) * columns, -1), shape, columns), title, (0, 0, 30))
    axes.set_xticks(
        (np.arange(columns) + 0.5) / columns, ["row", *(f"{t:.2g}" for t in share.ravel()), "row"], fontsize=8
    )
    axes.tick_params(length=0)
    return finished(figure, path)
