"""Rows of scipy.sparse, and products by the non-zeros: equal to dense, the same bits on any threads, never dense."""

import os
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import hostcuda
import numpy as np
import pytest
import scipy.sparse as sp
import standin
from tolerances import assert_close, assert_sums

import minivae as mv
from minivae import kernels, likelihoods
from minivae import sparse as rows_of
from minivae.datasets.choose import choose
from minivae.errors import UsageError, UsageWarning
from minivae.evaluation import columns
from minivae.evaluation.annealing import annealed
from minivae.evaluation.bounds import evaluate
from minivae.evaluation.latents import usage
from minivae.kernels import _sparse
from minivae.matmul.sparse import Sparse
from minivae.training import checkpoint
from minivae.training.batches import Batches
from minivae.training.loop import Training
from minivae.training.options import Options

DTYPES = ("float32", "float64")
SHAPES = [
    (1, 1, 1),
    (3, 7, 5),
    (40, 33, 16),
    (9, 31, 70),
    (530, 300, 150),
]  # B, D, H: the last one in two blocks of rows and of columns


def matrix(B, D, dtype="float64", seed=0):
    """(B, D) with few non-zeros, some rows and some columns without any."""
    rng = np.random.default_rng(seed)
    X = rng.integers(1, 6, (B, D)) * (rng.random((B, D)) < rng.choice([0.0, 0.1, 0.8], (B, 1)))
    X[:, ::4] = 0
    return X.astype(dtype)


def batch(X):
    return Sparse.of(X, lambda name, shape, dtype: np.empty(shape, dtype))


def in_order(X, M):
    """X M by NumPy: one multiplication and one addition for each non-zero, in the order of the columns."""
    out = np.zeros((X.shape[0], M.shape[1]), M.dtype)
    for i, k in zip(*np.nonzero(X), strict=True):
        out[i] += X[i, k] * M[k]
    return out


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_are_sums_in_order_to_the_bit(shape, dtype, binary, monkeypatch):
    B, D, H = shape
    rng = np.random.default_rng(1)
    X = matrix(B, D, dtype) * rng.random((B, D)).astype(dtype)
    X = (X > 0).astype(dtype) if binary else X
    W, dA = rng.standard_normal((D, H)).astype(dtype), rng.standard_normal((B, H)).astype(dtype)
    monkeypatch.setattr(_sparse, "GRAIN", 1)
    for threads in (1, 2):
        kernels.limit_threads(threads)
        try:
            Y, dW = np.full((B, H), np.nan, dtype), np.full((D, H), np.nan, dtype)
            found = batch(X)
            assert (found.values is None) == (found.T.values is None) == (not X.any() or binary)
            found.gemm(Y, found, W)
            found.gemm(dW, found.T, dA)
        finally:
            kernels.limit_threads(mv.backend.threads())
        np.testing.assert_array_equal(Y, in_order(X, W))
        np.testing.assert_array_equal(dW, in_order(X.T, dA))
    sums = np.abs(X) @ np.abs(W), np.abs(X.T) @ np.abs(dA)
    assert_sums(Y, sp.csr_array(X) @ W, summed=sums[0], dtype=dtype)
    assert_sums(dW, sp.csr_array(X).T @ dA, summed=sums[1], dtype=dtype)


def test_strips_that_lie_over_each_other_are_summed_apart(monkeypatch):
    rng = np.random.default_rng(1)
    X = matrix(530, 300) > 0
    W = rng.standard_normal((300, 150))
    found, Y, expected = batch(X * 1.0), np.empty((530, 150)), in_order(X, W)
    monkeypatch.setattr(_sparse, "GRAIN", 1)
    kernels.limit_threads(2)
    try:
        for _ in range(100):
            found.gemm(Y, found, W)
            np.testing.assert_array_equal(Y, expected)
    finally:
        kernels.limit_threads(mv.backend.threads())


