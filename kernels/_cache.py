"""_cache: compiled kernels are kept on disk for the next process; Python's collector rests while one is compiled."""

import gc
import threading
from typing import Any

from numba import njit
from numba.core import event


def _nothing():
    pass


def _writable():
    """Numba looks for a folder when a function is decorated, and raises RuntimeError where it may write to none."""
    try:
        njit(cache=True)(_nothing)
    except RuntimeError:
        return False
    return True


CACHE = _writable()


class _Uncollected(event.Listener):
    """No garbage collection while a thread compiles: the many objects that live meanwhile cost a tenth of the time."""

    def __init__(self) -> None:
        self.holders, self.enabled, self.lock = 0, False, threading.RLock()

    def on_start(self, event: Any) -> None:
        with self.lock:
            if self.holders == 0:
                self.enabled = gc.isenabled()
                gc.disable()
            self.holders += 1

    def on_end(self, event: Any) -> None:
        with self.lock:
            self.holders -= 1
            if self.holders == 0 and self.enabled:
                gc.enable()


event.register("numba:compiler_lock", _Uncollected())
