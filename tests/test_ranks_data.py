"""Data of ranks: each reads a share of a file, and all find what one process finds, to the bit."""

import hashlib

import numpy as np
import pytest
from mpi import runtime
from tolerances import assert_sums
from worlds import together

import minivae as mv
from minivae.cli import runs
from minivae.datasets import limits, rows
from minivae.datasets.choose import choose
from minivae.datasets.load import Dataset
from minivae.errors import UsageError

RNG = np.random.default_rng(0)
N = 1003
FILES = {
    "real": RNG.normal(size=(N, 7)).astype(np.float32),
    "float64": RNG.normal(size=(N, 7)),
    "binary": (RNG.random((N, 7)) < 0.3).astype(np.float32),
    "counts": RNG.integers(0, 9, (N, 7)),
    "bytes": RNG.integers(0, 256, (N, 3, 4)).astype(np.uint8),
    "bits": RNG.integers(0, 2, (N, 3, 4)).astype(np.uint8),
    "columns first": np.asfortranarray(RNG.random((N, 3, 4))),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """A file has dozens of blocks, and the groups have more than one."""
    monkeypatch.setattr(rows, "_BLOCK", 500)
    monkeypatch.setattr(rows, "_GROUPS", 5)


def facts(path, ranks):
    """All that is found in a file before a training, and a split of its rows."""
    data = mv.load(path, ranks=ranks)
    chosen = choose(data.X, "auto", "auto", "auto", data.is_picture, ranks)
    scales = [mv.Scale.fit(kind, data.X, ranks=ranks) for kind in ("standard", "minmax", "maxabs")]
    train, X_val, _, rows_val = data.split_validation(0.3, seed=1)
    arrays = [
        data.X,
        data.X_test,
        train.X,
        X_val,
        data.rows,
        rows_val,
        *(a for s in scales for a in (s.shift, s.factor)),
    ]
    return (
        vars(chosen),
        data.reason,
        data.sha256(ranks),
        [(np.asarray(a).dtype, np.asarray(a).tobytes()) for a in arrays],
    )


@pytest.mark.parametrize("contiguous", (False, True))
@pytest.mark.parametrize("name", FILES)
def test_ranks_find_what_one_process_finds(name, contiguous, tmp_path, monkeypatch):
    """contiguous: a file that is too large to choose its rows at random."""
    monkeypatch.setattr(limits, "COPY_LIMIT", 1000 if contiguous else 1 << 30)
    path = tmp_path / "x.npy"
    np.save(path, FILES[name])
    alone = facts(path, None)
    for P in (1, 2, 4):
        assert together(P, lambda ranks: facts(path, ranks)) == [alone] * P


def test_a_value_that_one_rank_meets_is_the_error_of_one_process(tmp_path):
    X = FILES["real"].copy()
    X[700, 2], X[900, 3] = np.nan, np.inf
    np.save(tmp_path / "x.npy", X)

    def read(ranks):
        with pytest.raises(UsageError) as caught:
            mv.load(tmp_path / "x.npy", ranks=ranks)
        return str(caught.value)

    text = read(None)
    assert "2 of 7021 values are NaN or infinite, the first in row 700, column 2" in text
    assert together(3, read) == [text] * 3


def test_a_weighted_scale_of_ranks():
    weights = np.arange(N) % 3
    for kept in (weights, weights + 1):
        alone = mv.Scale.fit("standard", FILES["float64"], kept)
        for scale in together(2, lambda ranks, w=kept: mv.Scale.fit("standard", FILES["float64"], w, ranks=ranks)):
            assert (scale.shift.tobytes(), scale.factor.tobytes()) == (alone.shift.tobytes(), alone.factor.tobytes())


@pytest.mark.parametrize("kind", ("standard", "minmax", "maxabs"))
def test_a_scale_of_columns_with_gaps_is_found_by_ranks_together(kind):
    X = np.where(RNG.random((N, 7)) < 0.3, np.nan, FILES["float64"])
    for weights in (None, np.arange(N) % 3):
        alone = mv.Scale.fit(kind, X, weights, missing=True)
        seen = X if weights is None else np.repeat(X, weights, axis=0)
        low, high = np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
        assert_sums(
            alone.shift,
            {"standard": np.nanmean(seen, axis=0), "minmax": low, "maxabs": 0 * low}[kind],
            summed=np.nanmean(np.abs(seen)),
        )
        largest = np.maximum(np.abs(low), np.abs(high))
        assert_sums(alone.factor, {"standard": np.nanstd(seen, axis=0), "minmax": high - low, "maxabs": largest}[kind])
        for P in (2, 4):
            for scale in together(P, lambda ranks, w=weights: mv.Scale.fit(kind, X, w, missing=True, ranks=ranks)):
                assert (scale.shift.tobytes(), scale.factor.tobytes()) == (
                    alone.shift.tobytes(),
                    alone.factor.tobytes(),
                )


def test_a_scale_of_a_table_is_found_by_ranks_together():
    X, kinds = np.abs(FILES["float64"]), ["standard", "magnitude", "", "standard", "magnitude", "", "standard"]
    X[RNG.random(X.shape) < 0.2] = np.nan
    alone = mv.Scale.fit("standard", X, missing=True, columns=kinds)
    assert_sums(alone.factor[1::3], np.exp(np.nanmean(np.log(X[:, 1::3]), axis=0)))
    for scale in together(3, lambda ranks: mv.Scale.fit("standard", X, missing=True, columns=kinds, ranks=ranks)):
        assert (scale.shift.tobytes(), scale.factor.tobytes()) == (alone.shift.tobytes(), alone.factor.tobytes())


def test_a_column_whose_cells_are_all_missing_is_named_by_all():
    X = FILES["float64"].copy()
    X[:, 4] = np.nan

    def fit(ranks):
        with pytest.raises(UsageError, match="column 4 cannot be scaled: all of its cells are missing"):
            mv.Scale.fit("standard", X, missing=True, ranks=ranks)

    together(2, fit)


def test_an_idx_file_that_is_not_packed_is_read_in_parts(tmp_path):
    """As the .npy of the same bytes."""
    X = FILES["bytes"]
    np.save(tmp_path / "x.npy", X)
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in X.shape)
    (tmp_path / "x-idx3-ubyte").write_bytes(header + X.tobytes())
    for P in (1, 2):
        digests = {}
        for name in ("x.npy", "x-idx3-ubyte"):
            parts = together(P, lambda ranks, name=name: mv.load(tmp_path / name, ranks=ranks))
            assert all(isinstance(data.X, rows.FileRows) == (P > 1) for data in parts)
            digests[name] = [data.sha256() for data in parts]
        assert digests["x.npy"] == digests["x-idx3-ubyte"]


