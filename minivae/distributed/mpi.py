"""mpi: the ranks that `mpiexec` or `srun` has started, by mpi4py. There is no launcher and no transport here.

`ranks()` reads what a launcher says in the environment, and imports mpi4py only where it says more than one process:
importing it starts MPI, which a login node or a notebook may not survive.

When something goes wrong, all ranks end. An exception that nothing catches aborts them all (`_last_words`); a rank that
waits for the others for too long, whose link may be down, ends itself (`Watchdog`), for MPI would wait for ever.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from .. import checks, device, environment
from ..backend import threads as threads_of_this_process
from ..errors import UsageError, UsageWarning
from ..hints import how_to_install
from ..kernels.add_up import fused as add_up
from . import launcher
from .slices import Slices
from .world import AgreedError, World

TIMEOUT = 600.0  # seconds that a rank waits for the others
PATIENCE = 5.0  # seconds that rank 0 has to print what all ranks know
LEAST_PAUSE, MOST_PAUSE = 1e-4, 0.02  # seconds between two looks at whether the ranks of a host are ready
LOADING = 20.0  # seconds that mpi4py has to be loaded
_ABOUT = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print("mpi4py", mpi4py.__version__ + ",", MPI.Get_library_version().strip("\\0\\n ").splitlines()[0][:60])
"""
times_begun = 0
_started: MPIWorld | None = None


def ranks(comm: Any = None, *, shards: int | None = None, threads: int | None = None) -> World:
    """The ranks that a launcher has started, for `fit(ranks=)` and evaluation; without a launcher, one.

    comm      an mpi4py communicator, for some of the ranks; None: all that `mpiexec` or `srun` has started
    shards    S, the parts that each batch is cut into. The same S gives the same bits for S, S/2, S/4 … ranks and for
              one; None: as many as there are ranks, or what a resumed run has recorded
    threads   of a rank; None: $MINIVAE_THREADS, or the processors that the launcher gives each rank, or the host's
              divided by the ranks on it

    Call it before a model is made. Raises UsageError where mpi4py is missing or belongs to another MPI.
    """
    world = begin(comm, shards)
    share_processors(world, threads)
    return world


def begin(comm: Any = None, shards: int | None = None) -> World:
    """`ranks`, before the processors are shared out."""
    global times_begun
    times_begun += 1
    shards = None if shards is None else checks.integer("shards", shards)
    launched = environment.launched()
    return World(shards) if comm is None and launched == 1 else _world(comm, launched, shards)


def share_processors(world: World, threads: int | None) -> int:
    """Choose the number of threads of this rank, as `ranks` does; once a process."""
    threads = None if threads is None else checks.integer("threads", threads)
    if world.size > 1:
        device.take_turns(world.local_rank)
    environment.share_processors(world.local_size, threads)
    if (chosen := threads_of_this_process()) != environment.threads():
        raise UsageError(
            f"this process has chosen {chosen} threads already, and a rank has {environment.threads()}: call "
            "mv.ranks() before a model is made"
        )
    if world.local_rank == 0 and world.local_size * chosen > (cores := os.cpu_count() or 1):
        warnings.warn(
            f"{world.host}: {world.local_size} ranks wait for one another on {cores} processors (threads of each: "
            f"{chosen})",
            UsageWarning,
            stacklevel=3,
        )
    return chosen


def end_all(message: str, status: int) -> None:
    """End all ranks for an error that this one alone has met; nothing where there is one rank."""
    if _started is not None:
        if status != 130 or _started.rank == 0:  # Ctrl-C comes to all
            _started.complain(message)
        _started.abort(status)


def about() -> str:
    """The version of mpi4py and the MPI that it loads, for `minivae info`; or why there is none.

    Another process loads it, and does not start it: an MPI may end a process where it cannot start.
    """
    if importlib.util.find_spec("mpi4py") is None:
        return f"none: mpi4py is not installed: {how_to_install('mpi')}"
    try:
        found = subprocess.run([sys.executable, "-P", "-c", _ABOUT], capture_output=True, text=True, timeout=LOADING)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"none: mpi4py cannot be loaded ({type(error).__name__})"
    if found.returncode == 0:
        return " ".join(found.stdout.split())
    reason = found.stderr.strip().splitlines()[-1:] or [f"status {found.returncode}"]
    return f"none: mpi4py cannot be loaded ({reason[0][:100]}): it needs an MPI, such as pip install mpich"


def _world(comm: Any, launched: int, shards: int | None) -> MPIWorld:
    global _started
    seconds, problem = _timeout()
    try:
        if launched > 1:  # MPI waits for all ranks to start; no thread of Python's runs meanwhile
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        text = (
            f"the launcher started {launched} processes, which speak by mpi4py, and that cannot be loaded ({reason}): "
            f"{how_to_install('mpi')}"
        )
        if launched > 1:
            launcher.leave(text)
        raise UsageError(text) from None
    finally:
        if launched > 1:
            faulthandler.cancel_dump_traceback_later()
    if launched > 1 and MPI.COMM_WORLD.size == 1:
        library = MPI.Get_library_version().strip("\0\n ").splitlines()[0][:60]
        raise UsageError(
            f"the launcher started {launched} processes, and each is alone by the MPI that mpi4py has loaded "
            f"({library}): this mpiexec belongs to another MPI; take the mpiexec of that one"
        )
    world = MPIWorld(MPI.COMM_WORLD if comm is None else comm, MPI, shards, seconds)
    if world.size > 1:
        _started = world
        sys.excepthook = _last_words
        if world.rank > 0:  # rank 0 warns for all
            warnings.simplefilter("ignore", UsageWarning)
    with world.agreeing():
        if problem:
            raise UsageError(problem)
    return world


