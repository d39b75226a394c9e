"""Files of sparse rows: what SciPy, scikit-learn and anndata wrote is read back, and anything else is one line.

tests/fixtures/cells.h5ad was written by anndata 0.12.19: 30 cells × 20 genes, no X, layers/counts, obs/cell_type.
"""

import gzip
import itertools
import re
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse as sp
import terms as terms_script
from test_cli import SMALL, minivae, one_line
from tolerances import assert_sums

import minivae as mv
from minivae.datasets.load import load
from minivae.errors import UsageError, UsageWarning
from minivae.evaluation.bounds import evaluate

h5py = pytest.importorskip("h5py")
CELLS = Path(__file__).parent / "fixtures" / "cells.h5ad"
COUNTS = sp.csr_array(np.random.default_rng(0).poisson(0.1, (40, 30)).astype(float))
INDEX = "indices|index values"  # SciPy's words, since 1.15 and before
CSC, Y = COUNTS.tocsc(), np.arange(40) % 3


def npz(path, X=COUNTS):
    sp.save_npz(path, X)


def mtx(path, X=COUNTS):
    with open(path, "wb") as file:
        scipy.io.mmwrite(file, X)


def packed_mtx(path):
    text = path.with_name("plain.mtx")
    mtx(text)
    path.write_bytes(gzip.compress(text.read_bytes()))


def svmlight(path):
    pytest.importorskip("sklearn.datasets").dump_svmlight_file(COUNTS, Y, str(path), zero_based=False)


def h5ad(path, X=COUNTS, **attributes):
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(X, name)
        group.attrs.update({"encoding-type": f"{X.format}_matrix", "shape": X.shape} | attributes)


WRITERS = {"a.npz": npz, "a.mtx": mtx, "a.mtx.gz": packed_mtx, "a.svmlight": svmlight, "a.h5ad": h5ad}


@pytest.mark.parametrize("name", WRITERS)
def test_rows_are_read_as_they_were_written(tmp_path, name):
    WRITERS[name](tmp_path / name)
    data = load(tmp_path / name, hold_out=False)
    assert isinstance(data.X, sp.csr_array) and data.X.has_canonical_format
    np.testing.assert_array_equal(data.X.toarray(), COUNTS.toarray()[:, : data.features])
    if name == "a.svmlight":
        np.testing.assert_array_equal(data.y, Y)
    train = load(tmp_path / name)
    assert (len(train.X), len(train.X_test), type(train.X)) == (32, 8, type(data.X))
    np.testing.assert_array_equal(train.X_test.toarray(), data.X.toarray()[train.rows_test])


@pytest.mark.parametrize(("write", "format"), [(npz, "csc"), (npz, "coo"), (h5ad, "csc")])
def test_other_formats_become_csr_and_their_digest_is_the_same(tmp_path, write, format):
    name = "a.npz" if write is npz else "a.h5ad"
    write(tmp_path / name, COUNTS.asformat(format))
    npz(tmp_path / "csr.npz")
    found = load(tmp_path / name)
    assert found.sha256() == load(tmp_path / "csr.npz").sha256()


def test_a_file_that_anndata_wrote_is_read_with_its_labels():
    data = load(f"{CELLS}:layers/counts", label="cell_type", hold_out=False)
    assert data.X.shape == (30, 20) and data.name == "cells.h5ad:layers/counts"
    with h5py.File(CELLS) as file:
        X, codes = file["layers/counts"], file["obs/cell_type/codes"][...]
        expected = sp.csr_array((X["data"][...], X["indices"][...], X["indptr"][...]), shape=(30, 20))
    np.testing.assert_array_equal(data.X.toarray(), expected.toarray())
    np.testing.assert_array_equal(data.y, np.array(["B", "NK", "T"])[codes])


