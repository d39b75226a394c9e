"""formats: read a file (IDX, .npy, .npz, text) into arrays. A damaged file is an error of one line that names it.

Nothing is unpickled or evaluated, and memory grows with the bytes that are there, never with the sizes that a header
declares. `load.py` gives the arrays their meaning.
"""

from __future__ import annotations

import csv
import gzip
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import UsageError, UsageWarning
from .limits import check_memory, loading_bytes

Array = np.ndarray
Parts = tuple[dict[str, Array], str]  # arrays by name, and why those of three dimensions are pictures

_PICTURES = "an (N, h, w) array holds pictures"
_BLOCK = 1 << 22  # bytes read together
UNPACKED = 1032  # the most bytes that deflate makes of one
_TEXT_FACTOR = 32  # bytes that NumPy's parser takes for a byte of a line, at most about
TRIES = 20  # times that a file is read again
_MAGIC = b"\x93NUMPY"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


SPARSE = (".mtx", ".mtx.gz", ".svmlight", ".libsvm", ".svm")  # names of files of sparse rows


def reader(path: Path) -> Callable[[Path], Parts]:
    """Choose the reader of this file by its name."""
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_text, ".txt": _read_text, ".amat": _read_text}
    name = path.name.lower()
    if name.endswith(SPARSE):
        from . import sparse_files  # here: it loads SciPy

        return sparse_files.read_mtx if ".mtx" in name else sparse_files.read_svmlight
    if path.suffix.lower() in readers:
        return readers[path.suffix.lower()]
    if "idx" in name or name.removesuffix(".gz").endswith(".ubyte"):
        return _read_idx_pictures
    raise UsageError(
        f"{path}: cannot tell its format from its name; {', '.join(readers)}, .tsv, .parquet, .mtx, .svmlight, .h5ad "
        "and IDX files ('idx' in the name, or .ubyte) can be read, those of .csv, .tsv, .mtx and IDX also with .gz"
    )


def parts_of(path: Path) -> Parts:
    """The arrays of a file.

    NumPy has Python parse the header of a .npy, and CPython 3.11's parser may fail, with a SystemError, where two
    threads use it at once: the file is read again then.
    """
    read = reader(path)
    for _ in range(TRIES):
        with suppress(SystemError):
            return read(path)
    return read(path)


@contextmanager
def reading(path: Path, format: str) -> Iterator[None]:
    """Turn any exception from a damaged file into one line that names the file."""
    try:
        yield
    except (UsageError, UsageWarning, SystemError):  # the last: `parts_of`
        raise
    except Exception as error:  # ValueError, OSError, EOFError, zlib.error, BadZipFile, TokenError …
        raise UsageError(f"{path}: expected a readable {format}, but {brief(error)}") from error


def brief(error: BaseException) -> str:
    """Return an error's type and the start of its message in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def read_idx(path: str | os.PathLike[str]) -> Array:
    """Read an IDX file of bytes, gzipped or not: uint8, of one to three dimensions; memory-mapped if it is not packed.

    The format: 00 00, the type code 08 (unsigned byte), the number of dimensions, each size as a big-endian uint32,
    then the bytes. Memory grows with the bytes that are there, never with the sizes a header claims.
    """
    path = Path(path)
    with reading(path, "IDX file"), open_packed_or_not(path) as file:
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
        if 0 in shape:
            raise UsageError(f"{path}: expected at least one row and feature, but its header declares {shape}")
        packed, size = isinstance(file, gzip.GzipFile), os.path.getsize(path)
        if not packed and size == file.tell() + math.prod(shape):
            check_memory(path, loading_bytes(shape, np.dtype(np.uint8), mapped=True), f"expected {declared}")
            return np.memmap(path, np.uint8, "r", file.tell(), shape)
        here = size * (UNPACKED if packed else 1)
        if math.prod(shape) <= here:  # otherwise it is read to its end, to report how many bytes there are
            check_memory(path, loading_bytes(shape, np.dtype(np.uint8)), f"expected {declared}")
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


def open_packed_or_not(path: Path) -> IO[bytes]:
    """Open a file for reading, and unpack it where gzip packed it, whatever its name is."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"  # by content: browsers unpack a .gz and leave it its name
    return gzip.open(path) if packed else open(path, "rb")  # type: ignore[return-value]