def of_this_host(comm: Any, MPI: Any) -> Any:
    """The communicator of the ranks that share this host's memory."""
    return comm.Split_type(MPI.COMM_TYPE_SHARED)


class MPIWorld(World):
    """The ranks of an mpi4py communicator."""

    def __init__(self, comm: Any, MPI: Any, shards: int | None = None, seconds: float = TIMEOUT):
        self.shards = shards
        self.comm, self.MPI = comm.Dup(), MPI
        self.rank, self.size, self.host = comm.rank, comm.size, MPI.Get_processor_name()
        self.neighbours = of_this_host(comm, MPI)
        self.local_rank, self.local_size = self.neighbours.rank, self.neighbours.size
        self.parts = np.empty(0, np.uint8)
        self.watchdog = Watchdog(self, seconds)

    def waiting(self) -> AbstractContextManager[None]:
        return self.watchdog.waiting()

    def _gathered(self, value: Any) -> list[Any]:
        with self.waiting():
            return self.comm.allgather(value)

    def from_neighbour(self, value: Any) -> Any:
        here, pause = self.neighbours.Ibarrier(), LEAST_PAUSE
        while not here.Test():  # MPI's own waiting would take a core of the rank that works
            time.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE)
        return self.neighbours.bcast(value)

    def numbers(self, x: np.ndarray) -> np.ndarray:
        out = np.empty((self.size, x.size))
        with self.waiting():
            self.comm.Allgather(x, out)
        return out

    def scatter(self, x: np.ndarray, slices: Slices) -> None:
        """Each rank gets all ranks' parts of its own slice of x, and adds them up.

        With `gather`, 2 n (P − 1)/P numbers cross the wire, as by the best algorithms of MPI's own all-reduce, whose
        order is not fixed.
        """
        size, last = (self.size, slices.each), self.size - 1
        head, rest, mine = x[slices.head], x[slices.rest], slice(self.rank * slices.each, (self.rank + 1) * slices.each)
        if self.parts.nbytes < head.nbytes:
            self.parts = np.empty(head.nbytes, np.uint8)
        parts = self.parts[: head.nbytes].view(x.dtype).reshape(size)
        if slices.each:  # Alltoallv and Allgatherv take slices of any size, and many times as long in MPICH
            with self.waiting():
                self.comm.Alltoall(head, parts)
            add_up(x[mine], parts)
        if rest.size:
            every = np.empty((self.size, rest.size), x.dtype)
            with self.waiting():
                self.comm.Gather(rest, every if self.rank == last else None, root=last)
            if self.rank == last:
                add_up(rest, every)

    def gather(self, x: np.ndarray, slices: Slices) -> None:
        with self.waiting():
            if slices.each:
                self.comm.Allgather(self.MPI.IN_PLACE, x[slices.head])
            if slices.head.stop < x.size:
                self.comm.Bcast(x[slices.rest], root=self.size - 1)

    def joined(self, part: np.ndarray, everywhere: bool = True) -> np.ndarray:
        shape, dtype = self.same("the kind of its rows", (part.shape[1:], part.dtype.str))
        row = int(np.prod(shape, dtype=np.int64))
        counts = np.array(self.all(len(part)), np.int64)
        sizes, own = counts * row, np.ascontiguousarray(part)
        gets = everywhere or self.rank == 0
        out = np.empty((int(counts.sum()), *shape), np.dtype(dtype)) if gets else own
        to = [out, (sizes, np.cumsum(sizes) - sizes)] if gets else None
        with self.waiting():
            if everywhere:
                self.comm.Allgatherv(own, to)
            else:
                self.comm.Gatherv(own, to)
        return out

    def abort(self, status: int) -> None:
        self.comm.Abort(status)


class Watchdog:
    """Ends this process where it waits for the others for more than `seconds`, which MPI and NCCL would do for ever.

    So does an error that NCCL meets while the host waits for the GPU.
    """

    def __init__(self, world: MPIWorld, seconds: float):
        self.world, self.seconds = world, seconds
        self.since: float | None = None
        if world.size > 1:
            threading.Thread(target=self._watch, name="minivae-watchdog", daemon=True).start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        before, self.since = self.since, time.monotonic()
        try:
            yield
        finally:
            self.since = before

    def _watch(self) -> None:
        while True:
            time.sleep(min(1.0, self.seconds / 4))
            since, nccl = self.since, self.world.nccl
            error = nccl.error() if nccl else ""
            if since is not None and time.monotonic() - since > self.seconds:
                error = error or (
                    f"has waited {self.seconds:g} s for the others: one of them hangs, or its link is down "
                    "(MINIVAE_MPI_TIMEOUT)"
                )
            if error:
                self.world.complain(error)
                if nccl:
                    nccl.close(lost=True)
                launcher.kill()
                os._exit(1)


def _timeout() -> tuple[float, str]:
    """The seconds that a rank waits, and what is wrong with $MINIVAE_MPI_TIMEOUT, which all are told once MPI runs."""
    text = os.environ.get("MINIVAE_MPI_TIMEOUT") or str(TIMEOUT)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        return TIMEOUT, f"MINIVAE_MPI_TIMEOUT={text[:20]!r}: expected a number of seconds > 0"
    return seconds, ""


def _last_words(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The hook of an exception that nothing has caught: print it, and end all ranks."""
    world, agreed = _started, getattr(error, "agreed", False)
    assert world is not None
    world.watchdog.since = None
    if agreed and world.rank > 0:  # rank 0 prints the same
        time.sleep(PATIENCE)
    else:
        world.complain("ends all ranks" if not agreed else "all ranks end")
        traceback.print_exception(kind, error, trace, file=sys.__stderr__)
    world.abort(130 if kind is KeyboardInterrupt else 2 if isinstance(error, AgreedError) else 1)
