"""minivae.datasets: every format, every way a file can be broken, the splits, the scales, and what `auto` answers.

Oracles are the arrays that were written, Python's exact `statistics`, SciPy's densities and the published facts about
MNIST; never minivae.datasets itself. Files are made in tmp_path; the only server is on 127.0.0.1.
"""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import pickle
import statistics
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tolerances import assert_sums

from minivae.datasets import download, formats, limits, named, rows
from minivae.datasets.choose import choose_binarize, choose_likelihood
from minivae.datasets.load import Dataset, load
from minivae.datasets.scale import Scale
from minivae.errors import UsageError, UsageWarning

ROOT = Path(__file__).resolve().parents[1]
STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Blocks of a row or so, so that every streamed loop runs many times."""
    monkeypatch.setattr(rows, "_BLOCK", 48)


def saved(path, array):
    np.save(path, array)
    return path


def savez(path, **arrays):
    np.savez(path, **arrays)
    return path


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def in_memory(X, X_test=None, y=None, y_test=None):
    rows_test = None if X_test is None else np.arange(len(X_test))
    return Dataset("made", X, y, X_test, y_test, np.arange(len(X)), rows_test, None, "made")


def whole(dataset):
    """All rows of a data set that was split by load, in the order of the source."""
    if dataset.X_test is None:
        return np.asarray(dataset.X)
    return np.concatenate([dataset.X, dataset.X_test])[np.argsort(np.concatenate([dataset.rows, dataset.rows_test]))]


def check_error(source, *words):
    """The message of the UsageError that load raises: one line, holding the words."""
    with pytest.raises(UsageError) as caught:
        load(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, f"{word!r} is not in {message!r}"
    return message


def test_importing_data_loads_nothing_heavy():
    heavy = "sklearn pooch numba scipy cupy requests matplotlib"
    code = f"import sys, minivae.datasets.load; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Splits and identity


@pytest.mark.parametrize("N", [5, 6, 97])
def test_a_fifth_is_held_out_and_every_row_knows_its_source(tmp_path, rng, N):
    source = rng.normal(size=(N, 3)).astype(np.float32)
    d = load(saved(tmp_path / "x.npy", source), seed=3)
    assert len(d.rows_test) == N // 5
    assert sorted([*d.rows, *d.rows_test]) == list(range(N))
    np.testing.assert_array_equal(d.X, source[d.rows])
    np.testing.assert_array_equal(d.X_test, source[d.rows_test])
    assert (np.diff(d.rows) > 0).all() and (np.diff(d.rows_test) > 0).all()
    assert d.rows.dtype == d.rows_test.dtype == np.int64


def test_held_out_rows_are_the_first_of_the_split_permutation(tmp_path, rng):
    from minivae.datasets.order import permutation

    path = savez(tmp_path / "x.npz", X=rng.normal(size=(40, 2)), y=np.arange(40))
    d = load(path, seed=11)
    np.testing.assert_array_equal(d.rows_test, np.sort(permutation(11, 40, "split")[:8]))
    np.testing.assert_array_equal(d.y_test, d.rows_test)
    np.testing.assert_array_equal(d.y, d.rows)
    assert load(path, seed=11).sha256() == d.sha256()
    assert load(path, seed=12).rows_test.tolist() != d.rows_test.tolist()


@pytest.mark.parametrize("N", [1, 4])
def test_below_five_rows_there_is_no_test_part(tmp_path, N):
    d = load(savez(tmp_path / "x.npz", X=np.ones((N, 2)), y=np.arange(N)))
    assert d.X.shape == (N, 2) and d.y.tolist() == d.rows.tolist() == list(range(N))
    assert d.X_test is None and d.y_test is None and d.rows_test is None


def test_a_test_part_of_its_own_is_kept_whole_and_in_order(tmp_path, rng):
    X, X_test = rng.normal(size=(20, 3)), rng.normal(size=(7, 3))
    d = load(savez(tmp_path / "x.npz", X=X, X_test=X_test, y=np.arange(20), y_test=np.arange(7)))
    np.testing.assert_array_equal(d.X, X)
    np.testing.assert_array_equal(d.X_test, X_test)
    assert d.rows.tolist() == list(range(20)) and d.rows_test.tolist() == d.y_test.tolist() == list(range(7))


def test_a_small_memory_map_without_a_test_part_stays_mapped(tmp_path):
    d = load(saved(tmp_path / "x.npy", np.ones((4, 2))))
    assert isinstance(d.X, np.memmap) and not d.X.flags.writeable


def test_a_large_memory_map_gives_one_end_as_a_view(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(limits, "COPY_LIMIT", 100)
    source = rng.normal(size=(52, 3)).astype(np.float32)
    path, ends = saved(tmp_path / "x.npy", source), set()
    for seed in range(12):
        d = load(path, seed)
        assert isinstance(d.X, np.memmap) and isinstance(d.X_test, np.memmap)
        np.testing.assert_array_equal(d.X, source[d.rows])
        np.testing.assert_array_equal(d.X_test, source[d.rows_test])
        assert d.rows_test.tolist() in (list(range(10)), list(range(42, 52)))
        assert len(d.rows) == 42 and not set(d.rows) & set(d.rows_test)
        ends.add(int(d.rows_test[0]))
        train, X_val, _, rows_val = d.split_validation(0.5, seed)
        assert isinstance(train.X, np.memmap) and isinstance(X_val, np.memmap)
        np.testing.assert_array_equal(X_val, source[rows_val])
        np.testing.assert_array_equal(train.X, source[train.rows])
    assert ends == {0, 42}


def test_a_memory_map_up_to_the_limit_is_split_at_random(tmp_path, rng):
    d = load(saved(tmp_path / "x.npy", rng.normal(size=(50, 3))))
    assert not isinstance(d.X, np.memmap) and np.diff(d.rows_test).max() > 1


def test_a_converted_memory_map_no_longer_claims_to_be_one(tmp_path):
    assert type(load(saved(tmp_path / "x.npy", np.ones((4, 2), np.int16))).X) is np.ndarray


def test_without_holding_out_every_row_is_a_training_row(tmp_path, rng):
    source = rng.normal(size=(20, 3))
    d = load(savez(tmp_path / "x.npz", X=source, y=np.arange(20)), hold_out=False)
    np.testing.assert_array_equal(d.X, source)
    assert d.rows.tolist() == d.y.tolist() == list(range(20))
    assert d.X_test is None and d.y_test is None and d.rows_test is None
    d = load(savez(tmp_path / "own.npz", X=source, X_test=source[:3]), hold_out=False)
    assert len(d.X_test) == 3  # a test part of its own stays


def test_validation_rows_come_from_the_second_pass_and_index_the_source(tmp_path, rng):
    from minivae.datasets.order import permutation

    source = rng.normal(size=(50, 2))
    d = load(savez(tmp_path / "x.npz", X=source, y=np.arange(50)), seed=1)
    train, X_val, y_val, rows_val = d.split_validation(0.3, seed=7)
    np.testing.assert_array_equal(rows_val, d.rows[np.sort(permutation(7, 40, "split", pass_=1)[:12])])
    np.testing.assert_array_equal(X_val, source[rows_val])
    np.testing.assert_array_equal(y_val, rows_val)
    np.testing.assert_array_equal(train.X, source[train.rows])
    np.testing.assert_array_equal(train.y, train.rows)
    assert sorted([*train.rows, *rows_val, *d.rows_test]) == list(range(50))
    assert (np.diff(train.rows) > 0).all() and (np.diff(rows_val) > 0).all()
    assert train.X_test is d.X_test and train.name == d.name
    assert len(d.X) == 40  # the data set that was split is as it was


def test_validation_without_labels_has_none():
    train, X_val, y_val, _ = in_memory(np.ones((4, 2))).split_validation(0.5, seed=0)
    assert train.y is None and y_val is None and len(train.X) == len(X_val) == 2


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_validation_fraction_outside_0_1_is_an_error(fraction):
    with pytest.raises(UsageError, match="between 0 and 1"):
        in_memory(np.ones((10, 2))).split_validation(fraction, seed=0)


@pytest.mark.parametrize(("N", "fraction"), [(10, 0.01), (10, 0.99), (1, 0.6)])
def test_a_validation_split_with_an_empty_side_is_an_error(N, fraction):
    with pytest.raises(UsageError, match=f"of {N} rows"):
        in_memory(np.ones((N, 2))).split_validation(fraction, seed=0)


def test_sha256_depends_on_the_numbers_and_not_on_how_they_are_held(tmp_path, rng, monkeypatch):
    X = rng.normal(size=(4, 6))
    digest = in_memory(X).sha256()
    assert len(digest) == 64
    assert in_memory(np.asfortranarray(X)).sha256() == digest
    assert load(saved(tmp_path / "x.npy", X)).sha256() == digest
    monkeypatch.setattr(rows, "_BLOCK", 100)  # two rows, then one more block of two
    assert in_memory(X).sha256() == digest


def test_sha256_tells_apart_values_dtypes_shapes_and_parts():
    X = np.zeros((4, 6))
    changed = X.copy()
    changed[3, 5] = 1
    digests = {
        in_memory(X).sha256(),
        in_memory(changed).sha256(),
        in_memory(X.astype(np.int64)).sha256(),
        in_memory(X.reshape(6, 4)).sha256(),
        in_memory(X, X).sha256(),
        in_memory(X, changed).sha256(),
        in_memory(X, y=np.arange(4)).sha256(),
        in_memory(X, y=np.arange(4)[::-1]).sha256(),
        in_memory(X, X, y_test=np.arange(4)).sha256(),
        in_memory(X, X, y=np.arange(4)).sha256(),
    }
    assert len(digests) == 10


# ---------------------------------------------------------------------------------------------------------------------
# What numbers become


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", "float32"), ("float64", "float64"), ("float16", "float32"), (">f4", "float32"), (">f8", "float64"),
     ("uint8", "float32"), ("int64", "float32"), ("bool", "float32"), (">i2", "float32")],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_rows_become_native_floats_with_the_same_values(tmp_path, dtype, expected, suffix):
    X = np.array([[0, 1], [1, 1], [3, 200]], dtype=dtype)
    path = saved(tmp_path / "x.npy", X) if suffix == ".npy" else savez(tmp_path / "x.npz", anything=X)
    d = load(path)
    assert d.X.dtype == np.dtype(expected) and d.X.dtype.isnative
    np.testing.assert_array_equal(d.X, X.astype(np.float64))
    assert d.shape is None and not d.is_picture and d.features == 2 and "no picture" in d.reason
    assert d.y is None


@pytest.mark.parametrize(
    ("largest", "expected"), [(2**24, "float32"), (2**24 + 1, "float64"), (-(2**24) - 1, "float64"), (2**53, "float64")]
)
def test_integers_become_the_narrowest_float_that_is_exact(tmp_path, largest, expected):
    d = load(saved(tmp_path / "x.npy", np.array([[0], [largest]])))
    assert d.X.dtype == np.dtype(expected)
    assert [int(v) for v in d.X[:, 0]] == [0, largest]


@pytest.mark.parametrize("value", [2**53 + 1, -(2**63)])
def test_integers_that_no_float_holds_are_an_error(tmp_path, value):
    check_error(saved(tmp_path / "x.npy", np.array([[value]])), "x.npy", str(abs(value)), "2^53")


def test_train_and_test_rows_get_one_dtype(tmp_path):
    d = load(savez(tmp_path / "x.npz", X=np.ones((3, 2), np.float32), X_test=np.ones((3, 2))))
    assert d.X.dtype == d.X_test.dtype == np.float64


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_byte_pictures_are_flattened_row_by_row_and_divided_by_255(tmp_path, rng, order, suffix):
    pictures = np.asarray(rng.integers(0, 256, size=(4, 2, 3), dtype=np.uint8), order=order)
    path = saved(tmp_path / "x.npy", pictures) if suffix == ".npy" else savez(tmp_path / "x.npz", X=pictures)
    d = load(path)
    assert d.shape == (2, 3) and d.is_picture and d.features == 6 and d.X.dtype == np.float32
    for n, h, w in np.ndindex(4, 2, 3):
        assert d.X[n, 3 * h + w] == np.float32(int(pictures[n, h, w]) / 255)
    assert "(N, h, w)" in d.reason


def test_float_pictures_in_0_1_stay_mapped(tmp_path, rng):
    pictures = rng.uniform(size=(4, 2, 3)).astype(np.float32)
    d = load(saved(tmp_path / "x.npy", pictures))
    assert isinstance(d.X, np.memmap) and d.shape == (2, 3)
    np.testing.assert_array_equal(d.X, pictures.reshape(4, 6))


def test_a_fortran_ordered_map_of_pictures_is_flattened_into_memory(tmp_path, rng):
    pictures = np.asfortranarray(rng.uniform(size=(4, 2, 3)))
    d = load(saved(tmp_path / "x.npy", pictures))
    assert type(d.X) is np.ndarray  # a copy that claimed to be a map would be split like one
    np.testing.assert_array_equal(d.X, pictures.reshape(4, 6))


def test_byte_pictures_of_0_and_1_are_not_divided(tmp_path):
    pictures = np.array([[[0, 1]], [[1, 1]]], np.uint8)
    d = load(saved(tmp_path / "x.npy", pictures))
    np.testing.assert_array_equal(d.X, [[0, 1], [1, 1]])
    assert "not divided" in d.reason


def test_train_and_test_pictures_are_divided_alike(tmp_path):
    X, X_test = np.ones((2, 1, 1), np.uint8), np.full((1, 1, 1), 255, np.uint8)
    d = load(savez(tmp_path / "x.npz", X=X, X_test=X_test))
    assert d.X[0, 0] == np.float32(1 / 255) and d.X_test[0, 0] == 1
    d = load(savez(tmp_path / "x.npz", X=X_test, X_test=np.full((1, 1, 1), 0.5, np.float32)))
    assert d.X[0, 0] == 1 and d.X_test[0, 0] == 0.5  # floats are never divided
    d = load(savez(tmp_path / "x.npz", X=X, X_test=np.ones((1, 1, 1), np.float32)))
    assert d.X[0, 0] == 1 and d.X_test[0, 0] == 1


def test_bool_pictures_become_0_and_1(tmp_path):
    np.testing.assert_array_equal(load(saved(tmp_path / "x.npy", np.array([[[True, False]]]))).X, [[1, 0]])


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_pictures_outside_0_1_are_an_error_that_says_the_range(tmp_path, dtype, tiny_blocks):
    pictures = np.zeros((20, 2, 2), dtype)
    pictures[17, 1, 1], pictures[3, 0, 0] = 200, -3
    check_error(saved(tmp_path / "x.npy", pictures), "x.npy", "from -3 to 200", "255")


def test_pictures_just_outside_either_end_are_an_error(tmp_path):
    for value in (np.nextafter(1, 2), -1e-9):
        check_error(saved(tmp_path / "x.npy", np.full((2, 1, 1), value)), "[0, 1]")


@pytest.mark.parametrize("block", [48, 1 << 22], ids=["many blocks", "one block"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_the_first_is_located(tmp_path, monkeypatch, block, poison):
    monkeypatch.setattr(rows, "_BLOCK", block)
    X = np.zeros((50, 4), np.float32)
    X[31, 2] = X[31, 3] = X[40, 0] = poison
    check_error(saved(tmp_path / "x.npy", X), "x.npy", "3 of 200", "row 31, column 2")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.float64(3.0), ["(N, D)"]),
        (np.ones(5), ["(N, D)", "(5,)"]),
        (np.ones((2, 2, 2, 3)), ["(N, h, w)", "(2, 2, 2, 3)"]),
        (np.ones((0, 3)), ["at least one row", "(0, 3)"]),
        (np.ones((3, 0)), ["at least one row", "(3, 0)"]),
        (np.ones((3, 0, 4)), ["at least one row", "(3, 0, 4)"]),
        (np.ones((2, 2), complex), ["complex128"]),
        (np.ones((2, 2), np.longdouble), ["float128"]),
        (np.array([["a", "b"]]), ["<U1"]),
        (np.zeros((2, 2), "M8[s]"), ["datetime64"]),
        (np.zeros((2, 2), [("a", "f4")]), ["dtype"]),
    ],
    ids=lambda value: f"{value.dtype.name} {value.shape}" if hasattr(value, "dtype") else "",
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_arrays_that_are_not_rows_of_numbers_are_errors(tmp_path, array, words, suffix):
    path = saved(tmp_path / "bad.npy", array) if suffix == ".npy" else savez(tmp_path / "bad.npz", X=array)
    check_error(path, f"bad{suffix}", *words)


# ---------------------------------------------------------------------------------------------------------------------
# .npz and labels


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"A": np.ones((2, 2)), "B": np.ones((2, 2))}, ["X", "'A'", "'B'"]),
        ({"X": np.ones((2, 2)), "X_test": np.ones((2, 3))}, ["X_test", "(2,)", "(3,)"]),
        ({"X": np.ones((2, 2)), "X_test": np.ones((2, 2, 2))}, ["X_test", "(2, 2)"]),
        ({"X": np.ones((2, 2)), "X_test": np.full((2, 2), np.nan)}, ["X_test", "4 of 4"]),
        ({"X": np.ones((2, 2)), "y": np.ones(3)}, ["y must hold 2 labels", "(3,)"]),
        ({"X": np.ones((2, 2)), "y": np.ones((2, 1))}, ["y must hold 2 labels", "(2, 1)"]),
        ({"X": np.ones((2, 2)), "X_test": np.ones((3, 2)), "y_test": np.ones(2)}, ["y_test must hold 3 labels"]),
        ({"X": np.ones((2, 2)), "y_test": np.ones(2)}, ["y_test but no X_test"]),
        ({"X": np.ones((2, 2)), "y": np.ones(2, complex)}, ["y must hold", "complex"]),
        ({"X": np.ones((2, 2)), "y": np.array([None, 1], object)}, ["x.npz", "allow_pickle"]),
        ({}, ["expected one array"]),
    ],
    ids=["no X", "widths", "dims", "nan in X_test", "too many y", "2-D y", "too few y_test", "orphan y_test",
         "complex y", "pickled y", "nothing"],
)  # fmt: skip
def test_npz_that_do_not_fit_together_are_errors(tmp_path, arrays, words):
    check_error(savez(tmp_path / "x.npz", **arrays), "x.npz", *words)


def test_npz_arrays_of_unknown_name_are_ignored_with_a_warning(tmp_path):
    path = savez(tmp_path / "x.npz", X=np.ones((2, 2)), x_test=np.ones((2, 2)))
    with pytest.warns(UsageWarning, match="x_test") as caught:
        assert load(path).X_test is None
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("labels", "dtype"),
    [(np.array([1, 2], np.uint8), np.int64), (np.array([True, False]), np.int64), (np.array([0.5, 2]), np.float64),
     (np.array(["cat", "dog"]), np.dtype("<U3"))],
    ids=["bytes", "bools", "floats", "strings"],
)  # fmt: skip
def test_integer_labels_become_int64_and_others_stay(tmp_path, labels, dtype):
    d = load(savez(tmp_path / "x.npz", X=np.ones((2, 2)), y=labels))
    assert d.y.dtype == dtype and d.y.tolist() == labels.tolist()


# ---------------------------------------------------------------------------------------------------------------------
# Broken files


def npy_bytes(array, **kwargs):
    buffer = io.BytesIO()
    np.save(buffer, array, **kwargs)
    return buffer.getvalue()


def npz_bytes(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


NPY = npy_bytes(np.arange(60.0).reshape(20, 3))
NPZ = npz_bytes(X=np.arange(60.0).reshape(20, 3), y=np.arange(20))
IDX = idx_bytes(np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
LIE = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(24)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.npy", b"", [".npy"]),
        ("text.npy", b"1 2 3\n", [".npy", "magic"]),
        ("zip.npy", NPZ, [".npy", "magic"]),
        ("cut.npy", NPY[:-1], [".npy"]),
        ("header.npy", NPY[:40], [".npy"]),
        ("pickle.npy", pickle.dumps([1, 2]), [".npy"]),
        ("object.npy", npy_bytes(np.array([[1, None]], object), allow_pickle=True), [".npy", "Python objects"]),
        ("empty.npz", b"", ["zip archive"]),
        ("plain.npz", NPY, ["zip archive"]),
        ("cut.npz", NPZ[:-30], ["zip"]),
        ("flipped.npz", NPZ[:80] + bytes([NPZ[80] ^ 255]) + NPZ[81:], [".npz"]),
        ("empty-idx", b"", ["is empty"]),
        ("empty-idx.gz", b"", ["is empty"]),
        ("nothing-idx.gz", gzip.compress(b""), ["is empty"]),
        ("magic-idx", b"PNG!" + IDX[4:], ["00 00 08", "50 4e 47 21"]),
        ("float-idx", b"\x00\x00\x0d\x03" + IDX[4:], ["00 00 08", "00 00 0d 03"]),
        ("dims0-idx", b"\x00\x00\x08\x00" + IDX[4:], ["dimensions", "00 00 08 00"]),
        ("dims4-idx", b"\x00\x00\x08\x04" + IDX[4:], ["dimensions", "00 00 08 04"]),
        ("stub-idx", IDX[:3], ["00 00 08"]),
        ("sizes-idx", IDX[:9], ["3 sizes"]),
        ("cut-idx", IDX[:-1], ["4 × 2 × 3 = 24 bytes", "only 23"]),
        ("long-idx", IDX + b"\x00", ["24 bytes", "more"]),
        ("lie-idx", LIE, ["4294967295", "only 24"]),
        ("lie-idx.gz", gzip.compress(LIE), ["4294967295", "only 24"]),
        ("none-idx", bytes([0, 0, 8, 2]) + struct.pack(">2I", 0, 5), ["at least one row"]),
        ("cut-idx.gz", gzip.compress(IDX)[:-12], ["24 bytes", "cut off or damaged"]),
        ("trailer-idx.gz", gzip.compress(IDX)[:-1], ["24 bytes", "cut off or damaged"]),
        ("checksum-idx.gz", gzip.compress(IDX)[:-8] + b"\x00\x00\x00\x00" + gzip.compress(IDX)[-4:], ["CRC"]),
        ("head-idx.gz", gzip.compress(IDX)[:7], ["IDX file", "EOFError"]),
        ("unpacked-idx.gz", b"\x1f\x8b" + IDX, ["IDX file"]),
        ("t-labels-idx1-ubyte", idx_bytes(np.arange(9, dtype=np.uint8)), ["9 labels", "images"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_broken_files_are_one_line_that_names_the_file(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    check_error(path, name, *words)


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.npy", NPY), ("x.npz", NPZ), ("x-idx3.gz", gzip.compress(IDX)), ("x-idx3", IDX), ("x.csv", b"1,2,3\n4,5,6\n")],
    ids=["npy", "npz", "idx.gz", "idx", "csv"],
)
def test_any_damage_is_a_usage_error_or_harmless(tmp_path, rng, name, content):
    """Every prefix (of a sample) and 150 files with one flipped byte: whatever goes wrong must be said by us."""
    path = tmp_path / name
    cuts = [content[:n] for n in range(0, len(content), max(1, len(content) // 50))]
    flips = []
    for place in rng.integers(len(content), size=150):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        flips.append(bytes(flipped))
    errors = 0
    for damaged in cuts + flips:
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(path)
        except UsageError as error:
            errors += 1
            assert name in str(error) and "\n" not in str(error)
    assert errors > 20


@pytest.mark.parametrize("packed", [False, True])
def test_a_lying_idx_header_allocates_nothing(tmp_path, packed):
    path = tmp_path / "lie-idx3"
    path.write_bytes(gzip.compress(LIE) if packed else LIE)
    tracemalloc.start()
    try:
        check_error(path, "only 24")
        assert tracemalloc.get_traced_memory()[1] < 2 * formats._BLOCK
    finally:
        tracemalloc.stop()


def test_a_small_idx_header_stops_the_unpacking_of_a_bomb(tmp_path):
    path = tmp_path / "bomb-idx3.gz"
    path.write_bytes(gzip.compress(IDX + bytes(1 << 26)))
    tracemalloc.start()
    try:
        check_error(path, "more")
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["x-IDX3-ubyte", "x-idx3-ubyte.gz", "x.idx", "x.ubyte", "x.ubyte.gz"])
def test_idx_pictures_are_read_packed_or_not_whatever_the_name(tmp_path, rng, name, pack):
    pictures = rng.integers(0, 256, size=(4, 2, 3), dtype=np.uint8)
    (tmp_path / name).write_bytes(pack(idx_bytes(pictures)))
    d = load(tmp_path / name)
    np.testing.assert_array_equal(d.X, (pictures.reshape(4, 6) / 255).astype(np.float32))
    assert d.shape == (2, 3) and d.reason == "IDX files hold pictures" and d.name == name


def test_idx_of_two_dimensions_is_rows_of_bytes(tmp_path):
    (tmp_path / "x.idx").write_bytes(idx_bytes(np.array([[0, 255]], np.uint8)))
    d = load(tmp_path / "x.idx")
    assert d.X.tolist() == [[0, 255]] and d.shape is None


@pytest.mark.parametrize(
    ("content", "word"),
    [(IDX + b"\x00", "more"), (gzip.compress(IDX)[:-8] + b"\x00\x00\x00\x00" + gzip.compress(IDX)[-4:], "CRC")],
    ids=["one byte more", "checksum"],
)
def test_idx_is_read_to_its_end_even_when_the_blocks_fit_the_sizes(tmp_path, monkeypatch, content, word):
    monkeypatch.setattr(formats, "_BLOCK", 8)
    (tmp_path / "x.idx").write_bytes(content)
    check_error(tmp_path / "x.idx", "24 bytes", word)


def test_idx_larger_than_a_block_is_read_whole(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(formats, "_BLOCK", 7)
    pictures = rng.integers(0, 256, size=(5, 3, 3), dtype=np.uint8)
    (tmp_path / "x.idx").write_bytes(gzip.compress(idx_bytes(pictures)))
    np.testing.assert_array_equal(formats.read_idx(tmp_path / "x.idx"), pictures)


# ---------------------------------------------------------------------------------------------------------------------
# Memory: what a file declares is believed only within its size and the limit


def zip_bytes(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def npy_header(shape, dtype="<f8"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": dtype})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("readme.npz", zip_bytes(readme="hello"), ["expected one array", "no array but ['readme']"]),
        ("text.npz", zip_bytes(**{"X": "hello", "y.npy": npy_bytes(np.arange(3))}), ["member X to be an array"]),
        ("labels.npz", zip_bytes(**{"X.npy": NPY, "y": "a b c"}), ["member y to be an array"]),
        ("lie.npy", npy_header((10**9, 10**6)) + bytes(80), ["8000000000000000 bytes", "only 80"]),
        ("lie.npz", zip_bytes(**{"X.npy": npy_header((10**9, 10**6)) + bytes(80)}), ["8000000000000000", "only 80"]),
        ("cut.npz", zip_bytes(**{"X.npy": NPY[:-1]}), ["480 bytes", "only 479"]),
        ("dtype.npy", NPY.replace(b"'<f8'", b"'f4,,"), [".npy"]),
        ("record.npy", npy_header((1,), "f4,,") + bytes(80), [".npy"]),
        ("version.npy", NPY[:6] + b"\x03" + NPY[7:], ["version (3, 0)"]),
        ("columns-idx", bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 0), ["at least one", "0)"]),
        ("zero-idx", bytes([0, 0, 8, 2]) + struct.pack(">2I", 3, 0), ["at least one", "(3, 0)"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_members_and_sizes_that_are_not_there_are_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    check_error(tmp_path / name, name, *words)


def test_a_member_that_is_not_an_array_is_ignored_beside_the_only_array(tmp_path):
    (tmp_path / "x.npz").write_bytes(zip_bytes(**{"rows.npy": NPY, "readme.txt": "hello"}))
    with pytest.warns(UsageWarning, match="readme.txt"):
        assert load(tmp_path / "x.npz", hold_out=False).X.shape == (20, 3)


def bomb_npz(path):
    np.savez_compressed(path, X=np.zeros((2000, 100, 100), np.uint8))  # 20 kB that declare 20 MB


def bomb_idx(path):
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((2000, 100, 100), np.uint8))))


def integers_npy(path):
    np.save(path, np.zeros((4000, 2500), np.int16))  # mapped, but floats of it are not


def one_line_csv(path):
    path.write_text(",".join(["1"] * 200_000))


def two_wide_lines_csv(path):
    path.write_text("\n".join([",".join(["0.5"] * 100_000)] * 2))


def many_titles_csv(path):
    path.write_text(",".join(f"a{i}" for i in range(100_000)) + "\n" + ",".join(["1"] * 100_000))


def no_line_ends_txt(path):
    path.write_text("1 " * 300_000)


MAKERS = {
    "x.npz": bomb_npz, "x-idx3.gz": bomb_idx, "x.npy": integers_npy, "line.csv": one_line_csv,
    "wide.csv": two_wide_lines_csv, "titles.csv": many_titles_csv, "x.txt": no_line_ends_txt,
}  # fmt: skip


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", MAKERS)
def test_more_than_the_limit_is_refused_before_it_is_allocated(tmp_path, monkeypatch, name):
    MAKERS[name](tmp_path / name)
    monkeypatch.setenv("MINIVAE_MAX_BYTES", "1000000")
    peak = peak_bytes(lambda: check_error(tmp_path / name, name, "MINIVAE_MAX_BYTES", "1 MB"))
    assert peak < 3 * rows._BLOCK  # the blocks that are read, and a line of text


@pytest.mark.parametrize("name", MAKERS)
def test_reading_takes_no_more_than_it_was_checked_for(tmp_path, monkeypatch, name):
    MAKERS[name](tmp_path / name)
    asked = []
    monkeypatch.setattr(formats, "check_memory", lambda where, needed, declared: asked.append(needed))
    peak = peak_bytes(lambda: load(tmp_path / name))
    assert peak < max(asked) + 4 * rows._BLOCK
    monkeypatch.undo()
    monkeypatch.setenv("MINIVAE_MAX_BYTES", str(max(asked)))
    load(tmp_path / name)
    monkeypatch.setenv("MINIVAE_MAX_BYTES", str(max(asked) - 1))
    check_error(tmp_path / name, "MINIVAE_MAX_BYTES")


def test_floats_that_stay_in_their_file_are_not_limited(tmp_path, monkeypatch, rng):
    path = saved(tmp_path / "x.npy", rng.random((1000, 10)))
    monkeypatch.setattr(limits, "COPY_LIMIT", 100)  # so that no rows are copied
    monkeypatch.setenv("MINIVAE_MAX_BYTES", "1000")
    assert isinstance(load(path).X, np.memmap)


@pytest.mark.parametrize("text", ["", "0", "-1", "1e9", "4 GB", "٣", "9" * 5000])
def test_a_limit_that_is_not_a_number_of_bytes_is_an_error(tmp_path, monkeypatch, text):
    monkeypatch.setenv("MINIVAE_MAX_BYTES", text)
    message = check_error(saved(tmp_path / "x.npy", np.ones((6, 2))), "MINIVAE_MAX_BYTES=", "integer number of bytes")
    assert len(message) < 200


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the oracle is Linux's /proc/meminfo")
def test_the_limit_is_half_of_the_memory_unless_it_is_set(monkeypatch):
    monkeypatch.delenv("MINIVAE_MAX_BYTES", raising=False)
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total = 1024 * int(lines["MemTotal"].split()[0])
    assert 0 < limits.max_bytes() <= total // 2
    read_text = Path.read_text
    small = lambda self: "1000000" if str(self).startswith("/sys/fs/cgroup") else read_text(self)  # noqa: E731
    monkeypatch.setattr(Path, "read_text", small)
    assert limits.max_bytes() == 500000  # a container's limit


@pytest.mark.parametrize("use", ["vae.fit(X, epochs=9, callback=cut)", "cut(); mv.choose_likelihood(X)",
                                 "cut(); mv.Scale.fit('standard', X)", "cut(); vae.log_likelihood(X, 2)"])  # fmt: skip
def test_a_mapped_file_that_is_cut_while_in_use_is_one_line(tmp_path, rng, use):
    """In a process of its own: a page that is no longer in the file ends the process (SIGBUS)."""
    path = saved(tmp_path / "x.npy", rng.random((4000, 64)).astype(np.float32))
    code = f"""if True:
        import os, numpy as np, minivae as mv
        X, vae = mv.load({str(path)!r}, hold_out=False).X, mv.VAE(64, 2, (8,))
        cut = lambda *_: os.truncate({str(path)!r}, 4096)
        {use}"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1 and "UsageError" in done.stderr.splitlines()[-1], done.stderr
    assert str(path) in done.stderr.splitlines()[-1] and "was cut while it was in use" in done.stderr


