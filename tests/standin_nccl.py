"""cupy.cuda.nccl for the stand-in: bytes go from rank to rank, threads of this process or processes of MPI's.

It refuses what NCCL refuses, and what would make it wait for ever: two ranks on one device, a send that no receive of
the same size and type awaits, a captured call that meets one that is not, sends outside a group, and the end of a
communicator that a graph has captured. `calls` is what each rank has asked for, in order.
"""

import ctypes
import itertools
import socket
import sys
import threading
import types
import weakref
from contextlib import suppress

NCCL_FLOAT32, NCCL_FLOAT64 = 7, 8
BYTES = {NCCL_FLOAT32: 4, NCCL_FLOAT64: 8}
PATIENCE = 300  # seconds that a thread waits for the others
numbers = itertools.count()
calls: dict[int, list] = {}  # rank → (what, its numbers …)
faults: list[str] = []  # of calls whose exceptions reach no caller
rooms: dict[tuple, "Threads"] = {}
here = threading.local()
lock = threading.Lock()


class NcclError(RuntimeError):
    pass


class Threads:
    """Where ranks that are threads meet."""

    def __init__(self, size):
        self.barrier, self.slots = threading.Barrier(size, timeout=PATIENCE), [None] * size

    def exchange(self, rank, parcels):
        """parcels[r] for each rank r → what each rank had for this one."""
        self.slots[rank] = parcels
        self.barrier.wait()
        got = [slot[rank] for slot in self.slots]
        with suppress(threading.BrokenBarrierError):  # another has left with what it found: this one finds it too
            self.barrier.wait()
        return got

    def leave(self):
        self.barrier.abort()


class Processes:
    """All of MPI's processes."""

    def __init__(self):
        self.comm = sys.modules["mpi4py.MPI"].COMM_WORLD.Dup()

    def exchange(self, rank, parcels):
        return self.comm.alltoall(parcels)

    def leave(self):
        self.comm.Abort(1)


def get_unique_id():
    number = next(numbers)
    return tuple(number >> 7 * k & 127 for k in range(128))


def get_version():
    return 22304


def groupStart():
    assert getattr(here, "group", None) is None
    here.group = []


def groupEnd():
    group, here.group = here.group, None
    (comm,) = {call[0] for call in group}
    comm._run([call[1:] for call in group])


class NcclCommunicator:
    def __init__(self, size, identity, rank):
        assert len(identity) == 128
        self.size, self.rank, self.failure, self.tapes = size, rank, None, weakref.WeakSet()
        with lock:
            calls.setdefault(rank, [])
            room = None if "mpi4py.MPI" in sys.modules else rooms.setdefault(identity, Threads(size))
        self.room = room or Processes()
        self.standin = sys.modules["standin"]
        places = self.room.exchange(rank, [(socket.gethostname(), self.standin.here.device)] * size)
        if len(set(places)) < size:
            raise NcclError("NCCL_ERROR_INVALID_USAGE: Duplicate GPU detected")

    def send(self, pointer, count, kind, peer, stream):
        here.group.append((self, "send", pointer, count, kind, peer))

    def recv(self, pointer, count, kind, peer, stream):
        here.group.append((self, "recv", pointer, count, kind, peer))

    def allGather(self, source, target, count, kind, stream):
        assert getattr(here, "group", None) is None
        size = count * BYTES[kind]
        if target <= source < target + size * self.size and source != target + size * self.rank:
            self._fail("what is gathered in place lies in the place of another rank")
        own = [("send", source, count, kind, r) for r in range(self.size)]
        self._run(own + [("recv", target + r * size, count, kind, r) for r in range(self.size)], "allGather")

    def _run(self, group, what=None):
        """The sends and receives of a group, now, or at each launch of the graph that captures them."""
        if self.failure:
            raise NcclError(self.failure)
        tape = self.standin.here.tape
        if tape is not None:
            self.tapes.add(tape)
        told = [(what, group[0][2])] if what else [(name, peer, count) for name, _, count, _, peer in group]
        captured = tape is not None

        def run():
            calls[self.rank] += told
            parcels = [None] * self.size
            for name, pointer, count, kind, peer in group:
                if name == "send":
                    assert parcels[peer] is None
                    parcels[peer] = (captured, count, kind), ctypes.string_at(pointer, count * BYTES[kind])
            got = self.room.exchange(self.rank, parcels)
            for name, pointer, count, kind, peer in group:
                if name == "recv":
                    label, data = got[peer] or (None, b"")
                    if label != (captured, count, kind):
                        self._fail(f"rank {peer} sends {label}, and {(captured, count, kind)} is awaited")
                    ctypes.memmove(pointer, data, len(data))
                    got[peer] = None
            if any(got):
                self._fail("what is sent is awaited by none")

        self.standin._launched(run)

    def _fail(self, why):
        self.room.leave()
        raise NcclError(why)

    def check_async_error(self):
        if self.failure:
            raise NcclError(self.failure)

    def _end(self, how):
        if len(self.tapes):
            faults.append(f"{how} waits for the graphs that have captured the communicator")
        calls[self.rank].append((how,))

    def destroy(self):
        self._end("destroy")

    def abort(self):
        self._end("abort")


def module(available=True):
    """A module for sys.modules["cupy.cuda.nccl"]."""
    found = types.ModuleType("cupy.cuda.nccl")
    if available:
        vars(found).update({k: v for k, v in globals().items() if not k.startswith("__")})
    found.available = available
    calls.clear()
    faults.clear()
    return found
