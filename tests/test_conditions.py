"""Conditions and exposures: labels and covariates beside the rows."""

import json

import hostcuda
import numpy as np
import pytest
import standin
from scipy import sparse
from scipy.stats import multivariate_normal, poisson
from tolerances import assert_close, assert_sums

import minivae as mv
from minivae.conditions import Condition
from minivae.evaluation.annealing import annealed
from minivae.evaluation.bounds import evaluate

RNG = np.random.default_rng(4)
N, D, L = 60, 6, 2
LABELS = RNG.choice(["a", "b", "c"], N)
AGE = RNG.normal(50, 10, N)
X = RNG.normal(size=(N, D)) + (LABELS == "a")[:, None]
COUNTS = RNG.poisson(3.0, (N, D)).astype(float)
EXPOSURE = RNG.uniform(0.2, 5, N)


def model(condition=LABELS, likelihood="gaussian:1", **more):
    more = {"backend": "numpy", "dtype": "float64", "seed": 3} | more
    return mv.VAE(D, L, (7,), "tanh", likelihood, condition=condition, **more)


def test_encoder_and_decoder_are_given_the_labels():
    vae, one_hot = model(), np.column_stack([label == LABELS for label in "abc"]).astype(float)
    inner = mv.VAE(D + 3, L, (7,), "tanh", backend="numpy", dtype="float64")
    for name in ("encoder.0.W", "encoder.0.b", "encoder.1.W", "encoder.1.b"):
        inner.parameters[name][...] = vae.parameters[name]
    mean, logvar = vae.encode(X, condition=LABELS)
    for ours, theirs in zip((mean, logvar), inner.encode(np.column_stack([X, one_hot])), strict=True):
        assert_close(ours, theirs, "float64")
    p, Z = vae.parameters, RNG.normal(size=(N, L))
    hidden = np.tanh(np.column_stack([Z, one_hot]) @ p["decoder.0.W"] + p["decoder.0.b"])
    expected = hidden @ p["decoder.1.W"] + p["decoder.1.b"]
    assert_sums(vae.decode(Z, condition=LABELS), expected, "model")
    eps = RNG.normal(size=(3, N, L))
    terms = vae.objective(X, eps, condition=LABELS)
    nll = [
        0.5 * ((vae.decode(mean + np.exp(0.5 * logvar) * e, condition=LABELS) - X) ** 2 + np.log(2 * np.pi))
        for e in eps
    ]
    assert_sums(terms.nll_rows, np.mean(nll, axis=0).sum(axis=1), "model")


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_gradients_agree_with_differences(objective):
    vae = model(np.column_stack([LABELS, LABELS]), "poisson", objective=objective, samples=2)
    given = {"condition": np.column_stack([LABELS, LABELS]), "exposure": EXPOSURE}
    eps = RNG.normal(size=(2, N, L))
    vae.objective_and_grad(COUNTS, eps, **given)
    G, start, h, losses = vae.buffer.grad.copy(), vae.buffer.data.copy(), 1e-5, []
    direction = RNG.normal(size=G.shape)
    for step in (h, -h):
        vae.buffer.data[...] = start + step * direction
        losses.append(vae.objective(COUNTS, eps, **given).loss)
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(float((G * direction).sum()), rel=1e-7)


@pytest.mark.parametrize("likelihood", ["poisson", "mixed:poisson=0-2,4;real=3,5"])
def test_an_exposure_multiplies_the_means_of_counts_alone(likelihood):
    vae = model(None, likelihood)
    Z = RNG.normal(size=(N, L))
    plain, exposed = vae.decode(Z), vae.decode(Z, exposure=EXPOSURE)
    factor = np.where(np.isin(np.arange(D), [3, 5]) & (likelihood != "poisson"), 1, EXPOSURE[:, None])
    assert_sums(exposed, plain * factor, "model")
    if likelihood == "poisson":
        mean, _ = vae.encode(COUNTS)
        terms = vae.objective(COUNTS, np.zeros((N, L)), exposure=EXPOSURE)
        assert_sums(terms.nll_rows, -poisson.logpmf(COUNTS, vae.decode(mean) * EXPOSURE[:, None]).sum(axis=1), "model")
        assert_sums(vae.decode(Z, exposure=2.0), 2 * plain, "model")