@pytest.mark.parametrize("of", [sp.csr_array, sp.csr_matrix])
def test_lists_are_those_of_scipy(of):
    X = matrix(530, 300)
    X[5, 70:80] = np.nan, -0.0, 1e-310, np.inf, 0, 0, -1, 0, 0, -2
    found = batch(X)
    for mine, places, axis in ((found, found.columns, 0), (found.T, found.T.rows, 1)):
        expected = of(X.T if axis else X)
        ends = mine.bounds.transpose(2, 1, 0)  # row by row, block by block
        block = -(-mine.shape[1] // mine.bounds.shape[1])
        assert block <= _sparse.BLOCK < mine.shape[1]
        at = np.concatenate(
            [b * block + places[slice(*pair)].astype(int) for row in ends for b, pair in enumerate(row)]
        )
        values = np.concatenate([mine.values[slice(*pair)] for row in ends for pair in row])
        np.testing.assert_array_equal((ends[..., 1] - ends[..., 0]).sum(axis=1), np.diff(expected.indptr))
        np.testing.assert_array_equal(at, expected.indices)
        np.testing.assert_array_equal(values, expected.data)
        assert mine.size == expected.nnz
    np.testing.assert_array_equal(found.toarray(), X)


def test_rows_of_a_stored_matrix_are_those_of_scipy():
    X = matrix(300, 290)
    stored = sp.csr_array(X)
    rows = np.array([7, 7, 0, 299])
    arrays = stored.data, stored.indices, stored.indptr.astype(np.int64)
    some = Sparse.of_rows((4, 290), X.dtype, arrays, rows, lambda name, shape, dtype: np.empty(shape, dtype))
    np.testing.assert_array_equal(some.toarray(), X[rows])
    dA = np.ones((4, 16))
    dW = np.empty((290, 16))
    some.gemm(dW, some.T, dA)
    np.testing.assert_array_equal(dW, in_order(X[rows].T, dA))


D = 30
DATA = {"binary": (matrix(200, D) > 0) * 1.0, "counts": matrix(200, D), "classes": np.minimum(matrix(200, D), 2)}
DATA["unit"] = DATA["real"] = matrix(200, D) / 8  # exact in float32
NAMES = [name.replace("σ", "0.5").replace("K", "3") for name in likelihoods.LIKELIHOODS]


def model(name, sparse="auto", **more):
    return mv.VAE(D, 3, (8,), likelihood=name, backend=mv.Backend("numpy", dtype="float64", sparse=sparse), **more)


def everything(vae, X, **options):
    """Each public figure of a model that is trained on X, in one array."""
    history = vae.fit(X, epochs=2, batch_size=60, validation=X[:50], **options)
    terms = vae.objective_and_grad(X[:70])
    gradients = vae.buffer.grad.copy()
    vae.train_step(X[:33], mv.Adam())
    figures = [history["elbo"], history["val_elbo"], terms.loss, vae.objective(X[:20]).nll_rows, gradients]
    figures += [*vae.encode(X), vae.reconstruct(X), vae.log_likelihood(X[:9], samples=5)[0], vae.buffer.state]
    figures += [evaluate(vae, X).elbo, usage(vae, X).kl_dims, annealed(vae, X[:3], 4, 2, 2).log_px]
    figures += [columns.explain(vae, X[:3], 3)]
    return np.concatenate([np.ravel(x) for x in figures])


@pytest.mark.filterwarnings("ignore::minivae.UsageWarning")
@pytest.mark.parametrize("name", NAMES)
def test_sparse_rows_give_what_dense_rows_give(name):
    X = DATA[likelihoods.find(name)[0].domain]
    expected = everything(model(name, "no"), X)
    np.testing.assert_array_equal(everything(model(name, "no"), sp.csr_array(X)), expected)
    for given in (sp.csr_array(X), sp.csr_matrix(X.astype(np.float32)), X):
        found = everything(model(name, "yes"), given)
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


FORMATS = [sp.csc_array, sp.coo_array, sp.lil_array, sp.csc_matrix, sp.bsr_array, sp.dia_array, sp.dok_matrix]


@pytest.mark.filterwarnings("error::minivae.UsageWarning")
@pytest.mark.parametrize("convert", FORMATS)
def test_other_formats_are_converted(convert):
    X = DATA["counts"]
    vae = model("poisson")
    np.testing.assert_array_equal(vae.encode(convert(X))[0], vae.encode(sp.csr_array(X))[0])
    np.testing.assert_array_equal(mv.Scale.fit("maxabs", convert(X)).factor, mv.Scale.fit("maxabs", X).factor)
    assert mv.choose_likelihood(convert(X)) == mv.choose_likelihood(X)
    weights = np.arange(len(X)) % 2
    found, expected = (mv.Scale.fit("maxabs", rows, weights).factor for rows in (convert(X), X))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["data", "indices"])
