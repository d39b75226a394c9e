"""Annealed importance sampling: exact marginals of linear-Gaussian models, quadrature, the check from both sides."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import standin
from scipy import stats
from test_vae import linear_gaussian, set_encoder
from tolerances import assert_sums

import minivae as mv
from minivae.errors import UsageError
from minivae.evaluation.annealing import BACK, FORTH, PILOT, AnnealedPath, annealed, enclose, schedule
from minivae.evaluation.bounds import log_likelihood
from minivae.inputs import as_batch, native

SIGMA = 0.7


def exact_model(**more):
    """A linear-Gaussian model with the exact posterior's mean and variances, its marginal and its posterior."""
    vae, W, b, marginal, covariance = linear_gaussian(sigma=SIGMA, rng=np.random.default_rng(5), **more)
    set_encoder(vae, W, b, covariance, SIGMA)
    return vae, marginal, lambda x: stats.multivariate_normal(covariance @ W @ (x - b) / SIGMA**2, covariance)


def path_of(vae, X, T=20, C=8, leapfrog=5):
    return AnnealedPath(vae, as_batch(vae, native(vae, "X", X)), vae.noise.rows(0, len(X)), T, C, leapfrog)


def test_ais_and_importance_sampling_find_the_exact_marginal_within_their_errors():
    vae, marginal, _ = exact_model()
    X = marginal.rvs(40, random_state=0)
    ais = annealed(vae, X, temperatures=150, chains=64, leapfrog=5)
    for log_px, error in ((ais.log_px, ais.error), log_likelihood(vae, X, 2000)):
        z = (log_px - marginal.logpdf(X)) / error
        assert np.abs(z).max() < 5
        assert 0.6 < z.std() < 1.4
        assert error.mean() < 0.1


def test_ais_does_not_depend_on_the_encoder():
    vae, marginal, _ = exact_model()
    X = marginal.rvs(5, random_state=0)
    before = annealed(vae, X, 20, 8)
    vae.parameters["encoder.0.W"][...] = np.nan
    np.testing.assert_array_equal(annealed(vae, X, 20, 8).log_px, before.log_px)


def test_ais_of_a_bernoulli_decoder_is_the_integral_over_z():
    """L = 1: ln ∫ p(x|z) p(z) dz by quadrature, for a decoder that is no longer linear."""
    vae = mv.VAE(6, 1, (5,), "tanh", backend="numpy", dtype="float64", seed=1)
    for name in ("decoder.0.W", "decoder.1.W"):
        vae.parameters[name][...] *= 3
    X = (np.random.default_rng(0).random((8, 6)) < 0.5).astype(float)
    z = np.linspace(-8, 8, 4001)
    log_q = stats.bernoulli.logpmf(X[:, None], vae.decode(z[:, None])).sum(axis=2) + stats.norm.logpdf(z)
    exact = np.log(np.trapezoid(np.exp(log_q), z, axis=1))
    found = annealed(vae, X, 100, 64)
    assert (np.abs(found.log_px - exact) < 4.5 * found.error).all()
    assert found.error.mean() < 0.05


def test_one_temperature_is_importance_sampling_from_the_prior():
    vae, marginal, _ = exact_model()
    X = marginal.rvs(3, random_state=0)
    Z = np.empty((50, 3, 2))
    vae.noise.normal(Z, "AIS", np.arange(3), 0)
    log_w = np.stack([stats.norm.logpdf(X, vae.decode(z), SIGMA).sum(axis=1) for z in Z])
    found = annealed(vae, X, temperatures=1, chains=50)
    assert_sums(found.log_px, np.log(np.exp(log_w).mean(axis=0)), of="model")
    relative = np.exp(log_w).std(axis=0, ddof=1) / np.exp(log_w).mean(axis=0) / np.sqrt(50)
    assert_sums(found.error, relative, of="training")
    assert np.isnan(annealed(vae, X, temperatures=1, chains=1).error).all()


