"""Which dimensions a model uses: rate, distortion, active units and information, of models whose answers are known."""

import numpy as np
import pytest
import standin
from scipy import stats
from test_vae import linear_gaussian

import minivae as mv
from minivae.collapse import mutual_information, usage
from minivae.errors import UsageError
from minivae.evaluate import evaluate

N = 3000
X = np.random.default_rng(0).normal(size=(N, 4))


def read_out(slopes, spreads, **more):
    """A linear encoder whose dimension l has the mean slopes[l] · x_l and the standard deviation spreads[l]."""
    L = len(slopes)
    vae = mv.VAE(4, L, (), "identity", "gaussian:1", dtype="float64", **{"backend": "numpy"} | more)
    W, b = vae.parameters["encoder.0.W"], vae.parameters["encoder.0.b"]
    W[...], b[...] = 0, 0
    W[np.arange(L), np.arange(L)] = slopes
    b[L:] = 2 * np.log(spreads)
    return vae


def test_the_variance_of_the_means_says_which_dimensions_are_used():
    """Burda's threshold is 0.01: slopes of 0.11 and 0.09 stand on its two sides."""
    found = usage(read_out([1.0, 0.0, 0.11, 0.09], [0.5, 1.0, 1.0, 1.0]), X)
    assert (found.active, found.unused) == ([0, 2], [1, 3])
    np.testing.assert_allclose(found.variances, np.array([1.0, 0, 0.11, 0.09]) ** 2 * X.var(axis=0), rtol=1e-12)


def test_rate_and_distortion_are_kl_and_nll_and_the_dimensions_add_up_to_the_rate():
    vae = read_out([1.0, 0.3, 0.0], [0.5, 0.9, 1.0])
    found, plain = usage(vae, X), evaluate(vae, X)
    assert (found.rate, found.distortion) == (plain.kl, plain.nll)
    assert found.kl_dims.sum() == pytest.approx(found.rate, rel=1e-12)
    # of KL(N(m, 0.9²) ‖ N(0, 1)), whose mean over m is known
    assert found.kl_dims[1] == pytest.approx(0.5 * (0.09 * (X[:, 1] ** 2).mean() + 0.81 - np.log(0.81) - 1), rel=1e-10)
    assert found.kl_dims[2] == pytest.approx(0, abs=1e-12)


def test_information_is_that_of_a_gaussian_channel():
    """z = a x + s n: ½ ln(1 + a²/s²) for each dimension, for so few nats that M rows can tell."""
    a, s = np.array([1.0, 0.0]), np.array([0.7, 1.0])
    found = usage(read_out(a, s), X)
    exact = 0.5 * np.log(1 + a**2 / s**2).sum()
    assert found.information_rows == 1000
    assert found.information == pytest.approx(exact, abs=4 / np.sqrt(1000))
    assert found.information < found.rate


def test_information_is_ln_m_where_rows_are_told_apart_and_0_where_they_are_not():
    rng = np.random.default_rng(0)
    mean, logvar = 100.0 * np.arange(50)[:, None], np.zeros((50, 1))
    assert mutual_information(mean + rng.normal(size=(50, 1)), mean, logvar) == pytest.approx(np.log(50))
    assert mutual_information(rng.normal(size=(50, 1)), 0 * mean, logvar) == pytest.approx(0, abs=1e-12)


def test_information_is_scipys_sum_over_the_rows():
    rng = np.random.default_rng(0)
    mean, logvar, Z = rng.normal(size=(7, 2)), rng.normal(size=(7, 2)), rng.normal(size=(7, 2))
    p = np.array([[stats.norm.pdf(z, m, np.exp(0.5 * v)).prod() for m, v in zip(mean, logvar, strict=True)] for z in Z])
    exact = (np.log(np.diag(p)) - np.log(p.mean(axis=1))).mean()
    assert mutual_information(Z, mean, logvar) == pytest.approx(exact, rel=1e-12)


def test_a_collapsed_model_uses_nothing():
    found = usage(read_out([0.0, 0.0], [1.0, 1.0]), X)
    assert found.active == [] and found.unused == [0, 1]
    assert abs(found.information) < 1e-12
    assert abs(found.rate) < 1e-12


def test_free_bits_and_samples_of_the_model_do_not_matter_to_its_usage():
    few, many = usage(read_out([1.0], [0.5]), X), usage(read_out([1.0], [0.5], samples=4, objective="iwae"), X)
    np.testing.assert_array_equal(few.variances, many.variances)
    assert few.information == many.information


def test_batches_change_no_figure_and_scales_only_the_distortion(monkeypatch):
    vae = read_out([1.0, 0.3], [0.5, 0.9])
    whole = usage(vae, X)
    monkeypatch.setattr("minivae.collapse.BATCH_ROWS", 700)
    np.testing.assert_allclose(usage(vae, X).kl_dims, whole.kl_dims, rtol=1e-12)
    scale = mv.Scale.fit("standard", 1000 * X)
    ours, thousand = (usage(vae, unit * X, scale=mv.Scale.fit("standard", unit * X)) for unit in (1, 1000))
    assert scale.kind == "standard"
    assert thousand.distortion - ours.distortion == pytest.approx(4 * np.log(1000), rel=1e-9)
    assert thousand.rate == pytest.approx(ours.rate, rel=1e-9)


def test_usage_on_the_device_equals_numpys(monkeypatch):
    standin.install(monkeypatch)
    found = [
        usage(mv.VAE(4, 2, (5,), likelihood="gaussian", backend=name, kernels="reference", dtype="float64"), X[:50])
        for name in ("cupy", "numpy")
    ]
    for name in ("rate", "distortion", "kl_dims", "variances", "information"):
        np.testing.assert_allclose(*[getattr(usage, name) for usage in found], rtol=1e-9)


def test_one_row_is_refused():
    with pytest.raises(UsageError, match="at least two"):
        usage(linear_gaussian()[0], np.zeros((1, 5)))
