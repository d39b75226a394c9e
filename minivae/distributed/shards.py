"""shards: a batch cut into S parts, whose gradients are added in one fixed order by any number of ranks.

The order must be fixed, and so must the parts: a sum over rows happens inside the product Xᵀ dA already. A shard's
gradient is one pass of the engine, as it is on a single process; the gradient of the batch's mean is

    G = Σ_s (b_s/B) G_s        b_s of the B rows of the batch in shard s, G_s the gradient of their mean

and S shards on P ranks, each with S/P of them, are added in the tree of `tree.py`. So the same S gives the same bits
for P = S, S/2, S/4 … and 1. A shard without rows adds zeros.

A rank gets the sum of a slice of the gradient alone (`slices.py`), updates those parameters, and hands them round. It
keeps the optimiser's moments of its slice; those of others are brought together for a checkpoint and at the end.

order   "rows": shard s takes its part of each batch; the batches are those of a single process
        "blocks": shard s has the rows sN/S … (s+1)N/S of the data, shuffles them by themselves and takes its part of
        them in each step: a rank reads no other rows
"""

from __future__ import annotations

import hashlib
import json
import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array, Backend
from ..datasets.order import permutation
from ..errors import UsageError
from . import tree
from .slices import Slices

if TYPE_CHECKING:
    from ..optim import Updates
    from .nccl import DeviceSum
    from .world import World