def test_transitions_lead_to_the_exact_posterior():
    """At τ = 1, from the prior: after forty transitions the chains have the posterior's mean and covariance."""
    vae, marginal, posterior = exact_model()
    x = marginal.rvs(1, random_state=0)
    path = path_of(vae, x[None], T=1, C=4000)
    path.tau = [0.0] + [1.0] * 40
    state = path.start(4000, FORTH)
    for t in range(1, 41):
        state, accepted = path.move(state, t, FORTH, np.full(1, 0.3))
    Z, exact = state.Z[:, 0], posterior(x)
    assert 0.7 < accepted[0] < 1
    assert (np.abs(Z.mean(axis=0) - exact.mean) < 4.5 * np.sqrt(np.diag(exact.cov) / 4000)).all()
    np.testing.assert_allclose(np.cov(Z.T), exact.cov, atol=4.5 * np.sqrt(2 / 4000) * np.diag(exact.cov).max())


def test_transitions_with_too_long_a_step_still_preserve_the_posterior():
    """What makes it so is that they are refused, neither never nor always: exact draws stay exact draws."""
    vae, marginal, posterior = exact_model()
    x = marginal.rvs(1, random_state=0)
    path = path_of(vae, x[None], T=1, C=4000)
    path.tau, exact = [0.0] + [1.0] * 10, posterior(x)
    state = path.explain(np.ascontiguousarray(exact.rvs(4000, random_state=1)[:, None]))
    for t in range(1, 11):
        state, accepted = path.move(state, t, FORTH, np.full(1, 0.65))
    assert 0.1 < accepted[0] < 0.7
    for k in range(2):
        marginal_k = stats.norm(exact.mean[k], np.sqrt(exact.cov[k, k]))
        assert stats.kstest(state.Z[:, 0, k], marginal_k.cdf).pvalue > 1e-3


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian:0.5"])
def test_the_gradient_with_respect_to_z_is_that_of_the_nll_and_the_models_gradients_are_unchanged(likelihood):
    vae = mv.VAE(6, 3, (5,), "tanh", likelihood, backend="numpy", dtype="float64")
    X = (np.random.default_rng(0).random((4, 6)) < 0.5).astype(float)
    if likelihood == "gaussian":
        vae.parameters["decoder.1.b"][-1] = -20  # a log-variance that is clamped, and would be counted
    vae.objective_and_grad(X)
    kept = vae.buffer.grad.copy()
    path = path_of(vae, X, T=3)
    state, h = path.start(2, FORTH), 1e-6
    for j in range(3):
        shift = h * np.eye(3)[j]
        above, below = path.explain(state.Z + shift).nll, path.explain(state.Z - shift).nll
        rounding = 8 * np.finfo(float).eps * np.abs(above).max() / h  # of the difference: the clamped NLL is large
        np.testing.assert_allclose(state.d_nll[..., j], (above - below) / (2 * h), rtol=1e-7, atol=max(1e-8, rounding))
    path.forth()
    np.testing.assert_array_equal(vae.buffer.grad, kept)
    if vae.likelihood.clamped is not None:
        assert vae.likelihood.clamped[0] == 0


def test_both_ways_enclose_the_marginal_and_close_in_with_more_temperatures():
    vae, marginal, _ = exact_model()
    exact = marginal.logpdf(vae.sample(60, draw=True))
    gaps = []
    for T in (4, 200):
        found = enclose(vae, 60, temperatures=T, chains=16, leapfrog=5)
        for side, error, sign in ((found.lower, found.lower_error, 1), (found.upper, found.upper_error, -1)):
            beyond = sign * (side - exact)
            assert beyond.mean() < 4 * np.sqrt((error**2).sum()) / 60
        gaps.append(found.gap)
    assert gaps[0] > 0.3 > 0.05 > abs(gaps[1])
    again = enclose(vae, 60, temperatures=4, chains=16, leapfrog=5)
    assert (exact - again.lower).mean() > 0.05
    assert (again.upper - exact).mean() > 0.05


