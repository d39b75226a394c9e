"""threads: how the loops of the kernels are shared out among cores.

One pool serves everything (`_pool.py`), the matrix products included (`_gemm.py`): a second pool beside it, such as a
BLAS's own, would look for work on the cores that this one computes on. A forked process, which the pool's threads do
not follow, computes every share on its one thread, and gets the same bits.

A kernel computes one share of its rows. It takes which one, and how many there are, as its last arguments:

    @shared
    def _op(out, X, t, shares):
        start, stop = share(t, shares, X.shape[0], 1)
        ...                                              the loops over the rows start … stop − 1

and is started by `run(_op, X.size, out, X)`. With −(the pool's address) as t, `share` gives all shares to the pool and
leaves none here. What a row gets never depends on the number of shares.
"""

import os
import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from . import _pool
from ._math import intrinsic, kernel

LINE = 16  # a share of a flat array is a multiple of this many elements: whole cache lines of float32
GRAIN = 1 << 14  # elements worth a share: some 10 µs of work, against 1 µs for the hand-over
BEGIN = 1000  # grains: 10 ms, as long as it takes to load the pool; a third of a second where it has to be compiled
PER_THREAD = 2  # shares for each thread: more than one, so that little is waited for a thread that starts late

_limit = 1
_alone = 0  # grains that were computed before the pool began
_running: _pool.Pool | None = None
_forked = False
_starting = threading.Lock()


def limit(threads):
    """Let kernels use up to so many threads from now on; the number that they will use."""
    global _limit, _running
    with _starting:
        _limit = max(1, threads) if _pool.AVAILABLE else 1
        if _running is not None and len(_running.threads) < _limit - 1:
            _running.stop()
            _running = None
    return _limit


def most():
    """The number of threads that a kernel may be given."""
    return _limit


def _after_fork():
    global _running, _forked, _starting
    _running, _forked, _starting = None, True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


shared = kernel  # for a kernel (…, t, shares), which calls `share` once


@intrinsic
def share(context, t, shares, n, unit):
    """The range [start, stop) of n that is share t, in multiples of `unit`; (0, 0) where the pool computes them all.

    For the pool, it makes a C function (data, t) that calls the kernel that this stands in, with its arguments here but
    another t. Its data are those arguments as LLVM has them, in one record.
    """
    word = ir.IntType(64)

    def generate(context, builder, signature, values):
        t, shares, n, unit = values
        kernel, alone = builder.function, builder.icmp_signed(">=", t, word(0))
        outcome, arguments = kernel.args[:2], kernel.args[2:]  # Numba's own two: the result and the exception
        record = ir.LiteralStructType([argument.type for argument in arguments])
        task = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [word, word]), f"{kernel.name}.task")
        task.linkage = "internal"
        inner = ir.IRBuilder(task.append_basic_block())
        held = inner.inttoptr(task.args[0], record.as_pointer())
        given = [inner.load(cgutils.gep_inbounds(inner, held, 0, i)) for i in range(len(arguments))]
        given[-2] = task.args[1]
        ignored = [inner.alloca(pointer.type.pointee) for pointer in outcome]
        inner.call(kernel, [*ignored, *given], attrs=("noinline",))  # a copy of its code might round in another order
        inner.ret_void()
        with builder.if_then(builder.not_(alone), likely=False):
            data = cgutils.alloca_once(builder, record)
            for i, argument in enumerate(arguments):
                builder.store(argument, cgutils.gep_inbounds(builder, data, 0, i))
            addresses = builder.ptrtoint(task, word), builder.ptrtoint(data, word)
            _pool.serve(builder, builder.neg(t), *addresses, shares)
        n = builder.select(alone, n, word(0))
        units = builder.sdiv(builder.sub(builder.add(n, unit), word(1)), unit)
        ends = []
        for i in (t, builder.add(t, word(1))):
            end = builder.mul(builder.sdiv(builder.mul(i, units), shares), unit)
            ends.append(builder.select(builder.icmp_signed("<", end, n), end, n))
        return context.make_tuple(builder, signature.return_type, ends)

    return types.UniTuple(types.int64, 2)(*[types.int64] * 4), generate


@njit(nogil=True, inline="always")
def part(t, parts, n, unit):
    """The range [start, stop) of n that is part t, in multiples of `unit`."""
    units = (n + unit - 1) // unit
    return min(t * units // parts * unit, n), min((t + 1) * units // parts * unit, n)


def run(kernel, elements, *arguments, grain=GRAIN, per_thread=PER_THREAD, most=None):
    """kernel(*arguments, t, shares) for every share, by as many threads as so many elements are worth.

    most   an upper bound of the shares: rows of their scratch
    """
    if elements < 2 * grain:  # the least that two shares are made of
        kernel(*arguments, 0, 1)
        return
    shares = _shares(elements, grain, per_thread)
    shares = shares if most is None else min(shares, most)
    pool = None if shares == 1 or _forked else _running or _begun(elements // grain)
    if pool is not None:
        kernel(*arguments, -pool.address, shares)
        return
    for t in range(shares):
        kernel(*arguments, t, shares)


def _shares(elements, grain=GRAIN, per_thread=PER_THREAD):
    return 1 if _limit == 1 else max(1, min(per_thread * _limit, elements // grain))


_scratch = threading.local()  # one for each thread, since kernels release the GIL


def scratch(name, elements, columns, dtype):
    """Scratch (shares, ≥ columns), a row for each share of `run`; the calling thread keeps it for its next call."""
    held: Any = vars(_scratch)
    key, rows = (name, dtype), _shares(elements)
    found = held.get(key)
    if found is None or found.shape[0] < rows or found.shape[1] < columns:
        least = (0, 0) if found is None else found.shape
        found = held[key] = np.empty((max(rows, least[0]), max(columns, least[1])), dtype)
    return found


def _begun(grains):
    """The pool, once the work that it could have shared, with so many grains more, is as long as it takes to begin."""
    global _alone
    _alone += grains
    return _start() if _alone >= BEGIN else None


def _start():
    """The pool, with its threads begun."""
    global _running
    with _starting:
        if _running is None:
            _running = _pool.Pool(_limit - 1)
        return _running


@njit(nogil=True, inline="always")
def add(count, n):
    """count (1,) int64: += n, whatever other shares add to it meanwhile."""
    _pool.add(count.ctypes.data, n)
