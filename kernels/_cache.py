"""_cache: compiled kernels are kept on disk for the next process; Python's collector rests while one is compiled."""

import gc
import threading
from typing import Any

from numba import njit
from numba.core import event


def _writable():
    """Numba looks for a folder when a function is decorated, and raises RuntimeError where it may write to none."""
    try:
        njit(cache=True)(_writable)
    except RuntimeError:
        return False
    return True


CACHE = _writable()


class _Uncollected(event.Listener):
    """No garbage collection while a thread compiles: the many objects that live meanwhile cost a tenth of the time."""

    def __init__(self) -> None:
        self.before, self.lock = list[bool](), threading.RLock()  # whether it was on when each of them began

    def on_start(self, event: Any) -> None:
        with self.lock:
            self.before.append(gc.isenabled())
            gc.disable()

    def on_end(self, event: Any) -> None:
        with self.lock:
            if self.before.pop():  # the last to end has what the first found
                gc.enable()


event.register("numba:compiler_lock", _Uncollected())
