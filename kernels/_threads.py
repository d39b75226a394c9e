"""threads: how the loops of the kernels are shared out among cores.

One pool serves everything (`_pool.py`), the matrix products included (`gemm.py`): a second pool beside it, such as a
BLAS's own, would look for work on the cores that this one computes on. A forked process, which the pool's threads do
not follow, computes every share on its one thread, and gets the same bits.

A kernel computes one share of its rows. It takes which one, and how many there are, as its last arguments:

    @shared
    def _op(out, X, t, shares):
        start, stop = share(t, shares, X.shape[0], 1)
        ...                                              the loops over the rows start … stop − 1

and is started by `run(_op, X.size, out, X)`. What a row gets never depends on the number of shares.
"""

import os
import threading
from types import FunctionType
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

from . import _pool
from ._cache import CACHE

LINE = 16  # a share of a flat array is a multiple of this many elements: whole cache lines of float32
GRAIN = 1 << 14  # elements worth a share: some 10 µs of work, against 1 µs for the hand-over
PER_THREAD = 2  # shares for each thread: more than one, so that little is waited for a thread that starts late

# As `kernel` in `_math.py`.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"reassoc", "contract", "nsz"}, "nogil": True}

_limit = 1
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


@_pool.intrinsic
def _task(context, kernel, arguments, shares):
    """The task kernel(*arguments, t, shares) for `_pool`: the addresses of its function and of its data."""
    inputs = (*arguments.types, types.int64)
    signature = kernel.get_call_type(context, (*inputs, types.int64), {})

    def generate(context, builder, _, values):
        _, packed, shares = values
        compiled = kernel.dispatcher.overloads[signature.args]
        context.active_code_library.add_linking_library(compiled.library)
        word = ir.IntType(64)
        kinds = [context.get_value_type(kind) for kind in inputs]
        data = cgutils.alloca_once(builder, ir.LiteralStructType(kinds))
        elements = [builder.extract_value(packed, i) for i in range(len(inputs) - 1)]
        for i, value in enumerate((*elements, shares)):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, i))
        function = ir.Function(
            builder.module, ir.FunctionType(ir.VoidType(), [word, word]), builder.function.name + ".task"
        )
        function.linkage = "internal"
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        address, t = function.args
        stored = inner.inttoptr(address, ir.LiteralStructType(kinds).as_pointer())
        *rest, number = (inner.load(cgutils.gep_inbounds(inner, stored, 0, i)) for i in range(len(kinds)))
        context.call_internal_no_propagate(inner, compiled.fndesc, signature, [*rest, t, number])
        inner.ret_void()
        addresses = [builder.ptrtoint(pointer, word) for pointer in (function, data)]
        return context.make_tuple(builder, types.UniTuple(types.int64, 2), addresses)

    return types.UniTuple(types.int64, 2)(kernel, arguments, shares), generate


_kernel: Any = None  # in each copy of `_launch`, the kernel that it launches


def _launch(pool, hand_over, shares, *arguments):
    task, data = _task(_kernel, arguments, shares)
    if pool == 0:
        for t in range(shares):
            _pool.call(task, (data, t))
    else:
        _pool.call(hand_over, (pool, task, data, shares))


class shared:
    """Decorator: a kernel (…, t, shares), compiled when it is used, and started by `run`."""

    def __init__(self, function):
        # Numba's disk cache knows a function by its file, name and line: `_launch` takes those of the kernel.
        code = _launch.__code__.replace(
            co_filename=function.__code__.co_filename,
            co_firstlineno=function.__code__.co_firstlineno,
            co_name=function.__name__,
            co_qualname=function.__qualname__,
        )
        self.kernel = njit(**_OPTIONS)(function)
        scope = {"_task": _task, "_pool": _pool, "_kernel": self.kernel}
        launch = FunctionType(code, scope, function.__name__)
        launch.__qualname__, launch.__module__ = function.__qualname__, function.__module__
        self.launch = njit(**_OPTIONS, cache=CACHE)(launch)


def run(kernel, elements, *arguments, grain=GRAIN, per_thread=PER_THREAD):
    """kernel(*arguments, t, shares) for every share, by as many threads as so many elements are worth."""
    shares = 1 if _limit == 1 else max(1, min(per_thread * _limit, elements // grain))
    if shares == 1 or _forked:
        kernel.launch(0, 0, shares, *arguments)
    else:
        pool = _running or _start()
        kernel.launch(pool.address, pool.hand_over, shares, *arguments)


def _start():
    """The pool, with its threads begun when there is first work for them."""
    global _running
    with _starting:
        if _running is None:
            _running = _pool.Pool(_limit - 1)
        return _running


@njit(nogil=True, inline="always")
def add(count, n):
    """count (1,) int64: += n, whatever other shares add to it meanwhile."""
    _pool.add(count.ctypes.data, n)


@njit(nogil=True, inline="always")
def share(t, threads, n, unit):
    """The range [start, stop) of n that belongs to thread t, in multiples of `unit`."""
    units = (n + unit - 1) // unit
    return min(t * units // threads * unit, n), min((t + 1) * units // threads * unit, n)
