"""Which dimensions a model uses: rate, distortion, active units and information, of models whose answers are known."""

import numpy as np
import pytest
import standin
from scipy import stats
from test_vae import linear_gaussian
from tolerances import assert_sums

import minivae as mv
from minivae.cli.evaluate import describe
from minivae.errors import UsageError
from minivae.evaluation.bounds import evaluate
from minivae.evaluation.latents import mutual_information, usage

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
    assert_sums(found.variances, np.array([1.0, 0, 0.11, 0.09]) ** 2 * X.var(axis=0), of="model")


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
    held = read_out([1.0], [0.5])
    held.objective_and_grad(X, free_bits=5.0)
    assert usage(held, X).to_dict() == few.to_dict()


def test_as_data_it_says_what_is_active_and_over_how_many_rows_the_information_is():
    found = usage(read_out([1e6, 0.0, 0.11, 0.09], [1e-3, 1.0, 1.0, 1.0]), X).to_dict()
    assert found["active"] == [l for l, variance in enumerate(found["variances"]) if variance > 0.01] == [0, 2]
    assert found["unused"] == [1, 3]
    assert found["mutual_information_rows"] == 1000 < N
    assert found["mutual_information"] == pytest.approx(np.log(1000))  # the rows are told apart


def test_batches_change_no_figure_and_scales_only_the_distortion(monkeypatch):
    vae = read_out([1.0, 0.3], [0.5, 0.9])
    whole = usage(vae, X)
    monkeypatch.setattr("minivae.evaluation.latents.BATCH_ROWS", 700)
    assert_sums(usage(vae, X).kl_dims, whole.kl_dims, of="model")
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
        assert_sums(*[getattr(usage, name) for usage in found], of="training")


def test_one_row_is_refused():
    with pytest.raises(UsageError, match="at least two"):
        usage(linear_gaussian()[0], np.zeros((1, 5)))


FIGURES = {
    "part": "test part of digits", "rows": 1234, "iwae": -100.0, "elbo": -101.5, "nll": 90.25, "kl": 11.25,
    "importance_samples": 50, "log_likelihood": -99.5, "standard_error": 0.125,
    "ais": {
        "temperatures": 30, "chains": 4, "log_likelihood": -99.0, "standard_error": None, "acceptance": 0.66,
        "bidirectional": {
            "rows": 16, "lower": {"log_likelihood": -97.5}, "upper": {"log_likelihood": -97.25}, "gap": 0.25,
        },
    },
    "report": {
        "rate": 11.25, "distortion": 90.25, "active": [0, 2], "unused": [1], "kl_dims": [3.0, 0.25, 8.0],
        "variances": [0.5, 0.0078125, 0.9375], "mutual_information": 6.5, "mutual_information_rows": 1000,
    },
}  # fmt: skip
WORDS = """\
test part of digits, 1,234 rows, nats a row
  iwae    -100.000   (its training objective)
  elbo    -101.500   (−elbo 101.500)
  nll       90.250
  kl        11.250
  ln p(x)  -99.500 ± 0.125   (importance sampling, 50 samples; ± is its own error, not that of the rows)
  ln p(x)  -99.000   (AIS, 30 temperatures, 4 chains; 66% of transitions \
accepted)
  on 16 rows of the model's own: -97.500 ≤ ln p(x) ≤ -97.250 on average, a gap of 0.250 that bounds AIS's error there
  rate 11.250 (the KL), distortion 90.250 (the NLL)
  information of z on the row: 6.500 of at most 6.908 = ln 1000
  2 of 3 latent dimensions are active (variance of the posterior's mean > 0.01)
  dimension       kl  variance
          2    8.000    0.9375
          0    3.000    0.5000
          1    0.250    0.0078  unused"""


def test_the_figures_in_words():
    assert "\n".join(describe(FIGURES)) == WORDS
    collapsed = describe(FIGURES | {"report": FIGURES["report"] | {"active": [], "unused": [0, 1, 2]}})
    assert (
        "  0 of 3 latent dimensions are active (variance of the posterior's mean > 0.01): "
        "collapsed, the decoder ignores z" in collapsed
    )
    assert sum(line.endswith("  unused") for line in collapsed) == 3
