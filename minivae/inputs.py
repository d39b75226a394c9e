"""inputs: what the encoder sees, where that is not the very array that the decoder explains.

    x_in = [ f(X) | 1 − mask ]

f maps blocks of columns: as they are ("same"), ln x ("log"), ln(1 + x) of counts ("log1p"), K columns of 0 and 1 for a
class ("one-hot:K"), a class between −1 and 1 ("centred:K"). Where a cell is missing, f is 0 and the mask's column is 1.
A model whose encoder sees X itself has no `Inputs`, and a pass of it takes X as it is.

Shapes: B rows, D features, W columns of x_in. X is in the model's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backend import Array, Backend
from .buffers import Workspace
from .errors import UsageError

ENCODINGS = ("same", "log", "log1p", "one-hot:K", "centred:K")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows as a pass takes them: X (B, D), which the decoder explains, and x_in (B, W), which the encoder sees.

    mask   (B, D) uint8, 0 where a value of X is missing; None: all are there
    """

    X: Array
    x_in: Any
    mask: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """That of X."""
        return self.X.shape


@dataclass(frozen=True)
class Encoding:
    """One way in which columns enter the encoder: kind as in ENCODINGS, K classes (0: none), the columns it is for.

    columns   where they stand in X: numbers on the device, a slice, or Ellipsis for all of them
    n         how many they are
    """

    kind: str
    classes: int
    columns: Any
    n: int

    @classmethod
    def parse(cls, text: str, columns: Any, n: int) -> Encoding:
        """One of ENCODINGS, such as "one-hot:8", for these columns; UsageError for an unknown name."""
        kind, _, classes = text.partition(":")
        if text in ("same", "log", "log1p"):
            return cls(kind, 0, columns, n)
        if kind in ("one-hot", "centred") and classes.isdecimal() and 2 <= int(classes) <= 1 << 24:
            return cls(kind, int(classes), columns, n)
        raise UsageError(f"inputs={text!r}: expected 'auto' or one of {', '.join(ENCODINGS)}, K the number of classes")

    @property
    def width(self) -> int:
        """Columns of x_in."""
        return self.n * self.classes if self.kind == "one-hot" else self.n

    def write(self, out: Array, x: Array, xp: Any) -> None:
        """out (B, width) ← f(x), x (B, n)."""
        if self.kind == "one-hot":
            number = xp.arange(self.classes, dtype=x.dtype).reshape(-1, 1)
            out.reshape(x.shape[0], self.classes, -1)[...] = x[:, None] == number
        elif self.kind in ("log", "log1p"):
            getattr(xp, self.kind)(x, out=out)
        elif self.kind == "centred":
            half = 0.5 * (self.classes - 1)
            out[...] = (x - half) / half
        else:
            out[...] = x


class Inputs:
    """The map from X (B, D) to x_in (B, width) of one model; NaN in X is a missing cell, where `missing` allows it."""

    def __init__(self, features: int, encodings: Sequence[Encoding], missing: bool = False):
        self.features, self.encodings, self.missing = features, tuple(encodings), missing
        self.width = sum(e.width for e in self.encodings) + missing * features

    def __call__(self, X: Any, backend: Backend, workspace: Workspace) -> Batch:
        """X (B, D), or a Batch, which stays as it is → the Batch; x_in is scratch."""
        if isinstance(X, Batch):
            return X
        x_in, mask = workspace.take("x_in", (X.shape[0], self.width)), None
        start = 0
        for encoding in self.encodings:
            encoding.write(x_in[:, start : start + encoding.width], X[:, encoding.columns], backend.xp)
            start += encoding.width
        if self.missing:
            mask = workspace.take("mask", X.shape, np.uint8)
            mask[...] = X == X
            seen = x_in[:, :start]
            seen[...] = backend.xp.where(seen == seen, seen, 0)
            x_in[:, start:] = 1 - mask
        return Batch(X, x_in, mask)


def make(kind: str, features: int, missing: bool, suited: Sequence[tuple[str, Any, int]]) -> Inputs | None:
    """The Inputs that `VAE(inputs=kind, missing=missing)` asks for; None where the encoder sees X itself.

    suited   what "auto" means: `Likelihood.encodings()`
    """
    given = suited if kind == "auto" else []
    encodings = [Encoding.parse(*e) for e in given or [("same" if kind == "auto" else kind, Ellipsis, features)]]
    plain = [e.kind for e in encodings] == ["same"] and not missing
    return None if plain else Inputs(features, encodings, missing)