def test_the_two_ways_and_the_pilot_share_no_noise():
    vae, marginal, _ = exact_model()
    path = path_of(vae, marginal.rvs(3, random_state=0))
    forth, back, pilot = (path.start(4, first).Z for first in (FORTH, BACK, PILOT))
    assert not np.isin(forth, back).any()
    assert not np.isin(pilot, [forth, back]).any()


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_the_moves_of_the_two_ways_and_of_the_pilot_share_no_noise(kind, monkeypatch):
    vae, marginal, _ = exact_model()
    X, fill, drawn = marginal.rvs(3, random_state=0), getattr(vae.noise, kind), []

    def noted(out, *arguments, **more):
        fill(out, *arguments, **more)
        drawn.append(out.copy())

    monkeypatch.setattr(vae.noise, kind, noted)
    path = path_of(vae, X, T=4, C=4)
    pilot = np.stack(drawn[-3:])
    path.forth()
    forth = np.stack(drawn[-3:])
    path.back(np.zeros((3, 2)))
    back = np.stack(drawn[-3:])
    for one, other in ((forth, back), (forth, pilot), (back, pilot)):
        assert not np.isin(one, other).any()


def test_the_steps_of_the_integrator_are_taken():
    vae, marginal, _ = exact_model()
    X = marginal.rvs(3, random_state=0)
    assert (annealed(vae, X, 5, 4, leapfrog=1).log_px != annealed(vae, X, 5, 4, leapfrog=5).log_px).all()
    path, asked = path_of(vae, X, T=4, leapfrog=5), []
    explain = path.explain
    path.explain = lambda Z: asked.append(Z) or explain(Z)
    path.forth()
    assert len(asked) == 1 + 3 * 5  # the start, and three moves


def test_acceptance_is_the_share_of_the_last_run_forth():
    vae, marginal, _ = exact_model()
    path, shares = path_of(vae, marginal.rvs(3, random_state=0), T=9, C=4, leapfrog=1), []
    path.steps = [2 * step for step in path.steps]  # so long that some are refused
    move = path.move

    def noted(*arguments):
        state, accepted = move(*arguments)
        shares.append(accepted)
        return state, accepted

    path.move = noted
    path.forth()
    path.forth()
    assert len(shares) == 2 * 8
    assert_sums(path.acceptance(), np.mean(shares[8:], axis=0), of="sum")
    assert 0 < path.acceptance().mean() < 1


def test_the_lower_side_is_ais_of_the_rows_drawn_and_each_side_has_its_own_error():
    vae, _, _ = exact_model()
    both, ais = enclose(vae, 6, 5, 8, 2), annealed(vae, vae.sample(6, draw=True), 5, 8, 2)
    np.testing.assert_array_equal(both.lower, ais.log_px)
    np.testing.assert_array_equal(both.lower_error, ais.error)
    assert both.acceptance == ais.acceptance
    assert (both.upper_error != both.lower_error).all()


def test_a_figure_is_one_number_whatever_the_tile(monkeypatch):
    vae, marginal, _ = exact_model()
    X = marginal.rvs(7, random_state=0)
    whole = annealed(vae, X, 20, 8)
    np.testing.assert_array_equal(annealed(vae, X, 20, 8).log_px, whole.log_px)
    monkeypatch.setattr("minivae.evaluation.annealing.TILE_ROWS", 16)
    assert_sums(annealed(vae, X, 20, 8).log_px, whole.log_px, of="training")
    rows = np.array([3, 0])
    assert_sums(annealed(vae, X[rows], 20, 8, rows=rows).log_px, whole.log_px[rows], of="training")
    small = enclose(vae, 7, 5, 8, 2)
    monkeypatch.setattr("minivae.evaluation.annealing.TILE_ROWS", 2048)
    large = enclose(vae, 7, 5, 8, 2)
    for name in ("lower", "lower_error", "upper", "upper_error"):
        assert_sums(getattr(small, name), getattr(large, name), of="training")


