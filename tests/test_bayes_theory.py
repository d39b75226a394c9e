"""The theory of the article as functions: expectations, divergences, the joint view, floors, and the balance.

Oracles: scipy.integrate, scipy.stats, mpmath, sums written out in loops, closed forms. What a claim of `minivae verify`
measures with the same function is left to tests/test_claims.py, which runs every claim.
"""

import math
import warnings

import mpmath
import numpy as np
import pytest
from scipy import integrate, stats
from tolerances import BAYES, assert_sums

from minivae import bayes, likelihoods
from minivae.article.bayes.drop_in import bhattacharyya_joint, bhattacharyya_loss
from minivae.backend import Backend

RNG = np.random.default_rng(0)


def test_every_public_name_is_there_and_carries_its_equation():
    for name in bayes.__all__:
        assert "eq. " in getattr(bayes, name).__doc__, name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'kl_discreet'"):
        _ = bayes.kl_discreet


# ---- expectations (eq. 1–4) -----------------------------------------------------------------------------------------


def test_quadrature_weighs_each_point_by_the_step_before_it():
    assert bayes.by_quadrature(lambda x: np.full_like(x, 0.5), [0, 1, 3]) == 0.5 * 1 * 1 + 0.5 * 3 * 2


def test_quadrature_matches_scipys_integral_of_a_skewed_density():
    gamma = stats.gamma(3.5, scale=0.7)
    exact = integrate.quad(lambda x: np.sin(x) * gamma.pdf(x), 0, 40, epsabs=1e-12)[0]
    points = np.linspace(0, 40, 40_001)
    assert bayes.by_quadrature(gamma.pdf, points, np.sin) == pytest.approx(exact, abs=BAYES["integral"])
    assert bayes.by_quadrature(gamma.pdf, points) == pytest.approx(gamma.mean(), abs=BAYES["integral"])


def test_the_error_of_quadrature_falls_faster_than_any_power_for_a_smooth_density():
    errors = [abs(bayes.two_ways(points=n, samples=2).quadrature - 1.5) for n in (13, 19, 37)]
    assert errors[0] > 1000 * errors[1] > 1e-6  # a rule of second order: about 2
    assert errors[2] < 1e-13


def test_sampling_gives_the_mean_and_scipys_standard_error():
    x = RNG.gamma(3.5, 0.7, 1001)
    estimate = bayes.by_sampling(x, np.square)
    assert estimate.value == pytest.approx(np.mean(x**2), rel=1e-14)
    assert estimate.error == pytest.approx(stats.sem(x**2), rel=1e-12)
    assert estimate.n == 1001


def test_the_standard_error_says_how_far_off_an_estimate_is():
    estimates = [bayes.by_sampling(RNG.gamma(3.5, 0.7, 500), np.square) for _ in range(1000)]
    exact = stats.gamma(3.5, scale=0.7).moment(2)
    off = np.array([(estimate.value - exact) / estimate.error for estimate in estimates])
    assert 0.9 < off.std() < 1.15


def test_one_sample_has_no_standard_error():
    assert math.isnan(bayes.by_sampling([2.0]).error)
    assert bayes.by_sampling([2.0]).value == 2


@pytest.mark.parametrize("f", [None, np.square], ids=["x", "x²"])
def test_weighing_samples_again_converges_to_the_integral_of_f_p_squared(f):
    p = stats.norm(0.4, 0.3)
    wrong = bayes.weighted_again(p.rvs(200_000, random_state=1), p.pdf, f)
    limit = integrate.quad(lambda x: (x if f is None else f(x)) * p.pdf(x) ** 2, -3, 4)[0]
    assert abs(wrong.value - limit) < 4 * wrong.error
    assert abs(wrong.value - p.expect(f)) > 20 * wrong.error


def test_the_limit_of_samples_weighed_again_is_scipys_integral():
    for mean, std in ((1.5, 0.5), (-0.3, 4.0)):
        p = stats.norm(mean, std)
        limit = integrate.quad(lambda x, p=p: x * p.pdf(x) ** 2, mean - 10 * std, mean + 10 * std)[0]
        assert bayes.two_ways(mean, std).weighted_again_limit == pytest.approx(limit, rel=1e-9)


