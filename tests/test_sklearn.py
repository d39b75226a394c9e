"""minivae.sklearn: scikit-learn's own checks, its tools around the estimators, and figures against its PCA."""

import copy

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

import sklearn.datasets
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from tolerances import assert_sums

import minivae as mv
from minivae.errors import UsageWarning
from minivae.sklearn import VAE, VAEDetector

QUICK = {"latent_dim": 2, "hidden": (8,), "epochs": 2, "importance": 5, "random_state": 0}
UNIT = {"likelihood": "bernoulli", "scale": "minmax"}
ESTIMATORS = [VAE(**QUICK), VAE(**QUICK, **UNIT), VAEDetector(**QUICK), VAEDetector(**QUICK, **UNIT)]
REASON = "noise and batches depend on a row's number: to repeat or remove one moves the others (see test_weights.py)"
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": REASON}


@pytest.mark.filterwarnings("ignore::minivae.errors.UsageWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: EXPECTED)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


rng = np.random.default_rng(0)
TABLE = (
    rng.normal(size=(150, 2)) @ rng.normal(size=(2, 6)) * [1, 10, 0.1, 1, 1, 1] + 0.3 * rng.normal(size=(150, 6)) + 5
)


@pytest.fixture(scope="module")
def vae():
    return VAE(**QUICK).fit(TABLE)


@pytest.fixture(scope="module")
def detector():
    return VAEDetector(**QUICK | {"epochs": 20}).fit(TABLE)


# ---- scikit-learn's tools -------------------------------------------------------------------------------------------


def test_pipelines_searches_and_joblib_take_it(tmp_path):
    y = (TABLE[:, 0] > np.median(TABLE[:, 0])).astype(int)
    columns = ColumnTransformer([("codes", VAE(**QUICK), [0, 1, 2]), ("kept", "passthrough", [3])])
    assert make_pipeline(columns, LogisticRegression()).fit(TABLE, y).predict(TABLE).shape == (150,)
    search = GridSearchCV(VAE(**QUICK), {"latent_dim": [1, 3]}, n_jobs=2, cv=2).fit(TABLE)
    again = VAE(**QUICK).set_params(**search.best_params_).fit(TABLE)
    np.testing.assert_array_equal(search.best_estimator_.transform(TABLE), again.transform(TABLE))
    by_hand = [VAE(**QUICK).fit(TABLE[75:]).score(TABLE[:75]), VAE(**QUICK).fit(TABLE[:75]).score(TABLE[75:])]
    np.testing.assert_array_equal(cross_val_score(VAE(**QUICK), TABLE, cv=2), by_hand)
    joblib.dump(again, tmp_path / "vae.joblib")
    loaded = joblib.load(tmp_path / "vae.joblib")
    np.testing.assert_array_equal(loaded.score_samples(TABLE), again.score_samples(TABLE))
    found = joblib.Parallel(2)(joblib.delayed(loaded.transform)(part) for part in (TABLE[:60], TABLE[60:]))
    np.testing.assert_allclose(np.concatenate(found), again.transform(TABLE), rtol=1e-7)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_go_in_and_come_out(vae, library):
    frames = pytest.importorskip(library)
    names = ["a", "b", "c", "d", "e", "f"]
    frame = frames.DataFrame(dict(zip(names, TABLE.T, strict=True)))
    fitted = VAE(**QUICK).set_output(transform=library).fit(frame)
    codes = fitted.transform(frame)
    assert isinstance(codes, frames.DataFrame) and list(codes.columns) == ["vae0", "vae1"]
    np.testing.assert_array_equal(codes.to_numpy(), vae.transform(TABLE))
    if not hasattr(StandardScaler().fit(frame), "feature_names_in_"):
        pytest.skip(f"this scikit-learn reads no column names of {library}")
    assert fitted.vae_.columns == tuple(names)
    with pytest.raises(ValueError, match=r"feature names should match.*\n.*same order"):
        fitted.score_samples(frame[names[::-1]])


def test_clone_and_copies_keep_parameters_and_results(vae):
    new = clone(VAE(**QUICK, optimizer=mv.SGD(1e-4), beta=mv.Beta(1.0, 2.0)))
    assert (new.optimizer.lr, new.beta) == (1e-4, mv.Beta(1.0, 2.0)) and not hasattr(new, "vae_")
    np.testing.assert_array_equal(copy.deepcopy(vae).transform(TABLE), vae.transform(TABLE))


# ---- what the methods give ------------------------------------------------------------------------------------------


def test_the_methods_are_the_models_in_the_datas_units(vae):
    inner = vae.vae_
    np.testing.assert_array_equal(vae.transform(TABLE), inner.encode(TABLE)[0])
    np.testing.assert_array_equal(vae.inverse_transform(vae.transform(TABLE)), inner.reconstruct(TABLE))
    assert (vae.likelihood_, inner.scale.kind, inner.backend.dtype) == ("gaussian", "standard", "float64")
    assert_sums(inner.scale.shift, TABLE.mean(axis=0), of="sums")
    assert_sums(inner.scale.factor, TABLE.std(axis=0), of="sums")
    assert vae.score(TABLE) == vae.score_samples(TABLE).mean()
    assert np.abs(vae.sample(500, random_state=1).mean(axis=0) - TABLE.mean(axis=0)).max() < TABLE.std(axis=0).max()


def test_the_random_state_decides_and_fit_begins_anew(vae):
    assert vae.vae_.seed == 0
    np.testing.assert_array_equal(VAE(**QUICK).fit(TABLE[:50]).fit(TABLE).transform(TABLE), vae.transform(TABLE))
    other = VAE(**QUICK | {"random_state": 1}).fit(TABLE)
    assert np.abs(other.transform(TABLE) - vae.transform(TABLE)).max() > 0.01
    drawn = [VAE(**QUICK | {"random_state": np.random.RandomState(3)}).fit(TABLE).vae_.seed for _ in range(2)]
    assert drawn[0] == drawn[1] > 1
    np.testing.assert_array_equal(vae.sample(3, random_state=4), vae.sample(3, random_state=4))
    assert (vae.sample(3, random_state=4) != vae.sample(3, random_state=5)).any()


def test_auto_takes_bernoulli_for_bits_and_an_explicit_choice_is_kept():
    bits = (scale(TABLE) > 0).astype("uint8")
    fitted = VAE(**QUICK).fit(bits)
    assert (fitted.likelihood_, fitted.vae_.scale, fitted.vae_.binarize) == ("bernoulli", None, "none")
    assert fitted.reason_ == "every value is 0 or 1"
    assert VAE(**QUICK, likelihood="poisson").fit(bits).vae_.scale is None
    laplace = VAE(**QUICK, likelihood="laplace", scale="minmax").fit(TABLE)
    assert (laplace.vae_.scale.kind, laplace.reason_) == ("minmax", "as asked for")


def test_partial_fit_is_one_more_epoch_each_time():
    fitted = VAE(**QUICK).partial_fit(TABLE)
    for _ in range(2):
        fitted.partial_fit(TABLE)
    once = VAE(**QUICK | {"epochs": 3}).fit(TABLE)
    np.testing.assert_array_equal(fitted.transform(TABLE), once.transform(TABLE))
    for column in ("epoch", "step", "loss"):
        assert fitted.history_[column] == once.history_[column]
    with pytest.raises(ValueError, match="expecting 6 features"):
        fitted.partial_fit(TABLE[:, :3])


def test_validation_rows_choose_the_epoch_and_do_not_train():
    options = QUICK | {"epochs": 40, "validation": 0.2, "patience": 3, "lr": 0.05}
    fitted = VAE(**options).fit(TABLE)
    assert fitted.history_.stopped == "patience" and fitted.n_iter_ < 40
    assert fitted.history_.best_epoch == 1 + int(np.argmax(fitted.history_["val_elbo"]))
    assert fitted.history_["step"][0] == 1 and len(fitted._split(150)[1]) == 30


def test_a_weight_of_two_is_two_rows_for_the_scale_and_zero_is_none():
    weights = rng.integers(0, 3, 150)
    fitted = VAE(**QUICK).fit(TABLE, sample_weight=weights)
    copies = np.repeat(TABLE, weights, axis=0)
    assert_sums(fitted.vae_.scale.shift, copies.mean(axis=0), of="sums")
    assert_sums(fitted.vae_.scale.factor, copies.std(axis=0), of="sums")
    spoilt = np.where(weights[:, None] == 0, 1e4, TABLE)
    other = VAE(**QUICK).fit(spoilt, sample_weight=weights)
    assert_sums(other.transform(TABLE), fitted.transform(TABLE), of="training")


# ---- scores ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_score_depends_on_the_row_alone(likelihood, dtype):
    X = TABLE if likelihood == "gaussian" else scale(TABLE, with_mean=False) % 1
    binarize = "dynamic" if likelihood == "bernoulli" else "none"
    fitted = VAEDetector(**QUICK, likelihood=likelihood, dtype=dtype, binarize=binarize).fit(X)
    scores = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.score_samples(X), scores)
    order = rng.permutation(150)
    alone = np.concatenate([fitted.score_samples(X[k : k + 1]) for k in range(20)])
    largest = {"rtol": 1e-7, "atol": 0} if dtype == "float64" else {"rtol": 0, "atol": 1e-4 * X.shape[1]}
    np.testing.assert_allclose(fitted.score_samples(X[order]), scores[order], **largest)
    np.testing.assert_allclose(alone, scores[:20], **largest)
    np.testing.assert_allclose(fitted.score_samples(X[30:101]), scores[30:101], **largest)
    twice = fitted.score_samples(np.concatenate([X[:5], X[:5]]))
    np.testing.assert_allclose(twice[5:], twice[:5], **largest)