# ---------------------------------------------------------------------------------------------------------------------
# Text


TABLE = [[1.0, 2.5, -3e-5], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "1,2.5,-3e-5\n4,5,6\n"),
        ("x.csv", "a,b,c\n1,2.5,-3e-5\n4,5,6"),
        ("x.csv", '"a, b",b,c\n1,2.5,-3e-5\n4,5,6\n'),
        ("x.csv", "a b c\n1 2.5 -3e-5\n4 5 6\n"),
        ("x.csv", "\ufeffa,b,c\r\n1, 2.5, -3e-5\r\n4 ,5 ,6 \r\n"),
        ("x.csv", "\ufeff1,2.5,-3e-5\n4,5,6\n"),
        ("x.txt", "1 2.5 -3e-5\n4 5 6\n"),
        ("x.txt", "\n  1\t2.5   -3e-5  \n   \n4 5 6\n\n"),
        ("x.txt", "1,2.5,-3e-5\n \n4,5,6\n"),
        ("x.amat", "1 2.5 -3e-5 \n4 5 6 \n"),
        ("X.CSV", "a,b,c\n1,2.5,-3e-5\n4,5,6\n"),
        ("x.csv", "a;b;c\n1;2,5;-3e-5\n4;5;6\n"),
        ("x.csv", "1;2.5;-3e-5\n4;5;6\n"),
        ("x.tsv", "a\tb\tc\n1\t2.5\t-3e-5\n4\t5\t6\n"),
        ("x.csv", ",a,b,c\n0,1,2.5,-3e-5\n1,4,5,6\n"),
    ],
    ids=[
        "commas",
        "header",
        "quoted comma",
        "spaces",
        "windows",
        "bom",
        "txt",
        "blanks",
        "txt commas",
        "amat",
        "capitals",
        "decimal commas",
        "semicolons",
        "tabs",
        "numbered",
    ],
)
def test_text_tables_are_read(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    d = load(tmp_path / name)
    assert d.X.tolist() == TABLE and d.X.dtype == np.float64 and d.y is None and d.shape is None


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_later_block_of_another_width_is_an_error(tmp_path, monkeypatch, width):
    """NumPy would repeat a block of one column over all of them."""
    monkeypatch.setattr(formats, "_BLOCK", 12)
    (tmp_path / "x.txt").write_text("1 2 3\n" * 8 + " ".join("4" * width) + "\n")
    check_error(tmp_path / "x.txt", "line 9", "expected 3 columns", f"it has {width}")


def test_a_single_column_and_a_single_row_are_tables(tmp_path):
    (tmp_path / "x.csv").write_text("my title\n1\n2\n")
    assert load(tmp_path / "x.csv").X.tolist() == [[1], [2]]
    (tmp_path / "x.txt").write_text("1 2")
    assert load(tmp_path / "x.txt").X.tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.csv", "", ["empty"]),
        ("x.txt", "\n \n", ["empty"]),
        ("x.csv", "a,b\n", ["only a header"]),
        ("x.csv", "a,b\n1,2\n\n3,4,5\n", ["line 4", "expected 2", "has 3"]),
        ("x.csv", "a,b,c\n1,2\n3,4\n", ["line 2", "expected 3", "has 2"]),
        ("x.txt", "1 2\n3 4\n5\n6 7 8\n", ["line 3", "expected 2", "has 1"]),
        ("x.csv", "a,b\n1,2\n3,x\n4,5\n4,6\n", ["line 3, column 'b'", "'x'"]),
        ("x.csv", "1,b\n2,2\n3,3\n", ["line 1, column '1'", "'b'"]),
        ("x.csv", "a,b\nc,d\n1,2\n3,4\n", ["line 2, column 'a'", "'c'"]),
        ("x.txt", "a b\n1 2\n", ["line 1, column 1", "'a'"]),
        ("x.csv", "1,2,\n3,4,\n", ["column '2'", "all its 2 cells are missing"]),
        ("x.csv", "1,,2\n3,,4\n", ["column '1'", "all its 2 cells are missing"]),
        ("x.csv", "1,2\n1_000,3\n3,4\n", ["line 2, column '0'", "1_000"]),
        ("x.txt", "# note\n1 2\n", ["line 1, column 1", "'#'"]),
        ("x.txt", "1 2\n3 0x10\n", ["line 2, column 2", "'0x10'"]),
        ("x.txt", "1 2\n3 " + "z" * 999, ["line 2, column 2", "'" + "z" * 30 + "'"]),
        ("x.csv", "1,2\n3,nan\n", ["column '1'", "constant"]),
        ("x.csv", "1,2\n3,1e999\n", ["1 of 4", "row 1, column 1"]),
        ("x.txt", b"\xff\xfe1\x00", ["utf-8"]),
        ("x.txt", b"1 2\n" * 9000 + b"\xff", ["utf-8"]),
    ],
)
def test_bad_text_is_an_error_that_names_the_place(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy warns of empty input; we say it ourselves
        message = check_error(tmp_path / name, name, *words)
    assert len(message) < 400


# ---------------------------------------------------------------------------------------------------------------------
# Names and paths


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("minst", ["neither", "digits, mnist, fashion-mnist", "did you mean 'mnist'?"]),
        ("MNIST", ["did you mean 'mnist'?"]),
        ("fashion_mnist", ["did you mean 'fashion-mnist'?"]),
        ("zebra", ["neither", "digits, mnist, fashion-mnist"]),
        ("gone.npy", ["no file gone.npy", "relative to"]),
        (os.path.join("no", "where"), ["no file"]),
        ("~nobody_such/x.csv", ["no home directory for ~nobody_such"]),
        ("", ["directory"]),
        (None, ["NoneType"]),
        (b"x.npy", ["bytes"]),
        (np.ones((2, 2)), ["ndarray"]),
    ],
    ids=str,
)
def test_sources_that_are_not_there_are_errors_that_suggest(tmp_path, monkeypatch, source, words):
    monkeypatch.chdir(tmp_path)
    message = check_error(source, *words)
    assert ("did you mean" in message) == any("mean" in word for word in words)


