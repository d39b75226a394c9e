"""The Gaussian posterior: KL against SciPy and Monte Carlo, moments of what reparameterisation draws."""

import numpy as np
import pytest
from scipy import integrate, stats
from tolerances import assert_sums

from minivae import kernels

OPS = {kind: kernels.load("numpy", kind, np) for kind in ("fused", "reference")}
RNG = np.random.default_rng(0)


def run(H, eps, kind="fused"):
    S, B, L = eps.shape
    Z, sigma, kl_rows, kl_dims = np.empty((S, B, L)), np.empty((B, L)), np.empty(B), np.empty(L)
    OPS[kind].latent_forward(Z, sigma, kl_rows, kl_dims, H, eps)
    return Z, sigma, kl_rows, kl_dims


@pytest.mark.parametrize("kind", OPS)
def test_kl_matches_scipys_integral(kind):
    H = np.hstack([RNG.normal(size=(4, 2)), RNG.normal(size=(4, 2))])
    kl = run(H, np.zeros((1, 4, 2)), kind)[2]
    for i in range(4):
        exact = 0
        for j in range(2):
            p, q = stats.norm(H[i, j], np.exp(0.5 * H[i, 2 + j])), stats.norm()
            low, high = p.mean() - 12 * p.std(), p.mean() + 12 * p.std()
            exact += integrate.quad(lambda z, p=p, q=q: p.pdf(z) * (p.logpdf(z) - q.logpdf(z)), low, high)[0]
        assert kl[i] == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("kind", OPS)
def test_kl_matches_monte_carlo(kind):
    n = 200_000
    H = np.array([[0.7, -1.2, -0.5, 0.9]])
    Z, sigma, kl, _ = run(H, RNG.normal(size=(n, 1, 2)), kind)
    gap = (stats.norm.logpdf(Z, H[:, :2], sigma) - stats.norm.logpdf(Z)).sum(axis=2)
    assert abs(gap.mean() - kl[0]) < 4 * gap.std() / np.sqrt(n)


def test_kl_is_zero_at_the_prior_and_positive_elsewhere():
    assert run(np.zeros((1, 6)), np.zeros((1, 1, 3)))[2][0] == 0
    assert (run(RNG.normal(size=(100, 6)), np.zeros((1, 100, 3)))[2] > 0).all()


def test_kl_of_dimensions_is_the_mean_over_rows():
    H = RNG.normal(size=(11, 6))
    _, _, kl_rows, kl_dims = run(H, np.zeros((1, 11, 3)))
    assert kl_dims.sum() == pytest.approx(kl_rows.mean(), rel=1e-14)
    assert_sums(kl_dims[1:2], run(H[:, [1, 4]], np.zeros((1, 11, 1)))[2].mean(), of="sum")


@pytest.mark.parametrize("kind", OPS)
def test_reparameterised_samples_have_the_posteriors_moments(kind):
    n = 100_000
    mean, logvar = np.array([0.4, -2.0]), np.array([-1.0, 1.5])
    Z, sigma, _, _ = run(np.hstack([mean, logvar])[None], RNG.normal(size=(n, 1, 2)), kind)
    std = np.exp(0.5 * logvar)
    assert_sums(sigma[0], std, of="sum")
    assert (np.abs(Z[:, 0].mean(axis=0) - mean) < 4 * std / np.sqrt(n)).all()
    assert (np.abs(Z[:, 0].std(axis=0) / std - 1) < 4 / np.sqrt(2 * n)).all()
    for j in range(2):
        assert stats.kstest(Z[:, 0, j], stats.norm(mean[j], std[j]).cdf).pvalue > 1e-3
