"""buffers: where numbers live. Parameters in one flat array, gradients in another, everything else in a workspace.

`ParameterBuffer` lays the tensors out once and hands out views, so that an optimiser is one pass over one array, a
checkpoint is one array and a table, and the gradient check perturbs `data[i]` and can name the tensor.
`Workspace` hands out scratch that is allocated once: it grows to the largest batch seen and is sliced for smaller ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    def __init__(self, backend: Backend, specs: list[tuple[str, Shape]], fitted: Sequence[tuple[str, Shape]] = ()):
        step = ALIGNMENT // backend.dtype.itemsize
        self.shapes: dict[str, Shape] = {}
        self.offsets: dict[str, int] = {}
        size = 0
        for name, shape in [*specs, *fitted]:
            if name in self.shapes:
                raise ValueError(f"two tensors are named {name!r}")
            self.shapes[name], self.offsets[name] = tuple(shape), size
            size += -(-math.prod(shape) // step) * step
        self.state = backend.zeros(size)
        self.data = self.state[: self.offsets[fitted[0][0]] if fitted else size]
        self.grad = backend.zeros(self.data.size)
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
        self.views: dict[str, Array] = {}  # what was handed out last of each, in its shape
        self.grown = 0  # how often an array was allocated: what was captured before points to memory that is gone

    def take(self, name: str, shape: Shape, dtype: Any = None) -> Array:
        """The scratch `name` as a C-contiguous array of this shape; its contents are whatever was there.

        A larger shape than ever before reallocates it. dtype: the backend's, unless given (always the same for a name).
        """
        view = self.views.get(name)
        if view is None or view.shape != shape:
            size = math.prod(shape)
            if name not in self.flat or self.flat[name].size < size:
                self.flat[name] = self.backend.empty(size, dtype)
                self.grown += 1
            view = self.views[name] = self.flat[name][:size].reshape(shape)
        return view
