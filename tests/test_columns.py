"""The columns' shares of −ln p(x): they add up to it, and are right where the model is known exactly.

Oracle: a linear-Gaussian model, for which every p_t(z|x) is a Gaussian, integrated over t by SciPy.
"""

import numpy as np
import pytest
import standin
from scipy.integrate import quad_vec
from scipy.stats import norm
from tolerances import assert_sums

import minivae as mv
from minivae.errors import UsageError
from minivae.evaluation.columns import explain
from minivae.evaluation.dealt import row_hashes
from minivae.likelihoods import Likelihood

rng = np.random.default_rng(0)
DATA = {
    "bernoulli": rng.random((9, 4)).round(),
    "continuous-bernoulli": rng.random((9, 4)),
    "gaussian": rng.normal(size=(9, 4)),
    "gaussian:0.5": rng.normal(size=(9, 4)),
    "gaussian:shared": rng.normal(size=(9, 4)),
    "gaussian:optimal": rng.normal(size=(9, 4)),
    "laplace": rng.normal(size=(9, 4)),
    "categorical:3": rng.integers(0, 3, (9, 4)).astype(float),
    "poisson": rng.poisson(2.0, (9, 4)).astype(float),
    "negative-binomial": rng.poisson(2.0, (9, 4)).astype(float),
}
SIGMA = 0.3


def linear(W, b):
    """A linear model with decoder W (2, D), b (D,); its encoder is exact if the rows of W are orthogonal."""
    vae = mv.VAE(W.shape[1], 2, (), likelihood=f"gaussian:{SIGMA}", backend="numpy", dtype="float64")
    precision = (W**2).sum(axis=1) / SIGMA**2 + 1
    vae.parameters["decoder.0.W"][...], vae.parameters["decoder.0.b"][...] = W, b
    mean = W.T / SIGMA**2 / precision
    vae.parameters["encoder.0.W"][...] = np.hstack([mean, np.zeros(mean.shape)])
    vae.parameters["encoder.0.b"][...] = np.concatenate([-b @ mean, -np.log(precision)])
    return vae


def exact(W, b, x):
    """∫₀¹ E[−ln p(x_d|z)] dt of a row x (D,), z ~ p_t(z|x), the posterior of x explained with weight t."""

    def integrand(t):
        covariance = np.linalg.inv(np.eye(len(W)) + t * W @ W.T / SIGMA**2)
        mean = covariance @ W @ (x - b) * t / SIGMA**2
        spread = np.einsum("ld,lk,kd->d", W, covariance, W)
        return -norm.logpdf(x, b + mean @ W, SIGMA) + spread / (2 * SIGMA**2)

    return quad_vec(integrand, 0, 1, epsrel=1e-9)[0]


def test_the_shares_are_those_of_a_linear_gaussian_model():
    W, b = np.array([[1.5, -1.5, 0.4, 0.0], [0.5, 0.5, 0.0, 0.0]]), np.array([0.0, 1.0, 0.5, -1.0])
    X = np.array([[0.5, 0.7, 0.6, -0.8], [3.0, 1.5, 0.5, -1.2], [0.0, 1.0, 0.5, 2.0]])
    vae = linear(W, b)
    found = [explain(vae, X, 500, rows=np.arange(3) + 10 * k) for k in range(60)]
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(60)
    expected = np.array([exact(W, b, x) for x in X])
    assert (np.abs(mean - expected) <= 4 * error + 1e-3 * np.abs(expected)).all()
    assert error.max() < 0.2


def test_a_column_of_its_own_has_its_own_density_and_equal_columns_have_equal_shares():
    W, b = np.array([[1.0, 1.0, 0.0], [1.0, -1.0, 0.0]]), np.zeros(3)
    X = np.array([[0.4, 0.4, 1.7]])
    shares = explain(linear(W, b), X, 2000)
    assert abs(shares[0, 2] + norm.logpdf(1.7, 0, SIGMA)) < 0.05
    found = np.mean([explain(linear(W, b), X, 100, rows=np.array([k]))[0] for k in range(100)], axis=0)
    assert abs(found[0] - found[1]) < 0.2 and found[0] > 0.2


@pytest.mark.parametrize(
    "likelihood, scale", [(name, None) for name in DATA] + [(name, "standard") for name in ("gaussian", "laplace")]
)
def test_the_shares_of_every_likelihood_add_up(likelihood, scale):
    X = DATA[likelihood] * (1 if scale is None else [1, 10, 100, 1000])
    vae = mv.VAE(4, 3, (5,), "tanh", likelihood, backend="numpy", dtype="float64", init="he")
    vae.scale = mv.Scale.fit(scale, X) if scale else None
    shares, (log_px, _) = explain(vae, X, 50), vae.log_likelihood(X, 50)
    assert shares.shape == (9, 4) and shares.dtype == np.float64
    assert_sums(shares.sum(axis=1), -log_px, of="model", summed=np.abs(shares).sum(axis=1))


@pytest.mark.parametrize("likelihood", ["gaussian", "negative-binomial", "categorical:3"])
def test_a_columns_share_depends_on_its_values_and_its_parameters(likelihood):
    """Columns in another order, in the data and in the model, have their shares in that order."""
    X, order = DATA[likelihood], np.array([2, 0, 3, 1])
    vae, other = (mv.VAE(4, 2, (), likelihood=likelihood, backend="numpy", dtype="float64", init="he") for _ in "ab")
    for name, view in vae.parameters.items():
        view[...] = rng.normal(size=view.shape)
        blocks = view.reshape(*view.shape[:-1], -1, 4)[..., order] if "encoder" not in name else view
        blocks = view[order] if name == "encoder.0.W" else blocks
        other.parameters[name][...] = blocks.reshape(view.shape)
    shares, moved = explain(vae, X, 50), explain(other, np.ascontiguousarray(X[:, order]), 50)
    assert_sums(moved, shares[:, order], of="training")
    assert np.abs(shares[:, 0] - shares[:, 1]).max() > 0.1


def test_the_share_is_the_rows_alone_and_the_same_on_a_device(monkeypatch):
    X = DATA["gaussian"]
    arguments = {"likelihood": "gaussian", "kernels": "reference", "dtype": "float64"}
    vae = mv.VAE(4, 3, (5,), backend="numpy", **arguments)
    shares = explain(vae, X, 50, rows=row_hashes(X))
    np.testing.assert_allclose(explain(vae, X[4:5], 50, rows=row_hashes(X[4:5])), shares[4:5], rtol=1e-7)
    standin.install(monkeypatch)
    assert_sums(explain(mv.VAE(4, 3, (5,), backend="cupy", **arguments), X, 50, row_hashes(X)), shares, of="training")


def test_a_likelihood_that_does_not_split_says_so(monkeypatch):
    vae = mv.VAE(4, 2, (), likelihood="gaussian:0.5", backend="numpy")
    plain = type(vae.likelihood).nll_and_grad

    def joint(self: Likelihood, nll_rows, *arguments):
        plain(self, nll_rows, *arguments)
        nll_rows *= 2 if self.features > 1 else 1

    monkeypatch.setattr(type(vae.likelihood), "nll_and_grad", joint)
    with pytest.raises(UsageError, match="the columns do not add up to the row"):
        explain(vae, DATA["gaussian"], 5)