def test_arrays_with_gaps_give_what_whole_ones_give(name):
    """The kernels go through an array by its address, and took what lies between, too."""
    whole, gaps = (sp.csr_array(DATA["counts"]) for _ in range(2))
    part = getattr(gaps, name)
    apart = np.full(2 * len(part), part.max(), part.dtype)
    apart[::2] = part
    setattr(gaps, name, apart[::2])
    found, expected = ([*vae.encode(X), vae.objective(X).nll_rows, *vae.fit(X, epochs=2, batch_size=60)["elbo"]]
                       for vae, X in ((model("poisson", "yes"), gaps), (model("poisson", "yes"), whole)))  # fmt: skip
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("convert", [np.asarray, sp.csr_array])
def test_values_beyond_the_models_dtype_are_refused_unless_a_scale_brings_them_back(convert):
    X = DATA["real"].copy()
    X[7, 9] = 1e39

    def vae(**more):
        return mv.VAE(D, 3, (8,), likelihood="gaussian:shared", backend=mv.Backend("numpy", **more))

    with pytest.raises(
        UsageError, match="X: the values range from 0 to 1e\\+39, beyond what float32 holds: scale them"
    ):
        vae().fit(convert(X), epochs=1)
    with pytest.raises(
        UsageError, match="X: the values range from 0 to 1e\\+39, beyond what float32 holds: scale them"
    ):
        evaluate(vae(), convert(X))
    for call in ("encode", "objective"):
        with pytest.raises(UsageError, match=r"X: 1 of .* values are NaN or infinite.*the first in row 7, column 9"):
            getattr(vae(), call)(convert(X))
    with pytest.raises(UsageError, match=r"X: 1 of .* values are NaN or infinite.*the first in row 7, column 9"):
        vae().train_step(convert(X), mv.Adam())
    scaled = vae()
    scaled.fit(convert(X), epochs=1, scale="maxabs")
    assert np.isfinite(scaled.encode(convert(X))[0]).all()
    assert np.isfinite(vae(dtype="float64").encode(convert(X))[0]).all()


def test_a_divergence_by_the_non_zeros_names_the_tensor():
    X = sp.csr_array(1e6 * DATA["counts"])
    with pytest.raises(mv.Diverged, match="the first tensor with a NaN or an infinity is"):
        mv.VAE(D, 3, (8,), likelihood="poisson", backend=mv.Backend("numpy", sparse="yes")).fit(X, epochs=1)


@pytest.mark.parametrize("kind", [sp.csr_array, sp.coo_array])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_duplicates_of_small_integers_are_summed_to_what_they_are(kind, dtype):
    twice = np.array([100, 100, 100, 7], dtype)
    if kind is sp.coo_array:
        X = sp.coo_array((twice, ([0, 0, 0, 1], [2, 2, 2, 5])), shape=(2, D))
    else:
        X = damaged(twice, (2, 2, 2, 5), (0, 3, 4))
        X.data = X.data.astype(dtype)
    with pytest.warns(UsageWarning, match="X: 2 of 4 entries name a cell that another one names: summed"):
        np.testing.assert_array_equal(rows_of.canonical("X", X, D).data, [300, 7])
    for call in (mv.choose_likelihood, lambda X: mv.Scale.fit("maxabs", X)):
        with pytest.warns(UsageWarning, match="summed"):
            call(X)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
def test_a_likelihood_is_not_chosen_for_nothing(shape):
    for X in (sp.csr_array(shape), np.empty(shape)):
        with pytest.raises(UsageError, match="to choose a likelihood for, not shape"):
            mv.choose_likelihood(X)


