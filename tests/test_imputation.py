"""vae.impute: closed forms, the likeliest class, proper draws, and rows on their own."""

import importlib.util
from pathlib import Path

import hostcuda
import numpy as np
import pytest
import standin
from tolerances import assert_sums

import minivae as mv

RNG = np.random.default_rng(8)
N, D, L = 40, 5, 2
TABLE = "mixed:real=0-1;categorical:3=2;binary=3;ordinal:4=4"


def linear(**more):
    """A linear Gaussian model with gaps in rows drawn from it: E[x_missing|x_observed] and its covariance are known."""
    vae = mv.VAE(
        D, L, (), "identity", "gaussian:1", missing=True, dtype="float64", seed=1, **{"backend": "numpy"} | more
    )
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(L, D)), rng.normal(size=D)
    vae.backend.assign(vae.parameters["encoder.0.W"], np.zeros((2 * D, 2 * L)))  # q(z|x) is the prior
    vae.backend.assign(vae.parameters["decoder.0.W"], W)
    vae.backend.assign(vae.parameters["decoder.0.b"], b)
    vae.scale = mv.Scale.fit("standard", 3 * rng.normal(size=(50, D)) + 7)
    factor = vae.scale.factor
    full = vae.scale.undo(rng.normal(size=(N, L)) @ W + b + rng.normal(size=(N, D)))
    gaps = rng.random((N, D)) < 0.4
    gaps[0], gaps[1] = True, False
    return (
        vae,
        np.where(gaps, np.nan, full),
        gaps,
        b * factor + vae.scale.shift,
        (W.T @ W + np.eye(D)) * np.outer(factor, factor),
    )


def conditional(x, gaps, mean, covariance):
    """Mean and covariance of the missing cells of one row."""
    seen = ~gaps
    gain = covariance[np.ix_(gaps, seen)] @ np.linalg.pinv(covariance[np.ix_(seen, seen)])
    return (
        mean[gaps] + gain @ (x[seen] - mean[seen]),
        covariance[np.ix_(gaps, gaps)] - gain @ covariance[np.ix_(seen, gaps)],
    )


def test_a_number_is_filled_with_its_conditional_mean():
    vae, X, gaps, mean, covariance = linear()
    filled = vae.impute(X, samples=20000)
    np.testing.assert_array_equal(filled[~gaps], X[~gaps])
    for n in range(N):
        expected, spread = conditional(X[n], gaps[n], mean, covariance)
        assert (np.abs(filled[n, gaps[n]] - expected) <= 0.15 * np.sqrt(np.diag(spread))).all()


def test_draws_have_the_conditional_mean_and_covariance():
    vae, X, gaps, mean, covariance = linear()
    n, m = 5, 600
    assert 1 < gaps[n].sum() < D
    draws = vae.impute(X[n : n + 1], draws=m, samples=4000)
    assert draws.shape == (m, 1, D)
    np.testing.assert_array_equal(draws[:, 0, ~gaps[n]], np.tile(X[n, ~gaps[n]], (m, 1)))
    expected, spread = conditional(X[n], gaps[n], mean, covariance)
    x = draws[:, 0, gaps[n]]
    error = 5 * np.sqrt(np.diag(spread) / m)
    assert (np.abs(x.mean(axis=0) - expected) <= error).all()
    assert np.abs(np.cov(x.T) - spread).max() <= 0.35 * np.diag(spread).max()
    assert len(np.unique(x[:, 0])) == m


def table():
    X = np.column_stack([RNG.normal(size=(300, 2)), *(RNG.integers(0, k, 300) for k in (3, 2, 4))]).astype(float)
    X[:, 2] = X[:, 0] > 0  # a class that another column says, of which the third never comes
    vae = mv.VAE(D, L, (16,), "tanh", TABLE, "iwae", 5, missing=True, backend="numpy", seed=1)
    vae.fit(X, epochs=60, batch_size=50, optimizer=mv.Adam(1e-2), progress=False)
    return vae, X


def test_a_class_is_filled_with_the_likeliest_and_drawn_from_all():
    vae, X = table()
    holes = X.copy()
    holes[:100, 2:] = np.nan
    filled, draws = vae.impute(holes, samples=200), vae.impute(holes, draws=3, samples=200)
    for x in (filled, *draws):
        for part in vae.likelihood.parts:
            part.likelihood.check(x[:, list(part.columns)])
    assert (filled[:100, 2] == X[:100, 2]).mean() > 0.9
    assert 0.1 < filled[:100, 3].mean() < 0.9 or draws[:, :100, 3].std() > 0.3
    assert (draws[0] != draws[1]).any()


def test_a_rows_filling_is_its_own():
    vae, X, *_ = linear()
    whole = vae.impute(X, samples=50)
    alone = np.concatenate([vae.impute(X[n : n + 1], samples=50, rows=np.array([n])) for n in range(N)])
    assert_sums(alone, whole, "model")
    np.testing.assert_array_equal(vae.impute(X, samples=50, draws=2), vae.impute(X, samples=50, draws=2))


def test_the_tiles_of_samples_add_up(monkeypatch):
    from minivae.evaluation import imputation

    vae, X, *_ = linear()
    whole, draws = vae.impute(X, samples=90), vae.impute(X, draws=2, samples=90)
    monkeypatch.setattr(imputation, "TILE_ROWS", 7 * N)
    assert_sums(vae.impute(X, samples=90), whole, "model")
    assert_sums(vae.impute(X, draws=2, samples=90), draws, "model")


def test_the_reproduction_of_miwae_takes_half_of_the_cells_and_beats_column_means():
    pytest.importorskip("sklearn")
    spec = importlib.util.spec_from_file_location("miwae", Path(__file__).parent.parent / "reproductions" / "miwae.py")
    miwae = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(miwae)
    full, holes = miwae.data()
    assert np.isnan(holes).sum() == holes.size // 2
    assert miwae.error(full, holes, np.where(np.isnan(holes), np.nanmean(holes, axis=0), holes)) == pytest.approx(
        1.028, abs=1e-3
    )
    assert miwae.error(full, holes, miwae.train(holes, 25, 0).impute(holes, samples=100)) < 0.5


def test_a_model_without_missing_cells_says_how():
    with pytest.raises(mv.UsageError, match="missing=True"):
        mv.VAE(D, backend="numpy").impute(np.zeros((2, D)))


@pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")
def test_on_a_device_fillings_are_the_cpus(monkeypatch):
    standin.install(monkeypatch, nvmath=True)
    (there, X, *_), (here, *_) = linear(backend="cupy"), linear()
    assert_sums(there.impute(X[:9], samples=30), here.impute(X[:9], samples=30), "training")
    assert there.impute(X[:9], draws=2, samples=30).shape == (2, 9, D)
