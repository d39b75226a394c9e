"""Likelihoods: SciPy as the oracle of every forward, ∫q = 1, moments of the draws, domains.

Gradients against differences are in test_gradcheck_engine.py, fused against reference in test_kernels.py.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import special, stats
from tolerances import SCIPY

from minivae import likelihoods
from minivae.backend import Backend
from minivae.buffers import ParameterBuffer
from minivae.errors import UsageError, UsageWarning

RNG = np.random.default_rng(0)
S, B, D = 3, 5, 7


@dataclass
class Case:
    """What a likelihood is held against.

    scipy   out (…, width) and the likelihood's own tensors → SciPy's distribution of each feature (…, D)
    X       (B, D) in the domain
    best    X (B, D) → (B, width) at which the likelihood of X is largest
    far     out (1, width of one feature …) and X (1, …) where a branch or a clamp is needed
    own     its own tensors
    nll     −ln q of each feature, where SciPy's own logpdf rounds
    """

    scipy: Callable[..., Any]
    X: np.ndarray
    best: Callable[[np.ndarray], np.ndarray]
    far: tuple[Any, Any]
    own: dict[str, Any] | None = None
    nll: Callable[..., np.ndarray] | None = None

    def oracle(self, out, X):
        if self.nll is not None:
            return self.nll(out, X)
        q = self.scipy(out, **(self.own or {}))
        return -(q.logpdf if hasattr(q.dist, "pdf") else q.logpmf)(X)


def _halves(out):
    half = out.shape[-1] // 2
    return out[..., :half], out[..., half:]


def _gaussian(out):
    mean, logvar = _halves(out)
    return stats.norm(mean, np.exp(0.5 * np.clip(logvar, -10, 10)))


def _bernoulli_nll(out, X):
    return -(X * special.log_expit(out) + (1 - X) * special.log_expit(-out))  # logpmf rounds ρ near 1


REAL = 3 * RNG.normal(size=(B, D))
FAR = [-1000.0, -30.0, 0.0, 30.0, 1000.0]
CASES = {
    "bernoulli": Case(
        scipy=lambda out: stats.bernoulli(special.expit(out)),
        X=(RNG.random((B, D)) < 0.4).astype(float),
        best=lambda X: special.logit(0.1 + 0.8 * X),
        far=(FAR * 2, [0.0] * 5 + [1.0] * 5),
        nll=_bernoulli_nll,
    ),
    "gaussian": Case(
        scipy=_gaussian,
        X=REAL,
        best=lambda X: np.hstack([X, np.full_like(X, -10)]),
        far=([1.0, 1.0, -50.0, 1e6] + [-10.0, -1000.0, 10.0, 1000.0], [1.0, 1.001, 70.0, 0.0]),
    ),
    "gaussian:0.3": Case(
        scipy=lambda out: stats.norm(out, 0.3),
        X=REAL,
        best=lambda X: X,
        far=([0.0, 1e6, -3.0], [1e-9, 0.0, 1e3]),
    ),
    "gaussian:shared": Case(
        scipy=lambda out, logvar: stats.norm(out, np.exp(0.5 * np.clip(logvar, -10, 10))),
        X=REAL,
        best=lambda X: X,
        far=([0.0, 1e6, -3.0], [1e-9, 0.0, 1e3]),
        own={"logvar": -0.7},
    ),
    "gaussian:optimal": Case(
        scipy=lambda out, logvar: stats.norm(out, np.exp(0.5 * np.clip(logvar, -10, 10))),
        X=REAL,
        best=lambda X: X,
        far=([0.0, 1e6, -3.0], [1e-9, 0.0, 1e3]),
        own={"logvar": 0.9},
    ),
}


def form(name):
    """The row of LIKELIHOODS that a name belongs to."""
    return name.replace("0.3", "σ")


def make(name, kernels="fused", features=D, own=None):
    """A likelihood in float64 with its own tensors, and the buffer that holds them."""
    likelihood = likelihoods.make(name, Backend("numpy", kernels, "float64"), features)
    buffer = ParameterBuffer(likelihood.backend, likelihood.parameters(), likelihood.kept())
    tensors = {**buffer.views, **buffer.kept}
    likelihood.bind(tensors)
    for tensor, value in (CASES[name].own or {} if own is None and name in CASES else own or {}).items():
        tensors[tensor][...] = value
    return likelihood, buffer


def evaluate(likelihood, buffer, out, X, weight=1.0):
    """(nll_rows, d_out, d_params), everything poisoned before."""
    nll, d_out = np.full(len(out), np.nan), np.full_like(out, np.nan)
    buffer.grad[...] = np.nan
    likelihood.nll_and_grad(nll, d_out, buffer.grads, out, X, weight)
    return nll, d_out, {name: grad.copy() for name, grad in buffer.grads.items()}


def assert_matches(nll, expected):
    np.testing.assert_allclose(nll, expected, rtol=SCIPY["rtol"], atol=SCIPY["atol"] * np.abs(expected).max())


def test_every_likelihood_has_an_oracle_here():
    assert {form(name) for name in CASES} == set(likelihoods.LIKELIHOODS)


# ---- values and gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_nll_matches_scipy(name, kernels):
    likelihood, buffer = make(name, kernels)
    out, X = 4 * RNG.normal(size=(S * B, likelihood.width)), CASES[name].X
    nll, _, _ = evaluate(likelihood, buffer, out, X)
    assert_matches(nll, CASES[name].oracle(out.reshape(S, B, -1), X).sum(axis=2).ravel())


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_nll_matches_scipy_far_out_and_its_gradient_stays_finite(name, kernels):
    out, X = (np.array([values]) for values in CASES[name].far)
    likelihood, buffer = make(name, kernels, features=X.shape[1])
    nll, d_out, d_params = evaluate(likelihood, buffer, out, X)
    assert_matches(nll, CASES[name].oracle(out, X).sum(axis=1))
    assert np.isfinite(d_out).all() and all(np.isfinite(grad).all() for grad in d_params.values())


@pytest.mark.parametrize("name", CASES)
def test_row_weights_weight_the_gradients_and_not_the_nll(name):
    (likelihood, buffer), X = make(name), CASES[name].X
    out, weight = RNG.normal(size=(S * B, likelihood.width)), RNG.random((S, B))
    plain_nll, plain, _ = evaluate(likelihood, buffer, out, X)
    nll, d_out, d_params = evaluate(likelihood, buffer, out, X, weight)
    np.testing.assert_array_equal(nll, plain_nll)
    np.testing.assert_allclose(d_out, weight.reshape(-1, 1) * plain, rtol=1e-14)
    rows = [evaluate(likelihood, buffer, out[r : r + 1], X[r % B : r % B + 1])[2] for r in range(S * B)]
    for tensor, grad in d_params.items():
        alone = np.array([row[tensor] for row in rows])
        np.testing.assert_allclose(grad, np.tensordot(weight.ravel(), alone, 1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_zero_where_the_likelihood_is_largest(name):
    (likelihood, buffer), X = make(name), CASES[name].X
    X = 0.1 + 0.8 * X if name == "bernoulli" else X
    out = special.logit(X) if name == "bernoulli" else CASES[name].best(X)
    _, d_out, _ = evaluate(likelihood, buffer, out, X)
    np.testing.assert_allclose(d_out[:, :D], 0, atol=1e-14)


# ---- means and draws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_mean_and_the_spread_of_scipys_distribution(name):
    (likelihood, _), n = make(name), 40_000
    out = np.tile(RNG.normal(size=likelihood.width), (n, 1))
    noise = RNG.random((n, D)) if likelihood.noise == "uniform" else RNG.normal(size=(n, D))
    X, mean = likelihood.draw(out, noise), likelihood.mean(out)
    oracle = CASES[name].scipy(out[0], **(CASES[name].own or {}))
    np.testing.assert_allclose(mean[0], oracle.mean(), rtol=1e-12)
    error = np.sqrt(oracle.var() / n)
    assert (np.abs(X.mean(axis=0) - oracle.mean()) < 4.5 * error).all()
    np.testing.assert_allclose(X.var(axis=0), oracle.var(), rtol=0.05)


# ---- what each is about ---------------------------------------------------------------------------------------------


def test_squared_error_and_kl_weight_are_the_fixed_gaussian():
    """MATH.md's reading of eq. 22: mean squared error over D plus w · KL is σ² = wD/2, up to scale and constant."""
    w = 0.01
    likelihood, buffer = make(f"gaussian:{float(np.sqrt(w * D / 2))!r}")
    X, out = RNG.normal(size=(B, D)), RNG.normal(size=(B, D))
    _, d_out, _ = evaluate(likelihood, buffer, out, X)
    np.testing.assert_allclose(w * d_out, 2 * (out - X) / D, rtol=1e-12)