SETS = {name: getattr(sklearn.datasets, f"load_{name}") for name in ("wine", "breast_cancer", "diabetes")}
LINEAR = {"latent_dim": 2, "hidden": (), "likelihood": "gaussian:shared", "scale": "none", "random_state": 0}


@pytest.mark.parametrize("name", SETS)
def test_a_trained_linear_model_has_the_density_of_pca(name):
    X = scale(SETS[name]().data)
    options = {"epochs": 300, "batch_size": 64, "lr": 1e-2, "schedule": "cosine", "importance": 50}
    found = VAE(**LINEAR, **options).fit(X).score_samples(X)
    expected = PCA(2, svd_solver="full").fit(X).score_samples(X)
    assert abs(found.mean() - expected.mean()) < 0.05


@pytest.mark.parametrize("name", SETS)
def test_the_score_of_each_row_of_a_trained_linear_model_is_pcas(name):
    """Trained to the optimum: ε takes the four points ±√2 e_l, which have ε's mean and covariance, and the ELBO is
    quadratic in ε, so that a step has no noise. The optimum is the maximum of probabilistic PCA's likelihood, whose
    covariance divides by N; scikit-learn's divides by N − 1, up to 0.4 nats in a row, so PCA is fitted to scaled rows.

    At the optimum q(z|x) is the posterior, all importance weights are equal, and a standard error says nothing: the
    rows agree to 0.01 nat. A posterior that is wider and off its place then gives the samples work to do.
    """
    X = scale(SETS[name]().data)
    N, steps, optimizer = len(X), 2000, mv.Adam(2e-2)
    expected = PCA(2, svd_solver="full").fit(X * np.sqrt((N - 1) / N)).score_samples(X)
    fitted = VAE(**LINEAR, epochs=1, importance=1000).fit(X)
    points = np.sqrt(2) * np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    eps = np.repeat(points[:, None], N, axis=1)
    for step in range(steps):
        optimizer.lr = 2e-2 * mv.Schedule("cosine").factor(step, steps)
        fitted.vae_.train_step(X, optimizer, eps=eps)
    assert np.abs(fitted.score_samples(X) - expected).max() < 0.01
    parameters = fitted.vae_.parameters
    parameters["encoder.0.W"][:, :2] *= 0.95
    parameters["encoder.0.b"][2:] += 0.3
    log_px, se = fitted.score_samples(X, return_std=True)
    assert np.abs((log_px - expected) / se).max() < 4
    assert 5e-3 < np.median(se) < 0.1


