"""Exact posteriors on a grid, the encoder's gaps, and two points, for one bit of data.

Oracles: scipy.integrate, scipy.stats, scipy.optimize, and the linear-Gaussian model, known in closed form.
"""

import math

import numpy as np
import pytest
from bayes_models import linear_vae, rows, small_vae
from scipy import integrate, optimize, stats
from tolerances import BAYES, assert_sums

import minivae as mv
from minivae import bayes
from minivae.article.bayes.posterior import _close_in as close_in
from minivae.article.bayes.quadrature import ExactModel, Rule, coarse_rule, fine_rule
from minivae.article.bayes.two_points import train_two_points, two_points
from minivae.errors import UsageError

RNG = np.random.default_rng(0)
LN_2 = math.log(2)


def log_likelihood(vae, x, z):
    """ln p(x|z) of one row at one z, from the weights alone."""
    W0, b0, W1, b1 = (vae.parameters[f"decoder.{i}.{n}"] for i in (0, 1) for n in ("W", "b"))
    out = np.tanh(np.atleast_1d(z) @ W0 + b0) @ W1 + b1
    if vae.likelihood.name == "bernoulli":
        return float(stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-out))).sum())
    return float(stats.norm.logpdf(x, out, vae.likelihood.sigma).sum())


# ---- quadrature over z ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("L", [1, 2])
def test_the_rule_has_the_moments_of_a_standard_normal(L):
    nodes, weights = fine_rule(L).nodes, fine_rule(L).weights
    assert weights.sum() == pytest.approx(1, rel=1e-14)
    for dim in range(L):
        for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
            assert weights @ nodes[:, dim] ** power == pytest.approx(moment, rel=BAYES["integral"], abs=1e-14)
        assert weights @ np.cos(3 * nodes[:, dim]) == pytest.approx(math.exp(-4.5), rel=1e-10)
    assert weights @ (nodes[:, 0] * nodes[:, -1]) == pytest.approx(float(L == 1), abs=BAYES["integral"])


@pytest.mark.parametrize("L, fine, coarse", [(1, 1e-9, 1e-6), (2, 1e-6, 1e-3)])
def test_the_rules_agree_with_one_of_many_more_points(L, fine, coarse):
    vae = small_vae(L=L)
    model, X, H = ExactModel(vae), rows(vae), RNG.normal(size=(3, 2 * L))
    H[:, L:] -= 1.5
    exact = model.losses(X, H, Rule(L, fine_rule(L).spacing / 3, 9.0))[0]
    np.testing.assert_allclose(model.losses(X, H)[0], exact, atol=fine)
    np.testing.assert_allclose(model.losses(X, H, coarse_rule(L))[0], exact, atol=coarse)
    assert 2 * coarse_rule(L).weights.size < fine_rule(L).weights.size


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian:0.5"])
def test_the_loss_by_quadrature_matches_scipys_integral(likelihood):
    vae = small_vae(likelihood)
    model, X = ExactModel(vae), rows(vae)
    H = np.array([[0.3, -1.0], [-2.0, 0.5], [1.5, -6.0]])
    nll, kl, _ = model.losses(X, H)
    for n, (mean, logvar) in enumerate(H):
        q, half = stats.norm(mean, math.exp(0.5 * logvar)), 9 * math.exp(0.5 * logvar)
        exact = integrate.quad(
            lambda z, q=q, n=n: -q.pdf(z) * log_likelihood(vae, X[n], z), mean - half, mean + half, limit=200
        )[0]
        assert nll[n] == pytest.approx(exact, rel=1e-7)
        exact = integrate.quad(
            lambda z, q=q: q.pdf(z) * (q.logpdf(z) - stats.norm.logpdf(z)), mean - half, mean + half, limit=200
        )[0]
        assert kl[n] == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("L", [1, 2])
