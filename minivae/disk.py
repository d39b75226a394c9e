"""disk: files that are there whole or not at all, and a folder that one process works in at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import UsageError, UsageWarning

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".*.minivae-tmp"  # what a killed write leaves beside its file
LOCK_FILE = ".minivae-lock"
UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}  # "this file system has no such thing"


@contextlib.contextmanager
def writing(path: str | os.PathLike, replace: bool = True) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` when the block ends without an error: there is never half of it.

    It is written beside its place, synced, renamed, and its folder is synced too. A file that exists keeps its mode.
    replace=False raises FileExistsError, at the end too, if `path` exists, a link to nothing included. Raises OSError
    with the file's name; what was there is then as it was.
    """
    path = Path(path)
    if not replace and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    temporary, descriptor = _temporary(path)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if hasattr(os, "fchmod") and path.exists():
                os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
            yield file
            file.flush()
            os.fsync(descriptor)
        if not replace:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # takes the name, or says that it is taken
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is None:  # NumPy's: "800 requested and 123 written"
            raise OSError(errno.EIO, f"could not be written whole; is the disk full? ({error})", str(path)) from error
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say what it could not hold
        raise
    _sync_folder(path.parent)


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write a file so that there is never half of one, as `writing` does."""
    with writing(path) as file:
        file.write(data)


def sync(path: Path) -> None:
    """Wait until what has been written to a file is on the disk."""
    with open(path, "ab") as file:
        os.fsync(file.fileno())


def clear_temporaries(folder: Path) -> None:
    """Delete what killed writes left in a folder. Only under its lock: a live write's file looks the same."""
    for leftover in folder.glob(TEMPORARY):
        leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; UsageError at once where another process or thread holds it.

    The lock is the operating system's, so that a killed process holds none. Where there is no such lock (Windows, some
    network file systems) a UsageWarning says so, and nothing is locked.
    """
    path = folder / LOCK_FILE
    descriptor = _lock(path)
    if descriptor is None:
        warnings.warn(
            f"{folder} cannot be locked here: take care that no other process trains in it", UsageWarning, stacklevel=3
        )
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """A descriptor of the lock file, locked; None where the system cannot lock."""
    while fcntl is not None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
            os.close(descriptor)  # its holder deleted it in the meantime: there is another one, or none
        except BlockingIOError:
            os.close(descriptor)
            raise UsageError(
                f"{path.parent}: another training is working in this folder; wait until it ends, or choose another"
            ) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno not in {*UNSUPPORTED, errno.ENOLCK}:
                raise
            with contextlib.suppress(OSError):
                path.unlink()
            return None
    return None


def _temporary(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, open for writing, with the mode that the process gives new files."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.minivae-tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            return temporary, os.open(temporary, flags, 0o666)
        except FileExistsError:
            pass
        except OSError as error:
            error.filename = str(path)  # the name that the caller knows
            raise


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it are on the disk; where that cannot be done, the file is there anyway."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder; a folder may be writable and not readable
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
