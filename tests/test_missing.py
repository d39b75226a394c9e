"""Missing cells: NaN in X, where the model is made with missing=True."""

import hostcuda
import numpy as np
import pytest
import standin
from scipy.stats import multivariate_normal, norm
from tolerances import assert_close, assert_sums

import minivae as mv
from minivae.evaluation import bounds
from minivae.evaluation.annealing import annealed
from minivae.evaluation.bounds import evaluate
from minivae.evaluation.latents import usage
from minivae.training.batches import Batches

RNG = np.random.default_rng(11)
N, D, L = 60, 5, 2
FULL = RNG.normal(size=(N, D)) @ RNG.normal(size=(D, D)) + 3
GAPS = RNG.random((N, D)) < 0.3
GAPS[0], GAPS[1] = True, False  # a row of nothing, a row without a gap
HOLES = np.where(GAPS, np.nan, FULL)


def model(likelihood="gaussian:0.5", objective="elbo", samples=1, hidden=(6,), **more):
    more = {"missing": True, "backend": "numpy", "dtype": "float64", "seed": 2} | more
    return mv.VAE(D, L, hidden, "tanh", likelihood, objective, samples, **more)


def test_the_encoder_sees_zeros_and_which_cells_are_missing():
    vae, plain = model(), mv.VAE(2 * D, L, (6,), "tanh", "gaussian", backend="numpy", dtype="float64")
    for name in ("encoder.0.W", "encoder.0.b", "encoder.1.W", "encoder.1.b"):
        plain.parameters[name][...] = vae.parameters[name]
    seen = np.concatenate([np.where(GAPS, 0, FULL), GAPS], axis=1)
    for ours, theirs in zip(vae.encode(HOLES), plain.encode(seen), strict=True):
        assert_close(ours, theirs, "float64")


@pytest.mark.parametrize("objective, samples", [("elbo", 2), ("iwae", 3)])
def test_the_nll_is_scipys_over_the_observed_cells(objective, samples):
    vae, eps = model(objective=objective, samples=samples), RNG.normal(size=(samples, N, L))
    terms = vae.objective(HOLES, eps)
    mean, logvar = vae.encode(HOLES)
    expected = 0.0
    for s in range(samples):
        x = vae.decode(mean + np.exp(0.5 * logvar) * eps[s])
        expected = expected - np.where(GAPS, 0, norm.logpdf(FULL, x, 0.5)).sum(axis=1) / samples
    assert_sums(terms.nll_rows, expected, "sums")
    assert terms.nll_rows[0] == 0


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian:shared", "gaussian:optimal"])
def test_gradients_agree_with_differences(likelihood):
    for objective, samples in [("elbo", 1), ("iwae", 3)]:
        if likelihood == "gaussian:optimal" and objective == "iwae":
            continue
        vae, eps = model(likelihood, objective, samples), RNG.normal(size=(samples, N, L))
        vae.objective_and_grad(HOLES, eps)
        G, start, h, losses = vae.buffer.grad.copy(), vae.buffer.data.copy(), 1e-5, []
        direction = RNG.normal(size=G.shape)
        for step in (h, -h):
            vae.buffer.data[...] = start + step * direction
            losses.append(vae.objective(HOLES, eps).loss)
        assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(float((G * direction).sum()), rel=1e-7)


def linear():
    """A linear Gaussian model in standardised units, rows drawn from it with gaps, and ln p(x_observed) (N,)."""
    vae = model("gaussian:1", hidden=(), dtype="float64")
    vae.parameters["encoder.0.W"][...] = 0  # q(z|x) is the prior
    vae.parameters["decoder.0.W"][...] = W = 0.7 * RNG.normal(size=(L, D))
    vae.parameters["decoder.0.b"][...] = b = RNG.normal(size=D)
    vae.scale = mv.Scale.fit("standard", FULL)
    shift, factor = vae.scale.shift, vae.scale.factor
    X = np.where(GAPS, np.nan, vae.sample(N, draw=True))
    covariance, expected = (W.T @ W + np.eye(D)) * np.outer(factor, factor), np.zeros(N)
    for n in np.flatnonzero(~GAPS.all(axis=1)):
        seen = ~GAPS[n]
        mean, within = (b * factor + shift)[seen], covariance[np.ix_(seen, seen)]
        expected[n] = multivariate_normal.logpdf(X[n, seen], mean, within)
    return vae, X, expected


def test_ln_p_of_the_observed_cells_is_the_closed_form():
    vae, X, expected = linear()
    found, error = vae.log_likelihood(X, samples=4000)
    assert (np.abs(found - expected) <= 5 * error + 1e-12).all()
    assert np.median(error) < 0.05
    chains = annealed(vae, X[:4], temperatures=60, chains=32, leapfrog=5)
    assert (np.abs(chains.log_px - expected[:4]) <= 5 * chains.error + 1e-12).all()


