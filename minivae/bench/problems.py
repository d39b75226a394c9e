"""problems: make the parameters, rows and noise that all contenders receive, as a function of the sizes alone.

    parameters   "encoder.0.W" …, by minivae's names
    rows         (n, D) uint8, 0 or 1
    eps          (B, L) noise for the check, on the first B rows

A dict of arrays has them under these names, the parameters with the prefix "parameter.".
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from ..datasets.load import load
from ..errors import UsageError
from .work import Arrays

MNIST_WIDTH, MNIST_ROWS = 784, 60_000
SHIFTS = np.linspace(-0.05, 0.05, 9)  # candidate changes of a hidden unit's bias


def model(widths: list[int], batch: int, n: int | None = None, real: bool = True) -> Arrays:
    """Make a model of widths D, hidden …, L, n rows of 0 and 1, and noise for the first batch.

    n      None: MNIST's 60,000, or enough for four batches of other data
    real   False: synthetic rows even if MNIST would fit
    """
    D, L = widths[0], widths[-1]
    rng = np.random.default_rng(1)
    n = n or (MNIST_ROWS if D == MNIST_WIDTH else max(4 * batch, 8192))
    arrays = {"rows": rows(D, n, real), "eps": rng.standard_normal((batch, L)).astype(np.float32)}
    found = away_from_kinks(glorot(widths), arrays["rows"][:batch], arrays["eps"])
    return arrays | {f"parameter.{name}": value for name, value in found.items()}


def parameters(arrays: Arrays) -> Arrays:
    """Select the parameters among the arrays."""
    return {name.partition(".")[2]: value for name, value in arrays.items() if name.startswith("parameter.")}


def glorot(widths: list[int]) -> Arrays:
    """Draw Glorot's initial weights of D, hidden …, L and the decoder, by minivae's names; biases near 0."""
    D, hidden, L = widths[0], widths[1:-1], widths[-1]
    rng = np.random.default_rng(0)
    found = {}
    for name, chain in (("encoder", [D, *hidden, 2 * L]), ("decoder", [L, *reversed(hidden), D])):
        for i, (n_in, n_out) in enumerate(pairwise(chain)):
            bound = (6 / (n_in + n_out)) ** 0.5
            found[f"{name}.{i}.W"] = rng.uniform(-bound, bound, (n_in, n_out)).astype(np.float32)
            found[f"{name}.{i}.b"] = rng.uniform(-0.1, 0.1, n_out).astype(np.float32)
    return found


def away_from_kinks(W: Arrays, X: np.ndarray, eps: np.ndarray) -> Arrays:
    """Return W with slightly changed biases of hidden units, so that no ReLU of this batch lies at its kink.

    Among millions of units some are so near 0 that float32 and float64 fall on different sides. Their gradients would
    then differ by a complete row although both are right.
    """
    layers = sum(name.startswith("encoder") for name in W) // 2

    def through(name: str, Y: np.ndarray) -> np.ndarray:
        for i in range(layers):
            A = Y @ W[f"{name}.{i}.W"].astype(np.float64)
            b = W[f"{name}.{i}.b"]
            if i < layers - 1:
                nearest = [np.abs(A + (b + np.float32(shift))).min(axis=0) for shift in SHIFTS]
                b += SHIFTS[np.argmax(nearest, axis=0)].astype(np.float32)
            Y = np.maximum(A + b, 0) if i < layers - 1 else A + b
        return Y

    mean, logvar = np.split(through("encoder", X.astype(np.float64)), 2, axis=1)
    through("decoder", mean + np.exp(0.5 * logvar) * eps)
    return W


@lru_cache(maxsize=4)
def rows(D: int, n: int, real: bool = True) -> np.ndarray:
    """Return (n, D) rows of 0 and 1 as uint8: grey rows, binarised once."""
    grey = grey_rows(D, n, real)
    return (np.random.default_rng(2).random(grey.shape, np.float32) < grey).astype(np.uint8)


def grey_rows(D: int, n: int, real: bool = True) -> np.ndarray:
    """Return (n, D) rows in [0, 1] as float32: MNIST's if D = 784 and its files are there; otherwise one row n times.

    Each feature of that row has its own rate between 10⁻⁴ and ½, because real pixels too are 0 in most rows.
    """
    digits = mnist() if real and D == MNIST_WIDTH else None
    if digits is not None:
        return np.resize(digits, (n, D)) if n > len(digits) else digits[:n]
    rate = np.exp(np.random.default_rng(3).uniform(np.log(1e-4), np.log(0.5), D))
    return np.broadcast_to(rate.astype(np.float32), (n, D))


@lru_cache(maxsize=1)
def mnist() -> np.ndarray | None:
    """Return MNIST's training rows from $MINIVAE_DATA; None if they are missing: a benchmark downloads nothing."""
    if not os.environ.get("MINIVAE_DATA"):
        return None
    try:
        return np.asarray(load("mnist").X)
    except UsageError:
        return None


def source(D: int) -> str:
    """Name the source of the rows."""
    return "MNIST" if D == MNIST_WIDTH and mnist() is not None else "made-up rows"


def backend(gemm: str = "numpy", **options: Any) -> Any:
    """Make a NumPy Backend that uses the matmul `gemm`. Raises UsageError if it is not available."""
    from ..backend import Backend

    return Backend("numpy", gemm=gemm, **options)
