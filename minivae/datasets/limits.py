"""limits: the memory that reading data may take. Declared sizes are compared with it before anything is allocated."""

from __future__ import annotations

import math
import os

import numpy as np

from ..errors import UsageError
from ..memory import memory

COPY_LIMIT = 1 << 30  # a memory map up to this size may be copied in order to choose its rows at random


def max_bytes() -> int:
    """Return the bytes of memory that reading one file may take: $MINIVAE_MAX_BYTES, or half of the memory."""
    text = os.environ.get("MINIVAE_MAX_BYTES")
    if text is None:
        return memory() // 2
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) > 0):
        raise UsageError(f"MINIVAE_MAX_BYTES={text[:40]!r}: expected an integer number of bytes, such as 8000000000")
    return int(text)


def loading_bytes(shape: tuple[int, ...], dtype: np.dtype, mapped: bool = False, copied: bool = True) -> int:
    """Estimate the peak memory of loading an array: as stored, as floats, and with its rows chosen.

    mapped   the array stays in its file
    copied   a test part will be held out, which copies the rows
    """
    values = math.prod(shape)
    floats = values * (8 if dtype.itemsize >= 8 else 4)
    if not (dtype.kind == "f" and dtype.isnative and dtype.itemsize in (4, 8)):  # converted
        return (0 if mapped else values * dtype.itemsize) + floats * (1 + copied)
    if mapped:
        return floats if copied and floats <= COPY_LIMIT else 0
    return floats * (1 + copied)


def check_memory(where: object, needed: int, declared: str) -> None:
    """Raise UsageError if reading `where` would need more memory than `max_bytes`."""
    limit = max_bytes()
    if needed > limit:
        raise UsageError(
            f"{where}: {declared}; reading that takes about {in_words(needed)}, more than the {in_words(limit)} "
            "that MINIVAE_MAX_BYTES allows (unset: half of the memory); set it higher, or store floats as .npy, which "
            "stay in their file"
        )


def in_words(count: float) -> str:
    """Format bytes with a unit: "1.5 GB"."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
    power = min(len(units) - 1, max(0, (len(str(int(count))) - 1) // 3))
    return f"{count / 1000**power:.3g} {units[power]}"
