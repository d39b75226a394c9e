"""Data of ranks: each reads a share of a file, and all find what one process finds, to the bit."""

import gzip
import hashlib
import os
import subprocess
from functools import partial

import numpy as np
import pytest
from mpi import every_runtime, runtime
from scipy import sparse
from tolerances import assert_sums
from worlds import together

import minivae as mv
from minivae import likelihoods
from minivae import sparse as sparse_rows
from minivae.cli import runs
from minivae.conditions import Condition
from minivae.datasets import limits, load, rows
from minivae.datasets.choose import choose
from minivae.datasets.load import Dataset
from minivae.distributed.world import World
from minivae.errors import UsageError
from minivae.training import batches
from minivae.training.batches import Batches
from minivae.training.state import observed_value

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


# ---- files that cannot be mapped as they are ------------------------------------------------------------------------

COUNTS = sparse.csr_array(np.where(RNG.random((N, 9)) < 0.2, RNG.integers(1, 5, (N, 9)), 0).astype(np.float64))


def write_csv(path):
    np.savetxt(path, FILES["float64"], delimiter=",", header=",".join("abcdefg"), comments="")


def write_table(path):
    """Text, numbers, gaps, a label and a condition."""
    kinds, numbers = np.array(["red", "green", "blue"]), np.round(FILES["float64"], 3).astype(str)
    numbers[::7, 1] = ""
    cells = zip(kinds[RNG.integers(0, 3, N)], *numbers[:, :4].T, kinds[RNG.integers(0, 2, N)], strict=True)
    path.write_text("kind,a,b,c,d,sort\n" + "".join(",".join(row) + "\n" for row in cells))


def write_npz(path):
    np.savez_compressed(path, X=FILES["bytes"], y=np.arange(N) % 7)


def write_packed(path):
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in FILES["bytes"].shape)
    path.write_bytes(gzip.compress(header + FILES["bytes"].tobytes()))


def write_h5ad(path):
    with pytest.importorskip("h5py").File(path, "w") as file:
        X = file.create_group("X")
        X.attrs.update({"encoding-type": "csr_matrix", "shape": COUNTS.shape})
        for name in ("data", "indices", "indptr"):
            X[name] = getattr(COUNTS.power(2), name)
        file.create_group("obs")["sort"] = np.arange(N) % 3


OTHERS = {
    "x.csv": (write_csv, {}),
    "table.csv": (write_table, {"label": "sort", "condition": ["kind"]}),
    "x.npz": (write_npz, {}),
    "idx.gz": (write_packed, {}),
    "csr.npz": (lambda path: sparse.save_npz(path, COUNTS), {}),
    "x.h5ad": (write_h5ad, {"label": "sort"}),
}


def found(path, ranks, how):
    """All that a file is made into."""
    data = mv.load(path, ranks=ranks, **how)
    kept, X_val, y_val, rows_val = data.split_validation(0.3, seed=1)
    arrays = [data.rows, data.rows_test, y_val, rows_val, *(data.condition or {}).values()]
    dense = [part.toarray() if hasattr(part, "tocsr") else part for part in (data.X, data.X_test, kept.X, X_val)]
    return (
        *(data.sha256(ranks), data.find_gaps(ranks), data.name, data.shape, data.reason, data.names),
        repr(data.schema and data.schema.to_builtins()),
        [a if a is None else (np.asarray(a).dtype.str, np.asarray(a).tobytes()) for a in arrays + dense],
    )


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_cannot_be_mapped_is_read_once_a_host(name, tmp_path, monkeypatch):
    (write, how), path, folder = OTHERS[name], tmp_path / name, tmp_path / "temporary"
    write(path)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(
        limits, "COPY_LIMIT", 1000
    )  # of maps of the user's own files: rows are held out as by one process
    alone, reads, read = found(path, None, how), [], load._find
    monkeypatch.setattr(load, "_find", lambda *given: reads.append(given) or read(*given))
    assert alone[1] == (name == "table.csv")  # whether cells are missing
    for hosts in (1, 2, 4):
        reads.clear()
        assert together(4, lambda ranks: found(path, ranks, how), hosts=hosts) == [alone] * 4
        assert len(reads) == hosts and not list(folder.iterdir())


def test_what_ranks_of_a_host_share_is_mapped_and_cannot_be_written():
    def shared(ranks):
        x, nothing, text = ranks.once_a_host(lambda: (np.arange(6.0).reshape(2, 3).T, np.empty((0, 3)), ["a"]))
        assert nothing.shape == (0, 3) and text == ["a"]
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 1
        return x.tolist()

    assert together(2, shared) == [[[0, 3], [1, 4], [2, 5]]] * 2