def test_a_linear_model_reaches_least_squares_and_then_pca_of_the_residuals():
    """ln p(x|c) of the trained model against the closed form, in nats a row."""
    rng, n, d, latent = np.random.default_rng(1), 400, 5, 2
    c = np.column_stack([rng.normal(20, 3, n), rng.normal(size=n)])
    x = (
        (c - [20, 0]) @ rng.normal(size=(2, d))
        + rng.normal(size=(n, latent)) @ rng.normal(size=(latent, d))
        + 0.5 * rng.normal(size=(n, d))
    )
    design = np.column_stack([np.ones(n), c])
    residual = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    values = np.linalg.eigvalsh(residual.T @ residual / n)[::-1]
    noise = values[latent:].mean()
    best = -0.5 * (d * np.log(2 * np.pi) + np.log(values[:latent]).sum() + (d - latent) * np.log(noise) + d)

    vae = mv.VAE(
        d, latent, (), "identity", "gaussian:shared", condition=c, samples=16, dtype="float64", backend="numpy",
        seed=1, init="normal:0.05",
    )  # fmt: skip
    optimizer, more = mv.Adam(0.03), {"schedule": "cosine", "progress": False}
    vae.fit(x, epochs=3000, batch_size=n, condition=c, optimizer=optimizer, **more)
    p, encoded = vae.parameters, vae.condition.encode(c, n).astype(float)
    W, A, b = p["decoder.0.W"][:latent], p["decoder.0.W"][latent:], p["decoder.0.b"]
    covariance = W.T @ W + np.exp(p["likelihood.logvar"][0]) * np.eye(d)
    found = multivariate_normal.logpdf(x - encoded @ A - b, np.zeros(d), covariance).mean()
    assert best - 1e-3 < found < best + 1e-9
    log_px, error = vae.log_likelihood(x, samples=200, condition=c)
    assert log_px.mean() == pytest.approx(found, abs=5 * error.mean() / np.sqrt(n) + 1e-3)


def test_digits_drawn_by_label_are_recognised():
    datasets, linear = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.linear_model")
    rows, labels = datasets.load_digits(return_X_y=True)
    rows = rows / 16
    reader = linear.LogisticRegression(C=1.0, max_iter=300).fit(rows, labels)
    vae = mv.VAE(64, 8, (100,), likelihood="bernoulli", condition=labels, backend="numpy", seed=0)
    vae.fit(
        rows, epochs=40, batch_size=64, condition=labels, binarize="dynamic", optimizer=mv.Adam(2e-3), progress=False
    )
    asked = np.repeat(np.arange(10), 50)
    assert (reader.predict(vae.sample(500, condition=asked)) == asked).mean() >= 0.9
    assert (reader.predict(vae.sample(20, condition=7)) == 7).mean() >= 0.9


def test_a_conditional_model_trains_is_saved_scored_and_traced(tmp_path):
    condition = {"label": LABELS, "age": AGE}
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(condition)
    vae = model(frame, "gaussian", missing=True)
    holes = np.where(RNG.random((N, D)) < 0.2, np.nan, X)
    held = vae.given(holes[:10], condition=frame[:10])
    history = vae.fit(holes, epochs=5, batch_size=16, condition=frame, validation=held, progress=False)
    assert np.isfinite(history["val_elbo"]).all()
    vae.save(tmp_path / "model.safetensors")
    again = mv.VAE.load(tmp_path / "model.safetensors", backend="numpy")
    assert again.config() == vae.config() == json.loads(json.dumps(vae.config()))
    for call in (
        lambda v: v.log_likelihood(holes, samples=5, condition=frame)[0],
        lambda v: v.reconstruct(holes, condition=frame),
        lambda v: v.impute(holes, samples=5, condition=frame),
        lambda v: v.sample(4, condition=("b", 33.0)),
        lambda v: evaluate(v, v.given(holes, frame)).elbo,
        lambda v: annealed(v, v.given(holes[:2], frame[:2]), 5, 2, 2).log_px,
    ):
        np.testing.assert_array_equal(call(vae), call(again))
    traced, loss = vae.trace(holes, condition=frame).terms.loss, vae.objective(holes, condition=frame).loss
    assert_sums(traced, loss, "model")
    assert not np.array_equal(vae.sample(1, condition=("a", 33.0)), vae.sample(1, condition=("b", 33.0)))


def test_levels_and_numbers():
    found = Condition.of([[1, "x"], [0, "y"], [1, "y"]])
    assert found.config() == [{"levels": ["0", "1"]}, {"levels": ["x", "y"]}] or found.width == 4
    assert Condition.of(np.array([3, 1, 3])).config() == [{"levels": [1, 3]}]
    ages = Condition.of(np.array([10.0, 30.0]))
    assert ages.config() == [{"mean": 20.0, "std": 10.0}]
    np.testing.assert_array_equal(ages.encode(np.array([30.0, 20.0, 10.0]), 3)[:, 0], [1, 0, -1])
    np.testing.assert_array_equal(Condition.of(np.array([True, False])).encode(True, 2), [[0, 1], [0, 1]])