def test_the_exponents_error_is_the_spread_of_exponents():
    rates = [bayes.sampling_rate(repeats=100, seed=seed, sizes=(64, 256, 1024)) for seed in range(100)]
    spread = np.std([rate.exponent for rate in rates])
    assert spread == pytest.approx(rates[0].exponent_error, rel=0.25)


# ---- divergences (eq. 5, 6) -----------------------------------------------------------------------------------------


def grid_integral(integrand, *distributions):
    """∫ over the plane by an even grid, fine and wide: exact for what decays as a Gaussian."""
    axis = np.linspace(-14, 14, 561)
    Z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    return integrand(*[distribution.logpdf(Z) for distribution in distributions]).sum() * (axis[1] - axis[0]) ** 2


COV_P, COV_Q = [[1.3, 0.5], [0.5, 0.6]], [[0.9, -0.4], [-0.4, 1.7]]
GAUSSIANS = ([0.4, -0.7], COV_P, [-0.2, 0.3], COV_Q)


@pytest.mark.parametrize("n", [1, 2, 7, 101])
def test_kl_of_probabilities_matches_scipy_both_ways(n):
    p, q = RNG.dirichlet(np.ones(n)), RNG.dirichlet(np.ones(n))
    assert bayes.kl_discrete(p, q) == pytest.approx(stats.entropy(p, q), rel=1e-12, abs=1e-15)
    assert bayes.kl_discrete(q, p) == pytest.approx(stats.entropy(q, p), rel=1e-12, abs=1e-15)
    assert bayes.kl_discrete(p, p) == 0


def test_kl_is_infinite_only_where_q_is_zero_and_p_is_not():
    assert bayes.kl_discrete([0.5, 0.5], [1.0, 0.0]) == math.inf
    assert bayes.kl_discrete([1.0, 0.0], [0.5, 0.5]) == pytest.approx(math.log(2), rel=1e-15)
    assert bayes.kl_discrete([1.0, 0.0], [1.0, 0.0]) == 0


def test_kl_of_gaussians_matches_mpmaths_integral():
    p, q = stats.norm(0.7, 0.4), stats.norm(-0.5, 1.3)

    def integrand(x):
        log_p, log_q = (-((x - m) ** 2) / (2 * s**2) - mpmath.log(s) for m, s in ((0.7, 0.4), (-0.5, 1.3)))
        return mpmath.npdf(x, 0.7, 0.4) * (log_p - log_q)

    exact = float(mpmath.quad(integrand, [-5, 0, 0.7, 2, 6]))
    assert bayes.kl_gaussian([p.mean()], [p.var()], [q.mean()], [q.var()]) == pytest.approx(exact, rel=1e-12)


def test_kl_of_correlated_gaussians_matches_an_integral_over_scipys_densities():
    p, q = stats.multivariate_normal(GAUSSIANS[0], COV_P), stats.multivariate_normal(GAUSSIANS[2], COV_Q)
    exact = grid_integral(lambda log_p, log_q: np.exp(log_p) * (log_p - log_q), p, q)
    assert bayes.kl_gaussian(*GAUSSIANS) == pytest.approx(exact, rel=1e-10)
    assert bayes.kl_gaussian(*GAUSSIANS) != pytest.approx(bayes.kl_gaussian(*GAUSSIANS[2:], *GAUSSIANS[:2]), rel=0.01)