def test_the_shared_variance_is_at_rest_where_it_is_the_mean_squared_error():
    X, out = RNG.normal(size=(B, D)), RNG.normal(size=(B, D))
    squared = ((out - X) ** 2).mean()
    for logvar, sign in ((np.log(squared), 0), (np.log(squared) + 0.1, 1), (np.log(squared) - 0.1, -1)):
        _, _, d_params = evaluate(*make("gaussian:shared", own={"logvar": logvar}), out, X, 1 / B)
        assert d_params["logvar"][0] == pytest.approx(0, abs=1e-13) if sign == 0 else sign * d_params["logvar"][0] > 0.1


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("logvar, clamped", [(-10.0, 0), (-10.5, 1), (10.0, 0), (11.0, 1)])
def test_the_shared_log_variance_is_clamped_its_gradient_zero_outside_and_counted(kernels, logvar, clamped):
    likelihood, buffer = make("gaussian:shared", kernels, own={"logvar": logvar})
    X, out = RNG.normal(size=(B, D)), RNG.normal(size=(B, D))
    nll, _, d_params = evaluate(likelihood, buffer, out, X)
    expected = -stats.norm.logpdf(X, out, np.exp(0.5 * np.clip(logvar, -10, 10))).sum(axis=1)
    np.testing.assert_allclose(nll, expected, rtol=1e-12)
    assert (d_params["logvar"][0] == 0) == bool(clamped) and likelihood.clamped[0] == clamped


