"""pool: threads that compute a kernel's shares together, and how the shares are handed to them.

A task is a compiled function (data, t) that computes share t of some work. The thread that asks for it takes shares
until none is left, and so does every worker that is awake. A worker that has no core just now is therefore not waited
for, unless it holds a share. One caller at a time has the workers; any other computes its shares alone. So does every
caller for a while after a worker had to be waited for: other processes want the cores then.

    WORD = shares · 2³² + the next share, taken by an atomic addition

TASK and DATA are stored before WORD and stay until DONE = shares: whoever takes a share reads the task it belongs to.
A worker looks for work for a short time, then sleeps until a caller wakes it.

Memory: 64-bit words from the address `pool` on; every access is atomic, in one order for all. Times in nanoseconds.
"""

import atexit
import os
import platform
import sys
import threading
import time
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import cgutils

from ._cache import CACHE
from ._math import intrinsic

AVAILABLE = os.name == "posix" and sys.maxsize > 2**32  # it needs clock_gettime, and addresses of 64 bits

# Words that different threads write lie 128 bytes apart: the pair of cache lines that processors fetch together.
WORD, TASK, DATA, DONE, WAITED = 0, 1, 2, 16, 80
SERVE = (
    86  # the address of `_serve`. Kernels in users' caches look here: neither its place nor its arguments may change
)
CLOCK, APART = 96, 16  # two words where the clock writes for the caller, and how far on those of the first worker are …

IDLE = 100_000  # a worker looks for work so long: longer than Python needs from one kernel to the next
PATIENCE = 50_000  # a caller looks so long for the end of the last shares, then naps in between
NAPS = 2_000  # … of half of what it has waited, in µs
REGRET = 16  # after a longer wait it computes alone for so many times as long: waits cost 6 % of the time at the most
LOOKS = 32  # between two readings of the clock

# ---- what Numba has no words for -----------------------------------------------------------------------------------

_WORD = ir.IntType(64)
_clock_gettime: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.int64))
_usleep: Any = types.ExternalFunction("usleep", types.int32(types.uint32))


def _atomic(operation):
    """The intrinsic (address, value) → what the word held before."""

    def typed(context, address, value):
        def generate(context, builder, signature, values):
            pointer = builder.inttoptr(values[0], _WORD.as_pointer())
            return builder.atomic_rmw(operation, pointer, values[1], "seq_cst")

        return types.int64(types.int64, types.int64), generate

    return intrinsic(typed)


add, _store = _atomic("add"), _atomic("xchg")


def load(builder, address):
    """The word at an address, atomically."""
    return builder.load_atomic(builder.inttoptr(address, _WORD.as_pointer()), "seq_cst", 8)


@intrinsic
def _load(context, address):
    return types.int64(types.int64), lambda context, builder, signature, values: load(builder, values[0])