def wrong(kind, attribute, value):
    """A matrix that SciPy has not looked at since an index went wrong."""
    X = kind(DATA["counts"])
    getattr(X, attribute)[5] = value
    return X


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gradient", [True, False])
@pytest.mark.parametrize("case", ["few", "far"])
@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_a_likelihood_of_counts_by_the_non_zeros_is_the_reference_of_dense_ones(
    name, case, gradient, dtype, monkeypatch
):
    """600 counts and more in a row, beyond the clamps and the table of factorials, for 1 and 2 threads."""
    op, S, B, features = kernels.ops()[name], 2, 17, 1300
    given = op.example(np.random.default_rng(0), np.dtype(dtype), S, B, features, case)
    names = op.names
    X = given[names.index("X")]
    X[0], X[1, 300:] = 0, 0
    stored = sp.csr_array(X)
    arrays = stored.data, stored.indices, stored.indptr.astype(np.int64)
    listed = Sparse.of_rows(X.shape, X.dtype, arrays, np.arange(B), lambda name, shape, dtype: np.empty(shape, dtype))
    weight = np.random.default_rng(1).random((S, B)).astype(dtype)
    monkeypatch.setattr("minivae.kernels._threads.GRAIN", 64)

    def by(how, X, threads):
        put = dict(zip(names, (x.copy() if isinstance(x, np.ndarray) else x for x in given), strict=True))
        put |= {"X": X, "weight": weight} | ({} if gradient else {op.optional[0]: None})
        kernels.limit_threads(threads)
        try:
            how(*put.values())
        finally:
            kernels.limit_threads(mv.backend.threads())
        return {key: put[key] for key in (*op.outputs, *op.updated) if gradient or key == "nll_rows"}

    expected = by(lambda *arguments: op.reference(np, *arguments), X, 1)
    for key, found in by(op.fused, listed, 1).items():
        assert_close(found, expected[key], dtype, scale=op.scale(*given))
        np.testing.assert_array_equal(by(op.fused, listed, 2)[key], found)


@pytest.mark.parametrize("name", ["poisson", "negative-binomial"])
def test_a_training_batch_of_counts_is_never_dense(name):
    vae = model(name, "yes")
    vae.fit(sp.csr_array(DATA["counts"]), epochs=1, batch_size=60)
    assert "batch.X" not in vae.workspace.flat


def damaged(data=(1.0, 2.0), indices=(3, 1), indptr=(0, 2, 2), shape=(2, D)):
    """CSR of arrays that nobody has looked at."""
    X = sp.csr_array(shape)
    X.data, X.indices, X.indptr = np.array(data), np.array(indices), np.array(indptr)
    return X


def test_the_values_that_occur_are_those_of_dense_rows():
    dense = np.array([[5, 7, 5], [0, 0, 0], [-2, 0, 1], [1, 3, 1], [0, 9, 9]])
    X = sp.csr_array(dense)
    for start in range(len(dense)):
        for stop in range(start + 1, len(dense) + 1):
            found = np.concatenate([*rows_of.occurring(X, slice(start, stop))])
            assert set(found[:, 0]) == set(dense[start:stop].ravel())


@pytest.mark.parametrize("values", ([5, 9], [-2, -1], [1], [0.25, 0.5], [3, 2.5]))
@pytest.mark.parametrize("full", (False, True))
def test_auto_chooses_for_sparse_rows_as_for_dense_ones(values, full):
    dense = np.resize(np.array(values, np.float64), (6, 5))
    if not full:
        dense[3:, 2:] = 0
    found, expected = (choose(X, "auto", "none", "auto") for X in (sp.csr_array(dense), dense))
    assert found == expected


