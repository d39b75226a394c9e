"""memory: how much of it this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

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
