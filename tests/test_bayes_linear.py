"""The linear-Gaussian model, and a linear VAE, which must become probabilistic PCA.

Oracles: scipy.stats, scikit-learn's PCA, conditioning a joint Gaussian, and the engine's own objective.
"""

import math

import numpy as np
import pytest
from bayes_models import linear_vae, rows
from scipy import stats
from tolerances import assert_sums

import minivae as mv
from minivae import bayes

RNG = np.random.default_rng(0)


# ---- the linear-Gaussian model, and probabilistic PCA ---------------------------------------------------------------


@pytest.mark.parametrize("D, L", [(1, 1), (5, 2), (7, 3), (3, 5)])
def test_the_linear_models_marginal_and_posterior_match_scipy(D, L):
    model = bayes.LinearGaussian(RNG.normal(size=(D, L)), RNG.normal(size=D), 0.3)
    X = RNG.normal(size=(4, D))
    joint = model.W @ model.W.T + 0.3 * np.eye(D)
    assert_sums(model.log_px(X), np.atleast_1d(stats.multivariate_normal(model.b, joint).logpdf(X)), of="model")
    mean, cov = model.posterior(X)
    gain = np.linalg.solve(joint, model.W).T  # of the joint Gaussian of (x, z), conditioned on x
    assert_sums(mean, (X - model.b) @ gain.T, of="training")
    assert_sums(cov, np.eye(L) - gain @ model.W, of="model", summed=1)


@pytest.mark.parametrize("L", [1, 3])
def test_the_linear_elbo_is_the_engines_objective(L):
    """±√L along each axis have the mean and covariance of ε, and the loss is a square in z: the engine is exact too."""
    vae = linear_vae(L)
    X = rows(vae, 4)
    eps = np.repeat((np.concatenate([np.eye(L), -np.eye(L)]) * math.sqrt(L))[:, None, :], 4, axis=1)
    terms = vae.objective(X, eps=eps)
    elbo = bayes.LinearGaussian.of(vae).elbo(X, *vae.encode(X))
    assert_sums(elbo, -(terms.nll_rows + terms.kl_rows), of="model")


def test_the_linear_elbo_is_the_marginal_less_the_distance_of_the_posteriors():
    model = bayes.LinearGaussian(RNG.normal(size=(5, 2)), RNG.normal(size=5), 0.3)
    X, mean, logvar = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 2)), RNG.normal(size=(4, 2))
    exact, cov = model.posterior(X)
    kl = [bayes.kl_gaussian(m, np.exp(v), e, cov) for m, v, e in zip(mean, logvar, exact, strict=True)]
    assert_sums(model.log_px(X) - model.elbo(X, mean, logvar), kl, of="training")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_linear_model_reads_sigma_from_the_likelihood_and_changes_nothing(dtype):
    vae = linear_vae(2, sigma=0.37, dtype=dtype)
    vae.objective_and_grad(rows(vae).astype(dtype))
    gradient = vae.buffer.grad.copy()
    assert bayes.LinearGaussian.of(vae).sigma2 == pytest.approx(0.37**2, rel=1e-5 if dtype == "float32" else 1e-13)
    np.testing.assert_array_equal(vae.buffer.grad, gradient)


def data(N=200, D=6, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) + rng.normal(size=D)


@pytest.mark.parametrize("L", [1, 2, 5])
def test_ppca_matches_scikit_learn(L):
    """scikit-learn divides the covariance by N − 1, the largest likelihood by N."""
    decomposition = pytest.importorskip("sklearn.decomposition")
    X = data()
    oracle, found = decomposition.PCA(L).fit(X), bayes.PPCA.fit(X, L)
    share = (len(X) - 1) / len(X)
    assert found.sigma2 == pytest.approx(oracle.noise_variance_ * share, rel=1e-10)
    assert_sums(found.eigenvalues[:L], oracle.explained_variance_ * share, of="training")
    assert_sums(found.b, oracle.mean_, of="model")
    cov = oracle.get_covariance() * share
    assert_sums(found.W @ found.W.T + found.sigma2 * np.eye(6), cov, of="training")


@pytest.mark.parametrize("L", [1, 2, 5])
def test_ppcas_log_likelihood_is_scipys_and_the_largest(L):
    X = data()
    found = bayes.PPCA.fit(X, L)
    cov = found.W @ found.W.T + found.sigma2 * np.eye(6)
    assert found.log_likelihood == pytest.approx(stats.multivariate_normal(found.b, cov).logpdf(X).mean(), rel=1e-12)
    assert found.log_likelihood == pytest.approx(found.log_px(X).mean(), rel=1e-12)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        W, b = found.W + 0.05 * rng.normal(size=found.W.shape), found.b + 0.05 * rng.normal(size=6)
        other = bayes.LinearGaussian(W, b, found.sigma2 * math.exp(0.05 * rng.normal()))
        assert other.log_px(X).mean() < found.log_likelihood


def test_ppcas_exact_posterior_is_a_diagonal_gaussian_whose_elbo_is_the_likelihood():
    X = data()
    found = bayes.PPCA.fit(X, 2)
    mean, cov = found.posterior(X)
    assert_sums(cov[0, 1], 0, of="model", summed=1)
    elbo = found.elbo(X, mean, np.tile(np.log(np.diag(cov)), (len(X), 1)))
    assert_sums(elbo, found.log_px(X), of="training")


def test_a_linear_vae_in_float32_becomes_probabilistic_pca_too():
    X = data(seed=1)
    sigma = math.sqrt(bayes.PPCA.fit(X, 1).sigma2)
    vae = mv.VAE(6, 1, (), likelihood=f"gaussian:{sigma}", backend="numpy", seed=0)
    found = bayes.against_ppca(bayes.fit_linear_vae(vae, X), X)
    assert abs(found.gap) < 1e-3
    assert found.angle < 1


def test_an_untrained_vae_is_far_from_probabilistic_pca():
    found = bayes.against_ppca(linear_vae(2, D=6), data())
    assert found.gap > 0.1
    assert found.angle > 5
