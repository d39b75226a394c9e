"""pool: threads that compute a kernel's shares together, and how the shares are handed to them.

A task is a compiled function (data, t) that computes share t of some work. The thread that asks for it takes shares
until none is left, and so does every worker that is awake. A worker that has no core just now is therefore not waited
for, unless it holds a share. One caller at a time has the workers; any other computes its shares alone. So does every
caller for a while after a worker had to be waited for: other processes want the cores then.

    WORD = shares · 2³² + the next share, taken by an atomic addition

TASK and DATA are stored before WORD and stay until DONE = shares: whoever takes a share reads the task it belongs to.
A thread that finds nothing to do looks for work for a short time, then sleeps on a lock of CPython's that needs no GIL.
It sets its ASLEEP to 1 before; whoever sets that back to 0 releases the lock, once.

Memory: 64-bit words from the address `pool` on; every access is atomic, in one order for all. Times in nanoseconds.
"""

import atexit
import ctypes
import os
import platform
import sys
import threading
import time
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils

from ._cache import CACHE
from ._math import intrinsic

AVAILABLE = os.name == "posix" and sys.maxsize > 2**32  # it needs clock_gettime, and addresses of 64 bits

# Words that different threads write lie 128 bytes apart: the pair of cache lines that processors fetch together.
WORD, TASK, DATA, DONE, BUSY, ALONE_UNTIL, STOP, WORKERS = 0, 16, 17, 32, 64, 65, 80, 81
# The address of `_serve`. Kernels in users' caches look here: neither its place nor its arguments may change.
SERVE = 86
# The caller's; those of each worker lie APART further on. CLOCK: two words.
ASLEEP, LOCK, CLOCK, APART = 96, 97, 112, 32

IDLE = 100_000  # a worker looks for work so long: longer than Python needs from one kernel to the next
PATIENCE = 50_000  # a caller looks so long for the end of the last shares; it may wait for one share and so much more
REGRET = 16  # after a longer wait it computes alone for so many times as long: waits cost 6 % of the time at the most
LOOKS = 32  # between two readings of the clock

# ---- what Numba has no words for -----------------------------------------------------------------------------------

_WORD = ir.IntType(64)
_acquire: Any = types.ExternalFunction("PyThread_acquire_lock", types.int32(types.int64, types.int32))
_release: Any = types.ExternalFunction("PyThread_release_lock", types.void(types.int64))


def _atomic(operation):
    """The intrinsic (address, value) → what the word held before."""

    def typed(context, address, value):
        def generate(context, builder, signature, values):
            pointer = builder.inttoptr(values[0], _WORD.as_pointer())
            return builder.atomic_rmw(operation, pointer, values[1], "seq_cst")

        return types.int64(types.int64, types.int64), generate

    return intrinsic(typed)


add, _swap = _atomic("add"), _atomic("xchg")


def load(builder, address):
    """The word at an address, atomically."""
    return builder.load_atomic(builder.inttoptr(address, _WORD.as_pointer()), "seq_cst", 8)


@intrinsic
def _load(context, address):
    return types.int64(types.int64), lambda context, builder, signature, values: load(builder, values[0])


@intrinsic
def _now(context, clock):
    """The nanoseconds of the monotonic clock; it writes seconds and the rest to the two words from `clock` on."""

    def generate(context, builder, signature, values):
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), _WORD])
        read = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        builder.call(read, [ir.Constant(ir.IntType(32), time.CLOCK_MONOTONIC), values[0]])
        seconds, rest = (load(builder, builder.add(values[0], _WORD(place))) for place in (0, 8))
        return builder.add(builder.mul(seconds, _WORD(1_000_000_000)), rest)

    return types.int64(types.int64), generate


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


