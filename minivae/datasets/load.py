"""Data at the door: named sets, files, scaling, and the two questions `auto` asks of the data.

What it is: `load` turns a name or a file into a `Dataset` of checked float rows, with a test part and the index of
every row in its source (which is what the noise of a row is keyed by). `Scale` maps columns to a friendlier range and
knows what that does to a density. `choose_likelihood` and `choose_binarize` answer `auto`.

What it deliberately is not: a data-frame reader (`formats.py` reads files, of numbers alone) or a batching pipeline.
Everything is checked here, once, in blocks, so that a memory-mapped file is never read into memory whole.

Legend: N rows, D features, h × w the pixels of a picture (D = h·w). Rows and columns of arrays are counted from 0,
lines and columns of text files from 1.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, UsageWarning
from .formats import brief, read_idx, reader

Array = np.ndarray
Selection = slice | Array  # what picks rows: a contiguous block (a view), or indices (a copy)

_BLOCK = 1 << 22  # bytes looked at together: large enough for NumPy, small enough for the cache
_COPY_LIMIT = 1 << 30  # a memory map up to this size may be copied in order to choose its rows at random
_TEST_FRACTION = 5  # one row in five is held out where a set has no test part of its own

_IDX_FILES = {
    "X": "train-images-idx3-ubyte",
    "y": "train-labels-idx1-ubyte",
    "X_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
_DOWNLOADS = {  # name: (where from, the published MD5 of each .gz in the order of _IDX_FILES)
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873 d53e105ee54ea40749a09fcbcd1e9432 "
        "9fb629c4189551a2d022fa330f9573f3 ec29112dd5afa0611ce80d1b7f02629c",
    ),
    "fashion-mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d 25c81989df183df01b3e8a0aad5dffbe "
        "bef4ecab320f06d8554ea6380940ec79 bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
NAMED = ("digits", *_DOWNLOADS)


@dataclass(frozen=True, eq=False)  # eq would compare arrays, which have no single truth value
class Dataset:
    """Rows to learn from, rows to test on, and where each came from.

    X (N, D) float32 or float64, finite, perhaps memory-mapped; y (N,) labels or None; X_test, y_test alike or None.
    rows (N,) int64 is the index of each row of X in the source; rows_test that of X_test in the array it was taken from
    (the same source for a held-out part, the set's own test array otherwise), None without a test part.
    shape is (h, w) where rows are pictures, which then lie in [0, 1], else None; reason says why.
    """

    name: str
    X: Array
    y: Array | None
    X_test: Array | None
    y_test: Array | None
    rows: Array
    rows_test: Array | None
    shape: tuple[int, int] | None
    reason: str

    @property
    def features(self) -> int:
        """D, the number of columns."""
        return int(self.X.shape[1])

    @property
    def is_picture(self) -> bool:
        """Whether a row is a picture of `shape` pixels."""
        return self.shape is not None

    def sha256(self) -> str:
        """Hex digest over dtype, shape and bytes (in C order) of X, y, X_test and y_test, streamed in blocks.

        The name and the row numbers stay out: the same numbers from another file are the same data.
        """
        digest = hashlib.sha256()
        for key in ("X", "y", "X_test", "y_test"):
            part = getattr(self, key)
            if part is None:
                digest.update(f"{key} none\n".encode())
                continue
            digest.update(f"{key} {part.dtype.str} {part.shape}\n".encode())
            for rows in _blocks(part):
                digest.update(part[rows].tobytes())
        return digest.hexdigest()

    def split_validation(self, fraction: float, seed: int) -> tuple[Dataset, Array, Array | None, Array]:
        """Set aside round(fraction · N) training rows: (train, X_val, y_val, rows_val), rows ascending in each part.

        fraction lies in (0, 1) and must leave a row on each side, else UsageError. The rows are chosen by
        `permutation(seed, N, "split", pass_=1)`; a memory map over 1 GiB gives a block from either end instead,
        as `load` describes. rows_val indexes the source, like `rows`.
        """
        if not 0 < fraction < 1:
            raise UsageError(f"the validation fraction must lie between 0 and 1, both excluded, not {fraction}")
        N = len(self.X)
        held_out = round(fraction * N)
        if not 1 <= held_out < N:
            raise UsageError(f"a validation fraction of {fraction} takes {held_out} of {N} rows; each side needs one")
        kept, held = _hold_out(self.X, held_out, seed, pass_=1)
        y, y_val = (None, None) if self.y is None else (self.y[kept], self.y[held])
        train = replace(self, X=self.X[kept], y=y, rows=self.rows[kept])
        return train, self.X[held], y_val, self.rows[held]


def load(source: str | os.PathLike[str], seed: int = 0, hold_out: bool = True) -> Dataset:
    """Load a named set or a file as checked float rows.

    Named sets: 'digits' (scikit-learn's 8×8 digits, value/16), 'mnist', 'fashion-mnist': their four IDX files, packed
    or not, in $MINIVAE_DATA/<name>, or else in ~/.cache/minivae/<name> ($XDG_CACHE_HOME), where pooch downloads what is
    missing. Files found locally are taken if they parse; downloaded ones must have the published MD5.

    Files: .npy (memory-mapped); .npz with X and optionally y, X_test, y_test, or with one array of any name; IDX ('idx'
    or '.ubyte' in the name), packed or not; .csv (one header line allowed), .txt and .amat: numbers separated by commas
    or by white space, without labels. A string that names a set is the set: './mnist' is a file.

    (N, h, w) arrays are pictures and are flattened: uint8 becomes float32 value/255 (unless no value exceeds 1: then
    they are 0/1 pictures already); anything else must lie in [0, 1]. (N, D) arrays of float32 or float64 stay as they
    are, memory-mapped ones included; float16, bool and integers become float32, or float64 where float32 would round
    an integer. Integer labels become int64.

    A set without a test part of its own holds out N // 5 rows chosen by `permutation(seed, N, "split")`, ascending in
    each part; below 5 rows there is no test part. Choosing rows copies them, so a memory map over 1 GiB instead gives
    its first or last fifth, as the seed says, and both parts stay views of the map: shuffle such a file beforehand.
    hold_out=False leaves every row in X.

    UsageError, in one line that names the file, for whatever cannot be read as that.
    """
    if isinstance(source, str) and source in NAMED:
        parts, where, why = _read_named(source)
        return _assemble(source, where, parts, seed, why, hold_out)
    path = _existing_file(source)
    parts, why = reader(path)(path)
    return _assemble(path.name, str(path), parts, seed, why, hold_out)


# ---------------------------------------------------------------------------------------------------------------------
# From checked parts to a Dataset


def _assemble(name: str, where: str, parts: dict[str, Array], seed: int, why: str, hold_out: bool) -> Dataset:
    """Check, convert and flatten the arrays found at `where`, and hold out a test part if they bring none."""
    labels = {key: f"{where}: {key}" if len(parts) > 1 else where for key in parts}
    inputs = {key: parts[key] for key in ("X", "X_test") if key in parts}
    dtype = np.result_type(*(_check_input(A, labels[key]) for key, A in inputs.items()))
    row_shape = inputs["X"].shape[1:]
    picture = len(row_shape) == 2
    bytes_ = [A for A in inputs.values() if picture and A.dtype == np.uint8]
    grey = any(_range(A)[1] > 1 for A in bytes_)  # decided once, lest train and test be divided differently
    for key, A in inputs.items():
        if A.shape[1:] != row_shape:
            raise UsageError(f"{where}: a row of X has the shape {row_shape}, but one of {key} {A.shape[1:]}")
        inputs[key] = _to_rows(A, dtype, divide=grey and A.dtype == np.uint8)
        _check_values(inputs[key], labels[key], picture)
    X, X_test = inputs["X"], inputs.get("X_test")
    y = _check_labels(parts.get("y"), X, where, "y")
    y_test = _check_labels(parts.get("y_test"), X_test, where, "y_test")
    shape = (int(row_shape[0]), int(row_shape[1])) if picture else None
    reason = why if picture else "(N, D) rows carry no picture shape"
    if bytes_ and not grey:
        reason += "; the bytes are only 0 and 1, so they are not divided by 255"

    rows = np.arange(len(X), dtype=np.int64)
    if X_test is not None:
        return Dataset(name, X, y, X_test, y_test, rows, np.arange(len(X_test), dtype=np.int64), shape, reason)
    held_out = len(X) // _TEST_FRACTION
    if held_out == 0 or not hold_out:
        return Dataset(name, X, y, None, None, rows, None, shape, reason)
    kept, held = _hold_out(X, held_out, seed, pass_=0)
    y, y_test = (None, None) if y is None else (y[kept], y[held])
    return Dataset(name, X[kept], y, X[held], y_test, rows[kept], rows[held], shape, reason)


def _hold_out(X: Array, held_out: int, seed: int, pass_: int) -> tuple[Selection, Selection]:
    """Which rows to keep and which to hold out, ascending: by seed, or one end of a map too large to copy."""
    from minivae.noise import permutation

    N = len(X)
    if isinstance(X, np.memmap) and X.nbytes > _COPY_LIMIT:
        if permutation(seed, 2, "split", pass_)[0] == 0:
            return slice(held_out, N), slice(0, held_out)
        return slice(0, N - held_out), slice(N - held_out, N)
    order = permutation(seed, N, "split", pass_)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def _check_input(A: Array, where: str) -> np.dtype:
    """The native float type that holds every number of A, once its shape and dtype are found right."""
    if A.ndim not in (2, 3) or A.size == 0:
        raise UsageError(f"{where}: expected (N, D) or (N, h, w) with at least one row and feature, not {A.shape}")
    if A.dtype.kind == "f" and A.dtype.itemsize <= 8:
        return np.dtype(np.float64 if A.dtype.itemsize == 8 else np.float32)
    if A.dtype.kind not in "biu":
        raise UsageError(f"{where}: expected float16, float32, float64, integers or bool, not the dtype {A.dtype}")
    low, high = _range(A)
    largest = max(-int(low), int(high))
    if largest > 2**53:  # 53 and 24: the bits of a significand
        raise UsageError(f"{where}: integers up to ±{largest} are more than float64 holds exactly (2^53); rescale them")
    return np.dtype(np.float32 if largest <= 2**24 else np.float64)


def _to_rows(A: Array, dtype: np.dtype, divide: bool) -> Array:
    """A as (N, D) of dtype, divided by 255 if told so; a view, memory-mapped like A, where nothing needs to change."""
    if divide:
        A = np.divide(np.asarray(A), 255, dtype=dtype)
    elif A.dtype != dtype:
        A = np.asarray(A).astype(dtype)  # asarray: a copy of a memory map must not claim to be one
    if A.ndim == 2:
        return A
    if not A.flags.c_contiguous:
        A = np.ascontiguousarray(np.asarray(A))
    return A.reshape(len(A), -1)


def _check_values(X: Array, where: str, picture: bool) -> None:
    """UsageError for NaN and infinities, and for pictures outside [0, 1]."""
    bad, first = 0, (0, 0)
    for rows in _blocks(X):
        mask = ~np.isfinite(X[rows])
        count = int(np.count_nonzero(mask))
        if count and not bad:
            row, column = np.unravel_index(int(np.argmax(mask)), mask.shape)
            first = (rows.start + int(row), int(column))
        bad += count
    if bad:
        raise UsageError(
            f"{where}: {bad} of {X.size} values are NaN or infinite, the first in row {first[0]}, column {first[1]} "
            "(counted from 0); remove or fill them"
        )
    if picture:
        low, high = _range(X)
        if low < 0 or high > 1:
            raise UsageError(
                f"{where}: pictures must lie in [0, 1], but the values run from {low:g} to {high:g}; "
                "rescale them, or store bytes (uint8), which are divided by 255"
            )


def _check_labels(y: Array | None, X: Array | None, where: str, key: str) -> Array | None:
    if y is None:
        return None
    if X is None:
        raise UsageError(f"{where}: has y_test but no X_test")
    if y.shape != (len(X),) or y.dtype.kind not in "biufSU":
        raise UsageError(f"{where}: {key} must hold {len(X)} labels (N,), but is {y.dtype} of shape {y.shape}")
    return y.astype(np.int64) if y.dtype.kind in "biu" else y


def _blocks(X: Array) -> Iterator[slice]:
    """Slices over the rows of X of about _BLOCK bytes each (a row at the least), ascending and without gaps."""
    step = max(1, _BLOCK // max(1, X[:1].nbytes))
    return (slice(start, min(start + step, len(X))) for start in range(0, len(X), step))


def _range(X: Array) -> tuple[float, float]:
    """The smallest and the largest value, streamed; NaN if there is one. Integers come back as exact Python ints."""
    ends = [(X[rows].min(), X[rows].max()) for rows in _blocks(X)]
    return np.min([low for low, _ in ends]).item(), np.max([high for _, high in ends]).item()


# ---------------------------------------------------------------------------------------------------------------------
# Finding the files


def _existing_file(source: Any) -> Path:
    """The file that source means; UsageError that says what was probably meant if there is none."""
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UsageError(f"expected the name of a data set or a path, not {type(source).__name__}")
    path = Path(text).expanduser()
    if os.path.isfile(path):
        return path
    if os.path.isdir(path):
        raise UsageError(
            f"{text or '.'} is a directory; give one file in it, or set MINIVAE_DATA to a directory that has the IDX "
            "files of MNIST in its folder mnist, and ask for 'mnist'"
        )
    if os.path.exists(path):
        raise UsageError(f"{text} is not a regular file")
    if path.suffix or os.path.basename(text) != text:
        raise UsageError(f"there is no file {text} (looked from {os.getcwd()})")
    close = difflib.get_close_matches(text.lower(), NAMED, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    raise UsageError(f"'{text}' is neither a named data set ({', '.join(NAMED)}) nor a file{hint}")


def _read_named(name: str) -> tuple[dict[str, Array], str, str]:
    """The arrays of a named set, where they were found, and why they are pictures."""
    if name != "digits":
        return _read_mnist(name)
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError("'digits' needs scikit-learn, which is missing: pip install \"minivae[digits]\"") from None
    bunch = load_digits()
    return {"X": (bunch.images / 16).astype(np.float32), "y": bunch.target}, name, "the digits are 8×8 pictures"


def _read_mnist(name: str) -> tuple[dict[str, Array], str, str]:
    root = os.environ.get("MINIVAE_DATA")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(root).expanduser() / name if root else Path(cache) / "minivae" / name

    def find(stem: str) -> Path | None:
        return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)

    missing = [stem for stem in _IDX_FILES.values() if find(stem) is None]
    if missing and root:
        raise UsageError(
            f"MINIVAE_DATA is set to {root}, but {folder} lacks {', '.join(missing)} (each with or without .gz); "
            "put them there, or unset MINIVAE_DATA to use the cache folder"
        )
    if missing:
        _download(name, missing, folder)
    parts = {key: read_idx(find(stem) or folder / f"{stem}.gz") for key, stem in _IDX_FILES.items()}
    return parts, str(folder), "IDX files hold pictures"


def _download(name: str, missing: list[str], folder: Path) -> None:
    """Fetch the missing files (.gz) into folder, each checked against its published MD5."""
    base, hashes = _DOWNLOADS[name]
    md5 = dict(zip(_IDX_FILES.values(), hashes.split(), strict=True))
    by_hand = f"put {', '.join(f'{stem}.gz' for stem in missing)} into {folder}"
    try:
        import pooch
    except ImportError:
        message = f"'{name}' is not here, and pooch, which would download it, is missing: "
        raise UsageError(f'{message}pip install "minivae[download]", or {by_hand}') from None
    for stem in missing:
        try:
            pooch.retrieve(f"{base}{stem}.gz", known_hash=f"md5:{md5[stem]}", fname=f"{stem}.gz", path=folder)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, a wrong hash is a ValueError
            raise UsageError(f"'{name}' cannot be downloaded from {base} ({brief(error)}); {by_hand}") from error


# ---------------------------------------------------------------------------------------------------------------------
# Scaling


@dataclass(frozen=True, eq=False)
class Scale:
    """An affine map of each column, scaled = (x − shift) / factor, and its way back.

    kind 'none' (shift 0, factor 1), 'minmax' (to [0, 1]) or 'standard' (mean 0, variance 1, the 1/N estimate);
    shift and factor (D,) float64, in the data's own units, factor > 0.
    """

    kind: str
    shift: Array
    factor: Array

    @classmethod
    def fit(cls, kind: str, X: Array) -> Scale:
        """The scale of X (N, D), from float64 statistics streamed over its rows.

        Constant columns get factor 1, so they become 0, and one UsageWarning names them. UsageError for an unknown
        kind, values that are not finite, or columns that span more than float64 can hold.
        """
        _check_kind(kind)
        if X.ndim != 2 or X.size == 0:
            raise UsageError(f"a scale is fitted to an array (N, D) with N, D ≥ 1, not to one of shape {X.shape}")
        if kind == "none":
            return cls(kind, np.zeros(X.shape[1]), np.ones(X.shape[1]))
        blocks = list(_blocks(X))
        low = np.min([X[rows].min(axis=0) for rows in blocks], axis=0).astype(np.float64)
        high = np.max([X[rows].max(axis=0) for rows in blocks], axis=0).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            span = high - low
        if not np.isfinite(span).all():
            column = int(np.argmin(np.isfinite(span)))
            raise UsageError(f"column {column} cannot be scaled: it is not finite, or spans more than float64 can hold")
        constant = span == 0  # found by min = max: a rounded mean would make the deviations tiny but not 0
        if constant.any():
            some = ", ".join(map(str, np.flatnonzero(constant)[:5])) + (", …" if constant.sum() > 5 else "")
            message = f"{int(constant.sum())} of {X.shape[1]} columns are constant and are only shifted: {some}"
            warnings.warn(message, UsageWarning, stacklevel=2)
        span[constant] = 1.0
        if kind == "minmax":
            return cls(kind, low, span)
        # In units of the span nothing over- or underflows; two passes, because E[x²] − E[x]² cancels.
        total = sum(((X[rows] - low) / span).sum(axis=0) for rows in blocks)
        mean = total / len(X)
        square = sum((((X[rows] - low) / span - mean) ** 2).sum(axis=0) for rows in blocks)
        return cls(kind, low + mean * span, np.where(constant, 1.0, span * np.sqrt(square / len(X))))

    def apply(self, X: Array, dtype: Any = np.float32) -> Array:
        """(X − shift) / factor for X (…, D), computed in float64 and rounded once to dtype; 'none' gives X itself
        where the dtype fits."""
        if self.kind == "none":
            return X.astype(dtype, copy=False)
        return self._map(X, dtype, lambda rows: (rows - self.shift) / self.factor)

    def undo(self, X: Array) -> Array:
        """X · factor + shift for X (…, D), in the data's own units: float64, which they may need; 'none' gives X."""
        return X if self.kind == "none" else self._map(X, np.float64, lambda rows: rows * self.factor + self.shift)

    def _map(self, X: Array, dtype: Any, function: Callable[[Array], Array]) -> Array:
        if X.ndim == 0 or X.shape[-1] != len(self.shift):
            raise UsageError(f"expected rows of {len(self.shift)} features to scale, but the shape is {X.shape}")
        rows = X.reshape(-1, X.shape[-1])
        out = np.empty(rows.shape, dtype)
        for block in _blocks(rows):
            out[block] = function(rows[block])
        return out.reshape(X.shape)

    @property
    def log_jacobian(self) -> float:
        """Σ_d ln factor_d, in nats: what a *density* of the scaled data owes to the data's own units.

        p(x) = p_scaled((x − shift) / factor) / Π factor, so nll_data = nll_scaled + Σ ln factor. It holds for densities
        (Gaussian …) only, never for probabilities (Bernoulli); the caller knows which it has.
        """
        return float(np.log(self.factor).sum())

    def to_arrays(self) -> dict[str, Array]:
        """What a checkpoint keeps besides `kind`: shift and factor, (D,) float64."""
        return {"shift": self.shift, "factor": self.factor}

    @classmethod
    def from_arrays(cls, kind: str, arrays: dict[str, Array]) -> Scale:
        """The scale that `to_arrays` described; UsageError if the arrays cannot be one."""
        _check_kind(kind)
        shift, factor = (np.asarray(arrays.get(key, np.nan), dtype=np.float64) for key in ("shift", "factor"))
        finite = np.isfinite(shift).all() and np.isfinite(factor).all() and (factor > 0).all()
        if shift.ndim != 1 or shift.shape != factor.shape or not finite:
            raise UsageError("expected a scale's shift and factor (D,), finite and factor > 0; the file is damaged")
        return cls(kind, shift, factor)


def _check_kind(kind: str) -> None:
    if kind not in ("none", "minmax", "standard"):
        raise UsageError(f"the scale must be 'none', 'minmax' or 'standard', not {kind!r}")


# ---------------------------------------------------------------------------------------------------------------------
# What `auto` asks


def choose_likelihood(X: Array, picture: bool | None = None) -> tuple[str, str]:
    """The decoder distribution that suits X (N, D) or (N, h, w), and why: (name, reason); streamed over the rows.

    'bernoulli' for values that are all 0 or 1, and for grey pictures in [0, 1] (picture=True, or three dimensions),
    which dynamic binarisation turns into such values; 'gaussian' for everything else. picture=False overrules the
    dimensions. UsageError for other shapes and for NaN or infinities.
    """
    return _choose(X, picture)[:2]


def choose_binarize(X: Array, picture: bool | None = None) -> str:
    """'dynamic' for grey pictures that `choose_likelihood` makes Bernoulli, 'none' for 0/1 and for Gaussian data."""
    return _choose(X, picture)[2]


def _choose(X: Array, picture: bool | None) -> tuple[str, str, str]:
    """(likelihood, reason, binarize)."""
    X = np.asanyarray(X)
    if X.size == 0 or X.ndim not in (2, 3):
        raise UsageError(f"expected data (N, D) or (N, h, w) to choose a likelihood for, not shape {X.shape}")
    low, high = _range(X)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError("the data holds NaN or infinities, which no likelihood can explain; remove or fill them")
    inside = low >= 0 and high <= 1
    if inside and all(bool(((X[rows] == 0) | (X[rows] == 1)).all()) for rows in _blocks(X)):
        return "bernoulli", "every value is 0 or 1", "none"
    if inside and (X.ndim == 3 if picture is None else picture):
        return "bernoulli", "grey pictures in [0, 1]: dynamic binarisation makes this a likelihood", "dynamic"
    kind = "but not known to be pictures" if inside else "not in [0, 1]"
    if not inside and low >= 0 and all(bool((X[rows] % 1 == 0).all()) for rows in _blocks(X)):
        kind = "all of them whole: if they are counts, --likelihood poisson or negative-binomial suits them"
    return "gaussian", f"real values from {low:g} to {high:g}, {kind}", "none"
