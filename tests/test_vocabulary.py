"""Python and the command line take the same values with the same meaning, and a misspelt name is asked about."""

import numpy as np
import pytest
from tolerances import assert_sums

import minivae as mv
from minivae.cli.app import app
from minivae.cli.runs import open_run
from minivae.errors import UsageError

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4)) * [1, 10, 100, 1000] + 50


def fitted(likelihood="gaussian", rows=X, **options):
    vae = mv.VAE(4, 2, (5,), likelihood=likelihood, backend="numpy")
    vae.fit(rows, epochs=1, **options)
    return vae


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_a_scale_by_name_is_the_scale_fitted_to_the_rows(kind):
    given, named = fitted(scale=mv.Scale.fit(kind, X)), fitted(scale=kind, validation=X)
    np.testing.assert_array_equal(named.scale.factor, given.scale.factor)
    np.testing.assert_array_equal(named.scale.shift, given.scale.shift)
    assert named.scale.kind == kind


def test_auto_is_standard_for_real_numbers_and_none_for_others():
    bits, counts = (X - 50 > 0).astype("float32"), rng.poisson(3, (60, 4)).astype("float32")
    for likelihood in ("gaussian", "gaussian:shared", "gaussian:0.5", "laplace"):
        assert fitted(likelihood, scale="auto").scale.kind == "standard"
    for likelihood, rows in (("bernoulli", bits), ("continuous-bernoulli", bits), ("poisson", counts)):
        vae = fitted(likelihood, rows, scale="auto", binarize="auto")
        assert (vae.scale, vae.binarize) == (None, "none")
    assert fitted(rows=X / 1000, scale="none").scale is None


def test_a_weighted_scale_by_name_is_that_of_the_repeated_rows():
    weights = rng.integers(0, 3, 60)
    copies = np.repeat(X, weights, axis=0)
    assert_sums(fitted(scale="standard", weights=weights).scale.factor, copies.std(axis=0), of="sums")


def test_the_command_line_means_the_same_by_auto(tmp_path):
    np.save(tmp_path / "X.npy", X)
    options = ["--scale", "auto", "--latent", "2", "--hidden", "none", "--epochs", "1"]
    app(["train", str(tmp_path / "X.npy"), "--out", str(tmp_path / "run"), *options], standalone_mode=False)
    run = open_run(tmp_path / "run")
    expected = mv.Scale.fit("standard", run.part(split="train").X)
    assert (run.vae.likelihood.name, run.vae.scale.kind) == ("gaussian", "standard")
    np.testing.assert_array_equal(run.vae.scale.factor, expected.factor)


@pytest.mark.parametrize(
    "name, meant",
    [
        ("gausian", "gaussian"), ("Gaussian:0.5", "gaussian:0.5"), ("mse", "gaussian:1"), ("bernouli", "bernoulli"),
        ("poison", "poisson"), ("BCE", "bernoulli"), ("negative_binomial", "negative-binomial"),
    ],
)  # fmt: skip
def test_a_misspelt_likelihood_is_asked_about(name, meant):
    with pytest.raises(UsageError, match=f"likelihood='{name}': did you mean '{meant}'\\? expected one of"):
        mv.VAE(4, likelihood=name, backend="numpy")


def test_a_name_like_no_other_is_not_guessed_at():
    with pytest.raises(UsageError, match="likelihood='zzz': expected one of"):
        mv.VAE(4, likelihood="zzz", backend="numpy")


def test_an_unknown_scale_is_named():
    with pytest.raises(UsageError, match="'max'"):
        fitted(scale="max")
