"""mapped: what one rank of a host has read, for all ranks of that host, in one copy: the pages of a mapped file.

The file lies in a new folder of the temporary ones ($TMPDIR), which its owner alone may enter. It is empty when the
ranks open it, and then its name is deleted: whatever happens to them, nothing is left once they have ended.

Arrays are written one after the other as pickle hands them out (protocol 5, PEP 574); the rest of the value, which is
small, goes to the other ranks by MPI, whose messages are pickled anyway. Nothing is unpickled from the file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError
from .world import text_of

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")

ALIGNED = 64  # bytes: arrays begin at multiples of it
NAME = "rows"

Extents = list[tuple[int, int]]  # where an array begins in the file, and where it ends


def shared(world: World, function: Callable[[], T]) -> T:
    """function() of the first rank of this host, for all of its ranks: its arrays are read-only and mapped.

    UsageError on all of them where it fails, or where the file does. A rank that is alone on its host gets the value
    itself.
    """
    if world.local_size == 1:
        return function()
    first = world.local_rank == 0
    with contextlib.ExitStack() as opened:
        file, place, path, problem = _new_file() if first else (None, "", "", "")
        place, path, problem = world.from_neighbour((place, path, problem))
        try:
            file = open(path, "rb", buffering=0) if path and not first else file  # noqa: SIM115
        except OSError as error:
            problem = error.strerror or str(error)
        if file is not None:
            opened.enter_context(file)
        world.from_neighbour(None)  # all have opened it
        told: tuple[bytes, Extents, str] = b"", [], ""
        if first:
            if path:
                _delete(os.path.dirname(path))
            told = _told(function, file, f"{place}: the ranks of {world.host} share their rows there", problem)
        small, extents, error_text = world.from_neighbour(told)
        if error_text or (extents and file is None):
            raise UsageError(error_text or f"{path}: {problem}")
        try:
            return pickle.loads(small, buffers=_mapped(file, extents))
        except OSError as error:
            raise UsageError(f"{place}: files there cannot be mapped ({error}): set TMPDIR to another folder") from None


def _new_file() -> tuple[IO[bytes] | None, str, str, str]:
    """A new file, the folder for temporary files, its path there and ""; or None, that folder, "" and why not."""
    place = os.environ.get("TMPDIR", "")
    try:
        place = place or tempfile.gettempdir()
        folder = tempfile.mkdtemp(prefix="minivae-", dir=place)  # of mode 0700
    except OSError as error:
        return None, place or "TMPDIR", "", error.strerror or str(error)
    path = os.path.join(folder, NAME)
    try:
        return open(path, "xb+", buffering=0), place, path, ""
    except OSError as error:
        _delete(folder)
        return None, place, "", error.strerror or str(error)


def _delete(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _told(function: Callable[[], Any], file: IO[bytes] | None, shelf: str, problem: str) -> tuple[bytes, Extents, str]:
    """What the other ranks are told: function() without its arrays, which are in the file, and where; or an error."""
    try:
        parts: list[pickle.PickleBuffer] = []
        small = pickle.dumps(function(), protocol=5, buffer_callback=parts.append)
        arrays = [part.raw() for part in parts]
        extents, end = [], 0
        for array in arrays:
            start = -(-end // ALIGNED) * ALIGNED if array.nbytes else end
            end = start + array.nbytes
            extents.append((start, end))
        try:
            for array, (start, _) in zip(arrays, extents, strict=True):
                if file is None:
                    raise OSError(0, problem)
                file.seek(start)
                while array.nbytes:
                    array = array[file.write(array) :]
        except OSError as error:
            raise UsageError(
                f"{shelf}, and {end:,} bytes cannot be written ({error.strerror or error}): set TMPDIR to a folder "
                "that can hold them, or save the rows as a .npy, which is mapped where it lies"
            ) from None
        return small, extents, ""
    except (UsageError, OSError, MemoryError) as error:
        return b"", [], text_of(error)


def _mapped(file: IO[bytes] | None, extents: Extents) -> list[memoryview]:
    """The bytes of the arrays, of which none is read."""
    if file is None or not extents or not extents[-1][1]:
        return [memoryview(b"")] * len(extents)
    whole = memoryview(mmap.mmap(file.fileno(), extents[-1][1], access=mmap.ACCESS_READ))
    return [whole[start:end] for start, end in extents]