@pytest.mark.parametrize("missing", ([], [0], range(N)))
def test_a_value_stands_for_missing_cells_as_in_an_array(missing):
    X = FILES["counts"].astype(np.float32)
    X[missing] = np.nan
    seen = observed_value(rows.FileRows(X, X.dtype))
    np.testing.assert_array_equal(np.asarray(seen), observed_value(X), strict=True)


def test_what_is_made_of_the_rows_is_shared_too(tmp_path):
    """Rows of a sparse matrix that are chosen, its values in another dtype, and conditions as a model takes them."""
    sparse.save_npz(tmp_path / "x.npz", COUNTS)
    write_table(tmp_path / "x.csv")
    options = {"validation": 0.2, "seed": 0}

    def made(ranks):
        data = mv.load(tmp_path / "x.npz", ranks=ranks)
        part = runs.split_of(data, "train", options, ranks)
        vae = mv.VAE(9, 2, (4,), likelihood="poisson", backend=mv.Backend("numpy", dtype="float32"))
        held = Batches(vae, part.X, ranks=ranks).sparse.held
        table = mv.load(tmp_path / "x.csv", condition=["kind"], ignore=["sort"], ranks=ranks)
        likelihood, condition = likelihoods.name_of(table.columns), Condition.of(table.condition)
        vae = mv.VAE(4, 2, (4,), likelihood=likelihood, missing=True, condition=condition, backend="numpy")
        given = runs.split_of(table, "train", options, ranks).given(vae, ranks)
        return [part.X.data, part.X.indices, part.X.indptr, given.X.condition, *held]

    alone = made(World())
    assert alone[3].shape[1] == 3 and [a.dtype for a in alone[4:]] == [np.float32, np.int32, np.int64]
    for arrays in together(2, made):
        for array, one in zip(arrays, alone, strict=True):
            np.testing.assert_array_equal(array, one, strict=True)
            assert one.flags.writeable and not array.flags.writeable


@pytest.mark.parametrize("scale", (None, "maxabs"))
def test_blocks_of_sparse_rows_are_dealt_out_to_ranks(scale, tmp_path, monkeypatch):
    """Each block is checked and digested by one rank, and all find what one process finds."""
    sparse.save_npz(tmp_path / "x.npz", COUNTS)
    for module in (sparse_rows, batches):
        monkeypatch.setattr(module, "CHECK_ROWS", 20)
    monkeypatch.setattr(load, "_DIGESTED", 500)
    looks = []

    def noted(owner, name, start_of):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: looks.append((name, start_of(given[-1]))) or function(*given))

    noted(sparse_rows, "_is_canonical", int)
    noted(sparse_rows.Rows, "blocks", lambda rows: rows.start)

    def made(ranks):
        data = mv.load(tmp_path / "x.npz", hold_out=False, ranks=ranks)
        chosen = choose(data.X, "auto", "auto", "auto", ranks=ranks)
        fitted = scale and mv.Scale.fit(scale, data.X, ranks=ranks)
        vae = mv.VAE(9, 2, (4,), likelihood="gaussian" if scale else "poisson", backend="numpy")
        found = Batches(vae, data.X, scale=fitted, ranks=ranks)
        return data.sha256(ranks), chosen, found.range, found.density, found.sparse.ones

    times = {"_is_canonical": 3 if scale else 2, "blocks": 1}  # by `choose`, `Scale.fit` and `Batches`
    starts = sorted(
        (what, start) for what in times for start in range(0, COUNTS.shape[0], 20) for _ in range(times[what])
    )
    assert len(starts) > 8
    alone = made(World())
    assert sorted(looks) == starts
    assert alone[2] == ((0, 1) if scale else (0, 4)) and not alone[4]
    assert alone[3] == COUNTS.nnz / np.prod(COUNTS.shape)
    for hosts in (1, 2):
        looks.clear()
        assert together(4, made, hosts=hosts) == [alone] * 4
        assert sorted(looks) == starts


def test_the_digest_of_sparse_rows_is_recognised_as_earlier_versions_had_it(tmp_path):
    sparse.save_npz(tmp_path / "x.npz", COUNTS)
    data = mv.load(tmp_path / "x.npz", hold_out=False)
    X = sparse.csr_array(data.X)
    text = f"X {X.dtype.str} {X.shape}\n".encode()
    arrays = X.data.tobytes() + X.indices.astype(np.int64).tobytes() + X.indptr.astype(np.int64).tobytes()
    by_hand = hashlib.sha256(text + arrays + b"y none\nX_test none\ny_test none\n").hexdigest()
    assert data.sha256(whole=True) == by_hand != data.sha256()
    assert together(2, lambda ranks: runs.is_digest_of(data, by_hand, ranks)) == [True, True]


