"""inputs: rows in the data's units → what a pass takes, a `Batch`.

    data's units ─ checks ─ scale ─ threshold ─ `Batch`: X, what the encoder sees, mask, condition, exposure
    and back: `in_data_units` of `evaluation/passes.py`

Rows may be an array on the host or the device, memory-mapped, of scipy.sparse (`sparse.py`), or `Given` rows
(`conditions.py`). The decoder explains X, in the model's units; where the encoder sees something else, that is

    x_in = [ f(X) | 1 − mask | condition ]

f maps blocks of columns: as they are ("same"), ln x ("log"), ln(1 + x) of counts ("log1p"), K columns of 0 and 1 for a
class ("one-hot:K"), a class between −1 and 1 ("centred:K"). Where a cell is missing, f is 0 and the mask's column is 1.
A model whose encoder sees X itself has no `Inputs`.

Shapes: N rows in all, B in a batch, D features, W columns of x_in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .backend import Array, Backend
from .buffers import Workspace
from .conditions import NEEDS_CONDITION, Condition, Given, explained
from .errors import UsageError
from .matmul.one_hot import LEAST_CLASSES, Layout, OneHot
from .matmul.sparse import Sparse

if TYPE_CHECKING:
    from .distributed.world import World
    from .model import Model

CHECK_ROWS = 4096  # in a block of rows that are looked at before a training
ENCODINGS = ("same", "log", "log1p", "one-hot:K", "centred:K")


@dataclass(slots=True)
class Batch:
    """Rows as a pass takes them: X (B, D), which the decoder explains, and x_in (B, W), which the encoder sees.

    x_in           X itself, another array, or X by its non-zeros (`matmul/sparse.py`)
    mask           (B, D) uint8, 0 where a value of X is missing; None: all are there
    condition      (B, C), joined to what encoder and decoder take; None: the model has none
    log_exposure   (B,), added to the logarithms of the means of counts; None: 0
    rows           (B,) the rows' numbers in the data set, which choose their noise; None: 0 … B − 1
    weights        (B,) of the rows in the loss; None: 1
    """

    X: Array
    x_in: Any
    mask: Array | None = None
    condition: Array | None = None
    log_exposure: Array | None = None
    rows: Any = None
    weights: Array | None = None

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

    @property
    def by_places(self) -> bool:
        """Whether its ones are listed, where the backend multiplies by them (`matmul/one_hot.py`)."""
        return self.kind == "one-hot" and self.classes >= LEAST_CLASSES

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
    """The map from X (B, D) to x_in (B, width) of one model; NaN in X is a missing cell, where `missing` allows it.

    condition   C, the width of what is joined; 0: nothing
    """

    def __init__(self, features: int, encodings: Sequence[Encoding], missing: bool = False, condition: int = 0):
        self.features, self.encodings, self.missing, self.condition = features, tuple(encodings), missing, condition
        self.width = sum(e.width for e in self.encodings) + missing * features + condition
        self._layout: tuple[int, Layout | None] | None = None

    def __call__(
        self, X: Array, backend: Backend, workspace: Workspace, condition: Any = None, log_exposure: Any = None
    ) -> Batch:
        """X (B, D) → the Batch; x_in is scratch."""
        if self.condition and condition is None:
            raise UsageError(NEEDS_CONDITION)
        written, layout = self._laid_out(backend)
        x_in, mask, start = workspace.take("x_in", (X.shape[0], written)), None, 0
        for encoding in self.encodings:
            if layout is None or not encoding.by_places:
                encoding.write(x_in[:, start : start + encoding.width], X[:, encoding.columns], backend.xp)
                start += encoding.width
        if self.missing:
            mask = workspace.take("mask", X.shape, np.uint8)
            mask[...] = X == X
            seen = x_in[:, :start]
            seen[...] = backend.xp.where(seen == seen, seen, 0)
            x_in[:, start : start + self.features] = 1 - mask
        if condition is not None:
            x_in[:, written - self.condition :] = condition
        if layout is not None:
            return Batch(X, OneHot(layout, x_in, X, backend.gemm, workspace.take), mask, condition, log_exposure)
        return Batch(X, x_in, mask, condition, log_exposure)

    def _laid_out(self, backend: Backend) -> tuple[int, Layout | None]:
        """How many columns of x_in are written, and the layout where the others are listed by their ones."""
        if backend.sparse == "no":
            return self.width, None
        if self._layout is None:
            start, found = 0, []
            for encoding in self.encodings:
                if encoding.by_places:
                    columns = np.arange(self.features)[encoding.columns]
                    found.append((start, encoding.classes, columns))
                start += encoding.width
            listed = sum(classes * len(columns) for _, classes, columns in found)
            self._layout = (self.width - listed, Layout(found, self.width)) if found else (self.width, None)
        return self._layout


def make(
    kind: str, features: int, missing: bool, suited: Sequence[tuple[str, Any, int]], condition: Condition | None = None
) -> Inputs | None:
    """The Inputs that `VAE(inputs=kind, missing=missing)` asks for; None where the encoder sees X itself.

    suited   what "auto" means: `Likelihood.encodings()`
    """
    given = suited if kind == "auto" else []
    encodings = [Encoding.parse(*e) for e in given or [("same" if kind == "auto" else kind, Ellipsis, features)]]
    width = condition.width if condition else 0
    plain = [e.kind for e in encodings] == ["same"] and not missing and not width
    return None if plain else Inputs(features, encodings, missing, width)


def whole(vae: Model, name: str, X: Any, ranks: World | None = None) -> Any:
    """X (N, D), checked, to be taken in blocks: itself or, where it is scipy.sparse's, as CSR. `Given` rows too.

    ranks   one of each host looks at the sparse rows of all; None: this process does
    """
    given = vae.given(X)
    X = explained(given)
    if vae.condition and X is given:
        raise UsageError(NEEDS_CONDITION)
    if hasattr(X, "tocsr"):
        from .sparse import whole

        X = whole(vae, name, X, ranks)
    else:
        checks.array(name, X, vae.features)
    return Given(X, given.condition, given.log_exposure) if isinstance(given, Given) else X


def rows_in(vae: Model, name: str, X: Any, first: int = 0, look: bool = True) -> Batch:
    """X (B, D) in the data's units, checked → the batch: scaled, thresholded, the backend's, C order.

    first   the number of X's first row, for messages;  look: whether the values are checked
    """
    given, X = (X, X.X) if isinstance(X, Given) else (None, X)
    if isinstance(X, Batch):
        return X
    if hasattr(X, "tocsr"):
        from .sparse import rows_in

        return as_batch(vae, rows_in(vae, name, X, first), given)
    checks.array(name, X, vae.features)
    if vae.scale is not None:
        X = vae.scale.apply(vae.backend.to_host(X), vae.backend.dtype)
    whole = X = native(vae, name, X)
    if vae.binarize == "threshold":
        out = vae.workspace.take(name, X.shape)
        out[...] = X >= 0.5
        X = out
    if vae.backend.sparse == "yes" and vae.inputs is None:
        X = Batch(X, Sparse.of(X, vae.workspace.take))
        look = look and not (X.X is whole and X.x_in.values is None)  # all that is not 0 was found to be 1
    if look:
        checks.finite(name, whole, first, vae.columns, vae.missing)
    return as_batch(vae, X, given)


def as_batch(vae: Model, X: Any, given: Given | None = None) -> Batch:
    """X (B, D) in the model's units → the batch, with what the encoder sees. A batch stays as it is.

    given   the condition and the exposure of the same rows
    """
    beside = (None, None) if given is None else on_backend(vae, given)
    if isinstance(X, Batch):
        return X if given is None else replace(X, condition=beside[0], log_exposure=beside[1])
    if vae.inputs is None:
        return Batch(X, X, None, *beside)
    return vae.inputs(X, vae.backend, vae.workspace, *beside)


def on_backend(vae: Model, given: Given) -> tuple[Array | None, Array | None]:
    """Condition (B, C) and ln of the exposure (B,) as the backend's arrays; None where there is none."""
    condition = None if given.condition is None else native(vae, "condition", given.condition)
    return condition, None if given.log_exposure is None else native(vae, "log_exposure", given.log_exposure)