def test_a_dense_x_is_an_array(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file["X"] = COUNTS.toarray()
    assert isinstance(load(tmp_path / "a.h5ad").X, np.ndarray)


def check(source, words, **how):
    with pytest.raises(UsageError, match=words) as raised:
        load(source, **how)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700


def test_what_an_h5ad_does_not_have_is_one_line(tmp_path):
    check(CELLS, r"no matrix 'X' in it; it holds layers/counts: write cells.h5ad:layers/counts")
    check(f"{CELLS}:layers/counts", r"no column 'type' in its obs, which has cell_type", label="type")
    with h5py.File(tmp_path / "out.h5ad", "w") as file:
        file["X"] = h5py.ExternalLink(str(CELLS), "layers/counts")
    check(tmp_path / "out.h5ad", "no matrix 'X' in it")


def damaged(**arrays):
    """COUNTS with one of its three arrays replaced, as save_npz would have it."""
    own = {name: getattr(COUNTS, name) for name in ("data", "indices", "indptr")}
    return {"format": np.array("csr"), "shape": np.array([40, 30])} | own | arrays


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (damaged(indices=COUNTS.indices + 30), INDEX),
        (damaged(indices=-1 - COUNTS.indices), INDEX),
        (damaged(indptr=COUNTS.indptr[::-1].copy()), "index pointer|row pointers"),
        (damaged(indptr=COUNTS.indptr[:-1]), "index pointer|row pointers"),
        (damaged(data=COUNTS.data * 1j), "real numbers"),
        (damaged(data=COUNTS.data.astype(object)), "expected numbers in its member data, and it holds Python objects"),
        (damaged(data=COUNTS.data.astype(str)), "real numbers"),
        (damaged(data=COUNTS.data * np.nan), "NaN or infinite"),
        (damaged(data=COUNTS.data[:0], indices=COUNTS.indices[:0], indptr=0 * COUNTS.indptr), "has no entry"),
        (damaged(data=0 * COUNTS.data), "has no entry that is not 0"),
        (damaged(format=np.array("bsr")), r"in the format 'bsr'; save its \.tocsr\(\)"),
        (damaged(format=np.array("csc"), indices=CSC.indices + 40, indptr=CSC.indptr), INDEX),
        (damaged(shape=np.array([2**60, 30])), "more than the"),
        (damaged(shape=np.arange(999)), "not what scipy.sparse.save_npz writes"),
    ],
)
def test_arrays_that_are_no_matrix_are_one_line(tmp_path, members, words):
    np.savez(tmp_path / "a.npz", **members)
    check(tmp_path / "a.npz", words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "first line such as"),
        ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n", "save dense rows as .npy"),
        ("%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 1\n", "real, integer or pattern"),
        ("%%MatrixMarket matrix coordinate real general\n% a\n3 3\n", "a line of rows, columns and entries"),
        ("%%MatrixMarket matrix coordinate real general\n9 9 999999999\n1 1 1\n", "do not fit into its"),
        ("%%MatrixMarket matrix coordinate real general\n3 3 1\n4 1 1\n", "readable Matrix Market"),
        ("%%MatrixMarket matrix coordinate real general\n3 3 2\n1 1 1\n", "readable Matrix Market"),
        ("%%MatrixMarket matrix coordinate real general\n3 3 1\n1 1 x\n", "readable Matrix Market"),
        ("%%MatrixMarket matrix coordinate real general\n999999999999999999 3 1\n1 1 1\n", "more than the"),
    ],
)
def test_bad_matrix_market_is_one_line(tmp_path, text, words):
    (tmp_path / "a.mtx").write_text(text)
    check(tmp_path / "a.mtx", words)


@pytest.mark.parametrize("name", WRITERS)
def test_more_than_the_limit_is_refused(tmp_path, monkeypatch, name):
    WRITERS[name](tmp_path / name)
    monkeypatch.setenv("MINIVAE_MAX_BYTES", "2000")
    check(tmp_path / name, "MINIVAE_MAX_BYTES allows")


def test_a_data_set_that_stores_nothing_allocates_nothing(tmp_path):
    with h5py.File(tmp_path / "a.h5ad", "w") as file:
        file.create_dataset("X", (2**40, 2**20), "float32", chunks=(1024, 1024))
    check(tmp_path / "a.h5ad", "but only 0 are stored")


