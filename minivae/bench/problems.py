"""problems: the data and the starting parameters that contenders share, a function of their sizes alone."""

from __future__ import annotations

import os
from itertools import pairwise

import numpy as np

from ..data import load
from ..errors import UsageError


def parameters(widths: list[int]) -> dict[str, np.ndarray]:
    """Glorot's initial weights of D, hidden …, L and its mirror, by minivae's names."""
    D, hidden, L = widths[0], widths[1:-1], widths[-1]
    rng = np.random.default_rng(0)
    found = {}
    for name, chain in (("encoder", [D, *hidden, 2 * L]), ("decoder", [L, *reversed(hidden), D])):
        for i, (n_in, n_out) in enumerate(pairwise(chain)):
            bound = (6 / (n_in + n_out)) ** 0.5
            found[f"{name}.{i}.W"] = rng.uniform(-bound, bound, (n_in, n_out)).astype(np.float32)
            found[f"{name}.{i}.b"] = rng.uniform(-0.1, 0.1, n_out).astype(np.float32)
    return found


def rows(D: int, n: int) -> np.ndarray:
    """(n, D) rows of 0 and 1 as uint8: MNIST, binarised once, where D = 784 and it is there; else independent draws,
    each feature with a rate of its own between 10⁻⁴ and ½, because real pixels are often off for a long time too."""
    rng = np.random.default_rng(0)
    if D == 784:
        grey = mnist()
        if grey is not None:
            grey = np.resize(grey, (n, D)) if n > len(grey) else grey[:n]
            return (rng.random(grey.shape, np.float32) < grey).astype(np.uint8)
    rate = np.exp(rng.uniform(np.log(1e-4), np.log(0.5), D))
    return (rng.random((n, D)) < rate).astype(np.uint8)


def mnist() -> np.ndarray | None:
    """The 60,000 training rows in [0, 1] from $MINIVAE_DATA, or None; nothing is downloaded here."""
    if not os.environ.get("MINIVAE_DATA"):
        return None
    try:
        return np.asarray(load("mnist").X)
    except UsageError:
        return None
