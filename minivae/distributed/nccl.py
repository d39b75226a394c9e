"""nccl: the sum over ranks on GPUs, whose gradients do not come to the host. NCCL moves the bytes, and a kernel adds.

NCCL's own all-reduce chooses its order by the size of the array and by the machine. Here the order is that of
`tree.py`, in the three steps of the host's sum (`mpi.py`):

    all to all   each rank sends every other its slice of the gradient   (ncclSend and ncclRecv, as one group)
    add up       each rank adds up the P parts of its own slice          (`kernels/add_up.py`), and updates with it
    all gather   each rank sends its slice of the parameters to all      (ncclAllGather)

They follow one another on the current stream and the host waits for none, so a CUDA graph captures them with the step
(`training/cuda_graph.py`). MPI carries what the host knows: the id by which ranks find one another, losses, errors.
"""

from __future__ import annotations

import threading
import warnings
from importlib import import_module
from typing import Any

import numpy as np

from ..backend import Array, Backend
from ..errors import UsageError, UsageWarning
from .slices import Slices
from .world import World

PATIENCE = 5.0  # seconds that NCCL has to give up a communicator


def between(world: World, backend: Backend, like: Array, slices: Slices) -> DeviceSum | None:
    """Sums over ranks of arrays such as `like` (n,) by NCCL; None, and a warning that says why, where it cannot be.

    All ranks get the same: one that has no NCCL, or two that share a GPU, which NCCL refuses, are enough for None.
    """
    runtime = backend.xp.cuda.runtime
    told = world.all((lacking(), (world.host, runtime.deviceGetPCIBusId(runtime.getDevice()))))
    places = [place for _, place in told]
    for rank, (why, place) in enumerate(told):
        if places.index(place) < rank:
            why = why or f"it shares GPU {place[1]} with rank {places.index(place)}: start one rank a GPU"
        if why:
            warnings.warn(
                f"gradients cross by the host, and steps are not captured. Rank {rank} ({place[0]}): {why}",
                UsageWarning,
                stacklevel=2,
            )
            return None
    return DeviceSum(world, backend, like, slices)


def lacking() -> str:
    """Why CuPy has no NCCL, and what to do; "" where it has one."""
    try:
        if not import_module("cupy.cuda.nccl").available:
            raise ImportError("libnccl is not installed")
    except ImportError as error:
        return f"CuPy finds no NCCL ({error}): pip install nvidia-nccl-cu12, or -cu13 for CUDA 13"
    return ""


def about() -> str:
    """The version of the NCCL that CuPy has found, for `minivae info`; or why there is none."""
    try:
        import_module("cupy")
    except ImportError:
        return "none: CuPy is not installed"
    return f"none: {why}" if (why := lacking()) else str(import_module("cupy.cuda.nccl").get_version())


class DeviceSum:
    """Sums over ranks on the GPU of each, in the order of `tree.py`: what `World.scatter` and `gather` do on the host.

    like   an array of the n and the dtype of those that are to be added up
    """

    def __init__(self, world: World, backend: Backend, like: Array, slices: Slices):
        self.nccl, self.cuda, self.ops = import_module("cupy.cuda.nccl"), backend.xp.cuda, backend.ops
        self.rank, self.where, self.backend = world.rank, f"GPU {self.cuda.runtime.getDevice()}", backend
        self.size, self.slices = world.size, slices
        self.parts = backend.zeros((world.size, slices.each), like.dtype)  # all ranks' parts of this rank's slice
        self.rests = backend.zeros((world.size, like.size - slices.head.stop), like.dtype)
        self.kind = {4: self.nccl.NCCL_FLOAT32, 8: self.nccl.NCCL_FLOAT64}[like.dtype.itemsize]
        self.lock = threading.Lock()  # the watchdog asks for errors meanwhile
        identity = world.first(lambda: self._named(self.nccl.get_unique_id))
        try:
            with world.waiting():
                self.comm = self._named(self.nccl.NcclCommunicator, world.size, identity, world.rank)
        except UsageError as error:  # the other ranks may wait for this one already, and cannot be told
            world.complain(str(error))
            world.abort(1)
            raise
        world.nccl = self

    def scatter(self, x: Array) -> None:
        """This rank's own slice of x (n,) ← its sum over ranks. Every rank calls it, all in a captured step or none."""
        self._named(self._scatter, x, self.cuda.get_current_stream().ptr)

    def gather(self, x: Array) -> None:
        """x (n,) ← every rank's own slice of it. Every rank calls it, all in a captured step or none."""
        self._named(self._gather, x, self.cuda.get_current_stream().ptr)

    def numbers(self, x: Array) -> Array:
        """x (k,) float64 of every rank → (P, k), as `World.numbers`."""
        out = self.backend.empty((self.size, x.size), np.float64)
        stream = self.cuda.get_current_stream().ptr
        self._named(self.comm.allGather, x.data.ptr, out.data.ptr, x.size, self.nccl.NCCL_FLOAT64, stream)
        return out

    def _scatter(self, x: Array, stream: int) -> None:
        each, rest = self.slices.each, x[self.slices.rest]
        if each:
            self.nccl.groupStart()  # a rank sends to itself too: NCCL wants that send and its receive side by side
            for rank in range(self.size):
                self.comm.send(x.data.ptr + rank * each * x.dtype.itemsize, each, self.kind, rank, stream)
                self.comm.recv(self.parts[rank].data.ptr, each, self.kind, rank, stream)
            self.nccl.groupEnd()
            self.ops.add_up(x[self.rank * each : (self.rank + 1) * each], self.parts)
        if rest.size:
            self.comm.allGather(rest.data.ptr, self.rests.data.ptr, rest.size, self.kind, stream)
            self.ops.add_up(rest, self.rests)

    def _gather(self, x: Array, stream: int) -> None:
        each, rest = self.slices.each, x[self.slices.rest]
        if each:
            own = x.data.ptr + self.rank * each * x.dtype.itemsize
            self.comm.allGather(own, x.data.ptr, each, self.kind, stream)
        if rest.size:
            self.comm.allGather(rest.data.ptr, self.rests.data.ptr, rest.size, self.kind, stream)
            rest[...] = self.rests[-1]

    def _named(self, call: Any, *arguments: Any) -> Any:
        """call(…); NCCL's error becomes one line that names the GPU, and the rank where the line is printed."""
        try:
            return call(*arguments)
        except self.nccl.NcclError as error:
            raise UsageError(f"{self.where}: NCCL fails ({error}): NCCL_DEBUG=INFO says more") from None

    def error(self) -> str:
        """What NCCL has met since, such as the loss of a rank, as one line; "" if nothing. For another thread."""
        with self.lock:
            try:
                if self.comm is not None:
                    self._named(self.comm.check_async_error)
            except UsageError as error:
                return str(error)
        return ""

    def close(self, lost: bool) -> None:
        """Give the communicator back. Every graph that has captured it must be gone: NCCL waits for those for ever.

        lost   whether a rank may be missing: what waits for it ends. If not, all ranks close at the same place
        """
        with self.lock:
            comm, self.comm = self.comm, None
        if comm is not None:
            closing = threading.Thread(target=comm.abort if lost else comm.destroy, daemon=True)
            closing.start()
            closing.join(PATIENCE)