def _squared_error(out, X, weight):
    squared = ((out.reshape(-1, *X.shape) - X) ** 2).sum(axis=2)
    return (weight * squared).sum() / (np.broadcast_to(weight, squared.shape).sum() * X.shape[1])


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_the_optimal_loss_is_that_of_the_batchs_mean_squared_error(kernels):
    """D/2 (ln 2πσ̂² + 1) on average, and dm = (m − x)/(σ̂² B S)."""
    (likelihood, buffer), X = make("gaussian:optimal", kernels), REAL
    out = RNG.normal(size=(S * B, D))
    squared = _squared_error(out, X, 1.0)
    with likelihood.training():
        nll, d_out, d_params = evaluate(likelihood, buffer, out, X, 1 / (B * S))
    assert nll.mean() == pytest.approx(D / 2 * (np.log(2 * np.pi * squared) + 1), rel=1e-13)
    assert_matches(nll, -stats.norm.logpdf(np.tile(X, (S, 1)), out, np.sqrt(squared)).sum(axis=1))
    np.testing.assert_allclose(d_out, (out - np.tile(X, (S, 1))) / (squared * B * S), rtol=1e-13)
    assert d_params == {} and likelihood.clamped[0] == 0
    assert likelihood.logvar[0] == pytest.approx(np.log(squared), rel=1e-13)


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_the_optimal_variance_minimises_the_weighted_loss(kernels):
    (likelihood, buffer), X, out = make("gaussian:optimal", kernels), REAL, RNG.normal(size=(S * B, D))
    weight = RNG.random((S, B))
    with likelihood.training():
        nll, _, _ = evaluate(likelihood, buffer, out, X, weight)
    best = likelihood.logvar[0]
    assert best == pytest.approx(np.log(_squared_error(out, X, weight)), rel=1e-13)
    losses = []
    for logvar in (best - 1e-3, best, best + 1e-3):
        likelihood.logvar[0] = logvar
        losses.append(weight.ravel() @ evaluate(likelihood, buffer, out, X)[0])
    assert losses[1] == pytest.approx(weight.ravel() @ nll, rel=1e-13)
    assert losses[0] > losses[1] < losses[2]


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("error, variance", [(0.0, np.exp(-10)), (1e4, np.exp(10))])
def test_the_optimal_variance_is_clamped_and_counted(kernels, error, variance):
    (likelihood, buffer), X = make("gaussian:optimal", kernels), REAL
    with likelihood.training():
        nll, d_out, _ = evaluate(likelihood, buffer, X + error, X)
    assert_matches(nll, np.full(B, D / 2 * (np.log(2 * np.pi * variance) + error**2 / variance)))
    np.testing.assert_allclose(d_out, error / variance, rtol=1e-12)
    assert likelihood.clamped[0] == 1


# ---- domains --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0])
def test_bernoulli_refuses_values_outside_0_1_and_says_what_fits(value):
    X = np.zeros((9000, D))
    X[8000, 2] = value
    with pytest.raises(UsageError, match="gaussian"):
        make("bernoulli")[0].check(X)


def test_bernoulli_warns_of_grey_values_and_names_binarize():
    with pytest.warns(UsageWarning, match="--binarize"):
        make("bernoulli")[0].check(np.full((3, D), 0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("bernoulli")[0].check(np.array([[0.0, 1.0]]))


@pytest.mark.parametrize(
    "name",
    [
        *("poison", "gaussian:", "gaussian:0", "gaussian:-1", "gaussian:x", "gaussian:inf", "bernoulli:2"),
        *("gaussian:σ", "gaussian:shared:2"),
    ],
)
def test_an_unknown_likelihood_is_refused(name):
    with pytest.raises(UsageError, match="expected"):
        make(name)


def test_the_name_of_a_fixed_gaussian_keeps_every_digit_of_sigma():
    assert make(make("gaussian:0.12345678901234567")[0].name)[0].sigma == 0.12345678901234567