@pytest.mark.parametrize("name", WRITERS)
def test_any_damage_is_a_usage_error_or_harmless(tmp_path, name):
    WRITERS[name](tmp_path / name)
    whole, rng = (tmp_path / name).read_bytes(), np.random.default_rng(0)
    for k in range(60):
        broken = bytearray(whole[: rng.integers(len(whole))] if k % 3 == 0 else whole)
        for place in rng.integers(max(1, len(broken)), size=rng.integers(1, 6)):
            broken[place : place + 1] = bytes([rng.integers(256)])
        (tmp_path / name).write_bytes(broken)
        try:
            load(tmp_path / name)
        except UsageError as error:
            assert "\n" not in str(error)


def terms():
    """Counts of words (columns) in the descriptions that the packages installed here carry (rows)."""
    texts = [text for found in distributions() if (text := found.read_text("METADATA") or "")]
    lists = [re.findall(r"[a-z]{3,}", text.lower()) for text in texts]
    seen = sorted(set().union(*lists))
    place = {word: i for i, word in enumerate(seen)}
    entries = [(row, place[word]) for row, words in enumerate(lists) for word in words]
    rows, columns = np.array(entries).T
    counts = sp.coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(lists), len(seen))).tocsr()
    return counts[:, np.argsort(-counts.sum(axis=0), kind="stable")[:2000]]


@pytest.mark.parametrize("source", ["terms", "cells"])
def test_real_sets_train_and_evaluate_as_they_do_dense(tmp_path, source):
    """Counts of words, and the cells that anndata wrote."""
    file = f"{CELLS}:layers/counts"
    if source == "terms":
        X, file = terms(), tmp_path / "terms.npz"
        assert len(X.indptr) > 20
        sp.save_npz(file, X)
    data = load(file)
    losses, slopes = [], []
    for rows, test, how in ((data.X, data.X_test, "yes"), (data.X.toarray(), data.X_test.toarray(), "no")):
        backend = mv.Backend("numpy", sparse=how)
        vae = mv.VAE(data.features, 3, (16,), likelihood="negative-binomial", init="normal:0.001", backend=backend)
        before = evaluate(vae, rows).elbo
        vae.objective_and_grad(rows)
        slopes.append(vae.gradients["encoder.0.W"].copy())
        vae.fit(rows, epochs=5, batch_size=16, clip=10.0)
        losses.append([before, evaluate(vae, rows).elbo, evaluate(vae, test).elbo])
    assert_sums(np.array(losses[0]), np.array(losses[1]), of="model", dtype="float32")
    assert losses[0][1] > losses[0][0]
    assert_sums(*slopes, of="model", dtype="float32")


def test_the_script_of_term_counts_finds_the_same_elbo_by_non_zeros_and_dense(monkeypatch, capsys):
    texts = ["the licence of the software, the the software", "a licence 12 of and for the year", "for the year"] * 20
    monkeypatch.setattr(terms_script, "documents", lambda: texts)
    X = terms_script.terms(5)
    np.testing.assert_array_equal(X[:3].toarray()[:, 0], [4, 1, 1])  # "the", which most documents have
    assert X.shape == (60, 5) and X[:1].sum() == 7
    by_nonzeros, dense = terms_script.compare(X, "negative-binomial", 3, "float64")
    assert_sums(np.array(by_nonzeros[:3]), np.array(dense[:3]), of="training")  # trained apart
    assert_sums(by_nonzeros[1], by_nonzeros[2], of="model")
    assert by_nonzeros[1] > by_nonzeros[0]
    monkeypatch.setattr("sys.argv", ["terms.py", f"{CELLS}:layers/counts", "--epochs", "2"])
    terms_script.main()
    printed = capsys.readouterr().out
    assert "30 rows of 20 columns" in printed and printed.count("the other way") == 2


def entries(first, second=None):
    """`damaged` whose first entries are these: (column, value), in a row that has two."""
    row = int(np.argmax(np.diff(COUNTS.indptr) > 1))
    data, indices = COUNTS.data.copy(), COUNTS.indices.copy()
    for k, entry in enumerate(filter(None, (first, second))):
        indices[COUNTS.indptr[row] + k], data[COUNTS.indptr[row] + k] = entry
    return damaged(data=data, indices=indices)