class Series:
    """What pandas' Series has that an array has not: a `get` for labels, and `iloc`."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.iloc = values, values.shape, values.dtype, None

    def get(self, key):
        raise AssertionError("not called")

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


def test_a_series_of_pandas_is_labels_covariates_or_weights():
    for values in (LABELS, AGE):
        assert Condition.of(Series(values)).config() == Condition.of(values).config()
        np.testing.assert_array_equal(
            model().encode(X, condition=Series(LABELS))[0], model().encode(X, condition=LABELS)[0]
        )
    pandas = pytest.importorskip("pandas")
    assert Condition.of(pandas.Series(LABELS)).config() == Condition.of(LABELS).config()


@pytest.mark.filterwarnings("error")
def test_a_covariate_that_is_constant_or_of_half_precision_has_a_scale_that_others_can_use():
    for constant in (np.full(N, 0.1), np.full(N, 0.1, np.float32)):
        assert constant.mean() != constant[0] or constant.dtype == np.float32
        assert Condition.of(constant).config() == [{"mean": float(constant[0]), "std": 1.0}]
    wide = np.array([-60000, 60000], np.float16)
    assert Condition.of(wide).config() == [{"mean": 0.0, "std": float(wide[1])}]


@pytest.mark.parametrize(
    "mistake, words",
    [
        (lambda: model().fit(X), "give condition="),
        (lambda: model().encode(X), "give condition="),
        (lambda: model().objective(X), "give condition="),
        (lambda: model().sample(3), "give condition="),
        (lambda: model().sample(3, condition="d"), r"condition 'd' in row 0: the model was made for 'a', 'b', 'c'"),
        (lambda: model(None).fit(X, condition=LABELS), r"mv.VAE\(…, condition=C\)"),
        (lambda: model().fit(X, condition=LABELS[:5]), "expected 1 columns of 1 or 60 values; got 1 columns of 5"),
        (lambda: model(AGE).encode(X, condition=LABELS), "expected finite numbers"),
        (lambda: model(np.array([1.0, np.nan])), "a covariate is NaN"),
        (lambda: model(np.arange(20000)), "20,000 different labels"),
        (lambda: model(None).fit(X, exposure=EXPOSURE), "exposure is for counts, and likelihood 'gaussian:1.0'"),
        (lambda: model(None, "poisson").fit(COUNTS, exposure=-EXPOSURE), "expected 60 finite numbers > 0"),
        (lambda: model(None, "poisson").fit(COUNTS, exposure=np.longdouble("1e400")), "expected 60 finite numbers > 0"),
        (lambda: model(LABELS.astype("S1")), "expected text, whole numbers or booleans as labels.*got dtype .S1"),
        (lambda: model(AGE * 1j), "expected text, whole numbers or booleans as labels.*got dtype complex128"),
        (lambda: model(np.arange(N).astype("M8[D]")), r"got dtype datetime64\[D\]: make text of them"),
        (lambda: model(np.zeros(N, [("a", "i4")])), "expected text, whole numbers or booleans as labels"),
        (lambda: model(np.array([("a",), *LABELS[1:]], object)), "expected text or numbers; row 0 holds tuple"),
        (lambda: model(sparse.csr_array(COUNTS)), "expected text or numbers; row 0 holds csr_array"),
        (lambda: model(np.ma.masked_array(AGE, AGE > 50)), "it is missing where an array is masked"),
        (lambda: model(np.zeros((N, 0))), "at least one column and one row"),
        (lambda: model({}), "at least one column and one row"),
        (lambda: model(np.array([])), "at least one column and one row"),
        (lambda: model(np.array([1.7e308, -1.7e308])), "spans more than float64 holds"),
        (lambda: model(AGE).encode(X, condition=1e300), "expected finite numbers"),
        (lambda: model(None).fit(X, weights=np.full(N, 1e308)), "whose sum is finite"),
        (lambda: model(None).fit(X, weights=Series(np.full(N, np.nan))), "expected finite numbers"),
        (lambda: model(None).fit(X, rows=Series(np.arange(N) - 1)), "they range from -1 to 58"),
        (lambda: model(None).objective(X, eps=np.zeros((N, L), complex)), "got ndarray of dtype complex128"),
        (lambda: model(None).objective(X, eps=sparse.csr_array((N, L))), "expected an array of real numbers; got"),
        (lambda: model(None, dtype="float32").objective(X, eps=np.full((N, L), 1e300)), "120 of 120 .*infinite"),
    ],
)
def test_mistakes_get_one_line(mistake, words):
    with pytest.raises(mv.UsageError, match=words) as refused:
        mistake()
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")
def test_on_a_device_captured_or_not_training_is_the_cpus(monkeypatch):
    standin.install(monkeypatch, nvmath=True)
    found = []
    for backend, capture in (("cupy", True), ("cupy", False), ("numpy", False)):
        vae = model(LABELS, "poisson", backend=backend)
        vae.backend.capture = capture
        given = {"condition": LABELS, "exposure": EXPOSURE}
        found.append(vae.fit(COUNTS, epochs=2, batch_size=20, progress=False, **given)["loss"])
    assert found[0] == found[1]
    assert_sums(found[0], found[2], "training")