def _serve(pool, task, data, shares):
    """Compute all shares of a task, with the workers if they can be had; or, for the worker −shares, those of any."""
    worker = -shares if shares < 0 else 0
    caller = pool + 8 * ASLEEP
    bed = caller + 8 * APART * worker
    clock = bed + 8 * (CLOCK - ASLEEP)
    if worker == 0:
        alone = _swap(pool + 8 * BUSY, 1) == 1
        if not alone and _now(clock) < _load(pool + 8 * ALONE_UNTIL):
            _swap(pool + 8 * BUSY, 0)
            alone = True
        if alone:
            for t in range(shares):
                call(task, (data, t))
            return
        _swap(pool + 8 * TASK, task)
        _swap(pool + 8 * DATA, data)
        _swap(pool + 8 * DONE, 0)
        _swap(pool + 8 * WORD, shares << 32)
        helpers = _load(pool + 8 * WORKERS)
        if 0 < shares <= helpers:  # a task without shares releases all, so that they end
            helpers = shares - 1
        for other in range(1, 1 + helpers):
            if _swap(caller + 8 * APART * other, 0) == 1:
                _release(_load(caller + 8 * (APART * other + LOCK - ASLEEP)))
    end, last = (pool + 8 * STOP, 1) if worker > 0 else (pool + 8 * DONE, shares)  # until that word is that number
    start = since = _now(clock)
    mine = looks = 0
    while _load(end) != last:
        word = _load(pool + 8 * WORD)
        if word & 0xFFFFFFFF < word >> 32:
            word = add(pool + 8 * WORD, 1)
            t, of = word & 0xFFFFFFFF, word >> 32
            if t < of:
                call(_load(pool + 8 * TASK), (_load(pool + 8 * DATA), t))
                mine += 1
                if add(pool + 8 * DONE, 1) + 1 == of and worker > 0 and _swap(caller, 0) == 1:
                    _release(_load(caller + 8 * (LOCK - ASLEEP)))
                since = _now(clock)
            continue
        _pause()
        looks += 1
        if looks % LOOKS == 0 and _now(clock) - since > (IDLE if worker > 0 else PATIENCE):
            _swap(bed, 1)
            word = _load(pool + 8 * WORD)
            idle = _load(end) != last and word & 0xFFFFFFFF >= word >> 32
            if idle or _swap(bed, 0) == 0:
                _acquire(_load(bed + 8 * (LOCK - ASLEEP)), 1)
            if worker > 0:
                since = _now(clock)
    if worker == 0:
        now = _now(clock)
        if now - since > PATIENCE + (since - start) // (mine if mine > 0 else 1):
            _swap(pool + 8 * ALONE_UNTIL, now + REGRET * (now - since))
        _swap(pool + 8 * BUSY, 0)


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
    """`workers` threads; `address` is its memory's."""

    def __init__(self, workers):
        python = ctypes.pythonapi
        python.PyThread_allocate_lock.restype = ctypes.c_void_p
        self._memory = np.zeros(ASLEEP + APART * (workers + 2), np.int64)
        words = self._memory[-self._memory.ctypes.data % 128 // 8 :]
        self._serve, words[SERVE], words[WORKERS] = _compiled().ctypes, _compiled().address, workers
        for lock in range(LOCK, LOCK + APART * (workers + 1), APART):
            words[lock] = python.PyThread_allocate_lock()
            python.PyThread_acquire_lock(ctypes.c_void_p(int(words[lock])), 1)
        self.words, self.address = words, words.ctypes.data
        self.threads = [
            threading.Thread(target=self._serve, args=(self.address, 0, 0, -i), name=f"minivae-{i}", daemon=True)
            for i in range(1, workers + 1)
        ]
        for thread in self.threads:
            thread.start()
        atexit.register(self.stop)

    def stop(self):
        """End the workers. A kernel that is given this pool afterwards is computed by its caller alone."""
        self.words[STOP] = 1
        for thread in self.threads:
            while thread.is_alive():
                self.words[ALONE_UNTIL] = 0
                self._serve(self.address, 0, 0, 0)
                thread.join(0.001)
