"""The protocol of a likelihood p(x|z), and how its data are checked.

A likelihood holds no state of a step: everything that a pass writes is handed in.

Shapes: R = S·B rows, sample by sample; D features; out (R, width); X (B, D). Nats, every constant kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from .. import checks
from ..backend import Array, Backend
from ..buffers import Grads, Shape
from .masked import Maskable

# How each is asked for: name → class. A letter of ARGUMENTS stands for a number of the caller's.
LIKELIHOODS: dict[str, type[Likelihood]] = {}
ARGUMENTS: dict[str, Callable[[str], Any]] = {"σ": float, "K": int}

BLOCK_ROWS = 4096  # rows of a data set looked at together


class Likelihood(Maskable):
    """The protocol. `features` is D."""

    name: str  # as it is asked for, such as "gaussian:0.5"
    is_density: bool  # whether p(x|z) is a density (nats depend on the data's units) or a probability
    domain = "real"  # where x lives: "real", "positive", "unit" ([0, 1]), "binary", "classes" (0 … K − 1), "counts"
    noise: str  # the kind of noise `draw` takes: "uniform" or "normal"
    clamps = False  # whether it clamps outputs of the decoder
    clamped: Array | None = None  # (1,) int64: how many outputs training steps have clamped since someone set it to 0
    integer = False  # whether it explains integers, which a scale would change
    closed_form = False  # whether training fits something of it in closed form, by the next two: see `GaussianOptimal`
    fitted_nll_and_grad: Callable[..., None]
    fit: Callable[[Mapping[str, Array]], None]
    exposable = False  # whether it explains counts, whose means an exposure multiplies
    scales: tuple[str, ...] | None = None  # of a table's columns: "standard", "magnitude" or ""; None: all alike
    forward_only = False  # whether its `nll_and_grad` takes None for d_out, and then writes nll_rows alone
    takes_nonzeros = False  # whether its X may be a batch by its non-zeros, on the CPU with the fused kernels
    has_widths = False  # whether it is a density that has, for each feature, a width from the decoder

    def __init_subclass__(cls, form: str = "", **more: Any):
        """`class Gaussian(Likelihood, form="gaussian:σ")` is a row of LIKELIHOODS."""
        super().__init_subclass__(**more)
        if form:
            LIKELIHOODS[form] = cls

    def __init__(self, backend: Backend, features: int):
        self.backend, self.features = backend, features
        if self.clamps:
            self.clamped = backend.zeros((1,), np.int64)

    @property
    def width(self) -> int:
        """Outputs of the decoder for D features."""
        return self.features

    def encodings(self) -> list[tuple[str, Any, int]]:
        """How columns enter the encoder where that is not as they are: (encoding, where in X, how many)."""
        return []

    def pieces(self) -> list[tuple[str, tuple[int, ...], slice]]:
        """What a row's −ln p is the sum of: (likelihood of a column, the columns, their outputs)."""
        return [(self.name, tuple(range(self.features)), slice(0, self.width))]

    def parameters(self) -> list[tuple[str, Shape]]:
        """Learned tensors, (name, shape); the model stores them as `likelihood.<name>`."""
        return []

    def fitted(self) -> list[tuple[str, Shape]]:
        """Tensors that are fitted in closed form and have no gradient, (name, shape); a checkpoint holds them."""
        return []

    def statistics(self) -> list[tuple[str, Shape]]:
        """What `fit` needs to know of the data, (name, shape): float64 means over rows."""
        return []

    def bind(self, tensors: dict[str, Array]) -> None:
        """Take the views of `parameters()` and `fitted()`, by name."""

    def destinations(self, grads: dict[str, Array], counted: bool = False) -> dict[str, Array]:
        """The `d_params` of a pass: `grads` of `parameters()`, "clamped", and `statistics()`, by name.

        counted   whether clamped outputs are added to `clamped`; else they go to a counter that nothing reads
        """
        written = dict(grads)
        if self.clamps:
            written["clamped"] = self.clamped if counted else self.backend.zeros((1,), np.int64)
        return written | {name: self.backend.zeros(shape, np.float64) for name, shape in self.statistics()}

    def check(self, X: Any) -> None:
        """Raise UsageError if X (N, D) holds a value outside the domain: here, NaN or an infinity."""
        self.range(X)

    def range(self, X: Any) -> tuple[float, float]:
        """The smallest and the largest value of X (N, D), which are finite."""
        host, ends = self.backend.to_host, []
        for first, block in blocks(X):
            checks.finite("X", block, first)
            ends += [float(host(block.min())), float(host(block.max()))]
        return min(ends), max(ends)

    def nll_and_grad(self, nll_rows: Array, d_out: Any, d_params: Grads, out: Array, X: Array, weight: Any) -> None:
        """nll_rows (R,) ← −ln p(x|z); d_out (R, width) and d_params ← gradients of Σ_r weight_r nll_r.

        d_out      None, where `forward_only`: nll_rows alone is written
        weight     a number, or (S, B)
        d_params   as `destinations` makes it; gradients are overwritten, to "clamped" the number of clamped outputs is
                   added. Nothing else is written
        """
        raise NotImplementedError

    def over(self, mask: Array | None, fitted: bool = False) -> Callable[..., None]:
        """`nll_and_grad`, or where fitted `fitted_nll_and_grad`, of the cells that are there.

        mask   (B, D) uint8, 0 where a value is missing, which is then not looked at; None: all are there
        """
        nll_and_grad = self.fitted_nll_and_grad if fitted else self.nll_and_grad
        return nll_and_grad if mask is None else partial(self.over_observed, nll_and_grad, fitted, mask)

    def mean(self, out: Array) -> Array:
        """out (R, width) → E[x|z] (R, D)."""
        raise NotImplementedError

    def expose(self, out: Array, log_exposure: Array) -> None:
        """out (S, B, width) of counts: multiply their means by e^{log_exposure (B,)}, in place, where `exposable`."""
        out += log_exposure[:, None]

    def draw(self, out: Array, noise: Array) -> Array:
        """out (R, width), noise (R, D) of the kind `self.noise` → x ~ p(x|z) (R, D)."""
        raise NotImplementedError


def blocks(X: Any, size: int = BLOCK_ROWS) -> Iterator[tuple[int, Any]]:
    """(first row, block of rows) over X, so that a memory-mapped array is never read whole."""
    for first in range(0, X.shape[0], size):
        yield first, X[first : first + size]


def holds_integers(backend: Backend, X: Any) -> bool:
    """Whether every value is an integer."""
    return all(bool(backend.to_host((block % 1 == 0).all())) for _, block in blocks(X))