def test_nats_are_in_the_units_of_the_data():
    data = np.random.default_rng(0).normal(size=(6, 3)) * [1, 2, 3] + 5
    vae = mv.VAE(3, 1, (4,), likelihood="gaussian", dtype="float64", backend="numpy")
    results = []
    for unit in (1.0, 1000.0):
        scale = mv.Scale.fit("standard", unit * data)
        enclosed = enclose(vae, 2, 10, 4, scale=scale)
        log_px = annealed(vae, unit * data, 10, 4, scale=scale).log_px
        results.append(np.concatenate([log_px, enclosed.lower, enclosed.upper]))
    assert_sums(results[0] - results[1], 3 * np.log(1000), of="training")


def test_temperatures_rise_from_0_to_1():
    for T in (1, 2, 17):
        tau = schedule(T)
        assert tau[0] == 0 and tau[-1] == 1 and len(tau) == T + 1
        assert (np.diff(tau) > 0).all()
    assert schedule(17)[1] < 1 / 17  # flat at the ends


def test_annealing_on_the_device_equals_numpys(monkeypatch):
    standin.install(monkeypatch)
    arguments = {"kernels": "reference", "dtype": "float64", "likelihood": "gaussian"}
    X = np.random.default_rng(0).normal(size=(3, 6))
    results = []
    for backend in ("cupy", "numpy"):
        vae = mv.VAE(6, 2, (5,), backend=backend, **arguments)
        enclosed = enclose(vae, 3, 5, 4, 3)
        results.append([annealed(vae, X, 5, 4, 3).log_px, enclosed.lower, enclosed.upper])
    assert_sums(*results, of="training")


def test_a_model_with_nan_in_it_gives_nan():
    vae = mv.VAE(6, 2, (5,), backend="numpy")
    vae.parameters["decoder.1.b"][0] = np.nan
    assert np.isnan(annealed(vae, np.zeros((3, 6), np.float32), 5, 4).log_px).all()


def test_the_example_holds_every_estimate_against_the_exact_answer(capsys):
    example = runpy.run_path(str(Path(__file__).resolve().parent.parent / "examples/bounds.py"))
    X, exact = example["X"], example["log_q"](example["X"])
    covariance = example["covariance"]
    assert_sums(exact, stats.multivariate_normal(example["b"], covariance).logpdf(X), of="training")
    example["main"]()
    lines = capsys.readouterr().out.splitlines()
    below = [float(line.split("below by")[1].split("±")[0]) for line in lines if "below by" in line]
    assert below[0] == 0
    assert below[1] > below[2] > below[3] > 0.1 > abs(below[6])  # K = 1, 2, 5 … 500
    assert max(map(abs, (below[7], below[8], below[10]))) < 0.05 < 5 < below[9]  # an encoder off by 3 fools one alone
    assert sum("gap" in line for line in lines) == 3


X4 = np.zeros((4, 6))


@pytest.mark.parametrize(
    "action, match",
    [
        (lambda v: annealed(v, X4, temperatures=0), "temperatures=0: expected an integer of at least 1"),
        (lambda v: annealed(v, X4, chains=0), "chains=0"),
        (lambda v: annealed(v, X4, leapfrog=0), "leapfrog=0"),
        (lambda v: annealed(v, X4[:, :5]), r"\(rows, 6\)"),
        (lambda v: enclose(v, 0), "n=0"),
        (lambda v: enclose(v, 2, 10**9, scale="standard"), "scale='standard': expected a mv.Scale"),
        (lambda v: annealed(v, X4, scale="standard"), "scale='standard': expected a mv.Scale"),
    ],
)
def test_mistakes_get_one_clear_line(action, match):
    with pytest.raises(UsageError, match=match):
        action(mv.VAE(6, 2, (5,), backend="numpy"))