def test_the_codes_of_digits_serve_a_classifier_as_well_as_principal_components():
    X, y = sklearn.datasets.load_digits(return_X_y=True)
    codes = VAE(20, (128,), likelihood="gaussian:0.1", scale="none", epochs=30, batch_size=64, lr=4e-3, random_state=0)
    shares = [
        cross_val_score(make_pipeline(*parts, LogisticRegression(max_iter=1000)), X / 16, y, cv=5).mean()
        for parts in ((PCA(20, random_state=0),), (codes.set_params(dtype="float32"), StandardScaler()))
    ]
    assert shares[1] > shares[0] - 0.01


# ---- outliers -------------------------------------------------------------------------------------------------------


def test_the_threshold_is_where_the_contamination_lies(detector):
    scores = detector.score_samples(TABLE)
    assert detector.offset_ == np.percentile(scores, 10)
    np.testing.assert_array_equal(detector.decision_function(TABLE), scores - detector.offset_)
    np.testing.assert_array_equal(detector.predict(TABLE), np.where(scores < detector.offset_, -1, 1))
    assert (detector.predict(TABLE) < 0).sum() == 15
    assert detector.predict(TABLE[:1] + [0, 0, 2, 0, 0, 0]) == [-1]


@pytest.mark.parametrize("contamination", [0.02, 0.1])
def test_of_rows_drawn_from_the_model_the_contamination_is_flagged(contamination):
    own = np.random.default_rng(0)  # the same rows whatever tests have run before
    source = own.normal(size=(4000, 2)) @ own.normal(size=(2, 6)) + 0.5 * own.normal(size=(4000, 6))
    options = {"epochs": 80, "batch_size": 100, "lr": 1e-2, "schedule": "cosine", "importance": 20}
    fitted = VAEDetector(contamination, **LINEAR, **options).fit(source)
    flagged = np.mean(fitted.predict(fitted.vae_.sample(4000, seed=1, draw=True)) < 0)
    error = np.sqrt(contamination * (1 - contamination) * (1 / 4000 + 1 / 4000))  # the threshold is an estimate too
    assert abs(flagged - contamination) < 3 * error


