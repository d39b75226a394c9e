"""memory: how much of it this process may use, and arrays in it that start where the processor reads them best."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

ALIGNMENT = 64  # bytes: a cache line, and the widest vector load
# Bytes of a huge page, and what an array of a MiB or more is longer by: NumPy asks Linux for huge pages from 4 MiB on.
HUGE_PAGE, HUGE_ROOM = 2 << 20, 3 << 20
UNKNOWN_MEMORY = 1 << 33  # taken for the memory where the system does not tell


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's where that is less."""
    total = UNKNOWN_MEMORY
    with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" where there is no limit
            total = min(total, int(Path(file).read_text()))
    return total


def check(size: int) -> None:
    """MemoryError for an array that has no room: Linux would give it, and end the process when it is written to."""
    if size > memory():
        raise MemoryError(
            f"an array of {size / 2**30:,.0f} GiB was asked for, and there are {memory() / 2**30:,.0f}: take narrower "
            "layers, fewer latent dimensions or samples, or smaller batches"
        )


def empty(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised C-contiguous array that starts on a cache line, and one of a MiB or more on a huge page."""
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * dtype.itemsize
    if size > 2**30:
        check(size)
    alignment, room = (HUGE_PAGE, HUGE_ROOM) if size >= 1 << 20 else (ALIGNMENT, ALIGNMENT)
    raw = np.empty(size + room, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size].view(dtype).reshape(shape)