class Shards:
    """The S shards of one training, of which this rank has S/P."""

    def __init__(self, world: World, count: int, training: Any):
        self.world, self.count, self.training = world, count, training
        vae, own = training.vae, count // world.size
        self.mine = range(world.rank * own, (world.rank + 1) * own)
        self.blocks = training.options.order == "blocks"
        _refuse_what_needs_the_batch(vae, training.options.free_bits, count)
        self.slices = Slices(vae.buffer.grad.size, count, world.size, world.rank)
        self.norms = vae.backend.zeros((own + 1,), np.float64)  # of the gradient's units, and of its rest
        self.gradients = None if own == 1 else tree.Branch(own, vae.buffer.grad, vae.backend.xp)
        self.losses = tree.Branch(own, vae.backend.zeros((3,), np.float64), vae.backend.xp)
        self.asked: list[int] = []  # the signal that stops all ranks, once they have spoken
        self.due = False  # whether all ranks save now: rank 0's clock
        self.bad: tuple[int, str] | None = None  # the first tensor of this rank that is not finite, if any
        world.same("its model, data and options", self._fingerprint())
        self.nccl: DeviceSum | None = None  # where gradients cross without the host
        if world.size > 1 and vae.backend.name == "cupy":
            from .nccl import between

            self.nccl = between(world, vae.backend, vae.buffer.grad, self.slices)

    def _fingerprint(self) -> str:
        """A digest of what all ranks must have alike before the first step."""
        t, o = self.training, self.training.options
        numbers = {k: repr(v) for k, v in vars(t.optimizer).items() if isinstance(v, (int, float))}
        facts = [
            self.count,
            o.order,
            t.vae.config(),
            t.vae.backend.dtype.name,
            t.vae.backend.kernels,
            t.vae.backend.name,
        ]
        facts += [t.batches.X.shape, type(t.optimizer).__name__, numbers]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(t.vae.backend.to_host(t.vae.buffer.state))
        return digest.hexdigest()[:12]

    # ---- a step -------------------------------------------------------------------------------------------------

    def order(self, pass_: int) -> Any:
        """The epoch's order of rows: (N,), or with "blocks" one such array for each of this rank's shards."""
        seed, N, asarray = self.training.vae.seed, len(self.training.batches), self.training.vae.backend.asarray
        if not self.blocks:
            return asarray(permutation(seed, N, "shuffle", pass_))
        edges = [s * N // self.count for s in range(self.count + 1)]
        return {s: asarray(permutation(seed, edges[s + 1] - edges[s], "shuffle", pass_, edges[s])) for s in self.mine}

    def step(self, order: Any, start: int, beta: float, pass_: int) -> tuple[Any, Array]:
        """A training step on the rows `start` … of the epoch → this rank's last X, and its sums of loss, nll, kl."""
        t, S, N = self.training, self.count, len(self.training.batches)
        stop = min(start + t.options.batch_size, N)
        if self.blocks:
            parts = [(start * n // N, stop * n // N) for n in ((s + 1) * N // S - s * N // S for s in range(S))]
            mine, rows = [order[s][slice(*parts[s])] for s in self.mine], sum(last - first for first, last in parts)
        else:
            mine, rows = self._cut(order[start:stop]), stop - start
        with self.launching():
            return self._add_up(mine, rows, beta, pass_, t.optimizer)

    def step_on(self, index: Array, beta: Any, pass_: Any, optimizer: Updates) -> tuple[Any, Array]:
        """The step on the rows at `index` (B,) of the data. What it launches depends on B alone, so it can be captured.

        beta, pass_   numbers, or device arrays of one
        """
        return self._add_up(self._cut(index), index.shape[0], beta, pass_, optimizer)

    def _cut(self, index: Array) -> list[Array]:
        """The parts of a batch (B,) that are this rank's shards."""
        S, B = self.count, index.shape[0]
        return [index[s * B // S : (s + 1) * B // S] for s in self.mine]

    def _add_up(self, mine: list[Array], rows: int, beta: Any, pass_: Any, optimizer: Updates) -> tuple[Any, Array]:
        """The step on this rank's shards, the rows of each, of a batch of so many rows."""
        t, vae, X = self.training, self.training.vae, None
        for index in mine:
            if index.shape[0] == 0:
                sums = vae.backend.zeros((3,), np.float64)
                vae.buffer.grad[...] = 0
            else:
                X = t.batches.take(index, "binarise", pass_)
                sums = vae.step(X, _Gradient(), beta, t.options.free_bits, None, pass_).sums()
                if (share := index.shape[0] * self.count / rows) != 1:
                    vae.buffer.grad *= share
                if vae.backend.name == "numpy" and self.bad is None and not math.isfinite(sums.sum()):
                    self.bad = t.first_bad(X)
            self.losses.add(sums)
            if self.gradients is not None:
                self.gradients.add(vae.buffer.grad)
        if self.gradients is not None:
            vae.buffer.grad[...] = self.gradients.take()
        self._update(optimizer, t.options.clip)
        return X, self.losses.take()

    def _update(self, optimizer: Updates, clip: float | None) -> None:
        """The update by the sum over ranks of `buffer.grad`, S times the gradient: this rank's slice, then all."""
        vae, own = self.training.vae, self.slices.own
        P, G = vae.buffer.data, vae.buffer.grad
        self._across("scatter", G)
        G[own] *= 1 / self.count
        if clip is not None:
            G[own] *= self._factor(G, clip)
        optimizer.update(P, G, vae.backend, part=own)
        self._across("gather", P)

    def _across(self, what: str, x: Array) -> None:
        """`scatter` or `gather` x (n,), on the device or by the host."""
        if self.nccl is not None:
            getattr(self.nccl, what)(x)
        elif self.world.size > 1:
            host = self.training.vae.backend.to_host(x)
            getattr(self.world, what)(host, self.slices)
            if host is not x:
                self.training.vae.backend.assign(x, host)

    def _factor(self, G: Array, clip: float) -> Array:
        """min(1, clip/‖G‖) (1,), as `kernels/norm.py`, from the norms of G's units, which are the same for any P."""
        backend, slices, norms = self.training.vae.backend, self.slices, self.norms
        last = slice(slices.rest.start, slices.own.stop)
        for k, part in enumerate([*slices.units, last]):
            if part.start < part.stop:
                backend.ops.clip_norm(G[part], norms[k : k + 1], math.inf)  # nothing is clipped
        if self.nccl is not None:
            norms = self.nccl.numbers(norms)
        elif self.world.size > 1:
            norms = backend.asarray(self.world.numbers(backend.to_host(norms)))
        squares = norms.reshape(self.world.size, -1) ** 2
        total = tree.add_up(backend.xp.ascontiguousarray(squares[:, :-1]).reshape(-1, 1)) + squares[-1, -1]
        return backend.xp.minimum(1, clip / (backend.xp.sqrt(total) + 1e-6)).astype(G.dtype)

    def launching(self) -> AbstractContextManager[None]:
        """Around the launches of steps: where their queue is full they wait for the GPU, and it for other ranks."""
        return nullcontext() if self.nccl is None else self.world.waiting()

    # ---- captured steps (`training/cuda_graph.py`) --------------------------------------------------------------

    def may_capture(self, possible: bool) -> bool:
        """Whether steps are captured, which all ranks do or none: where all can, and no gradient comes to the host."""
        crosses = self.world.size == 1 or self.nccl is not None
        return all(self.world.all(possible and crosses and not self.blocks))

    def any(self, here: bool) -> bool:
        """Whether it is so on any rank."""
        return bool(self.world.numbers(np.array([here], np.float64)).any())

    def __enter__(self) -> Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *_: Any) -> None:
        """The end of the training: every rank gets all moments. NCCL's communicator goes, its graphs before."""
        if error is None or getattr(error, "agreed", False):
            self.bring_moments()
        if self.nccl is not None:
            if self.training.graphs is not None:
                self.training.graphs.graphs.clear()
            self.nccl.close(lost=kind is not None)
            self.nccl = self.world.nccl = None

    # ---- what ranks tell one another ----------------------------------------------------------------------------

    def exchange(self, recent: Array) -> np.ndarray:
        """recent (steps, 3), this rank's sums of loss, nll and kl → those of all ranks; and whether to stop or save."""
        t = self.training
        with self.world.waiting():  # on a GPU, for the steps that have been launched
            recent = t.vae.backend.to_host(recent)
        due = t.files is not None and t.files.due()
        told = self.world.numbers(np.array([*recent.ravel(), t.asked[0] if t.asked else 0, due], np.float64))
        signum = int(told[:, -2].max())
        self.asked, self.due = [signum] if signum else [], bool(told[0, -1])
        return tree.add_up(told[:, :-2].copy()).reshape(recent.shape) if recent.size else recent

    def first_bad(self, X: Any) -> str:
        """The first tensor in the order of a pass that is not finite on any rank, and where."""
        found = self.world.all((self.bad or self.training.first_bad(X), self.world.host))
        (_, name), rank = min((bad, rank) for rank, (bad, _) in enumerate(found))
        return f"{name} (rank {rank}, {found[rank][1]})" if self.world.size > 1 else name

    def bring_moments(self) -> None:
        """Every rank gets the optimiser's moments of all slices."""
        for moments in self.training.optimizer.state.values():
            self._across("gather", moments)

    def check_same(self, step: int) -> None:
        """AgreedError where the parameters of the ranks are not the same to the bit."""
        if self.world.size > 1:
            digest = hashlib.sha256(self.training.vae.backend.to_host(self.training.vae.buffer.state))
            advice = "something has changed them on one rank alone"
            self.world.same(f"the digest of its parameters after step {step}", digest.hexdigest()[:12], advice)


class _Gradient:
    """In the place of an optimiser in a pass over one shard: it leaves the gradient where it is."""

    def update(self, P: Array, G: Array, backend: Backend, *, part: slice = slice(None)) -> None:
        pass


def _refuse_what_needs_the_batch(vae: Any, free_bits: float, count: int) -> None:
    """UsageError for what the backward pass cannot know from its own shard."""
    what = ""
    if free_bits > 0:
        what = f"free_bits={free_bits:g} hold the mean KL of a dimension over the whole batch"
    elif vae.likelihood.closed_form:
        what = f"likelihood {vae.likelihood.name!r} fits σ² to the whole batch"
    if what:
        raise UsageError(
            f"{what}, and each of the {count} shards sees its own part alone: take one process, or leave it out"
        )