@intrinsic
def _pause(context):
    """Tell the processor that this loop waits."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    name, given = ("llvm.x86.sse2.pause", []) if x86 else ("llvm.aarch64.hint", [ir.Constant(ir.IntType(32), 1)])

    def generate(context, builder, signature, values):
        if x86 or platform.machine().lower() in ("aarch64", "arm64"):
            kind = ir.FunctionType(ir.VoidType(), [x.type for x in given])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def call(context, function, values):
    """Call the C function at this address with these numbers, whose result is not looked at."""

    def generate(context, builder, signature, arguments):
        given = [builder.extract_value(arguments[1], i) for i in range(len(values))]
        kind = ir.FunctionType(ir.VoidType(), [x.type for x in given])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.int64, values), generate


# ---- the two sides -------------------------------------------------------------------------------------------------


@njit(inline="always")
def _now(clock):
    _clock_gettime(time.CLOCK_MONOTONIC, clock)
    return _load(clock) * 1_000_000_000 + _load(clock + 8)


def _serve(pool, task, data, shares):
    """Compute shares of this task until all are done; or, for the worker −shares, of any until there was none for IDLE.

    A caller leaves in WAITED how long it had nothing to do, or 0 if that was about the time of a share.
    """
    worker = max(0, -shares)
    if worker == 0:
        _store(pool + 8 * TASK, task)
        _store(pool + 8 * DATA, data)
        _store(pool + 8 * DONE, 0)
        _store(pool + 8 * WORD, shares << 32)
    clock = pool + 8 * (CLOCK + APART * worker)
    start = since = _now(clock)
    mine = looks = 0
    while worker > 0 or _load(pool + 8 * DONE) < shares:
        word = _load(pool + 8 * WORD)
        if word & 0xFFFFFFFF < word >> 32:
            word = add(pool + 8 * WORD, 1)
            t = word & 0xFFFFFFFF
            if t < word >> 32:
                call(_load(pool + 8 * TASK), (_load(pool + 8 * DATA), t))
                add(pool + 8 * DONE, 1)
                since = _now(clock)
                mine += 1
            continue
        _pause()
        looks += 1
        if looks % LOOKS == 0:
            waited = _now(clock) - since
            if worker > 0 and waited > IDLE:
                return
            if worker == 0 and waited > PATIENCE:
                _usleep(waited // NAPS)
    waited = _now(clock) - since
    _store(pool + 8 * WAITED, waited if waited > PATIENCE + (since - start) // max(mine, 1) else 0)


@cache
def _compiled():
    """`_serve` as a C function; compiled, or read from the disk, with the first pool."""
    options = {"error_model": "numpy", "cache": CACHE}
    return cfunc(types.void(*[types.int64] * 4), **options)(_serve)


def serve(builder, pool, task, data, shares):
    """`_serve` for a caller, in the code of a kernel: a call by address links none of it into them."""
    address = load(builder, builder.add(pool, _WORD(8 * SERVE)))
    kind = ir.FunctionType(ir.VoidType(), [_WORD] * 4)
    builder.call(builder.inttoptr(address, kind.as_pointer()), [pool, task, data, shares])


class Pool:
    """`workers` threads that help one caller at a time."""

    def __init__(self, workers):
        self._memory = np.zeros(CLOCK + APART * (workers + 2), np.int64)
        self._words = self._memory[-self._memory.ctypes.data % 128 // 8 :]
        self._serve, self._words[SERVE] = _compiled().ctypes, _compiled().address
        self._address = self._words.ctypes.data
        self._free, self._asleep, self._stopped, self.alone_until = threading.Lock(), [], False, 0
        self.threads = [
            threading.Thread(target=self._work, args=(i + 1,), name=f"minivae-{i + 1}", daemon=True)
            for i in range(workers)
        ]
        for thread in self.threads:
            thread.start()
        atexit.register(self.stop)

    def compute(self, kernel, arguments, shares):
        """kernel(*arguments, t, shares) for every share, with the workers; False where they are not to be had now."""
        if not self._free.acquire(blocking=False):
            return False
        try:
            if self.alone_until and time.monotonic_ns() < self.alone_until:
                return False
            for _ in range(len(self._asleep) - max(0, len(self.threads) + 1 - shares)):
                self._asleep.pop().release()
            kernel(*arguments, -self._address, shares)
            waited = int(self._words[WAITED])
            self.alone_until = time.monotonic_ns() + REGRET * waited if waited else 0
        finally:
            self._free.release()
        return True

    def _work(self, worker):
        """What a worker does until the pool is stopped."""
        bed = threading.Lock()
        bed.acquire()
        while True:
            self._asleep.append(bed)
            if self._stopped:
                return
            bed.acquire()
            self._serve(self._address, 0, 0, -worker)

    def stop(self):
        """End the workers. A kernel that is given this pool afterwards is computed by its caller alone."""
        with self._free:
            self._stopped = True
            while self._asleep:
                self._asleep.pop().release()
        for thread in self.threads:
            thread.join()