def test_the_digest_of_earlier_versions_is_recognised():
    """config.json held the digest of all bytes in one, here by hashlib."""
    X = FILES["real"]
    data = Dataset("x", X, None, None, None, np.arange(N), None, None, "")
    by_hand = hashlib.sha256(
        f"X <f4 {X.shape}\n".encode() + X.tobytes() + b"y none\nX_test none\ny_test none\n"
    ).hexdigest()
    assert data.sha256(whole=True) == by_hand != data.sha256()
    changed = np.where(np.arange(N)[:, None] == 5, 0, X)
    other = Dataset("x", changed, None, None, None, np.arange(N), None, None, "")
    assert runs.is_digest_of(data, by_hand, None) and runs.is_digest_of(data, data.sha256(), None)
    assert not runs.is_digest_of(other, by_hand, None)
    assert together(2, lambda ranks: runs.is_digest_of(data, by_hand, ranks)) == [True] * 2
    assert together(2, lambda ranks: runs.is_digest_of(other, by_hand, ranks)) == [False] * 2


# The system counts the pages of the file that a process has read, which are in its map.
PAGES = """
import hashlib, os, re, sys
import numpy as np
import minivae as mv
from minivae.evaluation.bounds import evaluate
from minivae.evaluation.latents import encode
path, scale, binarize, likelihood = sys.argv[1:]
ranks = mv.ranks(shards=4, threads=1)
data = mv.load(path, ranks=ranks)
vae = mv.VAE(data.features, 2, (4,), backend="numpy", likelihood=likelihood)
vae.fit(data, 1, 4096, scale=scale, binarize=binarize, ranks=ranks, order="blocks", progress=False)
found = hashlib.sha256(vae.buffer.state)
found.update(repr(evaluate(vae, data.X_test, rows=data.rows_test, ranks=ranks)).encode())
mean, _ = encode(vae, data.X, ranks, everywhere=False)
found.update(data.sha256(ranks).encode())
maps = open("/proc/self/smaps").read()
read = sum(int(size) for size in re.findall(re.escape(path) + r"\\n(?:[A-Z].*\\n)*?Rss: +(\\d+) kB", maps))
os.write(1, f"{ranks.rank} {found.hexdigest()} {read >> 10} {len(mean)}\\n".encode())
"""
MIB = 64


@pytest.mark.parametrize("kind", ("float32", pytest.param("uint8", marks=pytest.mark.slow)))
def test_a_rank_reads_its_part_of_a_file_alone(kind, tmp_path):
    """With order="blocks". Beside 1/P there are what blocks, shards and large pages have over at their ends."""
    mpi, path = runtime(), tmp_path / "x.npy"
    size = (MIB << 20) // np.dtype(kind).itemsize
    values = np.random.default_rng(0).integers(0, 256, size, np.uint8).astype(kind)
    np.save(path, values.reshape(-1, 32, 32) if kind == "uint8" else values.reshape(-1, 256))
    options = ["none", "dynamic", "bernoulli"] if kind == "uint8" else ["standard", "none", "gaussian"]
    found = {
        P: [line.split() for line in sorted(mpi.run(P, "-c", PAGES, path, *options).stdout.splitlines())]
        for P in (2, 4)
    }
    digests = {digest for lines in found.values() for _, digest, _, _ in lines}
    assert len(digests) == 1
    for P, lines in found.items():
        read, rows_here = ([int(line[i]) for line in lines] for i in (2, 3))
        assert len(lines) == P and min(read) > 0 and max(read) < MIB / P + 20, read
        assert rows_here[0] > sum(rows_here[1:]) > 0  # rank 0 alone has the codes of all rows
