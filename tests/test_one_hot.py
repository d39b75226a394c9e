"""Products with one-hot columns by their ones: those of the dense columns, to the bit where sums are in order."""

import numpy as np
import pytest
from tolerances import assert_sums

import minivae as mv
from minivae import backend, kernels
from minivae.inputs import as_batch
from minivae.kernels import _sparse
from minivae.matmul.one_hot import Layout, OneHot

RNG = np.random.default_rng(2)
B, H = 70, 33
DENSE = [0, 1, -1]
# classes → the columns of X that have so many; X has others, a gap, and values that are no class
BLOCKS = {3: [1, 4], 9: [0], 300: [5, 2]}
X = np.column_stack([RNG.integers(0, k, B) for k in (9, 3, 300, 7, 3, 300)]).astype(float)
X[3, 0], X[4, 1], X[5, 2], X[6, 4] = np.nan, 3, 1.5, -1


def dense_columns(X):
    """By NumPy: two columns as they are, then those of 0 and 1, block by block and class by class, one as it is."""
    hot = [(k == X[:, columns]) for classes, columns in BLOCKS.items() for k in range(classes)]
    return np.hstack([X[:, [3, 3]], *hot, X[:, [3]]]).astype(float)


def one_hot(X):
    blocks, first = [], 2
    for classes, columns in BLOCKS.items():
        blocks.append((first, classes, np.array(columns)))
        first += classes * len(columns)
    dense = dense_columns(X)[:, DENSE]
    return OneHot(Layout(blocks, first + 1), dense, X, lambda out, A, M: np.matmul(A, M, out=out), scratch)


def scratch(name, shape, dtype=np.float64):
    return np.empty(shape, dtype)


@pytest.mark.parametrize("threads", [1, 2])
def test_products_are_those_of_the_dense_columns(threads, monkeypatch):
    monkeypatch.setattr(_sparse, "GRAIN", 1)
    full, found = dense_columns(X), one_hot(X)
    np.testing.assert_array_equal(found.toarray(), full)
    W, dA = RNG.normal(size=(full.shape[1], H)), RNG.normal(size=(B, H))
    Y, dW = np.full((B, H), np.nan), np.full(W.shape, np.nan)
    kernels.limit_threads(threads)
    try:
        found.gemm(Y, found, W)
        found.gemm(dW, found.T, dA)
    finally:
        kernels.limit_threads(backend.threads())
    assert_sums(dW, full.T @ dA, summed=np.abs(full.T) @ np.abs(dA))
    expected, first = np.zeros((B, H)), 2
    for classes, columns in BLOCKS.items():  # in the order of the features
        for j, column in enumerate(columns):
            there = np.isin(X[:, column], range(classes))
            expected[there] += W[first + j + len(columns) * X[there, column].astype(int)]
        first += classes * len(columns)
    np.testing.assert_array_equal(Y, expected + full[:, DENSE] @ W[DENSE])


@pytest.mark.parametrize("missing", [False, True])
def test_a_table_trains_as_with_dense_columns(missing):
    rows = np.column_stack([RNG.normal(size=(90, 2)), RNG.poisson(2, 90), RNG.integers(0, 16, (90, 2))])
    labels = np.arange(90) % 2
    if missing:
        rows[RNG.random(rows.shape) < 0.2] = np.nan
    found = []
    for sparse in ("auto", "no"):
        where = mv.Backend("numpy", dtype="float64", sparse=sparse)
        spec = "mixed:categorical:16=3-4;real=0-1;count=2"
        vae = mv.VAE(5, 2, (6,), "tanh", spec, backend=where, missing=missing, condition=labels)
        given = vae.given(rows, labels)
        history = vae.fit(given, epochs=2, batch_size=30, validation=vae.given(rows[:20], 1), progress=False)
        traced = vae.trace(given)
        assert hasattr(as_batch(vae, rows, vae.given(rows, labels)).x_in, "times") == (sparse == "auto")
        found.append([history["loss"], history["val_elbo"], vae.buffer.data.copy(), traced["x_in"].ravel(),
                      traced.terms.loss, vae.encode(rows, condition=0)[0]])  # fmt: skip
    for ours, theirs in zip(*found, strict=True):
        assert_sums(ours, theirs, "training")
