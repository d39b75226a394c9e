"""Every likelihood in a whole model: it learns, is saved, resumes bit for bit, reconstructs and samples."""

import warnings

import numpy as np
import pytest
from tolerances import assert_sums

import minivae as mv
from minivae.errors import UsageError, UsageWarning
from minivae.evaluation.annealing import annealed, enclose
from minivae.evaluation.bounds import evaluate, fit_closed_form
from minivae.evaluation.latents import usage
from minivae.training.batches import Batches

RNG = np.random.default_rng(0)
N, D = 230, 6


def _real(n=N):
    """Rows near a line."""
    z = RNG.normal(size=(n, 1))
    return (z * np.linspace(-1, 1, D) + 0.2 * RNG.normal(size=(n, D))).astype(np.float32)


REAL = _real()
UNIT = (1 / (1 + np.exp(-2 * REAL))).astype(np.float32)
DATA = {
    "bernoulli": (REAL > 0).astype(np.float32),
    **{name.replace("σ", "0.5"): REAL for name, cls in mv.LIKELIHOODS.items() if cls.domain == "real"},
    "continuous-bernoulli": UNIT,
    "categorical:4": np.digitize(REAL, [-1, 0, 1]).astype(np.float32),
    "poisson": RNG.poisson(np.exp(1 + REAL)).astype(np.float32),
    "negative-binomial": RNG.negative_binomial(2, 1 / (1 + np.exp(1 + REAL))).astype(np.float32),
}


def model(name, **more):
    return mv.VAE(D, 2, (12,), likelihood=name, backend="numpy", **{"seed": 3} | more)


def fit(vae, data, **options):
    return vae.fit(data, **{"epochs": 3, "batch_size": 50, "optimizer": mv.Adam(1e-2), "progress": False} | options)


def test_every_likelihood_is_tried_here():
    assert {name.replace("0.5", "σ").replace(":4", ":K") for name in DATA} == set(mv.LIKELIHOODS)


@pytest.mark.parametrize("name", DATA)
def test_it_learns_and_its_rows_come_back(name):
    vae, X = model(name), DATA[name]
    before = evaluate(vae, X).elbo
    fit(vae, X, epochs=25)
    assert evaluate(vae, X).elbo > before + 0.5
    assert vae.reconstruct(X).shape == X.shape and np.isfinite(vae.sample(20)).all()
    drawn = vae.sample(200, draw=True)
    vae.likelihood.check(drawn)
    assert np.isfinite(vae.log_likelihood(X[:5], samples=20)[0]).all()


@pytest.mark.parametrize("scale", ["none", "auto"])
@pytest.mark.parametrize("name", DATA)
def test_a_constant_column_is_named_where_its_density_would_be_ever_narrower(name, scale):
    X = DATA[name].copy()
    X[:, [1, 4]] = X[0, [1, 4]]
    vae = model(name)
    vae.columns = list("abcdef")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(vae, X, epochs=1, scale=scale)
    said = [f"{each.filename}: {each.message}" for each in caught if "constant" in str(each.message)]
    assert len(said) == (name in ("gaussian", "laplace"))
    assert not said or f"{__file__}: constant in the training rows: columns b, e. Likelihood '{name}'" in said[0]


def test_many_constant_columns_are_counted_and_missing_cells_do_not_make_one_vary():
    X = np.where(RNG.random((230, D)) < 0.1, np.nan, 7).astype(np.float32)
    vae = mv.VAE(D, 2, (12,), likelihood="gaussian", backend="numpy", missing=True)
    with pytest.warns(UsageWarning, match=r"rows: columns 0, 1, 2, 3, 4, … \(6 of 6\)\. Like"):
        fit(vae, X, epochs=1)


@pytest.mark.parametrize("name", DATA)
def test_a_saved_model_is_the_model(name, tmp_path):
    vae, X = model(name, samples=2), DATA[name]
    fit(vae, X, epochs=1)
    vae.save(tmp_path / "m.safetensors")
    again = mv.VAE.load(tmp_path / "m.safetensors", backend="numpy")
    assert again.config() == vae.config() and again.likelihood.name == name
    np.testing.assert_array_equal(again.buffer.state, vae.buffer.state)
    assert evaluate(again, X) == evaluate(vae, X)
    np.testing.assert_array_equal(again.sample(9, draw=True), vae.sample(9, draw=True))


