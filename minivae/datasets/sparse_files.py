"""sparse_files: read sparse rows (.npz of scipy.sparse, Matrix Market, svmlight, .h5ad) into a csr_array.

As in `formats.py`: a damaged file is one line that names it, and what a header declares is compared with the size of
the file and with MINIVAE_MAX_BYTES before anything is allocated. Nothing is made dense. No link to another file is
followed.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array, csc_array, csr_array

from ..errors import UsageError
from ..hints import how_to_install
from ..sparse import canonical
from .formats import UNPACKED, Parts, open_packed_or_not, reading
from .limits import check_memory, loading_bytes

KINDS = {"csr": csr_array, "csc": csc_array, "coo": coo_array}
LEAST_ENTRY = 4  # bytes of a line "1 1\n" of Matrix Market, or of " 1:1" of svmlight


class Rows(csr_array):
    """A csr_array that has a length, as an array has: its rows."""

    def __len__(self) -> int:
        return int(self.shape[0])


def _check(where: object, shape: Any, entries: int, itemsize: int, stored: int, declared: str) -> None:
    """UsageError for sizes that make no rows, or that need more memory than is allowed.

    itemsize   bytes of a value
    stored     bytes of memory while the file is read, before the rows are made
    """
    if len(shape) != 2 or min(shape) < 1:
        raise UsageError(f"{where}: expected a matrix with at least one row and column, and {declared}")
    rows = entries * (itemsize + 8) + 8 * (max(shape) + 1)
    check_memory(where, stored + 3 * rows, declared)


def build(where: object, kind: str, shape: tuple[int, int], data: Any, first: Any, second: Any) -> Rows:
    """Canonical rows of the three arrays of a CSR, CSC (indices, indptr) or COO (row, col) matrix."""
    if not all(np.ndim(x) == 1 for x in (data, first, second)) or any(
        x.dtype.kind not in "iu" for x in (first, second)
    ):
        raise UsageError(f"{where}: expected vectors of values and of whole numbers, the indices of a {kind} matrix")
    if data.dtype.kind not in "biuf":
        raise UsageError(f"{where}: expected real numbers, not the dtype {data.dtype}")
    arrays = (data, (first, second)) if kind == "coo" else (data, first, second)
    found = canonical(str(where), KINDS[kind](arrays, shape=shape), shape[1])
    return Rows((found.data, found.indices, found.indptr), shape=shape)


# ---- .npz of scipy.sparse.save_npz ----------------------------------------------------------------------------------

INDICES = {"csr": ("indices", "indptr"), "csc": ("indices", "indptr"), "coo": ("row", "col")}


def read_npz(path: Path, archive: Any, members: dict[str, Any], header: Any) -> Parts:
    """What `scipy.sparse.save_npz` wrote; header(file, where, size) → shape and dtype of a member, compared with it."""

    def small(name: str) -> Any:
        with archive.open(members[name]) as file:
            shape, dtype = header(file, f"{path}: {name}", members[name].file_size)
        if np.prod(shape, dtype=object) > 16 or dtype.itemsize > 64:
            raise UsageError(f"{path}: its member {name} is not what scipy.sparse.save_npz writes")
        with archive.open(members[name]) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    written = small("format").item()
    kind = (written.decode("ascii", "replace") if isinstance(written, bytes) else str(written)).removesuffix("_array")
    if kind not in INDICES:
        raise UsageError(f"{path}: a sparse matrix in the format {kind[:20]!r}; save its .tocsr()")
    names = ("data", *INDICES[kind])
    if missing := [name for name in names if name not in members]:
        raise UsageError(f"{path}: a sparse matrix without its {', '.join(missing)}")
    shape = tuple(int(size) for size in small("shape").ravel())
    stored, held = 0, []
    for name in names:
        with archive.open(members[name]) as file:
            size, dtype = header(file, f"{path}: {name}", members[name].file_size)
        if dtype.hasobject:
            raise UsageError(f"{path}: expected numbers in its member {name}, and it holds Python objects")
        stored += int(np.prod(size, dtype=object)) * dtype.itemsize
        held.append((size, dtype))
    entries = int(np.prod(held[0][0], dtype=object))
    _check(path, shape, entries, held[0][1].itemsize, stored, f"it declares {entries} entries of a matrix {shape}")
    arrays = []
    for name in names:
        with archive.open(members[name]) as file:
            arrays.append(np.lib.format.read_array(file, allow_pickle=False))
    return {"X": build(path, kind, (shape[0], shape[1]), *arrays)}, ""


# ---- Matrix Market --------------------------------------------------------------------------------------------------


def read_mtx(path: Path) -> Parts:
    """Matrix Market, gzipped or not: coordinates of real numbers, integers, or a pattern, which stands for ones."""
    from scipy.io import mmread

    with reading(path, "Matrix Market file"):
        with open_packed_or_not(path) as file:
            packed = isinstance(file, gzip.GzipFile)
            size = os.path.getsize(path) * (UNPACKED if packed else 1)
            banner = file.readline(200).decode("ascii", "replace").lower().split()
            if len(banner) != 5 or banner[:2] != ["%%matrixmarket", "matrix"]:
                raise UsageError(
                    f"{path}: expected a first line such as '%%MatrixMarket matrix coordinate real general'"
                )
            if banner[2] != "coordinate" or banner[3] not in ("real", "integer", "pattern", "double"):
                raise UsageError(
                    f"{path}: expected real, integer or pattern coordinates, and it has {banner[3]!r} as "
                    f"{banner[2]!r}; save dense rows as .npy"
                )
            while (line := file.readline(1 << 16)).strip().startswith(b"%") or (line and not line.strip()):
                pass
        sizes = line.split()
        if len(sizes) != 3 or not all(text.isdigit() and len(text) < 19 for text in sizes):
            raise UsageError(f"{path}: expected a line of rows, columns and entries behind the comments")
        N, D, entries = map(int, sizes)
        declared = f"it declares {entries} entries of a matrix {(N, D)}"
        if entries * LEAST_ENTRY > size + LEAST_ENTRY:
            raise UsageError(f"{path}: {declared}, which do not fit into its {os.path.getsize(path)} bytes")
        doubled = entries * (1 if banner[4] == "general" else 2)
        _check(path, (N, D), doubled, 8, doubled * 24, declared)
        with open_packed_or_not(path) as file:
            matrix = mmread(file if packed else path)  # of a damaged file that is open, SciPy kills the process
        return {"X": build(path, "coo", matrix.shape, matrix.data, matrix.row, matrix.col)}, ""


# ---- svmlight -------------------------------------------------------------------------------------------------------


def read_svmlight(path: Path) -> Parts:
    """Lines "label column:value …", by scikit-learn; columns count from 1, unless there is a column 0."""
    try:
        from sklearn.datasets import load_svmlight_file
    except ImportError:
        raise UsageError(f"{path}: reading svmlight files needs scikit-learn: {how_to_install('sklearn')}") from None
    with reading(path, "svmlight file"):
        size = os.path.getsize(path)
        check_memory(path, 12 * size, f"it has {size} bytes")
        with open(path, "rb") as file:
            X, y = load_svmlight_file(file)
        if min(X.shape) < 1:
            raise UsageError(f"{path}: expected lines such as '1 3:0.5 7:2', but it holds {X.shape[0]} rows")
        y = y.astype(np.int64) if (y % 1 == 0).all() and np.abs(y).max() < 2**53 else y
        return {"X": build(path, "csr", X.shape, X.data, X.indices, X.indptr), "y": y}, ""


# ---- .h5ad ----------------------------------------------------------------------------------------------------------


def read_h5ad(path: Path, inside: str = "X", label: str | None = None) -> Parts:
    """A matrix of an AnnData file, dense or sparse: X, "layers/counts" or another; `label` is a column of obs."""
    try:
        import h5py
    except ImportError:
        raise UsageError(f"{path}: reading .h5ad files needs h5py: {how_to_install('h5ad')}") from None
    with reading(path, ".h5ad file"), h5py.File(path, "r") as file:
        found = _inside(file, inside)
        if not isinstance(found, (h5py.Group, h5py.Dataset)) or not (_kind(found) or isinstance(found, h5py.Dataset)):
            held = [name for name in ("X", *_names(file, "layers"), "raw/X") if _inside(file, name) is not None]
            other = f"it holds {', '.join(held)}: write {path.name}:{held[0]}" if held else "it holds no other matrix"
            raise UsageError(f"{path}: there is no matrix {inside!r} in it; {other}")
        if isinstance(found, h5py.Dataset):
            where = f"{path}: {inside}"
            _check_stored(where, found)
            check_memory(where, loading_bytes(found.shape, found.dtype), f"it declares {found.dtype} of {found.shape}")
            X: Any = found[...]
        else:
            X = _sparse_group(f"{path}: {inside}", found)
        parts = {"X": X}
        if label is not None:
            parts["y"] = _label(path, file, label)
        return parts, ""


def _inside(file: Any, name: str) -> Any:
    """What stands at this place in the file itself; None if nothing does, or a link to another file."""
    import h5py

    for part in filter(None, name.split("/")):
        if not isinstance(file, h5py.Group) or not isinstance(file.get(part, getlink=True), h5py.HardLink):
            return None
        file = file[part]
    return file


def _names(file: Any, group: str) -> list[str]:
    found = _inside(file, group)
    return [f"{group}/{name}" for name in found] if hasattr(found, "keys") else []


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _kind(group: Any) -> str:
    """ "csr" or "csc" for a group that holds such a matrix, else ""."""
    said = _text(group.attrs.get("encoding-type", group.attrs.get("h5sparse_format", "")))[:3]
    return said if said in ("csr", "csc") else ""


def _check_stored(where: str, dataset: Any) -> None:
    """UsageError unless the numbers that a dataset declares can be in the file."""
    dtype, shape = dataset.dtype, dataset.shape
    if shape is None or dtype.kind not in "biufSO":
        raise UsageError(f"{where}: expected numbers, not the dtype {dtype}")
    if dataset.is_virtual or dataset.external:
        raise UsageError(f"{where}: its values stand in another file, which is not read")
    declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
    here = dataset.id.get_storage_size()
    if declared > here * (UNPACKED if dataset.chunks else 1):
        raise UsageError(
            f"{where}: it declares {dtype} of shape {shape} = {declared} bytes, but only {here} are stored"
        )


def _sparse_group(where: str, group: Any) -> Rows:
    import h5py

    kind = _kind(group)
    members = {name: _inside(group, name) for name in ("data", "indices", "indptr")}
    for name, dataset in members.items():
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1:
            raise UsageError(f"{where}: expected a {kind} matrix with the vectors {', '.join(members)}; {name} is none")
        _check_stored(f"{where}/{name}", dataset)
    sizes = np.ravel(group.attrs.get("shape", group.attrs.get("h5sparse_shape", ())))
    if len(sizes) != 2 or sizes.dtype.kind not in "iu":
        raise UsageError(f"{where}: expected an attribute `shape` of two whole numbers")
    shape, entries = (int(sizes[0]), int(sizes[1])), members["data"].size
    stored = sum(dataset.size * dataset.dtype.itemsize for dataset in members.values())
    declared = f"it declares {entries} entries of a matrix {shape}"
    _check(where, shape, entries, members["data"].dtype.itemsize, stored, declared)
    return build(where, kind, shape, *(dataset[...] for dataset in members.values()))


def _label(path: Path, file: Any, label: str) -> np.ndarray:
    """The column `label` of obs (N,): categories as their names."""
    import h5py

    found = _inside(file, f"obs/{label}")
    if found is None:
        columns = [
            name.partition("/")[2] for name in _names(file, "obs") if not name.endswith(("/_index", "/__categories"))
        ]
        raise UsageError(f"{path}: there is no column {label!r} in its obs, which has {', '.join(columns) or 'none'}")
    where = f"{path}: obs/{label}"
    parts = [_inside(found, name) for name in ("codes", "categories")] if isinstance(found, h5py.Group) else [found]
    if not all(isinstance(part, h5py.Dataset) and part.ndim == 1 for part in parts):
        raise UsageError(f"{where}: expected a column of numbers, text or categories")
    values = []
    for part in parts:
        if part.dtype.kind != "O":  # variable text stands in a heap of its own
            _check_stored(where, part)
        check_memory(where, 64 * part.size, f"it declares {part.size} values")
        values.append(part.asstr()[...].astype(str) if h5py.check_string_dtype(part.dtype) else part[...])
    if len(values) == 1:
        return values[0]
    codes, names = values
    if codes.dtype.kind not in "iu" or (codes.size and not -1 <= int(codes.min()) <= int(codes.max()) < len(names)):
        raise UsageError(f"{where}: its codes do not number its {len(names)} categories")
    named = names.astype(str)
    return np.append(named, "")[codes]  # −1: missing
