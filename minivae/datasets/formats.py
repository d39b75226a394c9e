"""formats: one file into arrays. IDX, .npy, .npz and text; every way a file can be broken is one line that names it.

Nothing is unpickled, nothing is evaluated, and memory grows with the bytes that are there, never with what a header
claims. `load.py` says what the arrays mean.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import UsageError, UsageWarning

Array = np.ndarray
Parts = tuple[dict[str, Array], str]  # arrays by name, and why those of three dimensions are pictures

_PICTURES = "an (N, h, w) array holds pictures"
_BLOCK = 1 << 22  # bytes read together


def reader(path: Path) -> Callable[[Path], Parts]:
    """What reads this file, by its name."""
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_text, ".txt": _read_text, ".amat": _read_text}
    name = path.name.lower()
    if path.suffix.lower() in readers:
        return readers[path.suffix.lower()]
    if "idx" in name or name.removesuffix(".gz").endswith(".ubyte"):
        return _read_idx_pictures
    raise UsageError(
        f"{path}: cannot tell its format from its name; {', '.join(readers)} and IDX files "
        "('idx' in the name, or .ubyte; .gz allowed) can be read"
    )


@contextmanager
def _reading(path: Path, format: str) -> Iterator[None]:
    """Turn what a broken file provokes into one line that names the file."""
    try:
        yield
    except (UsageError, UsageWarning):
        raise
    except Exception as error:  # ValueError, OSError, EOFError, zlib.error, BadZipFile, TokenError … : no list is whole
        raise UsageError(f"{path}: expected a readable {format}, but {brief(error)}") from error


def brief(error: BaseException) -> str:
    """Kind and beginning of an error's message, on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def read_idx(path: str | os.PathLike[str]) -> Array:
    """Read an IDX file of bytes, gzipped or not: uint8, of one to three dimensions.

    The format: 00 00, the type code 08 (unsigned byte), the number of dimensions, each size as a big-endian uint32,
    then the bytes. Memory grows with the bytes that are there, never with the sizes a header claims.
    """
    path = Path(path)
    with _reading(path, "IDX file"), _open_packed_or_not(path) as file:
        head = file.read(4)
        if not head:
            raise UsageError(f"{path}: expected an IDX file, but it is empty")
        if len(head) < 4 or head[:3] != b"\x00\x00\x08" or head[3] not in (1, 2, 3):
            raise UsageError(
                f"{path}: an IDX file of bytes begins with 00 00 08 and the number of dimensions (01, 02 or 03), "
                f"but this one with {head.hex(' ')}"
            )
        sizes = file.read(4 * head[3])
        if len(sizes) < 4 * head[3]:
            raise UsageError(f"{path}: expected {head[3]} sizes of 4 bytes in its IDX header, but it ends within them")
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        declared = f"{' × '.join(map(str, shape))} = {math.prod(shape)} bytes as its header declares"
        data = bytearray()
        try:
            while len(data) <= math.prod(shape) and (block := file.read(_BLOCK)):
                data += block
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UsageError(f"{path}: expected {declared}, but it is cut off or damaged: {brief(error)}") from error
    if len(data) != math.prod(shape):
        came = f"only {len(data)}" if len(data) < math.prod(shape) else "more"
        raise UsageError(f"{path}: expected {declared}, but {came} came")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _open_packed_or_not(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"  # by content: browsers unpack a .gz and leave it its name
    return gzip.open(path) if packed else open(path, "rb")  # type: ignore[return-value]


def _read_idx_pictures(path: Path) -> Parts:
    X = read_idx(path)
    if X.ndim == 1:
        raise UsageError(f"{path}: holds {len(X)} labels, not pictures; give the file of the images")
    return {"X": X}, "IDX files hold pictures"


def _read_npy(path: Path) -> Parts:
    """open_memmap, unlike np.load, neither unpickles nor guesses at other formats. A 0-D array it would call (1,)."""
    with _reading(path, ".npy file"):
        return {"X": np.lib.format.open_memmap(path, mode="r")}, _PICTURES


def _read_npz(path: Path) -> Parts:
    known = ("X", "y", "X_test", "y_test")
    with _reading(path, ".npz file"):
        if not zipfile.is_zipfile(path):  # np.load would guess another format
            raise UsageError(f"{path}: expected a .npz file (a zip archive of arrays), but it is none")
        with np.load(path, allow_pickle=False) as archive:
            names = list(archive.files)
            if len(names) == 1:
                return {"X": archive[names[0]]}, _PICTURES
            if "X" not in names:
                raise UsageError(f"{path}: expected one array, or X with {', '.join(known[1:])}; it holds {names}")
            ignored = [name for name in names if name not in known]
            if ignored:
                warnings.warn(f"{path}: ignored {ignored}; only {known} are read", UsageWarning, stacklevel=3)
            return {name: archive[name] for name in known if name in names}, _PICTURES


def _read_text(path: Path) -> Parts:
    """Numbers in lines of equal width: NumPy's fast parser, and a slow scan only to say where it failed."""
    with _reading(path, "text file of numbers"), open(path, encoding="utf-8-sig") as file:
        lines = (line for line in file if line.strip())
        first = next(lines, None)
        if first is None:
            raise UsageError(f"{path}: expected lines of numbers, but it is empty")
        titles = _fields(first, "," if "," in first else None)
        header = path.suffix.lower() == ".csv" and any(titles) and not any(map(_is_number, titles))
        start = next(lines, None) if header else first
        if start is None:
            raise UsageError(f"{path}: expected lines of numbers, but there is only a header")
        delimiter = "," if "," in start else None
        width = len(next(csv.reader([first]))) if header and delimiter else None  # a quoted title may hold a comma
        problem = "the header is not as wide as the lines"
        try:
            X = np.loadtxt(chain([start], lines), delimiter=delimiter, comments=None, ndmin=2)
            if width in (None, X.shape[1]):
                return {"X": X}, _PICTURES
        except ValueError as error:
            problem = brief(error)
        raise UsageError(f"{path}: {_first_problem(path, delimiter, header, width) or problem}")


def _first_problem(path: Path, delimiter: str | None, header: bool, width: int | None) -> str:
    """Which line is wrong and why ('' if none is), by reading the file again slowly."""
    with open(path, encoding="utf-8-sig") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        if header:
            next(lines)
        for number, line in lines:
            fields = _fields(line, delimiter)
            for column, field in enumerate(fields, 1):
                if not _is_number(field):
                    return f"line {number}, column {column}: expected a number, but found {field.strip()[:30]!r}"
            if width not in (None, len(fields)):
                return f"line {number}: expected {width} columns like the lines before it, but it has {len(fields)}"
            width = len(fields)
    return ""


def _fields(line: str, delimiter: str | None) -> list[str]:
    return line.strip().split(delimiter)


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # Python reads 1_000, NumPy's parser does not