def test_sampled_kl_is_infinite_where_q_rules_a_sample_out():
    uniform, narrow = stats.uniform(0, 1), stats.uniform(0, 0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = bayes.kl_sampled(uniform.rvs(100, random_state=0), uniform.logpdf, narrow.logpdf)
    assert estimate.value == math.inf
    assert math.isnan(estimate.error)
    other_way = bayes.kl_sampled(narrow.rvs(100, random_state=0), narrow.logpdf, uniform.logpdf)
    assert other_way.value == pytest.approx(math.log(2), rel=1e-14)


def test_bhattacharyya_of_probabilities_matches_mpmath_and_is_symmetric():
    p, q = RNG.dirichlet(np.ones(7)), RNG.dirichlet(np.ones(7))
    exact = float(
        -mpmath.log(mpmath.fsum(mpmath.sqrt(mpmath.mpf(a) * mpmath.mpf(b)) for a, b in zip(p, q, strict=True)))
    )
    assert bayes.bhattacharyya_discrete(p, q) == pytest.approx(exact, rel=1e-13)
    assert bayes.bhattacharyya_discrete(q, p) == bayes.bhattacharyya_discrete(p, q)
    assert bayes.bhattacharyya_discrete(p, p) == pytest.approx(0, abs=1e-15)


def test_bhattacharyya_of_gaussians_matches_integrals_over_scipys_densities():
    p, q = stats.multivariate_normal(GAUSSIANS[0], COV_P), stats.multivariate_normal(GAUSSIANS[2], COV_Q)
    exact = -math.log(grid_integral(lambda log_p, log_q: np.exp(0.5 * (log_p + log_q)), p, q))
    assert bayes.bhattacharyya_gaussian(*GAUSSIANS) == pytest.approx(exact, rel=1e-10)
    assert bayes.bhattacharyya_gaussian(*GAUSSIANS[2:], *GAUSSIANS[:2]) == pytest.approx(exact, rel=1e-10)
    overlap = mpmath.quad(lambda x: mpmath.sqrt(mpmath.npdf(x, 0, 0.5) * mpmath.npdf(x, 1, 2)), [-10, 0, 1, 11])
    assert bayes.bhattacharyya_gaussian([0], [0.25], [1], [4]) == pytest.approx(float(-mpmath.log(overlap)), rel=1e-10)


# ---- the joint view (eq. 7–14) --------------------------------------------------------------------------------------


def by_loops(toy):
    """KL(joint), 𝓛 and E[ln p̃] of a toy without zeros, term by term, in 50 digits."""
    kl, loss, constant = mpmath.mpf(0), mpmath.mpf(0), mpmath.mpf(0)
    with mpmath.workdps(50):
        for x, p_x in enumerate(map(mpmath.mpf, toy.data)):
            constant += p_x * mpmath.log(p_x)
            for z, q_z in enumerate(map(mpmath.mpf, toy.prior)):
                p_zx, q_xz = mpmath.mpf(toy.encoder[x, z]), mpmath.mpf(toy.decoder[z, x])
                kl += p_x * p_zx * mpmath.log(p_x * p_zx / (q_z * q_xz))
                loss += p_x * p_zx * (-mpmath.log(q_xz) + mpmath.log(p_zx / q_z))
    return float(kl), float(loss), float(constant)


SIZES = [(1, 1), (1, 4), (4, 1), (2, 2), (5, 3), (31, 17)]


@pytest.mark.parametrize("x, z", SIZES)
def test_every_side_of_the_identity_matches_loops_in_mpmath(x, z):
    toy = bayes.DiscreteJoint.random(x, z, seed=3)
    kl, loss, constant = by_loops(toy)
    found = bayes.joint_identity(toy)
    assert found.kl_joint == pytest.approx(kl, abs=BAYES["sum"])
    assert found.kl_nested == pytest.approx(kl, abs=BAYES["sum"])
    assert found.loss == pytest.approx(loss, abs=BAYES["sum"])
    assert found.constant == pytest.approx(constant, abs=BAYES["sum"])


def test_the_residual_shows_a_side_that_is_off(monkeypatch):
    monkeypatch.setattr(bayes.DiscreteJoint, "loss", lambda self: 1.0)
    assert bayes.joint_identity().residual > 0.1


def test_events_of_probability_0_add_nothing():
    with_zeros = bayes.DiscreteJoint([0.5, 0.5, 0], [[1, 0], [0, 1], [1, 0]], [[1, 0, 0], [0, 1, 0]], [0.5, 0.5])
    found = bayes.joint_identity(with_zeros)
    assert found.residual == 0
    assert found.kl_joint == pytest.approx(0, abs=1e-15)
    assert found.loss == pytest.approx(math.log(2), rel=1e-15)


def test_a_model_that_rules_out_the_data_is_infinitely_far():
    found = bayes.joint_identity(bayes.DiscreteJoint([0.5, 0.5], [[1, 0], [0, 1]], [[1, 0], [1, 0]], [0.5, 0.5]))
    assert found.kl_joint == found.kl_nested == found.loss == found.nll == math.inf
    assert found.residual == 0


def test_marginal_and_posterior_are_bayes_rule():
    toy = bayes.DiscreteJoint.random(5, 3, seed=1)
    for x in range(5):
        q_x = sum(toy.prior[z] * toy.decoder[z, x] for z in range(3))
        assert toy.marginal[x] == pytest.approx(q_x, rel=1e-14)
        for z in range(3):
            assert toy.posterior[x, z] == pytest.approx(toy.prior[z] * toy.decoder[z, x] / q_x, rel=1e-13)


def test_discrete_data_have_their_entropy_for_a_floor():
    found = bayes.discrete_floor(models=300, seed=4)
    perfect = bayes.DiscreteJoint.random(seed=4).perfect()
    assert found.entropy == pytest.approx(stats.entropy(perfect.data), rel=1e-13)
    assert found.entropy > 0
    assert abs(found.perfect_excess) <= BAYES["sum"]
    toys = [bayes.DiscreteJoint.random(5, 3, seed) for seed in range(5, 305)]
    distances = [bayes.DiscreteJoint(perfect.data, toy.encoder, toy.decoder, toy.prior).kl_joint() for toy in toys]
    assert found.smallest_excess == pytest.approx(min(distances), abs=BAYES["sum"])  # eq. 11
    assert found.smallest_excess > 0.01


@pytest.mark.parametrize("std, explained", [(0.01, 0.5), (0.2, 0.9), (3.0, 0.0)])
def test_the_loss_of_a_density_is_the_integral_of_its_terms(std, explained):
    found = bayes.density_loss(std, explained)
    w, sigma = math.sqrt(explained) * std, math.sqrt(1 - explained) * std
    axis = np.linspace(-9, 9, 181)
    weights = stats.norm.pdf(axis) * 0.1
    spread = sigma / std  # the posterior's
    X = std * axis[:, None]
    Z = w * X / std**2 + spread * axis
    nll = -stats.norm.logpdf(X, w * Z, sigma)
    kl = stats.norm.logpdf(Z, w * X / std**2, spread) - stats.norm.logpdf(Z)
    assert found.nll == pytest.approx(weights @ nll @ weights, abs=BAYES["integral"])
    assert found.kl == pytest.approx(weights @ kl @ weights, abs=BAYES["integral"])
    assert found.loss == pytest.approx(found.entropy, rel=1e-12)
    assert found.entropy == pytest.approx(stats.norm(0, std).entropy(), rel=1e-12)


def test_the_loss_of_a_density_crosses_zero_where_it_says():
    at = bayes.density_loss().zero_at
    assert bayes.density_loss(0.999 * at).loss < 0 < bayes.density_loss(1.001 * at).loss
    assert bayes.density_loss().loss < -3


# ---- why Bhattacharyya cannot replace KL (eq. 6 in the place of 5) ---------------------------------------------------


def test_the_bhattacharyya_distance_of_the_joint_needs_the_density_of_the_data():
    """D_B = −ln E_{x~p̃}[p̃(x)^{−½} Σ_z √(p(z|x) q(x,z))], and 𝓑 is what is left without p̃(x)."""
    toy = bayes.DiscreteJoint.random(5, 3, seed=2)
    with_it = without = 0.0
    for x in range(5):
        inner = sum(math.sqrt(toy.encoder[x, z] * toy.prior[z] * toy.decoder[z, x]) for z in range(3))
        with_it += toy.data[x] * toy.data[x] ** -0.5 * inner
        without += toy.data[x] * inner
    assert bhattacharyya_joint(toy) == pytest.approx(-math.log(with_it), rel=1e-13)
    assert bhattacharyya_loss(toy) == pytest.approx(-math.log(without), rel=1e-13)


@pytest.mark.parametrize("p", [[0.5, 0.3, 0.15, 0.05], [0.9, 0.1]], ids=str)
def test_without_the_density_of_the_data_bhattacharyya_leads_to_another_model(p):
    p = np.array(p)
    found = bayes.no_drop_in(p)
    np.testing.assert_allclose(found.kl_minimiser, p, atol=BAYES["place"])
    np.testing.assert_allclose(found.bhattacharyya_minimiser, p**2 / (p**2).sum(), atol=BAYES["place"])
    assert found.misled == pytest.approx(-math.log(np.sqrt(p * p**2 / (p**2).sum()).sum()), abs=BAYES["place"])
    assert found.misled > 0.01


def test_the_minimiser_of_what_is_left_of_bhattacharyya_is_one_over_joint_models_too():
    """A model whose marginal is p̃²/Σp̃², with its exact posterior, has a smaller 𝓑 than any other that is tried."""
    p = np.array([0.5, 0.3, 0.15, 0.05])
    best_q = p**2 / (p**2).sum()
    best = -math.log(p @ np.sqrt(best_q))
    for seed in range(100):
        toy = bayes.DiscreteJoint.random(4, 3, seed)
        assert bhattacharyya_loss(bayes.DiscreteJoint(p, toy.encoder, toy.decoder, toy.prior)) > best
    prior = np.array([0.2, 0.8])
    decoder = np.stack([best_q, best_q])
    exact = bayes.DiscreteJoint(p, np.tile(prior, (4, 1)), decoder, prior)
    assert bhattacharyya_loss(exact) == pytest.approx(best, rel=1e-13)


# ---- the balance (eq. 19, 22) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, reduce", [("mean", np.mean), ("sum", np.sum), ("half-sum", lambda e, axis: e.sum(axis) / 2)]
)
def test_squared_error_and_weighted_kl_are_the_engines_gaussian(error, reduce):
    B, D, w = 4, 7, 0.03
    found = bayes.balance(D, weight=w, error=error)
    X, out, kl = RNG.normal(size=(B, D)), RNG.normal(size=(B, D)), RNG.random(B)
    nll, d_out = np.empty(B), np.empty((B, D))
    likelihoods.make(found.likelihood, Backend("numpy", dtype="float64"), D).nll_and_grad(nll, d_out, {}, out, X, 1.0)
    loss = reduce((X - out) ** 2, axis=1) + w * kl
    assert_sums(nll + kl, found.scale * loss + found.constant, of="model")