def _read_idx_pictures(path: Path) -> Parts:
    X = read_idx(path)
    if X.ndim == 1:
        raise UsageError(f"{path}: holds {len(X)} labels, not pictures; give the file of the images")
    return {"X": X}, "IDX files hold pictures"


def _read_npy(path: Path) -> Parts:
    """Memory-map an array. Unlike np.load this neither unpickles nor guesses at other formats."""
    with reading(path, ".npy file"), open(path, "rb") as file:
        size = os.path.getsize(path)
        shape, dtype = _check_header(file, path, size)
        check_memory(path, loading_bytes(shape, dtype, mapped=True), f"its header declares {dtype} of shape {shape}")
        return {"X": np.lib.format.open_memmap(path, mode="r")}, _PICTURES


def _check_header(file: IO[bytes], where: object, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Return shape and dtype from the header of an .npy file of `size` bytes; they must fit into those bytes."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise UsageError(f"{where}: its .npy format is version {version}, and {', '.join(map(str, _HEADERS))} are read")
    shape, _, dtype = _HEADERS[version](file)
    declared, here = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared > here and not dtype.hasobject:
        raise UsageError(
            f"{where}: expected {dtype} of shape {shape} = {declared} bytes as its .npy header declares, "
            f"but only {here} follow it"
        )
    return shape, dtype


def _read_npz(path: Path) -> Parts:
    known = ("X", "y", "X_test", "y_test")
    with reading(path, ".npz file"):
        if not zipfile.is_zipfile(path):  # np.load would guess another format
            raise UsageError(f"{path}: expected a .npz file (a zip archive of arrays), but it is none")
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            found = {name: info for name, info in members.items() if _is_array(archive, info)}
            if {"format", "shape", "data"} <= found.keys():
                from .sparse_files import read_npz  # here: it loads SciPy

                return read_npz(path, archive, found, _check_header)
            for name in known:
                if name in members and name not in found:
                    raise UsageError(f"{path}: expected its member {name} to be an array, but it is no .npy")
            if len(found) == 1 and "X" not in found:
                wanted = {"X": next(iter(found.values()))}
            elif "X" in found:
                wanted = {name: found[name] for name in known if name in found}
            else:
                held = _some(found) if found else f"no array but {_some(members)}" if members else "nothing"
                raise UsageError(f"{path}: expected one array, or X with {', '.join(known[1:])}; it holds {held}")
            ignored = [name for name, info in members.items() if info not in wanted.values()]
            if ignored:
                message = f"{path}: ignored {_some(ignored)}; only arrays named {known} are read"
                warnings.warn(message, UsageWarning, stacklevel=5)
            _check_members(archive, path, wanted)
            arrays = {}
            for name, info in wanted.items():
                with archive.open(info) as file:
                    arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
            return arrays, _PICTURES


def _some(names: Iterable[str]) -> str:
    """List the names, only the first few if there are many."""
    names = list(names)
    return str(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _is_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    with archive.open(info) as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _check_members(archive: zipfile.ZipFile, path: Path, wanted: dict[str, zipfile.ZipInfo]) -> None:
    """Compare the declared sizes of the arrays with those of their members, and their sum with the limit."""
    needed, declared = 0, []
    for name, info in wanted.items():
        with archive.open(info) as file:
            shape, dtype = _check_header(file, f"{path}: {name}", info.file_size)
        needed += loading_bytes(shape, dtype, copied="X_test" not in wanted)
        declared.append(f"{name} of shape {shape}, {dtype}")
    check_memory(path, needed, f"it declares {', '.join(declared)}")


def _read_text(path: Path) -> Parts:
    return {"X": read_numbers(path)[0]}, _PICTURES


def read_numbers(path: Path) -> tuple[Array, list[str] | None]:
    """Read lines of equally many numbers → X (N, D) float64, and the titles of a .csv's header.

    NumPy parses them; after an error, a slow scan finds its place.

    The first line declares the columns. A row of c columns takes at least 2c bytes, so the size of the file bounds the
    rows, and the array is allocated once.
    """
    with reading(path, "text file of numbers"), open(path, encoding="utf-8-sig") as file:
        size = os.path.getsize(path)
        count, longest = _survey(path)
        check_memory(path, _TEXT_FACTOR * longest, f"its longest line has {longest} bytes")
        lines = (line for line in file if line.strip())
        first = next(lines, None)
        if first is None:
            raise UsageError(f"{path}: expected lines of numbers, but it is empty")
        header = path.suffix.lower() == ".csv" and _is_header(first)
        start = next(lines, None) if header else first
        if start is None:
            raise UsageError(f"{path}: expected lines of numbers, but there is only a header")
        delimiter = "," if "," in start else None
        columns = _count_fields(start, delimiter)
        width = _count_titles(first) if header and delimiter else columns
        problem = "the header is not as wide as the lines"
        rows = min(count, (size + 1) // (2 * columns))
        declared = f"up to {rows} lines of {columns} columns, as its first line has"
        check_memory(path, loading_bytes((rows, columns), np.dtype(np.float64)), declared)
        if width == columns:
            X, done = np.empty((rows, columns)), 0
            try:
                for block in _blocks_of_lines(chain([start], lines)):
                    some = np.loadtxt(block, delimiter=delimiter, comments=None, ndmin=2, max_rows=len(block))
                    if some.shape[1] != columns:  # one column would be repeated over all
                        raise ValueError(f"expected {columns} columns, as in the first line, not {some.shape[1]}")
                    X[done : done + len(block)] = some
                    done += len(block)
                return X[:done], _titles(first, delimiter) if header else None
            except ValueError as error:
                problem = brief(error)
        raise UsageError(f"{path}: {_first_problem(path, delimiter, header, width if header else None) or problem}")


def _survey(path: Path) -> tuple[int, int]:
    """Return upper bounds on the number of lines and the bytes of the longest line, read a block at a time."""
    lines, longest, open_ = 1, 0, 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
            lines += len(ends) + block.count(b"\r")
            if len(ends):
                longest = max(longest, open_ + int(ends[0]), int(np.diff(ends).max(initial=0)))
                open_ = len(block) - int(ends[-1])
            else:
                open_ += len(block)
            longest = max(longest, open_)
    return lines, longest


def _blocks_of_lines(lines: Iterator[str]) -> Iterator[list[str]]:
    """Yield lists of lines of about _BLOCK characters each."""
    block, length = [], 0
    for line in lines:
        block.append(line)
        length += len(line)
        if length >= _BLOCK:
            yield block
            block, length = [], 0
    if block:
        yield block


def _first_problem(path: Path, delimiter: str | None, header: bool, width: int | None) -> str:
    """Read the file again, slowly, and say which line is wrong and why; '' if none is."""
    with open(path, encoding="utf-8-sig") as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        if header:
            next(lines)
        for number, line in lines:
            column = 0
            for column, field in enumerate(_fields(line, delimiter), 1):
                if not _is_number(field):
                    return f"line {number}, column {column}: expected a number, but found {field.strip()[:30]!r}"
            if width not in (None, column):
                return f"line {number}: expected {width} columns like the lines before it, but it has {column}"
            width = column
    return ""


def _fields(line: str, delimiter: str | None) -> Iterator[str]:
    """Yield the fields of a line one by one, because a line may have millions."""
    line = line.strip()
    if delimiter is None:
        yield from (match[0] for match in re.finditer(r"\S+", line))
        return
    start = 0
    while (end := line.find(delimiter, start)) >= 0:
        yield line[start:end]
        start = end + len(delimiter)
    yield line[start:]


def _count_fields(line: str, delimiter: str | None) -> int:
    return sum(1 for _ in re.finditer(r"\S+", line)) if delimiter is None else line.count(delimiter) + 1


def _count_titles(header: str) -> int:
    """Count the titles of a line between commas; a quoted title may contain commas."""
    return len(next(csv.reader([header]))) if '"' in header else header.count(",") + 1


def _titles(header: str, delimiter: str | None) -> list[str]:
    return [title.strip() for title in (header.split() if delimiter is None else next(csv.reader([header.strip()])))]


def _is_header(line: str) -> bool:
    delimiter = "," if "," in line else None
    return any(_fields(line, delimiter)) and not any(map(_is_number, _fields(line, delimiter)))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return "_" not in field  # Python reads 1_000, NumPy's parser does not
