"""threads: how the loops of the kernels are shared out among cores.

One pool serves everything, the matrix products included (`gemm.py`): a second pool beside it, such as a BLAS's own,
would spin for work on the cores that this one computes on. It is the OpenMP pool that Numba brings, whose hand-over
takes 2 µs. Numba's other one takes 80 µs, so that where OpenMP is missing every kernel runs on one core, and so it does
in a forked process, which the pool's threads did not follow.

A kernel takes `threads` as its last argument and gives each thread a share of its rows:

    @parallel
    def _op(out, X, threads):
        for t in prange(threads):
            start, stop = share(t, threads, X.shape[0], 1)
            ...                                                  the loops over the rows start … stop − 1

and is started by `run(_op, X.size, out, X)`. What a row gets never depends on the number of shares.
"""

import os
from importlib import import_module
from types import FunctionType
from typing import Any

import numba
from numba import get_num_threads, njit, set_num_threads

config: Any = numba.config
LINE = 16  # a share of a flat array is a multiple of this many elements: whole cache lines of float32
GRAIN = 1 << 14  # elements worth a thread: some 10 µs of work, against 2 µs for the hand-over

# As `kernel` in `_math.py`.
_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "nsz"},
    "cache": True,
    "nogil": True,
}


def _openmp():
    """Whether Numba's OpenMP pool can be had; it is then the one that is used, unless another already runs."""
    if os.environ.get("NUMBA_THREADING_LAYER", "omp") != "omp":
        return False
    try:
        import_module("numba.np.ufunc.omppool")
    except ImportError:
        return False
    try:
        return numba.threading_layer() == "omp"
    except ValueError:  # none is running yet
        config.THREADING_LAYER = "omp"
        return True


OPENMP = _openmp()
_limit = 1
_forked = False


def limit(threads):
    """Let kernels use up to so many threads from now on; the number that they will use."""
    global _limit
    _limit = max(1, min(threads, config.NUMBA_NUM_THREADS)) if OPENMP and not _forked else 1
    return _limit


def most():
    """The number of threads that a kernel may be given."""
    return _limit


def _after_fork():
    global _limit, _forked
    _limit, _forked = 1, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class parallel:
    """Decorator: a kernel (…, threads), compiled for the pool or for one core, whichever is used, when it is used."""

    def __init__(self, function):
        # Numba's cache tells functions apart by their names, not by how they are compiled.
        alone = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
        alone.__qualname__, alone.__module__ = function.__qualname__ + "_alone", function.__module__
        self.pool = njit(**_OPTIONS, parallel=True)(function)
        self.alone = njit(**_OPTIONS)(alone)


def run(kernel, elements, *arguments, grain=GRAIN):
    """kernel(*arguments, threads), with as many threads as work on so many elements is worth."""
    if _limit == 1:
        kernel.alone(*arguments, 1)
        return
    threads = max(1, min(_limit, elements // grain))
    # How many the pool wakes for this Python thread. For little work nobody is woken: on a busy machine the one who is
    # not needed would be waited for all the same, until he has been given a core.
    wanted, before = _limit if threads > 1 else 1, get_num_threads()
    if before == wanted:
        kernel.pool(*arguments, threads)
        return
    set_num_threads(wanted)
    try:
        kernel.pool(*arguments, threads)
    finally:
        set_num_threads(before)


@njit(cache=True, nogil=True, inline="always")
def share(t, threads, n, unit):
    """The range [start, stop) of n that belongs to thread t, in multiples of `unit`."""
    units = (n + unit - 1) // unit
    return min(t * units // threads * unit, n), min((t + 1) * units // threads * unit, n)
