"""Likelihoods: SciPy as the oracle of every forward, closed forms for means, moments of the draws, domains."""

import warnings

import numpy as np
import pytest
from scipy import special, stats
from tolerances import SCIPY

from minivae import likelihoods
from minivae.backend import Backend
from minivae.errors import UsageError, UsageWarning

RNG = np.random.default_rng(0)
S, B, D = 3, 5, 7


def _scipy_bernoulli(out, X):
    return -(X * special.log_expit(out) + (1 - X) * special.log_expit(-out))  # logpmf rounds ρ near 1


def _scipy_gaussian(out, X):
    half = out.shape[-1] // 2
    return -stats.norm.logpdf(X, out[..., :half], np.exp(0.5 * np.clip(out[..., half:], -10, 10)))


def _scipy_fixed(out, X):
    return -stats.norm.logpdf(X, out, 0.3)


# name → (SciPy's −log q for each feature, data in the domain)
ORACLES = {
    "bernoulli": (_scipy_bernoulli, (RNG.random((B, D)) < 0.4).astype(float)),
    "gaussian": (_scipy_gaussian, 3 * RNG.normal(size=(B, D))),
    "gaussian:0.3": (_scipy_fixed, 3 * RNG.normal(size=(B, D))),
}


def make(name, kernels="fused"):
    return likelihoods.make(name, Backend("numpy", kernels, "float64"), D)


def test_every_likelihood_has_an_oracle_here():
    assert {name.replace("0.3", "σ") for name in ORACLES} == set(likelihoods.LIKELIHOODS)


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("name", ORACLES)
def test_nll_matches_scipy(name, kernels):
    likelihood, (oracle, X) = make(name, kernels), ORACLES[name]
    out = 4 * RNG.normal(size=(S * B, likelihood.width))
    nll, d_out = np.empty(S * B), np.empty_like(out)
    likelihood.nll_and_grad(nll, d_out, {}, out, X, 1.0)
    expected = oracle(out.reshape(S, B, -1), X).sum(axis=2).ravel()
    np.testing.assert_allclose(nll, expected, rtol=SCIPY["rtol"], atol=SCIPY["atol"] * np.abs(expected).max())


@pytest.mark.parametrize("name", ORACLES)
def test_row_weights_weight_the_gradient_and_not_the_nll(name):
    likelihood, (_, X) = make(name), ORACLES[name]
    out = RNG.normal(size=(S * B, likelihood.width))
    weight = RNG.random((S, B))
    nll, d_out, plain_nll, plain = np.empty(S * B), np.empty_like(out), np.empty(S * B), np.empty_like(out)
    likelihood.nll_and_grad(nll, d_out, {}, out, X, weight)
    likelihood.nll_and_grad(plain_nll, plain, {}, out, X, 1.0)
    np.testing.assert_array_equal(nll, plain_nll)
    np.testing.assert_allclose(d_out, weight.reshape(-1, 1) * plain, rtol=1e-14)


@pytest.mark.parametrize("name", ORACLES)
def test_gradient_is_zero_where_the_likelihood_is_largest(name):
    likelihood = make(name)
    X = RNG.random((B, D)) * 0.8 + 0.1
    out = np.log(X / (1 - X)) if name == "bernoulli" else np.hstack([X, np.full_like(X, -10)])[:, : likelihood.width]
    nll, d_out = np.empty(B), np.empty_like(out)
    likelihood.nll_and_grad(nll, d_out, {}, out, X, 1.0)
    np.testing.assert_allclose(d_out[:, :D], 0, atol=1e-14)


@pytest.mark.parametrize("name", ORACLES)
def test_draws_have_the_mean_and_the_spread_of_scipys_distribution(name):
    likelihood, n = make(name), 40_000
    out = np.tile(RNG.normal(size=likelihood.width), (n, 1))
    noise = RNG.random((n, D)) if likelihood.noise == "uniform" else RNG.normal(size=(n, D))
    X, mean = likelihood.draw(out, noise), likelihood.mean(out)
    if name == "bernoulli":
        oracle = stats.bernoulli(1 / (1 + np.exp(-out[0])))
    elif name == "gaussian":
        oracle = stats.norm(out[0, :D], np.exp(0.5 * out[0, D:]))
    else:
        oracle = stats.norm(out[0], 0.3)
    np.testing.assert_allclose(mean[0], oracle.mean(), rtol=1e-12)
    error = np.sqrt(oracle.var() / n)
    assert (np.abs(X.mean(axis=0) - oracle.mean()) < 4.5 * error).all()
    np.testing.assert_allclose(X.var(axis=0), oracle.var(), rtol=0.05)


def test_squared_error_and_kl_weight_are_the_fixed_gaussian():
    """MATH.md's reading of eq. 22: mean squared error over D plus w · KL is σ² = wD/2, up to scale and constant."""
    w = 0.01
    likelihood = make(f"gaussian:{float(np.sqrt(w * D / 2))!r}")
    X, out = RNG.normal(size=(B, D)), RNG.normal(size=(B, D))
    nll, d_out = np.empty(B), np.empty_like(out)
    likelihood.nll_and_grad(nll, d_out, {}, out, X, 1.0)
    np.testing.assert_allclose(w * d_out, 2 * (out - X) / D, rtol=1e-12)


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0])
def test_bernoulli_refuses_values_outside_0_1_and_says_what_fits(value):
    X = np.zeros((9000, D))
    X[8000, 2] = value
    with pytest.raises(UsageError, match="gaussian"):
        make("bernoulli").check(X)


def test_bernoulli_warns_of_grey_values_and_names_binarize():
    with pytest.warns(UsageWarning, match="--binarize"):
        make("bernoulli").check(np.full((3, D), 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("bernoulli").check(np.array([[0.0, 1.0]]))


@pytest.mark.parametrize(
    "name", ["poison", "gaussian:", "gaussian:0", "gaussian:-1", "gaussian:x", "gaussian:inf", "bernoulli:2"]
)
def test_an_unknown_likelihood_is_refused(name):
    with pytest.raises(UsageError, match="expected"):
        make(name)


def test_the_name_of_a_fixed_gaussian_keeps_every_digit_of_sigma():
    assert make(make("gaussian:0.12345678901234567").name).sigma == 0.12345678901234567