def test_the_gradient_of_the_exact_loss_is_its_slope(L):
    vae = small_vae(L=L)
    model, X, H = ExactModel(vae), rows(vae), RNG.normal(size=(3, 2 * L))
    _, _, dH = model.losses(X, H)
    for index in np.ndindex(H.shape):
        step = np.zeros_like(H)
        step[index] = 1e-5
        up, down = (sum(model.losses(X, H + s)[:2]).sum() for s in (step, -step))
        assert dH[index] == pytest.approx((up - down) / 2e-5, rel=1e-6, abs=1e-8)


def test_the_loss_of_many_rows_is_that_of_each_alone():
    vae = small_vae(L=2)
    model, X, H = ExactModel(vae), rows(vae, 11), RNG.normal(size=(11, 4))
    together = model.losses(X, H)
    for n in range(11):
        for whole, alone in zip(together, model.losses(X[n : n + 1], H[n : n + 1]), strict=True):
            assert_sums(whole[n], alone[0], of="model")


def test_the_exact_model_is_a_copy():
    vae = small_vae()
    X = rows(vae)
    vae.objective_and_grad(X)
    before, gradients = vae.buffer.data.copy(), vae.buffer.grad.copy()
    bayes.encoder_gaps(vae, X)
    np.testing.assert_array_equal(vae.buffer.data, before)
    np.testing.assert_array_equal(vae.buffer.grad, gradients)


# ---- the exact posterior (eq. 14) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("L, sigma", [(1, 0.7), (1, 0.00003), (2, 0.7), (2, 0.02), (2, 0.0001)])
def test_the_grid_matches_the_closed_form_of_a_linear_model(L, sigma):
    vae = linear_vae(L, sigma=sigma)
    X = vae.sample(4, draw=True)
    exact = bayes.LinearGaussian.of(vae)
    found = bayes.exact_posterior(vae, X)
    mean, cov = exact.posterior(X)
    np.testing.assert_allclose(found.log_px, exact.log_px(X), rtol=BAYES["integral"])
    np.testing.assert_allclose(found.mean, mean, atol=BAYES["integral"])
    np.testing.assert_allclose(found.cov, np.broadcast_to(cov, found.cov.shape), rtol=1e-7)
    assert_sums(np.exp(found.log_density).reshape(4, -1).sum(axis=1) * found.cell, 1, of="model", summed=1)


def test_the_density_stands_where_the_axes_say():
    vae = linear_vae(2)
    X = rows(vae, 2)
    mean, cov = bayes.LinearGaussian.of(vae).posterior(X)
    found = bayes.exact_posterior(vae, X)
    for row, j, k in ((0, 66, 93), (1, 80, 60)):
        z = found.axes[row, 0, j], found.axes[row, 1, k]
        assert found.log_density[row, j, k] == pytest.approx(
            stats.multivariate_normal(mean[row], cov).logpdf(z), rel=1e-8
        )


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian:0.5"])
def test_the_grid_matches_scipys_integral_of_a_network(likelihood):
    vae = small_vae(likelihood)
    X = rows(vae)
    found = bayes.exact_posterior(vae, X)
    for n, x in enumerate(X):

        def joint(z, x=x):
            return math.exp(log_likelihood(vae, x, z)) * stats.norm.pdf(z)

        marginal = integrate.quad(joint, -9, 9, limit=500, epsabs=0, points=np.linspace(-4, 4, 17))[0]
        mean = integrate.quad(lambda z: z * joint(z), -9, 9, limit=500, points=np.linspace(-4, 4, 17))[0] / marginal
        assert found.log_px[n] == pytest.approx(math.log(marginal), rel=1e-8)
        assert found.mean[n, 0] == pytest.approx(mean, abs=1e-6)


def test_the_exact_marginal_agrees_with_importance_sampling():
    vae = small_vae(L=2)
    X = rows(vae, 8)
    sampled, error = vae.log_likelihood(X, samples=20_000)
    assert (np.abs(sampled - bayes.exact_posterior(vae, X).log_px) < 4.5 * error).all()
    assert (error < 0.1).all()