def test_the_mean_squared_error_with_weight_w_stands_for_wD_over_2():
    assert bayes.balance(784, weight=0.01).sigma2 == pytest.approx(0.01 * 784 / 2, rel=1e-15)
    assert bayes.balance(784, weight=1.0, error="sum").sigma2 == 0.5
    assert bayes.balance(784, weight=1.0, error="half-sum").sigma2 == 1


@pytest.mark.parametrize("error", ["mean", "sum", "half-sum"])
def test_the_balance_inverts_itself(error):
    there = bayes.balance(13, weight=0.2, error=error)
    assert bayes.balance(13, sigma=there.sigma, error=error).weight == pytest.approx(0.2, rel=1e-14)


def test_the_mean_squared_error_is_the_variance_of_largest_likelihood():
    found = bayes.balance(5, mse=0.3)
    assert found.sigma2 == 0.3
    nll = [5 * 0.3 / (2 * s2) + 2.5 * math.log(2 * math.pi * s2) for s2 in (0.29, found.sigma2, 0.31)]
    assert nll[1] < min(nll[0], nll[2])
    assert found.weight == pytest.approx(2 * 0.3 / 5, rel=1e-14)


def test_cross_entropy_averaged_over_features_makes_the_weight_a_beta():
    D, w = 6, 0.5
    found = bayes.balance(D, weight=w)
    cross_entropy, kl = 3.1, 0.7  # summed over features and dimensions
    assert D * (cross_entropy / D + w * kl) == pytest.approx(cross_entropy + found.beta * kl, rel=1e-14)
    assert bayes.balance(D, weight=w, error="sum").beta == w