def test_a_directory_is_an_error_that_says_what_would_do(tmp_path):
    check_error(tmp_path, "is a directory", "MINIVAE_DATA")


@pytest.mark.parametrize("name", ["x.gz", "x.csv.bz2", "noname"])
def test_an_unknown_suffix_is_an_error_that_lists_those_that_work(tmp_path, name):
    (tmp_path / name).write_text("1,2\n")
    check_error(tmp_path / name, name, ".npy", ".npz", ".csv", ".txt", ".amat", "IDX")


def test_a_path_beats_a_set_of_the_same_name_only_when_it_looks_like_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("1 2")
    assert load("digits").features == 64
    check_error(Path("digits"), "cannot tell its format")


def test_a_path_in_the_home_directory_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path / "x.npy", np.ones((2, 2)))
    d = load("~/x.npy")
    assert d.X.shape == (2, 2) and d.name == "x.npy"


# ---------------------------------------------------------------------------------------------------------------------
# Named sets


def test_digits_are_scikit_learns_pictures_over_16():
    from sklearn.datasets import load_digits

    source, d = load_digits(), load("digits", seed=4)
    assert (d.name, d.shape, d.features) == ("digits", (8, 8), 64) and "picture" in d.reason
    assert d.X.dtype == np.float32 and d.y.dtype == np.int64
    assert (len(d.X), len(d.X_test)) == (1438, 359)
    np.testing.assert_array_equal(whole(d), source.data / 16)
    np.testing.assert_array_equal(d.y, source.target[d.rows])
    np.testing.assert_array_equal(d.y_test, source.target[d.rows_test])


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_error("digits", "pip install scikit-learn")


