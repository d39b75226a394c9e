"""graph: training steps as one CUDA graph, captured once and replayed.

A launch costs the host some microseconds, and a step has dozens: replayed as a graph they cost one. But a graph bakes
in every scalar. So all that changes between steps stands in device memory: a table with the numbers of the steps to
come (learning rate, bias corrections, β, the noise's pass), the epoch's order of rows, and a cursor, which the step
itself moves on (`kernels/advance.py`). The losses go to rows of `recent`, for the loop to read when it looks.

A batch of another size, such as an epoch's last, has a graph of its own. The first step of each size runs as it stands:
it compiles kernels, makes plans and lets the workspace grow. If the workspace grows later (a validation with larger
batches), what was captured points to memory that is gone, and is captured anew. On ranks that add up their gradients by
NCCL a step is captured, and replayed, by all or by none: NCCL would wait for ever for one that does something else.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array
from ..model import Model
from ..optim import Optimizer
from .batches import Batches

if TYPE_CHECKING:
    from ..distributed.shards import Shards


def possible(vae: Model, batches: Batches) -> bool:
    """Whether steps on these batches can be captured: products, kernels and data all on the device, all rows alike."""
    return vae.backend.capture and batches.scale is batches.weights is None and batches.on_device


class Graphs:
    """The steps of one training. `recent` (steps, 3) receives each step's sums of loss, nll and kl.

    shards   of each batch, where it is cut into several (`distributed/shards.py`)
    """

    def __init__(
        self,
        vae: Model,
        batches: Batches,
        optimizer: Optimizer,
        recent: Array,
        free_bits: float,
        clip: Any,
        shards: Shards | None = None,
    ):
        self.vae, self.batches, self.optimizer, self.recent = vae, batches, optimizer, recent
        self.free_bits, self.clip, self.shards = free_bits, clip, shards
        backend, steps = vae.backend, recent.shape[0]
        self.names = ("pass", "beta", *optimizer.numbers())
        self.table = backend.zeros((steps, len(self.names)), np.float64)
        now = backend.zeros((len(self.names),), np.float64)
        self.now, views = now, {name: now[k] for k, name in enumerate(self.names)}
        self.pass_, self.beta, self.numbers = views.pop("pass"), views.pop("beta"), views
        self.order = backend.zeros((len(batches),), np.int64)
        self.index = backend.zeros((len(batches),), np.int64)
        self.cursor = backend.zeros((2,), np.int64)
        self.graphs: dict[int, Any] = {}
        self.grown = -1

    def run(self, order: Array, plan: list[tuple[float, float]], pass_: int, first: int, size: int) -> Array:
        """One step for each (lr, β) of the plan, on `size` rows each of `order` (N,) from `first` on → the last X."""
        backend = self.vae.backend
        self.order[...] = order
        self.table[: len(plan)] = backend.asarray(self._rows(plan, pass_))
        self.cursor[...] = backend.asarray(np.array([0, first]))
        self._forget()
        with nullcontext() if self.shards is None else self.shards.launching():
            for step in range(len(plan)):
                rows = min(size, len(self.batches) - first - step * size)
                if rows in self.graphs:
                    self.graphs[rows].launch()
                    continue
                self._step(rows)
                self._forget()
                self.graphs[rows] = Graph(backend.xp, lambda rows=rows: self._step(rows))
        return self.X

    def _forget(self) -> None:
        """Drop what was captured before the workspace grew, on this rank or on another."""
        grown = self.grown != self.vae.workspace.grown
        if grown if self.shards is None else self.shards.any(grown):
            self.graphs.clear()
        self.grown = self.vae.workspace.grown

    def _rows(self, plan: list[tuple[float, float]], pass_: int) -> np.ndarray:
        """The numbers of the steps of a plan, as rows of the table; the optimiser counts them."""
        rows = []
        for lr, beta in plan:
            self.optimizer.lr = lr
            self.optimizer.steps += 1
            rows.append([pass_, beta, *self.optimizer.numbers().values()])
        return np.array(rows, np.float64)

    def _step(self, rows: int) -> None:
        """What is captured: a training step that finds its own numbers and rows."""
        index = self.index[:rows]
        self.vae.backend.ops.advance(self.now, index, self.cursor, self.table, self.order)
        if self.shards is not None:
            self.X, sums = self.shards.step_on(index, self.beta, self.pass_, self)
        else:
            self.X = self.batches.take(index, "binarise", self.pass_)
            sums = self.vae.step(self.X, self, self.beta, self.free_bits, self.clip, self.pass_).sums()
        self.recent[self.cursor[:1] - 1] = sums

    def update(self, P: Array, G: Array, backend: Any, *, part: slice = slice(None)) -> None:
        """The optimiser's update, as a step calls it, with the numbers from device memory."""
        self.optimizer.update(P, G, backend, self.numbers, part=part)


class Graph:
    """What `function` launches, captured; its temporary arrays live in a pool of their own."""

    def __init__(self, cupy: Any, function: Any):
        self.pool = cupy.cuda.MemoryPool()
        cupy.cuda.runtime.deviceSynchronize()
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream, cupy.cuda.using_allocator(self.pool.malloc):
            stream.begin_capture()
            try:
                function()
            finally:
                self.graph = stream.end_capture()

    def launch(self) -> None:
        """Replay it on the current stream."""
        self.graph.launch()
