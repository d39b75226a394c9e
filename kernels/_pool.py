"""pool: threads that compute a kernel's shares together, and how the shares are handed to them.

A task is a compiled function (data, t) that computes share t of some work. The thread that asks for it takes shares
until none is left, and so does every worker that is awake. A worker that has no core just now is therefore not waited
for, unless it holds a share. One caller at a time has the workers; any other computes its shares alone. So does every
caller for a while after a worker had to be waited for: other processes want the cores then.

    WORD = shares · 2³² + the next share, taken by an atomic addition

TASK and DATA are stored before WORD and stay until DONE = shares: whoever takes a share reads the task it belongs to.

A waiting thread looks for work for a short time, then sleeps on a lock of CPython's that needs no GIL. It sets its
ASLEEP to 1 before; whoever sets that back to 0 releases the lock, once.

Memory: 64-bit words from the address `pool` on; every access is atomic, in one order for all. Times in nanoseconds.
"""

import atexit
import ctypes
import platform
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

# Words that different threads write lie 128 bytes apart: the pair of cache lines that processors fetch together.
WORD, TASK, DATA, DONE, ASLEEP, LOCK, BUSY, ALONE_UNTIL, STOP = 0, 16, 17, 32, 48, 49, 64, 65, 80
CLOCK, CLOCK_ID, ACQUIRE, RELEASE, WORKERS, COMPUTE = 81, 82, 83, 84, 85, 86
FIRST, APART = 96, 16  # where the ASLEEP and LOCK of the first worker are, and how far on those of the next

IDLE = 100_000  # a worker looks for work so long: longer than Python needs from one kernel to the next
PATIENCE = 50_000  # a caller looks so long for the end of the last shares; it may wait for one share and so much more
REGRET = 16  # after a longer wait it computes alone for so many times as long: waits cost 6 % of the time at the most
LOOKS = 32  # between two readings of the clock

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "cache": CACHE, "nogil": True}


def _address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def _clock():
    """The address of the C library's clock_gettime; 0 where there is none, or where addresses have no 64 bits."""
    try:
        return _address(ctypes.CDLL(None).clock_gettime) if ctypes.sizeof(ctypes.c_void_p) == 8 else 0
    except (AttributeError, OSError, TypeError):
        return 0


AVAILABLE = bool(_clock())

# ---- what Numba has no words for -----------------------------------------------------------------------------------

_WORD = ir.IntType(64)


def _pointer(builder, address):
    return builder.inttoptr(address, _WORD.as_pointer())


@intrinsic
def _load(context, address):
    def generate(context, builder, signature, values):
        return builder.load_atomic(_pointer(builder, values[0]), "seq_cst", 8)

    return types.int64(types.int64), generate


@intrinsic
def _store(context, address, value):
    def generate(context, builder, signature, values):
        builder.store_atomic(values[1], _pointer(builder, values[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _swap(operation):
    def typed(context, address, value):
        def generate(context, builder, signature, values):
            return builder.atomic_rmw(operation, _pointer(builder, values[0]), values[1], "seq_cst")

        return types.int64(types.int64, types.int64), generate

    return intrinsic(typed)


add, _exchange = _swap("add"), _swap("xchg")  # (address, value) → what the word held before


@intrinsic
def _pause(context):
    """Tell the processor that this loop waits."""
    machine = platform.machine().lower()

    def generate(context, builder, signature, values):
        if machine in ("x86_64", "amd64"):
            kind, name, given = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause", []
        elif machine in ("aarch64", "arm64"):
            number = ir.IntType(32)
            kind, name, given = ir.FunctionType(ir.VoidType(), [number]), "llvm.aarch64.hint", [ir.Constant(number, 1)]
        else:
            return context.get_dummy_value()
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def call(context, function, values):
    """Call the C function at this address: it takes 64-bit integers and gives none."""

    def generate(context, builder, signature, arguments):
        address, values = arguments
        words = [builder.extract_value(values, i) for i in range(signature.args[1].count)]
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * len(words))
        builder.call(builder.inttoptr(address, kind.as_pointer()), words)
        return context.get_dummy_value()

    return types.void(types.int64, types.UniTuple(types.int64, values.count)), generate


@intrinsic
def _acquire(context, function, lock):
    """PyThread_acquire_lock(lock, wait): an int is not a word."""

    def generate(context, builder, signature, values):
        kind = ir.FunctionType(ir.IntType(32), [_WORD, ir.IntType(32)])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [values[1], ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _read(context, clock, number):
    """clock_gettime(number), in nanoseconds."""

    def generate(context, builder, signature, values):
        with builder.goto_entry_block():
            time = builder.alloca(ir.ArrayType(_WORD, 2))
        start = builder.gep(time, [ir.Constant(ir.IntType(32), 0)] * 2)
        kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), _WORD.as_pointer()])
        function = builder.inttoptr(values[0], kind.as_pointer())
        builder.call(function, [builder.trunc(values[1], ir.IntType(32)), start])
        seconds, rest = (builder.extract_value(builder.load(time), i) for i in range(2))
        return builder.add(builder.mul(seconds, ir.Constant(_WORD, 10**9)), rest)

    return types.int64(types.int64, types.int64), generate


@njit(**_OPTIONS, inline="always")
def _now(pool):
    return _read(_load(pool + 8 * CLOCK), _load(pool + 8 * CLOCK_ID))


# ---- the two sides -------------------------------------------------------------------------------------------------