def test_a_posterior_with_two_peaks_is_found_whole():
    vae = mv.VAE(4, 1, (2,), "tanh", likelihood="gaussian:0.2", backend="numpy", dtype="float64")
    vae.parameters["decoder.0.W"][...] = [[2.0, -2.0]]
    vae.parameters["decoder.0.b"][...] = -2.0
    vae.parameters["decoder.1.W"][...] = 1.0  # an even function of z
    X = vae.decode(np.array([[1.3]]))
    found = bayes.exact_posterior(vae, X)
    p = np.exp(found.log_density[0])
    assert found.mean[0, 0] == pytest.approx(0, abs=1e-9)
    assert abs(found.axes[0, 0, p.argmax()]) == pytest.approx(1.3, abs=0.15)
    assert p[p.size // 2] < 0.01 * p.max()
    best = bayes.encoder_gaps(vae, X)
    assert best.approximation[0] == pytest.approx(LN_2, abs=0.05)  # one of two peaks: a bit


def ridge(sigma=0.02):
    """A row of which only z₁ + z₂ matters: its posterior is a thin ridge across both axes."""
    vae = mv.VAE(1, 2, (), likelihood=f"gaussian:{sigma}", backend="numpy", dtype="float64")
    vae.parameters["decoder.0.W"][...] = 1.0
    return vae, np.array([[0.3]])


def test_a_grid_that_does_not_resolve_a_posterior_is_refused_and_a_finer_one_is_right():
    vae, X = ridge()
    with pytest.raises(UsageError, match=r"row 0: 161 points of an axis do not resolve .* give points=644"):
        bayes.exact_posterior(vae, X)
    found = bayes.exact_posterior(vae, X, points=1201)
    assert found.error[0] < 1e-3
    assert found.log_px[0] == pytest.approx(bayes.LinearGaussian.of(vae).log_px(X)[0], abs=BAYES["integral"])


def test_the_error_of_a_grid_is_what_every_other_point_leaves_out():
    vae, X = small_vae(activation="relu"), rows(small_vae())
    coarse, fine = bayes.exact_posterior(vae, X, points=401), bayes.exact_posterior(vae, X, points=801)
    assert_sums(fine.error, np.abs(fine.log_px - coarse.log_px), of="model", summed=np.abs(fine.log_px))
    assert (fine.error > 1e-9).all()


def test_a_grid_moves_to_a_posterior_that_lies_beside_it():
    vae = linear_vae(2, sigma=0.05)
    X = vae.sample(1, draw=True)
    mean, cov = bayes.LinearGaussian.of(vae).posterior(X)
    beside = mean[0] + 30 * np.sqrt(np.diag(cov))
    axes, log_joint = close_in(ExactModel(vae), X, beside, beside + 0.1, 161)
    p = np.exp(log_joint - log_joint.max())
    assert (axes[:, 0] < mean[0]).all()
    assert (axes[:, -1] > mean[0]).all()
    np.testing.assert_allclose((p.sum(axis=1) @ axes[0]) / p.sum(), mean[0, 0], atol=BAYES["integral"])


def test_many_rows_have_each_their_own_posterior():
    vae = linear_vae(1)
    X = rows(vae, 131)
    mean, _ = bayes.LinearGaussian.of(vae).posterior(X)
    np.testing.assert_allclose(bayes.exact_posterior(vae, X, points=101).mean, mean, atol=BAYES["integral"])


def test_the_rows_of_a_float32_model_are_integrated_in_float64():
    single = small_vae(dtype="float32")
    double = small_vae()
    for name, view in double.parameters.items():
        view[...] = single.parameters[name]
    X = rows(double)
    here, there = bayes.exact_posterior(single, X.astype(np.uint8)), bayes.exact_posterior(double, X)
    np.testing.assert_array_equal(here.log_px, there.log_px)


# ---- the encoder's gaps (eq. 13–15) ---------------------------------------------------------------------------------


def gaussian_kl(mean_p, cov_p, mean_q, cov_q):
    return np.array([bayes.kl_gaussian(p, cov_p, q, cov_q) for p, q in zip(mean_p, mean_q, strict=True)])


def test_the_gaps_of_a_linear_model_match_their_closed_forms():
    """Of N(m, Σ), the diagonal Gaussian nearest in KL(·‖N) has the mean m and the precisions of Σ⁻¹'s diagonal."""
    vae = linear_vae(2)
    X = rows(vae)
    exact_mean, cov = bayes.LinearGaussian.of(vae).posterior(X)
    precisions = np.diag(np.linalg.inv(cov))
    mean, logvar = vae.encode(X)
    found = bayes.encoder_gaps(vae, X)
    tight = {"rtol": 1e-7, "atol": BAYES["integral"]}
    np.testing.assert_allclose(found.approximation, gaussian_kl(exact_mean, 1 / precisions, exact_mean, cov), **tight)
    np.testing.assert_allclose(found.best_mean, exact_mean, atol=BAYES["place"])
    np.testing.assert_allclose(found.best_logvar, np.tile(-np.log(precisions), (3, 1)), atol=BAYES["place"])
    for n in range(3):
        kl = bayes.kl_gaussian(mean[n], np.exp(logvar[n]), exact_mean[n], cov)
        reverse = bayes.kl_gaussian(exact_mean[n], cov, mean[n], np.exp(logvar[n]))
        assert found.kl[n] == pytest.approx(kl, rel=1e-8)
        assert found.reverse_kl[n] == pytest.approx(reverse, rel=1e-8)
        assert found.approximation[n] + found.amortisation[n] == pytest.approx(kl, rel=1e-8)
    assert_sums(found.elbo, bayes.LinearGaussian.of(vae).elbo(X, mean, logvar), of="training")


def test_an_encoder_that_is_best_for_each_row_has_no_amortisation_gap():
    vae = linear_vae(2)
    X = rows(vae)
    W, b = vae.parameters["encoder.0.W"], vae.parameters["encoder.0.b"]
    exact = bayes.LinearGaussian.of(vae)
    at_zero, cov = exact.posterior(np.zeros((1, 5)))
    W[:, :2], b[:2] = (exact.posterior(np.eye(5))[0] - at_zero), at_zero[0]
    W[:, 2:], b[2:] = 0, -np.log(np.diag(np.linalg.inv(cov)))
    found = bayes.encoder_gaps(vae, X)
    np.testing.assert_allclose(found.amortisation, 0, atol=BAYES["integral"])
    assert (found.approximation > 0.001).all()


@pytest.mark.parametrize("L", [1, 2])
def test_no_other_gaussian_of_a_row_is_better_than_the_best(L):
    vae = small_vae(L=L)
    X = rows(vae)
    model, found = ExactModel(vae), bayes.encoder_gaps(vae, X)
    best = np.hstack([found.best_mean, found.best_logvar])
    nll, kl, dH = model.losses(X, best)
    assert_sums(-(nll + kl), found.best_elbo, of="model")
    np.testing.assert_allclose(dH, 0, atol=BAYES["place"])
    for n in range(3):
        other = optimize.minimize(
            lambda h, n=n: float(sum(model.losses(X[n : n + 1], h[None])[:2])[0]),
            RNG.normal(size=2 * L),
            method="Nelder-Mead",
        )
        assert other.fun > -found.best_elbo[n] - BAYES["integral"]


@pytest.mark.parametrize("seed, sigma, row", [(16, 0.5, 0), (109, 0.2, 1)])
def test_of_several_places_to_descend_from_the_best_counts(seed, sigma, row):
    """Two models with several peaks, whose best Gaussian is reached from the peak alone, or from the moments alone."""
    vae = mv.VAE(4, 1, (6,), "tanh", likelihood=f"gaussian:{sigma}", backend="numpy", dtype="float64", seed=seed)
    rng = np.random.default_rng(seed)
    for view in vae.parameters.values():
        view[...] = 1.5 * rng.normal(size=view.shape)
    X = vae.sample(6, draw=True, seed=seed)[row : row + 1]
    model = ExactModel(vae)
    starts = [[mean, logvar] for mean in np.linspace(-3, 3, 13) for logvar in (-6.0, -2.0)]
    found = [
        optimize.minimize(lambda h: float(sum(model.losses(X, h[None])[:2])[0]), start, method="Nelder-Mead").fun
        for start in starts
    ]
    assert max(found) > min(found) + 0.5
    assert -bayes.encoder_gaps(vae, X).best_elbo[0] == pytest.approx(min(found), abs=1e-6)


# ---- two points (eq. 11, 13) ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("D, about", [(2, 0.908), (8, 1.127), (64, 1.326)])
def test_the_two_point_optimum_matches_scipys_integrals(D, about):
    found = bayes.two_points_optimum(D)
    assert found.loss == pytest.approx(about, abs=6e-4)
    p = [stats.norm(m, s) for m, s in zip(found.means, found.stds, strict=True)]

    def nll(z, own):
        return -D * math.log(p[own].pdf(z) / (p[0].pdf(z) + p[1].pdf(z))) * p[own].pdf(z)

    terms = [integrate.quad(nll, -6, 6, args=(own,), limit=200, points=[*found.means])[0] / 2 for own in (0, 1)]
    assert found.nll == pytest.approx(sum(terms), abs=BAYES["integral"])
    kl = [bayes.kl_gaussian([m], [s**2], [0], [1]) for m, s in zip(found.means, found.stds, strict=True)]
    assert found.kl == pytest.approx(np.mean(kl), rel=1e-10)
    assert found.loss == pytest.approx(found.nll + found.kl, rel=1e-14)


def test_no_encoder_from_other_starts_beats_the_two_point_optimum():
    from minivae.article.bayes.two_points import _parts

    found = bayes.two_points_optimum(8)
    for seed in range(10):
        start = np.random.default_rng(seed).normal(size=4)
        other = optimize.minimize(lambda h: sum(_parts(h, 8)[:2]), start, method="Nelder-Mead")
        assert other.fun > found.loss - BAYES["integral"]


@pytest.mark.parametrize("D", [1, 2, 8, 64])
def test_the_loss_above_ln_2_is_the_priors_gap_and_the_decoders(D):
    found = bayes.two_points_optimum(D)
    assert found.floor == LN_2
    assert found.loss == pytest.approx(LN_2 + found.prior_gap + found.decoder_gap, abs=BAYES["sum"])
    assert found.free_encoder == pytest.approx(LN_2, abs=BAYES["sum"])
    mixture = [stats.norm(m, s) for m, s in zip(found.means, found.stds, strict=True)]

    def gap(z):
        p = 0.5 * (mixture[0].pdf(z) + mixture[1].pdf(z))
        return p * (math.log(p) - stats.norm.logpdf(z))

    exact = integrate.quad(gap, -6, 6, limit=200, points=[*found.means])[0]
    assert found.prior_gap == pytest.approx(exact, abs=BAYES["integral"])


def test_one_feature_reaches_the_floor_by_collapse_alone():
    found = bayes.two_points_optimum(1)
    assert found.loss == pytest.approx(LN_2, abs=BAYES["sum"])
    assert found.kl == pytest.approx(0, abs=BAYES["sum"])


def test_the_two_point_loss_by_quadrature_is_what_many_samples_give():
    vae, X = train_two_points(8, steps=200), two_points(8)
    samples = RNG.normal(size=(20_000, 2, 1))
    model = ExactModel(vae)
    nll, kl, _ = model.losses(X, model.encode(X))
    mean, logvar = vae.encode(X)
    draws = np.array([-log_mean for log_mean in vae_log_likelihoods(vae, X, mean + np.exp(0.5 * logvar) * samples)])
    error = draws.std(axis=0) / math.sqrt(len(samples))
    assert (np.abs(draws.mean(axis=0) - nll) < 4.5 * error).all()
    assert vae.objective(X, eps=samples[:1]).kl == pytest.approx(kl.mean(), rel=1e-12)


def vae_log_likelihoods(vae, X, Z):
    """ln p(x|z) (S, N) of a linear Bernoulli VAE, by SciPy."""
    logits = Z @ vae.parameters["decoder.0.W"] + vae.parameters["decoder.0.b"]
    return stats.bernoulli.logpmf(X, 1 / (1 + np.exp(-logits))).sum(axis=2)