@pytest.fixture
def small_mnist(rng):
    """The four files of a set of 6 + 2 pictures, by name, gzipped."""
    parts = [rng.integers(0, 256, size=(n, 4, 4), dtype=np.uint8) for n in (6, 2)]
    labels = [np.arange(n, dtype=np.uint8) for n in (6, 2)]
    arrays = dict(zip(STEMS, [parts[0], labels[0], parts[1], labels[1]], strict=True))
    return arrays, {f"{stem}.gz": gzip.compress(idx_bytes(array)) for stem, array in arrays.items()}


def check_small_mnist(d, arrays):
    np.testing.assert_array_equal(d.X, (arrays[STEMS[0]].reshape(6, 16) / 255).astype(np.float32))
    np.testing.assert_array_equal(d.X_test, (arrays[STEMS[2]].reshape(2, 16) / 255).astype(np.float32))
    assert d.y.tolist() == [0, 1, 2, 3, 4, 5] and d.y_test.tolist() == [0, 1]
    assert d.shape == (4, 4) and d.reason == "IDX files hold pictures"


def write_all(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("where", ["MINIVAE_DATA", "XDG_CACHE_HOME", "HOME"])
def test_local_idx_files_are_found(tmp_path, monkeypatch, small_mnist, name, where):
    arrays, files = small_mnist
    for variable in ("MINIVAE_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(where, str(tmp_path))
    below = {"MINIVAE_DATA": "", "XDG_CACHE_HOME": "minivae", "HOME": ".cache/minivae"}[where]
    unpacked = STEMS[2]
    files[unpacked] = gzip.decompress(files.pop(f"{unpacked}.gz"))
    write_all(tmp_path / below / name, files)
    d = load(name)
    assert d.name == name
    check_small_mnist(d, arrays)


def test_labels_that_do_not_match_the_pictures_are_an_error(tmp_path, monkeypatch, small_mnist):
    files = small_mnist[1]
    files[f"{STEMS[1]}.gz"] = gzip.compress(idx_bytes(np.arange(5, dtype=np.uint8)))
    write_all(tmp_path / "mnist", files)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path))
    check_error("mnist", str(tmp_path / "mnist"), "6 labels", "(5,)")