@pytest.mark.parametrize(
    ("members", "options", "words"),
    [
        (entries((0, np.nan)), (), "1 of .* stored values are NaN or infinite, the first in row .*, column 0"),
        (entries((0, -2)), (), "explains counts, the integers from 0 on, and these range from -2 to"),
        (entries((0, 0.5)), (), "explains counts, .*not all of them whole"),
        (entries((30, 1)), (), INDEX),
        (damaged(data=COUNTS.data.astype(object)), (), "holds Python objects"),
        (damaged(shape=np.array([0, 30])), (), "expected a matrix with at least one row and column"),
        (damaged(), ("--likelihood", "gaussian", "--scale", "standard"), "fill them: take 'maxabs', .*--scale maxabs"),
    ],
    ids=["NaN", "negative", "no counts", "out of range", "objects", "no rows", "standard"],
)
def test_the_command_line_refuses_bad_sparse_rows_in_one_line_and_begins_no_run(tmp_path, members, options, words):
    np.savez(tmp_path / "a.npz", **members)
    line = one_line("train", "a.npz", "--out", "run", *SMALL, *(options or ("--likelihood", "poisson")), cwd=tmp_path)
    assert re.search(words, line), line
    assert not (tmp_path / "run").exists()


def test_the_command_line_says_where_an_h5ad_has_counts(tmp_path):
    line = one_line("train", CELLS, "--out", tmp_path / "run", *SMALL)
    assert line.endswith("no matrix 'X' in it; it holds layers/counts: write cells.h5ad:layers/counts")


def test_packed_matrix_market_is_known_by_its_content(tmp_path):
    mtx(tmp_path / "a.mtx")
    plain = (tmp_path / "a.mtx").read_bytes()
    (tmp_path / "a.mtx").write_bytes(gzip.compress(plain))
    np.testing.assert_array_equal(load(tmp_path / "a.mtx", hold_out=False).X.toarray(), COUNTS.toarray())


def test_duplicates_in_a_file_are_summed_to_what_they_are_and_said(tmp_path):
    cells = {"row": np.array([0, 0, 2]), "col": np.array([1, 1, 0])}
    np.savez(tmp_path / "a.npz", format="coo", shape=(3, 2), data=np.array([200, 100, 7], np.uint8), **cells)
    text = "%%MatrixMarket matrix coordinate integer general\n3 2 3\n1 2 200\n1 2 100\n3 1 7\n"
    (tmp_path / "a.mtx").write_text(text)
    for name in ("a.npz", "a.mtx"):
        with pytest.warns(UsageWarning, match=f"{name}: 1 of 3 entries name a cell that another one names: summed"):
            found = load(tmp_path / name, hold_out=False)
        np.testing.assert_array_equal(found.X.toarray(), [[0, 300], [0, 0], [7, 0]])


@pytest.mark.filterwarnings("ignore::minivae.UsageWarning")
def test_the_command_line_takes_csc_and_coo_and_unsorted_rows_and_sums_duplicates_which_it_says(tmp_path):
    def trained(name):
        done = minivae("train", name, "--out", f"of {name}", *SMALL, "--likelihood", "poisson", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return (tmp_path / f"of {name}" / "history.csv").read_text().split("\n")[1].split(",")[1:4], done.stderr

    npz(tmp_path / "csr.npz")
    expected, said = trained("csr.npz")
    assert "summed" not in said
    npz(tmp_path / "csc.npz", COUNTS.tocsc())
    npz(tmp_path / "coo.npz", COUNTS.tocoo())
    backwards = {name: getattr(COUNTS, name).copy() for name in ("data", "indices")}
    for first, last in itertools.pairwise(COUNTS.indptr):
        for x in backwards.values():
            x[first:last] = x[first:last][::-1]
    np.savez(tmp_path / "unsorted.npz", **damaged(**backwards))
    for name in ("csc.npz", "coo.npz", "unsorted.npz"):
        found, said = trained(name)
        assert found == expected and "summed" not in said
    np.savez(tmp_path / "twice.npz", **entries((4, 1), (4, 2)))
    _, said = trained("twice.npz")
    assert re.search("1 of .* entries name a cell that another one names: summed", said)
