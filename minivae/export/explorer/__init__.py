"""explorer: one page that shows rows in the latent space and decodes where one points. It opens without a network.

The page holds the decoder's graph (`graph.py`) with its parameters, the posterior means of rows, and the rows
themselves; `page.js` computes and draws. Nothing in it is loaded from elsewhere, and nothing is sent.

Legend: N rows, D features, L latent dimensions.
"""

from __future__ import annotations

import base64
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import __version__, checks
from ...errors import UsageError, printable
from ...plots import draw
from .. import graph as graphs

if TYPE_CHECKING:
    from ...vae import VAE

HERE = Path(__file__).parent
MOST_ROWS = 2000
ROW_BYTES = 1_400_000  # about what rows may take of a page, unless the caller says how many
MOST_BYTES = 32_000_000  # of parameters: a page beyond it opens slowly
SHOWN = 300  # columns of a table
CLASSES = 30  # more labels than these are no classes


def page(
    vae: VAE,
    X: Any,
    y: np.ndarray | None = None,
    rows: np.ndarray | None = None,
    shape: tuple[int, int] | None = None,
    title: str = "Latent space",
    source: str = "",
    most: int | None = None,
    half: bool = False,
) -> str:
    """The HTML of the page for rows X (N, D) in the data's units.

    y        (N,) labels, which colour the dots
    rows     (N,) the rows' numbers in the data set; None means 0 … N − 1
    shape    (h, w) where rows are pictures
    source   what the rows are: "test part of mnist"
    most     the first so many rows; None: as many as take about 1.4 MB, at most 2,000
    half     parameters as float16, half the size and about three digits
    Raises UsageError for parameters over 32 MB, and for a likelihood that is not minivae's own.
    """
    checks.array("X", X, vae.features)
    if shape is not None and shape[0] * shape[1] != vae.features:
        raise UsageError(f"shape={shape}: expected the pixels of a picture, {vae.features} in all")
    nodes, constants = _decoder(vae, half)
    n = min(len(X), _rows_that_fit(vae, shape) if most is None else checks.integer("rows", most))
    data = checks.finite("X", np.ascontiguousarray(X[:n]), columns=vae.columns)
    mean, logvar = vae.encode(data)
    kl = (0.5 * (mean.astype(np.float64) ** 2 + np.exp(logvar.astype(np.float64)) - logvar - 1)).mean(axis=0)
    numbers = np.arange(n) if rows is None else np.asarray(rows)[:n]
    labels = None if y is None else np.asarray(y)[:n]
    columns = [f"column {d}" for d in range(vae.features)] if vae.columns is None else list(vae.columns)
    low, high = data.min(axis=0).astype(np.float64), data.max(axis=0).astype(np.float64)
    kept = np.round(255 * np.clip(data, 0, 1)).astype(np.uint8) if shape else data.astype(np.float32)
    model = {
        "features": vae.features,
        "latent": vae.latent_dim,
        "shape": shape,
        "columns": [] if shape else [printable(name) for name in columns],
        "shown": SHOWN,
        "nodes": nodes,
        "constants": constants,
        "codes": _stored(mean.astype(np.float32)),
        "originals": _stored(kept),
        "rows": numbers.tolist(),
        "labels": _labels(labels),
        "partner": int(numbers[_partner(mean, labels)]),
        "kl": kl.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "palette": [colour for colour, _ in draw.TEN],
    }
    widths = "-".join(map(str, (vae.features, *vae.hidden, vae.latent_dim)))
    counted = f"{n:,} rows" if n == len(X) else f"the first {n:,} of {len(X):,} rows"
    counted += f" of the {source}" if source else ""
    facts = f"{counted} · {widths}, {vae.likelihood.name} · KL {kl.sum():.2f} nats a row"
    text = json.dumps(model, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts = {
        "version": __version__,
        "title": html.escape(printable(title)),
        "facts": html.escape(printable(facts)),
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "model": text.replace("<", "\\u003c"),  # lest a label end the script
        "js": (HERE / "page.js").read_text(encoding="utf-8"),
    }
    return (HERE / "page.html").read_text(encoding="utf-8") % parts


def _decoder(vae: VAE, half: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The nodes that lead to x_mean, and the constants that they take."""
    graph = graphs.decoder(vae)
    wanted, nodes = {"x_mean"}, []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            nodes.append({"op": node.op, "inputs": node.inputs, "output": node.output})
    constants = {name: array for name, array in graph.constants.items() if name in wanted}
    size = sum(array.size for array in constants.values()) * (2 if half else 4) * 4 / 3
    if size > MOST_BYTES:
        smaller = "" if half else "; half=True (--half) halves it, with about three digits"
        raise UsageError(
            f"the decoder's parameters would take {size / 1e6:.0f} MB in a page, and the most is "
            f"{MOST_BYTES / 1e6:.0f} MB{smaller}"
        )
    return nodes[::-1], {name: _stored(array, half) for name, array in constants.items()}


def _stored(array: np.ndarray, half: bool = False) -> dict[str, Any]:
    """An array for `page.js`: little-endian bytes in base64, integers as a list. Parameters are float32, or float16."""
    if array.dtype == np.int64:
        return {"shape": array.shape, "dtype": "int64", "data": array.tolist()}
    if array.dtype.kind == "f" and array.size > SHOWN * 4:
        array = array.astype(np.float16 if half else np.float32)
    little = array.astype(array.dtype.newbyteorder("<"))
    return {"shape": array.shape, "dtype": array.dtype.name, "data": base64.b64encode(little.tobytes()).decode()}


def _rows_that_fit(vae: VAE, shape: tuple[int, int] | None) -> int:
    a_row = (4 * vae.latent_dim + vae.features * (1 if shape else 4)) * 4 / 3 + 12
    return max(2, min(MOST_ROWS, int(ROW_BYTES / a_row)))


def _labels(y: np.ndarray | None) -> dict[str, Any] | None:
    """Few labels are classes, by name; many numbers are numbers; many texts are left out."""
    if y is None:
        return None
    names, index = np.unique(y, return_inverse=True)
    if len(names) <= CLASSES:
        return {"names": [printable(name) for name in names.tolist()], "index": index.tolist()}
    return {"values": y.astype(np.float64).tolist()} if y.dtype.kind in "iuf" else None


def _partner(mean: np.ndarray, y: np.ndarray | None) -> int:
    """The row to interpolate to from the first: the one farthest from it, of another class where there are classes."""
    away = ((mean - mean[0]) ** 2).sum(axis=1)
    if y is not None and (y != y[0]).any():
        away = np.where(y != y[0], away, -1)
    return int(np.argmax(away))