def test_means_over_rows_count_the_observed_cells_of_each():
    vae, X, _ = linear()
    whole = evaluate(vae, X)
    alone = np.array([evaluate(vae, X[n : n + 1], rows=np.array([n])).nll for n in range(N)])
    assert_sums(whole.nll, alone.mean(), "model")
    assert_sums(usage(vae, X).distortion, whole.nll, "model")
    assert alone[0] == 0


def test_the_statistics_of_a_scale_are_those_of_the_observed_cells():
    scale = mv.Scale.fit("standard", np.column_stack([HOLES, np.where(GAPS[:, 0], np.nan, 4.0)]), missing=True)
    assert scale.shift[D] == 4 and scale.factor[D] == 1
    assert_sums(scale.shift[:D], np.nanmean(HOLES, axis=0), "sums")
    assert_sums(scale.factor[:D], np.nanstd(HOLES, axis=0), "sums")
    weights = RNG.random(N)
    scale = mv.Scale.fit("standard", HOLES, weights, missing=True)
    mean = np.array([np.average(FULL[~GAPS[:, d], d], weights=weights[~GAPS[:, d]]) for d in range(D)])
    assert_sums(scale.shift, mean, "sums")
    with pytest.raises(mv.UsageError, match="column 0 cannot be scaled: all of its cells are missing"):
        mv.Scale.fit("standard", np.full((3, 1), np.nan), missing=True)


def test_the_closed_form_variance_after_an_epoch_is_over_all_observed_cells(monkeypatch):
    monkeypatch.setattr(bounds, "BATCH_ROWS", 7)
    vae = model("gaussian:optimal")
    vae.fit(HOLES, epochs=1, batch_size=16, progress=False)
    batches = Batches(vae, HOLES)
    (_, X, numbers), *_ = batches.in_order(N)
    vae.forward(X, vae.epsilon(None, N, "evaluation", numbers, 0), 1.0, 0.0)
    x = vae.decoder.layers[-1].Y
    assert_sums(np.exp(vae.likelihood.logvar[0]), ((x - FULL)[~GAPS] ** 2).mean(), "model")


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_training_saving_and_scoring(tmp_path, objective):
    vae = model("gaussian", objective, samples=3)
    history = vae.fit(HOLES, epochs=30, batch_size=20, scale="standard", validation=HOLES[:20], progress=False)
    assert history["loss"][-1] < history["loss"][0] and np.isfinite(history["val_elbo"]).all()
    vae.save(tmp_path / "model.safetensors")
    again = mv.VAE.load(tmp_path / "model.safetensors", backend="numpy")
    assert again.missing and again.config() == vae.config()
    np.testing.assert_array_equal(again.log_likelihood(HOLES, samples=4)[0], vae.log_likelihood(HOLES, samples=4)[0])
    assert np.isfinite(again.reconstruct(HOLES)).all()
    assert vae.trace(HOLES).terms.loss == vae.objective(HOLES).loss


def test_a_likelihood_is_chosen_by_the_observed_cells():
    vae = model("auto")
    vae.fit(HOLES, epochs=1, scale="auto", progress=False)
    assert vae.likelihood.name == "gaussian" and vae.scale.kind == "standard"
    bits = model("auto")
    bits.fit(np.where(GAPS, np.nan, FULL > 3), epochs=1, progress=False)
    assert bits.likelihood.name == "bernoulli"


@pytest.mark.parametrize(
    "mistake, words",
    [
        (lambda: model(missing=False).fit(HOLES, epochs=1), "NaN or infinite.*missing=True"),
        (lambda: model().fit(np.where(GAPS, np.inf, FULL), epochs=1), "are infinite, the first in row 0, column 0"),
        (lambda: model("bernoulli").fit(HOLES > 3, binarize="threshold"), "binarize='threshold' with missing=True"),
        (lambda: model("poisson").fit(np.where(GAPS, np.nan, -1.0)), "explains counts"),
        (lambda: model(missing=1), "missing=1: expected True or False"),
    ],
)
def test_mistakes_get_one_line(mistake, words):
    with pytest.raises(mv.UsageError, match=words) as refused:
        mistake()
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian:optimal"])
def test_on_a_device_captured_or_not_training_is_the_cpus(monkeypatch, likelihood):
    standin.install(monkeypatch, nvmath=True)
    found = []
    for backend, capture in (("cupy", True), ("cupy", False), ("numpy", False)):
        vae = model(likelihood, backend=backend)
        vae.backend.capture = capture
        found.append(vae.fit(HOLES, epochs=2, batch_size=20, progress=False)["loss"])
    assert found[0] == found[1]
    assert_sums(found[0], found[2], "training")
