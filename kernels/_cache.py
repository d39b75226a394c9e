"""cache: whether Numba can keep compiled kernels on disk, for the next process."""

from numba import njit


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
