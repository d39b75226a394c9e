"""buffers: where numbers live. Parameters in one flat array, gradients in another, everything else in a workspace.

`ParameterBuffer` lays the tensors out once and hands out views, so that an optimiser is one pass over one array, a
checkpoint is one array and a table, and the gradient check perturbs `data[i]` and can name the tensor.
`Workspace` hands out scratch that is allocated once: it grows to the largest batch seen and is sliced for smaller ones.
"""

from __future__ import annotations

import math
from typing import Any

from .backend import Array, Backend
from .memory import ALIGNMENT

Shape = tuple[int, ...]
Grads = dict[str, Array]  # name → where its gradient goes


class ParameterBuffer:
    """Named tensors in one flat array `data`, their gradients in a second, `grad`.

    specs    (name, shape) in the order in which they are laid out
    fitted   the same of tensors that are fitted in closed form: they have no gradient, and a checkpoint holds them

    `views[name]` and `grads[name]` are views of the two; every tensor starts on a cache line, and the gaps hold 0.
    `state` is `data` followed by the fitted tensors, whose views are `fitted[name]`.
    """

    def __init__(self, backend: Backend, specs: list[tuple[str, Shape]], fitted: list[tuple[str, Shape]] | None = None):
        step = ALIGNMENT // backend.dtype.itemsize
        self.shapes: dict[str, Shape] = {}
        self.offsets: dict[str, int] = {}
        fitted = fitted or []
        size = trained = 0
        for name, shape in specs + fitted:
            if name in self.shapes:
                raise ValueError(f"two tensors are named {name!r}")
            self.shapes[name], self.offsets[name] = tuple(shape), size
            size += -(-math.prod(shape) // step) * step
            trained = size if len(self.shapes) <= len(specs) else trained
        self.state = backend.zeros(size)
        self.data = self.state[:trained]
        self.grad = backend.zeros(trained)
        self.views = {name: self.view(self.data, name) for name, _ in specs}
        self.grads = {name: self.view(self.grad, name) for name, _ in specs}
        self.fitted = {name: self.view(self.state, name) for name, _ in fitted}

    def view(self, flat: Array, name: str) -> Array:
        """The tensor `name` inside a flat array laid out as this buffer is."""
        start, shape = self.offsets[name], self.shapes[name]
        return flat[start : start + math.prod(shape)].reshape(shape)

    @property
    def count(self) -> int:
        """The number of parameters, gaps left out."""
        return sum(math.prod(self.shapes[name]) for name in self.views)


class Workspace:
    """Named scratch arrays, allocated once."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.flat: dict[str, Array] = {}  # the arrays, each as long as it was ever needed
        self._last: dict[str, Array] = {}  # what was handed out last, in its shape
        self.grown = 0  # how often an array was allocated: what was captured before points to memory that is gone

    def take(self, name: str, shape: Shape, dtype: Any = None) -> Array:
        """The scratch `name` as a C-contiguous array of this shape; its contents are whatever was there.

        A larger shape than ever before reallocates it. dtype: the backend's, unless given (always the same for a name).
        """
        last = self._last.get(name)
        if last is not None and last.shape == shape:
            return last
        size = math.prod(shape)
        flat = self.flat.get(name)
        if flat is None or flat.size < size:
            flat = self.flat[name] = self.backend.empty(size, dtype)
            self.grown += 1
        self._last[name] = view = flat[:size].reshape(shape)
        return view