def test_unsorted_duplicate_and_zero_entries_are_put_right_and_duplicates_said():
    vae, twice = model("poisson"), damaged(data=(1, 2, 3, 0), indices=(5, 1, 5, 7), indptr=(0, 4, 4))
    kept = twice.data.copy(), twice.indices.copy()
    with pytest.warns(UsageWarning, match="X: 1 of 4 entries name a cell that another one names: summed"):
        found = vae.encode(twice)[0]
    dense = np.zeros((2, D))
    dense[0, [1, 5]] = 2, 4
    np.testing.assert_allclose(found, vae.encode(dense)[0], rtol=1e-14)
    with pytest.warns(UsageWarning, match="summed"):
        np.testing.assert_array_equal(rows_of.canonical("X", twice, D).data, [2, 4])
    np.testing.assert_array_equal(twice.data, kept[0])
    np.testing.assert_array_equal(twice.indices, kept[1])
    with pytest.warns(UsageWarning, match="summed"):
        vae.encode(sp.coo_array(([1.0, 1.0], ([0, 0], [2, 2])), shape=(1, D)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.encode(damaged())


BAD = [
    (damaged(indices=(3, D)), f"X: expected column indices from 0 to {D - 1}; they range from 3 to {D}"),
    (damaged(indices=(-1, 3)), f"X: expected column indices from 0 to {D - 1}; they range from -1 to 3"),
    (damaged(indptr=(0, 3, 2)), "row pointers do not describe 2 rows of 2 entries: the matrix is damaged"),
    (damaged(indptr=(0, 2)), "row pointers do not describe 2 rows"),
    (damaged(data=(1, np.nan)), "1 of 2 stored values are NaN or infinite, the first in row 0, column 1"),
    (damaged(data=(-1, 2)), "explains counts, the integers from 0 on, and these range from -1 to 2"),
    (damaged(data=(0.5, 2)), "explains counts, .*not all of them whole"),
    (sp.csr_array((0, D)), "with at least one row; got shape"),
    (sp.csr_array((3, D + 1)), r"expected an array \(rows, 30\) with at least one row; got shape \(3, 31\)"),
    (sp.csr_array((3, D), dtype=complex), "expected real numbers; got dtype complex128"),
    (damaged(data=(object(), object())), "expected real numbers; got dtype object"),
    (wrong(sp.csc_array, "indices", 200), "X: the csc matrix is damaged: .* < 200"),
    (wrong(sp.csc_matrix, "indices", -1), "X: the csc matrix is damaged: .* >= 0"),
    (wrong(sp.csc_array, "indptr", 10**8), "X: the csc matrix is damaged: .*non-decreasing"),
    (wrong(sp.coo_array, "row", 200), "X: the coo matrix is damaged: .*200"),
    (wrong(sp.coo_array, "col", -1), "X: the coo matrix is damaged: .*negative"),
    (wrong(sp.bsr_array, "indices", D), "X: the bsr matrix is damaged: .*< 30"),
]


@pytest.mark.parametrize("X, message", BAD, ids=[message[:20] for _, message in BAD])
@pytest.mark.parametrize("call", ["fit", "objective"])
def test_bad_rows_are_one_line(call, X, message):
    with pytest.raises(UsageError, match=message) as caught:
        getattr(model("poisson"), call)(X)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::minivae.UsageWarning")
def test_a_scale_that_would_fill_the_zeros_is_refused_and_maxabs_offered():
    X = sp.csr_array(DATA["real"] - 2.0 * (DATA["real"] == 0.25))
    for kind in ("standard", "minmax"):
        with pytest.raises(UsageError, match="would move the zeros of sparse rows, and fill them: take 'maxabs'"):
            model("gaussian").fit(X, epochs=1, scale=kind)
    for kind in ("maxabs", "auto"):
        vae, dense = model("gaussian"), model("gaussian")
        vae.fit(X, epochs=1, scale=kind)
        dense.fit(X.toarray(), epochs=1, scale="maxabs")
        assert vae.scale.kind == "maxabs" and not vae.scale.shift.any()
        np.testing.assert_array_equal(vae.scale.factor, dense.scale.factor)
        assert_sums(vae.encode(X)[0], dense.encode(X.toarray())[0], of="training")
    np.testing.assert_array_equal(
        mv.Scale.fit("minmax", abs(X)).factor, mv.Scale.fit("minmax", abs(X).toarray()).factor
    )
    scaled = vae.scale.apply(X.toarray(), np.float64)
    assert np.abs(scaled).max() == 1
    np.testing.assert_array_equal(scaled == 0, X.toarray() == 0)


def test_a_wrong_choice_is_one_line(monkeypatch):
    with pytest.raises(UsageError, match="sparse='maybe': expected one of auto, yes, no"):
        mv.Backend("numpy", sparse="maybe")
    with pytest.raises(
        UsageError, match="sparse='yes': products by the non-zeros are for the CPU's fused kernels alone"
    ):
        mv.Backend("numpy", kernels="reference", sparse="yes")
    monkeypatch.setenv("MINIVAE_SPARSE", "perhaps")
    with pytest.raises(UsageError, match=r"sparse='perhaps' \(from \$MINIVAE_SPARSE\): expected one of"):
        mv.Backend("numpy")
    monkeypatch.setenv("MINIVAE_SPARSE", "no")
    assert mv.Backend("numpy").sparse == "no"


def recorded(folder):
    return checkpoint.read(folder / checkpoint.MODEL_FILE).training["sparse"]


@pytest.mark.parametrize("first, then", [("yes", "no"), ("no", "yes")])
def test_a_run_goes_on_as_it_began_bit_for_bit(first, then, tmp_path):
    X = sp.csr_array(DATA["counts"])
    model("poisson", first).fit(X, epochs=3, validation=X[:50], run=tmp_path / "whole", batch_size=64)
    model("poisson", first).fit(X, epochs=1, validation=X[:50], run=tmp_path / "two", batch_size=64)
    assert recorded(tmp_path / "two") == first
    model("poisson", then).fit(X, epochs=3, validation=X[:50], run=tmp_path / "two", batch_size=64, resume=True)
    files = [(tmp_path / name / checkpoint.MODEL_FILE).read_bytes() for name in ("whole", "two")]
    assert files[0] == files[1]
    other = tmp_path / "other"
    model("poisson", then).fit(X, epochs=3, validation=X[:50], run=other, batch_size=64)
    assert (other / checkpoint.MODEL_FILE).read_bytes() != files[0]  # the choice shows in the bits


def test_a_run_without_a_record_goes_on_without(tmp_path):
    X = sp.csr_array(DATA["counts"])
    model("poisson", "no").fit(X, epochs=1, run=tmp_path, batch_size=64)
    held = checkpoint.read(tmp_path / checkpoint.MODEL_FILE)
    del held.training["sparse"]
    checkpoint.write(tmp_path / checkpoint.MODEL_FILE, held)
    model("poisson", "yes").fit(X, epochs=2, run=tmp_path, batch_size=64, resume=True)
    assert recorded(tmp_path) == "no"


def test_other_rows_are_noticed_at_a_resume(tmp_path):
    X = sp.csr_array(DATA["counts"])
    model("poisson").fit(X, epochs=1, run=tmp_path, batch_size=64)
    other = X.copy()
    other.indices = np.where(other.indices == 5, 4, other.indices)
    with pytest.raises(UsageError, match="the data have changed"):
        model("poisson").fit(other, epochs=2, run=tmp_path, batch_size=64, resume=True)


@pytest.mark.parametrize("name", ["poisson", "negative-binomial", "bernoulli"])
def test_the_gradient_by_the_non_zeros_is_that_of_central_differences(name):
    X, vae = (
        sp.csr_array(DATA["binary" if name == "bernoulli" else "counts"][:40]),
        model(name, "yes", activation="tanh"),
    )
    rng = np.random.default_rng(3)
    eps = rng.standard_normal((40, 3))
    vae.objective_and_grad(X, eps=eps)
    gradient, W, h = vae.gradients["encoder.0.W"].copy(), vae.parameters["encoder.0.W"], 1e-6
    for _ in range(3):
        way = rng.standard_normal(W.shape)
        there = vae.parameters["encoder.0.W"].copy()
        losses = []
        for sign in (1, -1):
            W[...] = there + sign * h * way
            losses.append(vae.objective(X, eps=eps).loss)
        W[...] = there
        slope = (losses[0] - losses[1]) / (2 * h)
        assert abs(slope - (gradient * way).sum()) < 1e-7 * np.abs(gradient * way).sum()


@pytest.mark.parametrize("how", ["threshold", "static", "dynamic"])
def test_binarised_rows_are_those_of_dense_rows(how):
    X = DATA["unit"]
    states = []
    for given, sparse in ((X, "no"), (X, "yes"), (sp.csr_array(X), "yes")):
        vae = model("bernoulli", sparse)
        vae.fit(given, epochs=2, binarize=how, batch_size=64)
        states.append(vae.buffer.state.copy())
    np.testing.assert_allclose(states[1], states[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(states[2], states[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_stored_rows_are_drawn_as_dense_ones_to_the_bit_without_noise_for_their_zeros(how, dtype, monkeypatch):
    """600 non-zeros and more in a row; rows in another order, numbered by the caller, for 1 and 2 threads."""
    rng = np.random.default_rng(0)
    X = rng.random((20, 1301)) * (rng.random((20, 1301)) < rng.choice([0.0, 0.05, 0.9], (20, 1)))
    index, rows = np.array([3, 19, 3, 0, 7, 12, 5]), 7 * np.arange(20)
    vae = mv.VAE(1301, 2, (4,), backend=mv.Backend("numpy", dtype=dtype, sparse="yes"), seed=2**63 + 5)
    batches = Batches(vae, sp.csr_array(X), rows, binarize=how)
    batches.sparse.few = True  # some of the rows are full, to be in many parts
    monkeypatch.setattr("minivae.kernels._threads.GRAIN", 64)
    for stream in ("binarise", "evaluation"):
        expected = X[index].astype(dtype)
        pass_ = 0 if how == "static" and stream == "binarise" else 3
        vae.noise.binarize(expected, stream, rows[index], pass_)
        assert 0 < expected.sum() < np.count_nonzero(X[index])
        with monkeypatch.context() as patch:
            patch.setattr(vae.noise, "binarize", None)
            for threads in (1, 2):
                kernels.limit_threads(threads)
                try:
                    found = batches.take(index, stream, 3)
                finally:
                    kernels.limit_threads(mv.backend.threads())
                np.testing.assert_array_equal(found.X, expected)
                np.testing.assert_array_equal(found.x_in.toarray(), expected)


def test_a_trace_says_what_was_used():
    X = sp.csr_array(DATA["counts"][:9])
    for sparse in ("yes", "no"):
        found = model("poisson", sparse).trace(X)
        text = str(found)
        assert (
            ("X W, non-zeros of X alone" in text) == (sparse == "yes") == ("dW = Xᵀ dA, non-zeros of X alone" in text)
        )
        np.testing.assert_array_equal(found["X"], X.toarray())


@pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")
@pytest.mark.parametrize("resident", [True, False])
def test_rows_cross_to_a_device_as_they_are_and_become_dense_there(resident, monkeypatch):
    X, states = sp.csr_array(DATA["counts"]), []
    standin.install(monkeypatch, nvmath=True)
    monkeypatch.setattr(rows_of, "DEVICE_BYTES", 2**31 if resident else 0)
    for given in (X, DATA["counts"]):
        vae = mv.VAE(D, 3, (8,), likelihood="poisson", backend="cupy", dtype="float64")
        crossed = []
        asarray = vae.backend.asarray
        monkeypatch.setattr(
            vae.backend, "asarray", lambda x, *dtype, to=asarray, n=crossed: n.append(x) or to(x, *dtype)
        )
        training = Training(vae, given, Options(epochs=2, batch_size=64, binarize="none"))
        assert (training.graphs is not None) == (given is not X or resident)
        crossed.clear()
        training.run()
        assert given is not X or max(x.size for x in crossed) < X.nnz
        states.append((vae.backend.to_host(vae.buffer.state), vae.encode(given)[0], vae.log_likelihood(given, 3)[0]))
    for mine, expected in zip(*states, strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_nothing_larger_than_a_batch_is_dense(monkeypatch):
    """6,000 rows of 1,000 columns are 24 MB; one batch is half an MB."""
    monkeypatch.setattr("minivae.evaluation.dealt.BLOCK_VALUES", 128_000)
    N, columns, batch_size = 6_000, 1_000, 128
    rng = np.random.default_rng(0)
    indices = np.sort(rng.integers(0, columns // 10, (N, 10)) + np.arange(0, columns, columns // 10), axis=1)
    X = sp.csr_array((np.ones(10 * N, np.float32), indices.ravel(), np.arange(0, 10 * N + 1, 10)), (N, columns))
    vae = mv.VAE(columns, 2, (4,), likelihood="poisson")
    vae.fit(X[:256], epochs=1, batch_size=batch_size)
    evaluate(vae, X[:9])  # compiles, as the line before
    usage(vae, X[:9])
    vae.log_likelihood(X[:9], samples=2)
    dense = 4 * batch_size * columns
    tracemalloc.start()
    try:
        vae.fit(X, epochs=1, batch_size=batch_size)
        assert tracemalloc.get_traced_memory()[1] < 4 * X.data.nbytes + 4 * X.indices.nbytes + 4 * dense
        tracemalloc.reset_peak()
        vae.encode(X)
        evaluate(vae, X)
        usage(vae, X[:150])
        vae.log_likelihood(X[:100], samples=50)
        assert tracemalloc.get_traced_memory()[1] < 4 * X.data.nbytes + 4 * X.indices.nbytes + 4 * dense
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_training_on_fifty_thousand_wide_rows_holds_less_than_500_mb(tmp_path):
    """Dense they are 4 GB; files of libraries apart. No other process writes to this cache: the first run fills it."""
    script = Path(__file__).parents[1] / "scripts" / "sparse_memory.py"
    cached = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, script, "--rows", "1000", "--steps", "2"], env=cached, timeout=300, check=True)
    run = subprocess.run([sys.executable, script], env=cached, capture_output=True, text=True, timeout=500, check=True)
    assert float(run.stdout.rpartition("and ")[2].removesuffix(" MB\n").replace(",", "")) < 500, run.stdout