def _stored_backwards(X):
    return sparse.csr_array((X.data[::-1].copy(), X.indices[::-1].copy(), X.nnz - X.indptr[::-1]), shape=X.shape)


def _with(change):
    """COUNTS with their last row's array `change[0]` changed at its last entry."""
    X = COUNTS.astype(np.float32)
    getattr(X, change[0])[-1] = change[1]
    return X


OUT_OF_ORDER = {
    "backwards": _stored_backwards(COUNTS),
    "coo": COUNTS.tocoo(),
    "csc": COUNTS.tocsc(),
    "zero": _with(("data", 0)),
    "twice": _with(("indices", COUNTS.indices[-2])),
}


@pytest.mark.filterwarnings("ignore:X. 1 of 1,779 entries")
@pytest.mark.parametrize("X", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
def test_sparse_rows_that_are_not_in_order_are_put_in_order_once_a_host(X, monkeypatch):
    monkeypatch.setattr(sparse_rows, "CHECK_ROWS", 20)
    vae = mv.VAE(9, 2, (4,), likelihood="poisson", backend="numpy")
    calls, canonical = [], sparse_rows.canonical
    monkeypatch.setattr(sparse_rows, "canonical", lambda *given: calls.append(1) or canonical(*given))

    def made(ranks):
        found = Batches(vae, X.copy(), ranks=ranks).X
        return found.toarray().tolist(), bool(found.has_canonical_format and found.data.all())

    assert together(2, made) == [(X.toarray().tolist(), True)] * 2
    assert len(calls) == 1


@pytest.mark.parametrize("change", (("data", np.nan), ("indices", 9), ("indices", -1), ("indptr", 1)))
def test_damaged_sparse_rows_are_one_error_of_all(change, monkeypatch):
    monkeypatch.setattr(sparse_rows, "CHECK_ROWS", 20)
    vae, bad = mv.VAE(9, 2, (4,), likelihood="poisson", backend="numpy"), _with(change)
    with pytest.raises(UsageError) as alone:
        Batches(vae, bad)

    def text(ranks):
        with pytest.raises(UsageError) as caught:
            Batches(vae, bad, ranks=ranks)
        return str(caught.value)

    assert together(2, text) == [str(alone.value)] * 2


def test_a_mistake_in_such_a_file_is_one_error_of_all(tmp_path):
    """It names the rank where one host alone has it, or where a rank fails before the others come to read."""
    (tmp_path / "x.npz").write_bytes(b"no archive")
    np.save(tmp_path / "x.npy", FILES["real"])
    np.savez(tmp_path / "other.npz", FILES["real"])

    def text(ranks, function=None):
        with pytest.raises(UsageError) as caught, ranks.agreeing():
            function(ranks) if function else mv.load(tmp_path / "x.npz", ranks=ranks)
        return str(caught.value)

    def on_one_host(ranks):
        ranks.once_a_host(lambda: mv.load(tmp_path / "none.npz") if ranks.rank == 2 else 1)

    def before(ranks):
        if ranks.rank == 2:
            raise UsageError("it has no GPU")
        ranks.once_a_host(lambda: 1)

    def other_files(ranks):
        path = tmp_path / ("x.npy" if ranks.rank < 2 else "other.npz")
        mv.load(path, ranks=ranks)

    alone = text(World())
    assert "expected a .npz file" in alone
    for hosts in (1, 2):
        assert together(4, text, hosts=hosts) == [alone] * 4
    missing = f"rank 2 (host2): there is no file {tmp_path / 'none.npz'}"
    assert all(one.startswith(missing) for one in together(4, partial(text, function=on_one_host), hosts=2))
    for one in together(4, partial(text, function=other_files), hosts=2):
        assert one.startswith("rank 2 (host2) has a file that must be read as its data, and rank 0 (host0) a file that")
    assert together(4, partial(text, function=before), hosts=2) == ["rank 2 (host2): it has no GPU"] * 4


@pytest.mark.parametrize("kind", ("no folder", "full", "read-only"))
def test_no_room_for_the_temporary_file(kind, tmp_path, monkeypatch):
    write_csv(tmp_path / "x.csv")
    folder = tmp_path / "temporary"
    if kind != "no folder":
        folder.mkdir()
        options = "size=16k" if kind == "full" else "ro"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system needs root")
    monkeypatch.setenv("TMPDIR", str(folder))

    def read(ranks):
        with pytest.raises(UsageError) as caught:
            mv.load(tmp_path / "x.csv", ranks=ranks)
        return str(caught.value)

    try:
        texts = together(2, read)
        assert kind == "no folder" or not list(folder.iterdir())
    finally:
        if kind != "no folder":
            subprocess.run(["umount", str(folder)], check=True)
    why = {"no folder": "No such file", "full": "No space left", "read-only": "Read-only file system"}[kind]
    assert texts[0] == texts[1] and texts[0].startswith(f"{folder}: the ranks of host0") and why in texts[0]
    bytes_ = int(texts[0].partition(" bytes")[0].split()[-1].replace(",", ""))
    rows_alone = N * (7 * 8 + 8)  # X and the numbers of its rows
    assert rows_alone <= bytes_ < rows_alone + 4096 and "set TMPDIR" in texts[0]


# argv: what, a large file, and others to train on
ONCE = r"""
import hashlib, os, re, sys
opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
import numpy as np
import minivae as mv
from minivae import likelihoods
from minivae.distributed import mpi
from minivae.distributed.world import World
if sys.argv[1] == "two hosts":
    mpi.of_this_host = lambda comm, MPI: comm.Split(comm.rank // 2)
ranks = mv.ranks(shards=4, threads=1)

def trained(path, ranks):
    data = mv.load(path, ranks=ranks)
    likelihood = likelihoods.name_of(data.columns) if data.columns else "auto"
    vae = mv.VAE(data.features, 2, (4,), backend="numpy", likelihood=likelihood, missing=data.find_gaps(ranks))
    train, X_val, _, rows_val = data.split_validation(0.2, 0)
    vae.fit(train, 2, 256, validation=X_val, validation_rows=rows_val, scale="auto", ranks=ranks, progress=False)
    vae.log_likelihood(data.X_test, 3, ranks=ranks)
    return hashlib.sha256(vae.buffer.state).hexdigest()

def kib(name, text):
    return sum(int(size) for size in re.findall(name + r": +(\d+)", text))

def private():
    return kib("Anonymous", open("/proc/self/smaps_rollup").read())

found = [trained(path, ranks) for path in sys.argv[3:]]
before = private()
data = mv.load(sys.argv[2], ranks=ranks)
train = data.split_validation(0.2, 0)[0]
data.sha256(ranks)
more, X = private() - before, (data.X.nbytes + data.X_test.nbytes) >> 10
mapped = "".join(re.findall(r"/rows \(deleted\)\n(?:[A-Z].*\n)*", open("/proc/self/smaps").read()))
reads = [any(path in name for name in opened) for path in sys.argv[2:] if not path.endswith("h5ad")]  # HDF5 tells none
assert len(set(reads)) == 1
if ranks.rank == 0:
    found += [trained(path, World(shards=4)) for path in sys.argv[3:]]
facts = ranks.rank, reads[0], more / X, kib("Size", mapped) / X, *found
os.write(1, (" ".join(map(str, facts)) + "\n").encode())
"""


def told(output):
    """The words of each rank, in order; Open MPI's mpiexec ends with a line of its own."""
    return [line.split() for line in sorted(output.splitlines()) if line[:1].isdigit()]


@every_runtime
@pytest.mark.parametrize("P", (2, pytest.param(4, marks=pytest.mark.slow)))
def test_one_rank_of_a_host_reads_and_no_rank_has_a_copy(P, folder, tmp_path):
    """Four ranks are on two hosts, as far as they know. Rank 0 trains as one process too."""
    mpi, large = runtime(folder), tmp_path / "large.npz"
    np.savez(large, X=np.random.default_rng(0).random((1 << 17, 64), np.float32))
    paths = [tmp_path / name for name in OTHERS if name != "idx.gz"]
    for path in paths:
        OTHERS[path.name][0](path)
    ended = mpi.run(P, "-c", ONCE, "two hosts" if P == 4 else "", large, *paths)
    assert ended.returncode == 0, ended.stderr
    lines = told(ended.stdout)
    alone = lines[0][-len(paths) :]
    assert len(set(alone)) == len(paths)
    assert [line[4:] for line in lines] == [2 * alone] + [alone] * (P - 1)
    assert [line[1] for line in lines] == [str(rank % 2 == 0) for rank in range(P)]
    for line in lines:
        more, mapped = map(float, line[2:4])
        assert more < 0.5 and 1 <= mapped < 1.2, line
