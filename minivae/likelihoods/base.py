"""What every likelihood offers: the protocol, and how its data are looked at.

Shapes: R = S·B rows, sample by sample; D features; out (R, width); X (B, D). Nats, every constant kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ..backend import Array, Backend
from ..buffers import Shape
from ..errors import UsageError

BLOCK_ROWS = 4096  # rows of a data set looked at together
NOTHING_TO_DO = contextlib.nullcontext()  # one for all: a step of training allocates nothing


class Likelihood:
    """What every likelihood offers. `features` is D.

    name        as it is asked for, such as "gaussian:0.5"
    is_density  whether q(x|z) is a density (nats depend on the data's units) or a probability
    noise       the kind of noise `draw` takes: "uniform" or "normal"
    clamps      whether it clamps outputs of the decoder
    clamped     (1,) int64, how many were clamped since someone set it to 0; None where nothing is clamped
    whole       whether it explains whole numbers, which a scale would make others
    closed_form whether something of it is fitted in closed form: `training` and `settling` then do something
    """

    name: str
    is_density: bool
    noise: str
    clamps = False
    clamped: Array | None = None
    whole = False
    closed_form = False

    def __init__(self, backend: Backend, features: int):
        self.backend, self.features = backend, features
        if self.clamps:
            self.clamped = backend.zeros((1,), np.int64)

    @property
    def width(self) -> int:
        """Outputs of the decoder for D features."""
        return self.features

    def parameters(self) -> list[tuple[str, Shape]]:
        """Learned tensors of its own, (name, shape); the model stores them as `likelihood.<name>`."""
        return []

    def fitted(self) -> list[tuple[str, Shape]]:
        """Tensors of its own that no gradient reaches, stored alike; a checkpoint holds them."""
        return []

    def bind(self, tensors: dict[str, Array]) -> None:
        """Take the views of those tensors, by name."""

    @contextlib.contextmanager
    def uncounted(self) -> Iterator[None]:
        """Leave `clamped`, and whatever else a step of training writes down, as it was."""
        before = None if self.clamped is None else self.clamped.copy()
        try:
            yield
        finally:
            if self.clamped is not None:
                self.clamped[...] = before

    def training(self) -> AbstractContextManager[None]:
        """Inside, `nll_and_grad` is the loss of a training step: what has a closed form is fitted to the batch at hand.

        Outside, it is −ln q(x|z) of the model as it stands. Where nothing is fitted (`closed_form`) they are the same.
        """
        return NOTHING_TO_DO

    def settling(self) -> AbstractContextManager[None]:
        """Inside, every training row passes through `nll_and_grad` once; what is fitted to all of them is then kept."""
        return NOTHING_TO_DO

    def check(self, X: Any) -> None:
        """Raise UsageError if X (N, D) holds a value outside the domain: here, NaN or an infinity."""
        self.range(X)

    def range(self, X: Any) -> tuple[float, float]:
        """The smallest and the largest value of X (N, D), which are finite."""
        number = self.backend.to_host
        ends = np.array([[float(number(end)) for end in (block.min(), block.max())] for block in blocks(X)])
        if not np.isfinite(ends).all():
            raise UsageError(
                "a value is NaN or infinite, which no likelihood explains: leave such rows out, or fill them"
            )
        return float(ends[:, 0].min()), float(ends[:, 1].max())

    def nll_and_grad(
        self, nll_rows: Array, d_out: Array, d_params: dict[str, Array], out: Array, X: Array, weight: Any
    ) -> None:
        """nll_rows (R,) ← −ln q(x|z); d_out (R, width) and d_params ← gradients of Σ_r weight_r nll_r.

        weight: a number, or (S, B). Everything is overwritten. `training` says what is otherwise in a training step.
        """
        raise NotImplementedError

    def mean(self, out: Array) -> Array:
        """E[x|z], (R, D)."""
        raise NotImplementedError

    def draw(self, out: Array, noise: Array) -> Array:
        """x ~ q(x|z), (R, D), from noise (R, D) of the kind `self.noise`."""
        raise NotImplementedError


def blocks(X: Any) -> Iterator[Any]:
    """Blocks of rows, so that a memory-mapped array is never read whole."""
    for start in range(0, X.shape[0], BLOCK_ROWS):
        yield X[start : start + BLOCK_ROWS]


def holds_whole_numbers(backend: Backend, X: Any) -> bool:
    """Whether every value is whole."""
    return all(bool(backend.to_host((block % 1 == 0).all())) for block in blocks(X))