def native(vae: Model, name: str, x: Any) -> Array:
    """x as a C-contiguous array of the backend in the model's dtype: itself, or scratch of that name."""
    if vae.backend.owns(x) and x.dtype == vae.backend.dtype and x.flags.c_contiguous:
        return x
    out = vae.workspace.take(name, x.shape)
    with np.errstate(over="ignore"):  # what becomes infinite is found by who checks the values
        vae.backend.assign(out, x)
    return out


def noise_in(vae: Model, eps: Any, B: int) -> Array:
    """The caller's noise (B, L), or (S, B, L), checked → (S, B, L) as the backend's array of the model's dtype."""
    shape, L = tuple(getattr(eps, "shape", ())), vae.latent_dim
    if shape == (B, L):
        eps = eps.reshape(1, B, L)
    elif len(shape) != 3 or shape[0] == 0 or shape[1:] != (B, L):
        raise UsageError(f"eps: expected ({B}, {L}), or (S, {B}, {L}) for S samples; got {shape}")
    if np.dtype(eps.dtype).kind not in "biuf" or hasattr(eps, "tocsr"):
        raise UsageError(f"eps: expected an array of real numbers; got {type(eps).__name__} of dtype {eps.dtype}")
    found = native(vae, "eps", eps)
    return checks.finite("eps", found) if isinstance(eps, np.ndarray) else found


def filled(vae: Model, X: Any) -> Any:
    """X with a value of the likelihood's domain in every missing cell, for checks of the others; X if none may be."""
    if not vae.missing or vae.likelihood.neutral is None:
        return X
    xp = vae.backend.xp if vae.backend.owns(X) else np
    return xp.where(X == X, X, xp.asarray(vae.likelihood.neutral[1]))