# ---- mistakes -------------------------------------------------------------------------------------------------------


def spoilt(value):
    X = TABLE.copy()
    X[3, 2] = value
    return X


@pytest.mark.parametrize(
    "X, message",
    [
        (spoilt(np.nan), "contains NaN"),
        (spoilt(np.inf), "contains infinity"),
        (TABLE[:, :4], "4 features, but {name} is expecting 6 features"),
        (np.full((3, 6), "a"), "not compatible with arrays of bytes/strings|could not convert string"),
        (TABLE[0], "Expected 2D array, got 1D array"),
        (TABLE[:0], "0 sample"),
    ],
)
@pytest.mark.parametrize("method", ["transform", "score_samples", "predict", "explain"])
def test_bad_rows_are_named_after_fitting(vae, detector, method, X, message):
    estimator = vae if hasattr(vae, method) else detector
    with pytest.raises(ValueError, match=message.format(name=type(estimator).__name__)):
        getattr(estimator, method)(X)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"contamination": 0}, r"contamination=0: expected a share in \(0, 0.5\]"),
        ({"contamination": 0.6}, "contamination=0.6"),
        ({"contamination": "auto"}, "contamination='auto'"),
        ({"latent_dim": 0}, "latent_dim=0: expected an integer of at least 1"),
        ({"hidden": 5}, "hidden=5: expected a tuple"),
        ({"likelihood": "gausian"}, "likelihood='gausian'"),
        ({"scale": "max"}, "'max'"),
        ({"binarize": "yes"}, "binarize='yes'"),
        ({"optimizer": "adm"}, "optimizer='adm'"),
        ({"validation": 1.0}, "validation=1.0"),
        ({"validation": 0.999}, "leaves none of 150 rows"),
        ({"patience": 2}, "patience needs validation rows"),
        ({"epochs": 0}, "epochs=0"),
        ({"random_state": "x"}, "cannot be used to seed"),
    ],
)
def test_bad_parameters_are_named_by_fit_and_not_before(parameters, message):
    estimator = VAEDetector(**QUICK | parameters)
    with pytest.raises(ValueError, match=message) as caught:
        estimator.fit(TABLE)
    assert "\n" not in str(caught.value)


def test_one_row_negative_weights_and_an_unfitted_estimator_are_named(vae):
    with pytest.raises(ValueError, match=r"1 sample.*minimum of 2 is required"):
        VAE().fit(TABLE[:1])
    with pytest.raises(ValueError, match="sample_weight: expected finite numbers ≥ 0"):
        VAE(**QUICK).fit(TABLE, sample_weight=-np.ones(150))
    for call in (lambda: VAE().sample(), lambda: VAE().transform(TABLE), lambda: VAE().impute(TABLE)):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call()
    with pytest.raises(ValueError, match=r"Z: expected an array \(rows, 2\)"):
        vae.inverse_transform(TABLE)
    with pytest.raises(ValueError, match=r"negative-binomial.*counts"):
        VAE(**QUICK, likelihood="negative-binomial").fit(TABLE)


def test_a_constant_column_under_a_density_is_warned_of():
    X = TABLE.copy()
    X[:, 4] = 7
    with pytest.warns(UsageWarning, match="constant in the training rows: column 4.") as caught:
        fitted = VAE(**QUICK).fit(X)
    assert len(caught) == 1
    assert np.isfinite(fitted.score_samples(X)).all()


def test_a_single_latent_dimension_works():
    fitted = VAE(**QUICK | {"latent_dim": 1}).fit(TABLE)
    assert fitted.transform(TABLE).shape == (150, 1) and fitted.get_feature_names_out().tolist() == ["vae0"]


def test_without_scikit_learn_the_import_says_what_to_install(monkeypatch):
    import subprocess
    import sys

    code = "import sys; sys.modules['sklearn'] = None; import minivae; print('here'); import minivae.sklearn"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert result.stdout == "here\n" and 'pip install "scikit-learn>=1.6"' in result.stderr.splitlines()[-1]