class Stop(Exception):
    pass


@pytest.mark.parametrize(
    "name, at_step", [*((name, 7) for name in DATA), ("gaussian:optimal", 3), ("gaussian:optimal", 5)]
)
def test_a_resumed_run_ends_with_the_same_bytes(name, at_step, tmp_path, monkeypatch):
    """Cut inside an epoch, and at its end; and taken up where nothing is left to do."""
    X, real, steps = DATA[name], mv.VAE.step, 0
    options = {"validation": X[:40], "epochs": 3, "save_seconds": 0.0}
    fit(model(name), X, run=tmp_path / "whole", **options)

    def step(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        if steps > at_step:
            raise Stop
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(mv.VAE, "step", step)
        fit(model(name), X, run=tmp_path / "cut", **options)
    fit(model(name), X, run=tmp_path / "cut", resume=True, **options)
    fit(model(name), X, run=tmp_path / "cut", resume=True, **options)
    whole, cut = ((tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "cut"))
    assert whole == cut


LOOKS = {
    "objective": lambda vae, X: vae.objective(X),
    "evaluate": evaluate,
    "log_likelihood": lambda vae, X: vae.log_likelihood(X, 3),
    "usage": usage,
    "annealed": lambda vae, X: annealed(vae, X[:2], temperatures=3, chains=2, leapfrog=2),
    "enclose": lambda vae, X: enclose(vae, 2, temperatures=3, chains=2, leapfrog=2),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", DATA)
def test_evaluating_a_model_changes_neither_it_nor_its_gradients(name, look):
    vae, X = model(name), DATA[name][:20]
    vae.objective_and_grad(X)
    before = vae.buffer.grad.copy(), vae.buffer.state.copy(), np.copy(vae.likelihood.clamped)
    LOOKS[look](vae, X)
    np.testing.assert_array_equal(vae.buffer.grad, before[0])
    np.testing.assert_array_equal(vae.buffer.state, before[1])
    np.testing.assert_array_equal(vae.likelihood.clamped, before[2])


@pytest.mark.parametrize("name", ["poisson", "negative-binomial", "categorical:4"])
def test_whole_numbers_are_not_scaled(name):
    with pytest.raises(UsageError, match=f"'{name}' explains integers.*'minmax'.*--scale none"):
        fit(model(name), DATA[name], scale=mv.Scale.fit("minmax", DATA[name]))
    fit(model(name), DATA[name], epochs=1, scale=mv.Scale.fit("none", DATA[name]))


@pytest.mark.filterwarnings("error::minivae.UsageWarning")
def test_a_scaled_density_is_one_of_the_datas_own_units():
    """The same data times ten: nats differ by D ln 10."""
    found = []
    for unit in (1.0, 10.0):
        vae, data = model("continuous-bernoulli", dtype="float64"), unit * UNIT.astype(float)
        scale = mv.Scale.fit("minmax", data)
        fit(vae, data, epochs=1, scale=scale)
        found.append(evaluate(vae, data, scale=scale).nll)
    assert found[1] - found[0] == pytest.approx(D * np.log(10), rel=1e-9)


# ---- the variance that is kept --------------------------------------------------------------------------------------


def _squared_error(vae, X):
    """Over all rows, with the noise that evaluation draws."""
    eps = np.empty((1, len(X), vae.latent_dim), vae.backend.dtype)
    vae.noise.normal(eps, "evaluation", np.arange(len(X)), 0)
    mean, logvar = vae.encode(X)
    return np.mean((vae.decode(mean + np.exp(0.5 * logvar) * eps[0]) - X) ** 2, dtype=np.float64)


def test_after_each_epoch_the_optimal_variance_is_that_of_all_training_rows():
    vae, kept = model("gaussian:optimal", dtype="float64"), []
    history = fit(
        vae, REAL, callback=lambda row: kept.append((vae.likelihood.logvar[0], np.log(_squared_error(vae, REAL))))
    )
    assert len(kept) == 3 and history["bound"] == ["no"] * 3
    for held, expected in kept:
        assert held == pytest.approx(expected, rel=1e-12)
    assert set(history["clamped"]) == {0}


def test_evaluation_uses_the_fitted_variance_and_does_not_change_it():
    vae = model("gaussian:optimal", dtype="float64")
    fit(vae, REAL, epochs=1)
    kept = vae.likelihood.logvar.copy()
    fixed = mv.VAE(D, 2, (12,), likelihood=f"gaussian:{float(np.exp(0.5 * kept[0]))!r}", dtype="float64", seed=3)
    fixed.buffer.data[...] = vae.buffer.data
    others = REAL[:7] * 3
    assert evaluate(vae, others).elbo == pytest.approx(evaluate(fixed, others).elbo, rel=1e-12)
    assert_sums(vae.log_likelihood(others, 9)[0], fixed.log_likelihood(others, 9)[0], of="model")
    assert_sums(vae.sample(5, draw=True), fixed.sample(5, draw=True), of="model")
    vae.objective(others)
    vae.objective_and_grad(others)
    np.testing.assert_array_equal(vae.likelihood.logvar, kept)


def test_a_batchs_own_variance_fits_it_better_than_the_fitted_one():
    vae = model("gaussian:optimal", dtype="float64")
    fit(vae, REAL, epochs=1)
    assert vae.objective(REAL[:7] * 3).elbo > evaluate(vae, REAL[:7] * 3).elbo + 0.1


def test_validation_keeps_the_variance_of_the_best_epoch(tmp_path):
    """A learning rate that ruins the model: the best epoch is not the last."""
    vae, kept = model("gaussian:optimal"), []
    history = fit(
        vae, REAL, epochs=6, optimizer=mv.Adam(0.3), validation=REAL[:40], run=tmp_path / "r",
        callback=lambda row: kept.append(float(vae.likelihood.logvar[0])),
    )  # fmt: skip
    assert history.best_epoch is not None and history.best_epoch < 6
    best, last = kept[history.best_epoch - 1], kept[-1]
    assert vae.likelihood.logvar[0] == best != last
    for which, expected in (("best", best), ("last", last)):
        held = mv.VAE.load(tmp_path / "r/model.safetensors", which=which, backend="numpy")
        assert held.likelihood.logvar[0] == expected


def test_a_loop_over_train_step_keeps_the_last_batchs_variance():
    vae, optimizer = model("gaussian:optimal", dtype="float64"), mv.Adam(1e-2)
    terms = vae.train_step(REAL[:50], optimizer)
    squared = np.exp(vae.likelihood.logvar[0])
    assert terms.nll == pytest.approx(D / 2 * (np.log(2 * np.pi * squared) + 1), rel=1e-12)
    fit_closed_form(vae, Batches(vae, REAL))
    assert vae.likelihood.logvar[0] == pytest.approx(np.log(_squared_error(vae, REAL)), rel=1e-12)


def test_no_optimizer_changes_the_fitted_variance():
    vae = model("gaussian:optimal")
    assert "likelihood.logvar" not in vae.parameters and vae.buffer.grad.shape == vae.buffer.data.shape
    assert vae.buffer.count == model("gaussian:0.5").buffer.count
    vae.train_step(REAL[:50], mv.AdamW(1e-2, weight_decay=10.0))
    first = float(vae.likelihood.logvar[0])
    vae.train_step(REAL[:50], mv.AdamW(1e-2, weight_decay=10.0))
    assert abs(vae.likelihood.logvar[0] - first) < 1


# ---- the variance that is learned -----------------------------------------------------------------------------------


def test_the_shared_variance_is_learned():
    vae = model("gaussian:shared")
    fit(vae, REAL, epochs=150)
    learned = float(vae.parameters["likelihood.logvar"][0])
    assert learned == pytest.approx(np.log(_squared_error(vae, REAL)), abs=0.15)
    assert learned < np.log(0.1)