def test_minivae_data_without_the_files_says_which_are_missing_and_never_downloads(tmp_path, monkeypatch, small_mnist):
    files = small_mnist[1]
    del files[f"{STEMS[1]}.gz"], files[f"{STEMS[3]}.gz"]
    write_all(tmp_path / "mnist", files)
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path))
    message = check_error("mnist", "MINIVAE_DATA", str(tmp_path / "mnist"), STEMS[1], STEMS[3])
    assert STEMS[0] not in message and "download" not in message


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `server.files` by path, each bytes or a function that answers with this handler."""

    protocol_version = "HTTP/1.0"

    def do_GET(self):
        self.server.requests.append(self.path)
        answer = self.server.files.get(self.path)
        if callable(answer):
            with contextlib.suppress(OSError):  # the client has gone
                answer(self)
        elif answer is None:
            self.send_error(404)
        else:
            self.begin(len(answer))
            self.wfile.write(answer)

    def begin(self, length=None):
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch, small_mnist):
    """The small set served on 127.0.0.1 in the place of MNIST; `files` and `requests` are to be changed and read."""
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.daemon_threads, running.block_on_close = True, False
    running.files, running.requests = {f"/{name}": content for name, content in small_mnist[1].items()}, []
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    contents = [small_mnist[1][f"{stem}.gz"] for stem in STEMS]
    known = tuple((len(content), hashlib.sha256(content).hexdigest()) for content in contents)
    monkeypatch.setitem(named._DOWNLOADS, "mnist", (f"http://127.0.0.1:{running.server_port}/", known))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def cached(tmp_path):
    """The names of the files in the cache folder, hidden ones too."""
    folder = tmp_path / "cache" / "minivae" / "mnist"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_download_fills_the_cache_once(tmp_path, small_mnist, server):
    check_small_mnist(load("mnist"), small_mnist[0])
    assert cached(tmp_path) == sorted(small_mnist[1])
    assert len(server.requests) == 4
    folder = tmp_path / "cache" / "minivae" / "mnist"
    (folder / f"{STEMS[3]}.gz").unlink()
    repacked = gzip.compress(gzip.decompress(small_mnist[1][f"{STEMS[0]}.gz"]), mtime=1)
    (folder / f"{STEMS[0]}.gz").write_bytes(repacked)  # another hash, the same pictures: the user's own
    check_small_mnist(load("mnist"), small_mnist[0])
    assert server.requests[4:] == [f"/{STEMS[3]}.gz"]  # only what was missing
    assert (folder / f"{STEMS[0]}.gz").read_bytes() == repacked


def drip(handler):
    handler.begin()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)


def drip_headers(handler):
    handler.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
    drip(handler)


def endless(handler):
    handler.begin()
    while True:
        handler.wfile.write(bytes(1 << 16))


def hang(handler):
    time.sleep(20)


def short(handler):
    handler.begin()
    handler.wfile.write(b"short")


def broken_off(handler):
    handler.begin(handler.server.size)
    handler.wfile.write(b"short")


def too_long(handler):
    handler.begin(handler.server.size + 1)


def elsewhere(handler):
    handler.send_response(302)
    handler.send_header("Location", f"/{STEMS[1]}.gz")
    handler.end_headers()


def escapes(handler):
    handler.wfile.write(b"HTTP/1.0 500 \x1b[31m\x07 gone\r\n\r\n")


def no_http(handler):
    handler.wfile.write(b"\x1b[31m\r\n" * 9)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (drip, ["not done after 1 seconds"]),
        (drip_headers, ["not done after 1 seconds"]),
        (hang, ["timed out"]),
        (endless, ["bytes, but more came"]),
        (short, ["only 5 came"]),
        (broken_off, ["only 5 came"]),
        (too_long, ["the server declares"]),
        (elsewhere, ["redirects", "not followed"]),
        (escapes, ["500", "\\x1b[31m\\x07 gone"]),
        (no_http, ["BadStatusLine"]),
        (None, ["404"]),
        (b"tampered with", ["the server declares 13"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_hostile_server_is_one_line_in_time_and_leaves_nothing(tmp_path, monkeypatch, server, answer, words):
    server.size = len(server.files[f"/{STEMS[0]}.gz"])
    server.files[f"/{STEMS[0]}.gz"] = answer
    monkeypatch.setattr(download, "SECONDS", 1)
    monkeypatch.setattr(download, "READ_SECONDS", 0.5)
    peak = peak_bytes(lambda: check_error("mnist", "cannot be downloaded", str(tmp_path / "cache"), *STEMS, *words))
    assert peak < 1e7 and cached(tmp_path) == []
    assert server.requests == [f"/{STEMS[0]}.gz"]  # nothing is asked for a second time, or elsewhere


def test_other_bytes_of_the_right_size_are_not_kept(tmp_path, server):
    content = server.files[f"/{STEMS[0]}.gz"]
    server.files[f"/{STEMS[0]}.gz"] = content[:-1] + bytes([content[-1] ^ 1])
    check_error("mnist", "cannot be downloaded", "SHA-256", str(tmp_path / "cache"), *STEMS)
    assert cached(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, server):
    (tmp_path / "cache").write_text("a file where a folder should be")
    check_error("mnist", "cannot be downloaded", "cannot be written", str(tmp_path / "cache"))


def test_a_damaged_file_of_the_cache_says_to_delete_it(tmp_path, monkeypatch, small_mnist, server):
    load("mnist")
    path = tmp_path / "cache" / "minivae" / "mnist" / f"{STEMS[2]}.gz"
    path.write_bytes(path.read_bytes()[:-9])
    check_error("mnist", str(path), "cut off or damaged", "delete it, and it is downloaded again")
    path.unlink()
    check_small_mnist(load("mnist"), small_mnist[0])
    path.write_bytes(b"")
    monkeypatch.setenv("MINIVAE_DATA", str(tmp_path / "cache" / "minivae"))  # the user's own folder
    assert "delete" not in check_error("mnist", str(path), "is empty")


def test_a_download_without_a_network_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(named._DOWNLOADS, "mnist", ("http://127.0.0.1:9/", named._DOWNLOADS["mnist"][1]))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("MINIVAE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    check_error("mnist", "cannot be downloaded", "refused", str(tmp_path), *STEMS)


def test_downloads_are_by_https_and_their_sizes_and_hashes_are_those_published():
    """The sizes and SHA-256 that other projects publish for the same eight files (TensorFlow Datasets among them)."""
    assert all(base.startswith("https://") for base, _ in named._DOWNLOADS.values())
    sizes = {name: [size for size, _ in known] for name, (_, known) in named._DOWNLOADS.items()}
    assert sizes == {"mnist": [9912422, 28881, 1648877, 4542], "fashion-mnist": [26421880, 29515, 4422102, 5148]}
    digests = [digest for _, known in named._DOWNLOADS.values() for _, digest in known]
    assert len(set(digests)) == 8 and all(len(digest) == 64 for digest in digests)


def test_a_long_message_of_many_lines_becomes_one_short_line(tmp_path, monkeypatch):
    def fail(path, mode):
        raise OSError("first\n  second " + "z" * 999)

    monkeypatch.setattr(np.lib.format, "open_memmap", fail)
    assert len(check_error(saved(tmp_path / "x.npy", np.ones((2, 2))), "first second")) < 400


def real_mnist():
    """The folder above mnist/, or None: $MINIVAE_DATA, or the copy beside this repository."""
    candidates = [Path(os.environ["MINIVAE_DATA"])] if os.environ.get("MINIVAE_DATA") else []
    candidates.append(ROOT.parent / "shared" / "data")
    return next((folder for folder in candidates if (folder / "mnist").is_dir()), None)


@pytest.mark.mnist
@pytest.mark.skipif(real_mnist() is None, reason="the real MNIST files are not in $MINIVAE_DATA/mnist")
def test_mnist_is_the_published_set(monkeypatch):
    monkeypatch.setenv("MINIVAE_DATA", str(real_mnist()))
    d = load("mnist")
    assert d.X.shape == (60000, 784) and d.X_test.shape == (10000, 784) and d.shape == (28, 28)
    assert d.X.dtype == d.X_test.dtype == np.float32
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(d.y).tolist() == train and np.bincount(d.y_test).tolist() == test
    assert d.X.mean(dtype=np.float64) == pytest.approx(33.318421 / 255, abs=1e-8)
    assert d.X_test.mean(dtype=np.float64) == pytest.approx(33.791224 / 255, abs=1e-8)
    np.testing.assert_array_equal(d.rows, np.arange(60000))
    assert (choose_likelihood(d.X, d.is_picture)[0], choose_binarize(d.X, d.is_picture)) == ("bernoulli", "dynamic")


@pytest.mark.mnist
@pytest.mark.skipif(real_mnist() is None, reason="the real MNIST files are not in $MINIVAE_DATA/mnist")
def test_the_published_sizes_and_hashes_are_those_of_the_real_files():
    folder = real_mnist() / "mnist"
    published = zip(STEMS, named._DOWNLOADS["mnist"][1], strict=True)
    present = [(folder / f"{stem}.gz", known) for stem, known in published if (folder / f"{stem}.gz").is_file()]
    assert present
    for path, known in present:
        assert (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) == known


# ---------------------------------------------------------------------------------------------------------------------
# Scale


def hostile_columns(rng):
    """Columns that break naive statistics: far offsets, tiny and huge spreads, skew."""
    base = rng.exponential(size=(101, 1))
    return np.hstack([base, 1e9 + 1e-3 * base, 1e-200 * base, 1e300 * (base - 1), -base, 1e-40 + base * 1e-42])


@pytest.mark.parametrize("block", [48, 1 << 22], ids=["many blocks", "one block"])
def test_standard_statistics_match_exact_arithmetic(rng, monkeypatch, block):
    monkeypatch.setattr(rows, "_BLOCK", block)
    X = hostile_columns(rng)
    scale = Scale.fit("standard", X)
    for column, shift, factor in zip(X.T, scale.shift, scale.factor, strict=True):
        assert shift == pytest.approx(statistics.fmean(column), rel=1e-12, abs=0)
        assert factor == pytest.approx(statistics.pstdev(map(float, column)), rel=1e-11, abs=0)


@pytest.mark.parametrize("block", [48, 1 << 22], ids=["many blocks", "one block"])
def test_minmax_fills_0_1_exactly(rng, monkeypatch, block):
    monkeypatch.setattr(rows, "_BLOCK", block)
    X = hostile_columns(rng)
    for dtype in (np.float32, np.float64):
        scaled = Scale.fit("minmax", X).apply(X, dtype)
        assert scaled.dtype == dtype
        assert (scaled.min(axis=0) == 0).all() and (scaled.max(axis=0) == 1).all()


def test_standard_gives_mean_0_and_variance_1(rng):
    X = hostile_columns(rng)
    scaled = Scale.fit("standard", X).apply(X, np.float64)
    tolerance = np.where(np.arange(6) == 1, 1e-4, 1e-12)  # column 1: 1e9 has an ulp of 1e-7 against a spread of 1e-3
    assert (np.abs(scaled.mean(axis=0)) < tolerance).all()
    assert (np.abs(scaled.var(axis=0) - 1) < tolerance).all()


@pytest.mark.parametrize("kind", ["minmax", "standard"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.uint8])
def test_undo_takes_apply_back(rng, tiny_blocks, kind, dtype):
    X = rng.integers(0, 100, size=(23, 4)).astype(dtype)
    scale = Scale.fit(kind, X)
    back = scale.undo(scale.apply(X, np.float64))
    assert back.dtype == np.float64
    assert_sums(back, X, of="model", summed=1)


@pytest.mark.parametrize("kind", ["minmax", "standard"])
def test_apply_rounds_once_from_float64(rng, kind):
    X = (1e6 + rng.normal(size=(50, 2))).astype(np.float32)  # in float32 arithmetic X − shift would keep few digits
    scale = Scale.fit(kind, X)
    exact = (X.astype(np.float64) - scale.shift) / scale.factor
    np.testing.assert_array_equal(scale.apply(X, np.float32), exact.astype(np.float32))


def test_undo_of_float32_is_in_float64(rng):
    X = 1e9 + rng.normal(size=(50, 2))  # float32 knows multiples of 64 there
    scale = Scale.fit("standard", X)
    back = scale.undo(scale.apply(X, np.float32))
    assert back.dtype == np.float64
    np.testing.assert_allclose(back, X, rtol=0, atol=1e-5)


def test_rows_wider_than_a_block_are_streamed_one_by_one(tmp_path, rng, tiny_blocks):
    X = rng.uniform(size=(4, 20))
    np.testing.assert_array_equal(load(saved(tmp_path / "x.npy", X)).X, X)
    assert Scale.fit("minmax", X).apply(X, np.float64).max() == 1


def test_scales_work_on_any_leading_shape(rng, tiny_blocks):
    X = rng.normal(size=(5, 7, 3))
    scale = Scale.fit("standard", X[0])
    for part in (X, X[0], X[0, 0], X[:0]):
        scaled = scale.apply(part, np.float64)
        assert scaled.shape == part.shape
        np.testing.assert_array_equal(scaled, (part - scale.shift) / scale.factor)
        assert_sums(scale.undo(scaled), part, of="sum", summed=1)


def test_none_gives_the_array_itself(rng):
    X = rng.normal(size=(5, 3)).astype(np.float32)
    scale = Scale.fit("none", X)
    assert scale.apply(X, np.float32) is X and scale.undo(X) is X
    assert scale.apply(X, np.float64).dtype == np.float64
    assert scale.shift.tolist() == [0, 0, 0] and scale.factor.tolist() == [1, 1, 1] and scale.log_jacobian == 0


@pytest.mark.parametrize("kind", ["minmax", "standard"])
def test_constant_columns_are_only_shifted(rng, kind):
    X = np.hstack([rng.normal(size=(7, 1)), np.tile(0.1, (7, 7))])  # the mean of seven 0.1 is not 0.1
    scale = Scale.fit(kind, X)
    assert (scale.factor[1:] == 1).all() and (scale.shift[1:] == 0.1).all()
    assert (scale.apply(X, np.float64)[:, 1:] == 0).all()


@pytest.mark.parametrize("kind", ["none", "minmax", "standard"])
def test_log_jacobian_turns_scaled_densities_into_densities_of_the_data(rng, kind):
    """Of x ~ N(m, s²), scaled, the density is N((m − shift)/factor, (s/factor)²): SciPy says both."""
    from scipy import stats

    mean, std = np.array([3.0, -2.0, 50.0]), np.array([0.2, 1.0, 30.0])
    X = mean + std * rng.normal(size=(40, 3))
    scale = Scale.fit(kind, X)
    nll_data = -stats.norm(mean, std).logpdf(X).sum(axis=1)
    scaled = stats.norm((mean - scale.shift) / scale.factor, std / scale.factor)
    nll_scaled = -scaled.logpdf(scale.apply(X, np.float64)).sum(axis=1)
    assert_sums(nll_scaled + scale.log_jacobian, nll_data, of="model")


def test_scale_streams_a_memory_map(tmp_path, rng, tiny_blocks):
    X = rng.normal(size=(33, 3)).astype(np.float32)
    mapped = np.load(saved(tmp_path / "x.npy", X), mmap_mode="r")
    np.testing.assert_array_equal(Scale.fit("standard", mapped).factor, Scale.fit("standard", X).factor)
    scaled = Scale.fit("standard", mapped).apply(mapped)
    assert type(scaled) is np.ndarray and scaled.dtype == np.float32


@pytest.mark.parametrize("kind", ["none", "minmax", "standard"])
def test_a_scale_survives_a_checkpoint(rng, kind):
    X = rng.normal(size=(9, 3))
    scale = Scale.fit(kind, X)
    arrays = scale.to_arrays()
    assert sorted(arrays) == ["factor", "shift"] and all(array.dtype == np.float64 for array in arrays.values())
    again = Scale.from_arrays(kind, arrays)
    np.testing.assert_array_equal(again.apply(X), scale.apply(X))
    assert again.kind == kind and again.log_jacobian == scale.log_jacobian


@pytest.mark.parametrize(
    "arrays",
    [{}, {"shift": np.zeros(2)}, {"shift": np.zeros(2), "factor": np.ones(3)},
     {"shift": np.zeros(2), "factor": np.array([1.0, 0.0])}, {"shift": np.zeros(2), "factor": np.array([1.0, -1.0])},
     {"shift": np.array([0.0, np.nan]), "factor": np.ones(2)}, {"shift": np.zeros((1, 2)), "factor": np.ones((1, 2))}],
    ids=["nothing", "no factor", "lengths", "zero", "negative", "nan", "2-D"],
)  # fmt: skip
def test_damaged_scale_arrays_are_an_error(arrays):
    with pytest.raises(UsageError, match="shift and factor"):
        Scale.from_arrays("minmax", arrays)


def test_an_unknown_scale_is_an_error_that_lists_the_known():
    for make in (lambda: Scale.fit("robust", np.ones((2, 2))), lambda: Scale.from_arrays("robust", {})):
        with pytest.raises(UsageError, match="scale='robust': expected one of none, minmax, maxabs, standard"):
            make()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.7e308], ids=["nan", "inf", "too wide"])
def test_columns_that_cannot_be_scaled_are_an_error_that_names_one(value):
    X = np.zeros((5, 3))
    X[:, 1], X[2, 1] = -1e308, value
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(UsageError, match="column 1"):
            Scale.fit("minmax", X)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 2, 2)])
def test_a_scale_is_fitted_to_rows_only(shape):
    with pytest.raises(UsageError, match="N, D"):
        Scale.fit("minmax", np.ones(shape))


def test_rows_of_another_width_cannot_be_scaled(rng):
    scale = Scale.fit("minmax", rng.normal(size=(4, 3)))
    for call in (scale.apply, scale.undo):
        with pytest.raises(UsageError, match="3 features"):
            call(np.ones((4, 2)))


# ---------------------------------------------------------------------------------------------------------------------
# What `auto` answers

MASK = np.array([[0, 1], [1, 1], [0, 0]] * 20)
GREY = MASK * 0.5


@pytest.mark.parametrize(
    ("X", "picture", "likelihood", "reason", "binarize"),
    [
        (MASK, None, "bernoulli", "0 or 1", "none"),
        (MASK.astype(bool), True, "bernoulli", "0 or 1", "none"),
        (MASK.astype(np.float32), False, "bernoulli", "0 or 1", "none"),
        (MASK.reshape(-1, 1, 2) * 1.0, None, "bernoulli", "0 or 1", "none"),
        (GREY, True, "bernoulli", "grey pictures in [0, 1]: dynamic binarisation makes this a likelihood", "dynamic"),
        (GREY.reshape(-1, 2, 1), None, "bernoulli", "grey", "dynamic"),
        (GREY.reshape(-1, 2, 1), False, "gaussian", "from 0 to 0.5", "none"),
        (GREY, None, "gaussian", "from 0 to 0.5", "none"),
        (GREY, False, "gaussian", "from 0 to 0.5", "none"),
        (GREY - 0.1, True, "gaussian", "from -0.1 to 0.4", "none"),
        (
            MASK * 3,
            True,
            "gaussian",
            "from 0 to 3, all integers: if they are counts, use --likelihood poisson",
            "none",
        ),
        (MASK * 3.5, True, "gaussian", "from 0 to 3.5, not in [0, 1]", "none"),
        (-1 * MASK, None, "gaussian", "from -1 to 0, not in [0, 1]", "none"),
        ((MASK * 255).astype(np.uint8).reshape(-1, 1, 2), None, "gaussian", "from 0 to 255", "none"),
    ],
)
@pytest.mark.parametrize("block", [20, 1 << 22], ids=["many blocks", "one block"])
def test_likelihood_and_binarisation_follow_from_the_values(
    monkeypatch, X, picture, likelihood, reason, binarize, block
):
    monkeypatch.setattr(rows, "_BLOCK", block)
    name, why = choose_likelihood(X, picture)
    assert name == likelihood and reason in why
    assert choose_binarize(X, picture) == binarize


@pytest.mark.parametrize("row", [0, 30, 59])
def test_one_grey_value_anywhere_makes_data_grey(row, tiny_blocks):
    X = MASK.astype(np.float64)
    X[row, 0] = 0.25
    assert choose_likelihood(X)[0] == "gaussian" and choose_binarize(X, True) == "dynamic"


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_no_likelihood_is_chosen_for_values_that_are_not_finite(poison, tiny_blocks):
    X = GREY.copy()
    X[50, 1] = poison
    for choose in (choose_likelihood, choose_binarize):
        with pytest.raises(UsageError, match="1 of 120 values are NaN or infinite, the first in row 50, column 1"):
            choose(X)


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 2, 2, 2)])
def test_no_likelihood_is_chosen_for_an_array_that_is_not_rows(shape):
    with pytest.raises(UsageError, match="N, D"):
        choose_likelihood(np.ones(shape))


# ---------------------------------------------------------------------------------------------------------------------
# Nothing is unpickled


class Bomb:
    def __reduce__(self):
        return (os.abort, ())


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_nothing_is_unpickled(tmp_path, suffix):
    path = tmp_path / f"bomb{suffix}"
    payload = npy_bytes(np.array([[Bomb()]], object), allow_pickle=True)
    if suffix == ".npy":
        path.write_bytes(payload)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("X.npy", payload)
    check_error(path, path.name)
    path.write_bytes(pickle.dumps(Bomb()))
    check_error(path, path.name)


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_a_file_is_read_again_where_pythons_parser_fails_beside_another_thread(tmp_path, monkeypatch, name):
    """CPython 3.11 raised it in one of some hundred runs of threads that load at once."""
    X = np.arange(12.0).reshape(4, 3)
    (np.save if name == "x.npy" else np.savez)(tmp_path / name, X)
    parse, failures = formats._HEADERS[1, 0], [SystemError("AST constructor recursion depth mismatch")] * 3

    def failing(file):
        if failures:
            raise failures.pop()
        return parse(file)

    monkeypatch.setitem(formats._HEADERS, (1, 0), failing)
    np.testing.assert_array_equal(load(tmp_path / name, hold_out=False).X, X)
    assert not failures