@njit(**_OPTIONS)
def _take(pool):
    """Compute shares until none is left: how many were computed here, and whether the last of all was among them."""
    mine, last = 0, False
    while True:
        word = add(pool + 8 * WORD, 1)
        shares, t = word >> 32, word & 0xFFFFFFFF
        if t >= shares:
            return mine, last
        call(_load(pool + 8 * TASK), (_load(pool + 8 * DATA), t))
        mine += 1
        last = add(pool + 8 * DONE, 1) + 1 == shares


@njit(**_OPTIONS)
def _sleep(pool, bed):
    """Sleep until woken, after ASLEEP (the word at `bed`, its lock in the next) has been set to 1."""
    _acquire(_load(pool + 8 * ACQUIRE), _load(bed + 8))


@njit(**_OPTIONS)
def _wake(pool, bed):
    if _load(bed) == 1 and _exchange(bed, 0) == 1:
        call(_load(pool + 8 * RELEASE), (_load(bed + 8),))


def _compute(pool, task, data, shares):
    """Compute all shares of a task, with the workers if they can be had."""
    start = _now(pool)
    if start < _load(pool + 8 * ALONE_UNTIL) or _exchange(pool + 8 * BUSY, 1) == 1:
        for t in range(shares):
            call(task, (data, t))
        return
    _store(pool + 8 * TASK, task)
    _store(pool + 8 * DATA, data)
    _store(pool + 8 * DONE, 0)
    _store(pool + 8 * WORD, shares << 32)
    for worker in range(min(_load(pool + 8 * WORKERS), shares - 1)):
        _wake(pool, pool + 8 * (FIRST + APART * worker))
    mine, _ = _take(pool)
    waits = now = _now(pool)
    looks = 0
    while _load(pool + 8 * DONE) < shares:
        _pause()
        looks += 1
        if looks % LOOKS == 0:
            now = _now(pool)
            if now - waits > PATIENCE:
                _store(pool + 8 * ASLEEP, 1)
                if _load(pool + 8 * DONE) < shares or _exchange(pool + 8 * ASLEEP, 0) == 0:
                    _sleep(pool, pool + 8 * ASLEEP)
                now = _now(pool)
    if now - waits > PATIENCE + (waits - start) // max(mine, 1):
        _store(pool + 8 * ALONE_UNTIL, now + REGRET * (now - waits))
    _store(pool + 8 * BUSY, 0)


@cache
def _compiled():
    """`_compute` as a C function; compiled, or read from the disk, with the first pool."""
    return cfunc(types.void(*[types.int64] * 4), cache=CACHE)(_compute)


def compute(builder, pool, task, data, shares):
    """The same in the code of a kernel: a call by address links none of it into them."""
    address = builder.load_atomic(_pointer(builder, builder.add(pool, _WORD(8 * COMPUTE))), "seq_cst", 8)
    function = ir.FunctionType(ir.VoidType(), [_WORD] * 4)
    builder.call(builder.inttoptr(address, function.as_pointer()), [pool, task, data, shares])


@njit(**_OPTIONS)
def _work(pool, worker):
    """What a worker does until STOP is 1."""
    bed = pool + 8 * (FIRST + APART * worker)
    since, looks = _now(pool), 0
    while _load(pool + 8 * STOP) == 0:
        word = _load(pool + 8 * WORD)
        if word & 0xFFFFFFFF < word >> 32:
            _, last = _take(pool)
            if last:
                _wake(pool, pool + 8 * ASLEEP)
            since = _now(pool)
            continue
        _pause()
        looks += 1
        if looks % LOOKS == 0 and _now(pool) - since > IDLE:
            _store(bed, 1)
            word = _load(pool + 8 * WORD)
            idle = word & 0xFFFFFFFF >= word >> 32 and _load(pool + 8 * STOP) == 0
            if idle or _exchange(bed, 0) == 0:
                _sleep(pool, bed)
            since = _now(pool)


class Pool:
    """`workers` threads; `address` is its memory's."""

    def __init__(self, workers):
        python = ctypes.pythonapi
        python.PyThread_allocate_lock.restype = ctypes.c_void_p
        self._memory = np.zeros(FIRST + APART * (workers + 1), np.int64)
        words = self._memory[-self._memory.ctypes.data % 128 // 8 :]
        words[CLOCK], words[CLOCK_ID] = _clock(), time.CLOCK_MONOTONIC
        words[ACQUIRE], words[RELEASE] = _address(python.PyThread_acquire_lock), _address(python.PyThread_release_lock)
        words[WORKERS], words[COMPUTE] = workers, _compiled().address
        for bed in (ASLEEP, *range(FIRST, FIRST + APART * workers, APART)):
            words[bed + LOCK - ASLEEP] = lock = python.PyThread_allocate_lock()
            python.PyThread_acquire_lock(ctypes.c_void_p(lock), 1)
        self.words, self.address = words, words.ctypes.data
        self.threads = [
            threading.Thread(target=_work, args=(self.address, i), name=f"minivae-{i + 1}", daemon=True)
            for i in range(workers)
        ]
        _work.compile((types.int64, types.int64))
        for thread in self.threads:
            thread.start()
        atexit.register(self.stop)

    def stop(self):
        """End the workers. A kernel that is given this pool afterwards is computed by its caller alone."""
        stop(self.address)
        for thread in self.threads:
            thread.join()


@njit(**_OPTIONS)
def stop(pool):
    _store(pool + 8 * STOP, 1)
    for worker in range(_load(pool + 8 * WORKERS)):
        _wake(pool, pool + 8 * (FIRST + APART * worker))
