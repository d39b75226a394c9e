"""Likelihoods: SciPy as the oracle of every forward, ∫q = 1, moments of the draws, domains.

Gradients against differences are in test_gradcheck_engine.py, fused against reference in test_kernels.py, whole models
in test_likelihood_training.py.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special, stats
from tolerances import SCIPY, assert_sums

import minivae as mv
from minivae import likelihoods
from minivae.backend import Backend
from minivae.buffers import ParameterBuffer
from minivae.errors import UsageError, UsageWarning
from minivae.evaluation.bounds import fit_closed_form
from minivae.training.batches import Batches

RNG = np.random.default_rng(0)
S, B, D = 3, 5, 7


@dataclass
class Case:
    """What a likelihood is held against.

    scipy   out (…, width) and the likelihood's own tensors → SciPy's distribution of each feature (…, D)
    X       (B, D) in the domain
    best    X (B, D) in `inner` → (B, width) at which the likelihood of X is largest
    far     raw outputs and values of a row, where a branch or a clamp is needed
    own     its own tensors
    nll     −ln p of each feature at `far`, with more digits, where SciPy's own rounds
    inner   X (B, D) that some finite output explains best; X unless given
    """

    scipy: Callable[..., Any]
    X: np.ndarray
    best: Callable[[np.ndarray], np.ndarray]
    far: tuple[Any, Any]
    own: dict[str, Any] | None = None
    nll: Callable[..., np.ndarray] | None = None
    inner: np.ndarray | None = None

    def oracle(self, out, X):
        q = self.scipy(out, **(self.own or {}))
        return -(q.logpmf if hasattr(q, "logpmf") and not hasattr(getattr(q, "dist", None), "pdf") else q.logpdf)(X)


def _halves(out):
    half = out.shape[-1] // 2
    return out[..., :half], out[..., half:]


def _digits(function):
    """A function of numbers, in 50 digits, for arrays of float64."""

    def wide(*args):
        with mpmath.workdps(50):
            return float(function(*map(mpmath.mpf, args)))

    return np.vectorize(wide, otypes=[float])


def _gaussian(out):
    mean, logvar = _halves(out)
    return stats.norm(mean, np.exp(0.5 * np.clip(logvar, -10, 10)))


class _CutExponential:
    """The continuous Bernoulli: SciPy's exponential distribution cut off at 1, reflected where λ > ½."""

    def __init__(self, logits):
        self.reflected, a = logits > 0, np.maximum(np.abs(logits), 1e-12)
        self.q = stats.truncexpon(a, scale=1 / a)

    def logpdf(self, X):
        return self.q.logpdf(np.where(self.reflected, 1 - X, X))

    def mean(self):
        return np.where(self.reflected, 1 - self.q.mean(), self.q.mean())

    def var(self):
        return self.q.var()


class _Classes:
    """K classes, K logits a feature: blocks of D side by side."""

    def __init__(self, out, K=5):
        self.log_rho = special.log_softmax(out.reshape(*out.shape[:-1], K, -1), axis=-2)
        self.rho, self.k = np.exp(self.log_rho), np.arange(K).reshape(K, 1)

    def logpmf(self, X):  # stats.multinomial takes the last ρ as 1 less the others, which rounds a small one away
        return np.where(X[..., None, :] == self.k, self.log_rho, 0).sum(axis=-2)

    def mean(self):
        return (self.k * self.rho).sum(axis=-2)

    def var(self):
        return (self.k**2 * self.rho).sum(axis=-2) - self.mean() ** 2


class _Bernoulli:
    """stats.bernoulli of logits, whose own logpmf rounds 1 − ρ where ρ is near 1."""

    def __init__(self, out):
        self.out, q = out, stats.bernoulli(special.expit(out))
        self.mean, self.var = q.mean, q.var

    def logpmf(self, X):
        return X * special.log_expit(self.out) + (1 - X) * special.log_expit(-self.out)


@_digits
def _continuous_bernoulli_nll(logit, x):
    return mpmath.log(mpmath.expm1(logit) / logit if logit else 1) - logit * x


@_digits
def _poisson_nll(lograte, x):
    c = min(lograte, 20)
    return mpmath.exp(c) - x * c + mpmath.loggamma(x + 1)


@_digits
def _negative_binomial_nll(logmean, x, logtheta):
    mean, theta = mpmath.exp(min(logmean, 20)), mpmath.exp(min(max(logtheta, -10), 10))
    gammas = mpmath.loggamma(x + theta) - mpmath.loggamma(theta) - mpmath.loggamma(x + 1)
    return -gammas - theta * mpmath.log(theta / (theta + mean)) - x * mpmath.log(mean / (theta + mean))


class _NegativeBinomial:
    """stats.nbinom of ln mean and ln θ, whose own logpmf rounds 1 − p where p is near 1."""

    def __init__(self, out, logtheta):
        self.m, self.theta = np.exp(np.minimum(out, 20)), np.exp(np.clip(logtheta, -10, 10))
        q = stats.nbinom(self.theta, self.theta / (self.theta + self.m))
        self.mean, self.var, self.ppf = q.mean, q.var, q.ppf

    def logpmf(self, X):
        whole = self.theta + self.m
        ways = -special.betaln(self.theta, X + 1) - np.log(self.theta + X)
        return ways + self.theta * np.log(self.theta / whole) + special.xlogy(X, self.m / whole)


def _class_logits(X, K=5):
    """Logits whose probability of X is one, to the last digit."""
    return (50.0 * (X[:, None, :] == np.arange(K).reshape(K, 1))).reshape(len(X), -1)


REAL = 3 * RNG.normal(size=(B, D))
UNIT = RNG.random((B, D))
COUNTS = RNG.poisson(3, (B, D)).astype(float)
FAR = [-1000.0, -30.0, 0.0, 30.0, 1000.0]
NEAR = [0.0, 1e-300, -1e-20, 1e-9, -1e-4, 0.3, -0.499999, 0.500001, 0.7, 4.0]
CASES = {
    "bernoulli": Case(
        scipy=_Bernoulli,
        X=(RNG.random((B, D)) < 0.4).astype(float),
        best=special.logit,
        inner=UNIT,
        far=(FAR * 2, [0.0] * 5 + [1.0] * 5),
    ),
    "continuous-bernoulli": Case(
        scipy=_CutExponential,
        X=UNIT,
        best=lambda X: np.array([[1.0]]),
        inner=np.array([[1 / (1 - np.exp(-1.0)) - 1]]),  # the mean at ℓ = 1
        far=(FAR * 2 + NEAR, [0.0] * 5 + [1.0] * 4 + [0.3] + list(np.linspace(0, 1, len(NEAR)))),
        nll=_continuous_bernoulli_nll,
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
    "laplace": Case(
        scipy=lambda out: stats.gennorm(1, _halves(out)[0], np.exp(np.clip(_halves(out)[1], -5, 5))),  # laplace's own
        # logpdf is the logarithm of a density that underflows
        X=REAL,
        best=lambda X: np.hstack([X, np.full_like(X, -5)]),
        far=([1.0, 1.0, -50.0, 1e6] + [-5.0, -1000.0, 5.0, 1000.0], [1.0, 1.001, 70.0, 0.0]),
    ),
    "categorical:5": Case(
        scipy=_Classes,
        X=RNG.integers(0, 5, (B, D)).astype(float),
        best=_class_logits,
        far=([-1000.0, 0.0, 1000.0, 3.0, 5.0, -1000.0, 30.0, 1000.0, 2.0, 1000.0], [4.0, 0.0]),
        nll=lambda out, X: (
            special.logsumexp(out.reshape(5, 2), axis=0) - np.take_along_axis(out.reshape(5, 2), X.astype(int), 0)
        ),
    ),
    "poisson": Case(
        scipy=lambda out: stats.poisson(np.exp(np.minimum(out, 20))),
        X=COUNTS,
        best=lambda X: np.log(X),
        inner=COUNTS + 1,
        far=(
            [-1000.0, -1000.0, 0.0, 30.0, np.log(300.0), np.log(1e6), 5.0],
            [0.0, 2.0, 0.0, 0.0, 256.0, 1e6 + 500, 255.0],
        ),
        nll=_poisson_nll,
    ),
    "negative-binomial": Case(
        scipy=_NegativeBinomial,
        X=COUNTS,
        best=lambda X: np.log(X),
        inner=COUNTS + 1,
        own={"logtheta": 0.4},
        far=(
            [-1000.0, -1000.0, 0.0, 30.0, np.log(300.0), np.log(1e6), 5.0],
            [0.0, 2.0, 0.0, 0.0, 256.0, 1e6 + 500, 7.0],
        ),
        nll=lambda out, X: _negative_binomial_nll(out, X, 0.4),
    ),
}


def form(name):
    """The row of LIKELIHOODS that a name belongs to."""
    return name.replace("0.3", "σ").replace(":5", ":K")


def make(name, kernels="fused", features=D, own=None, dtype="float64"):
    """A likelihood in float64 with its own tensors, and the buffer that holds them."""
    likelihood = likelihoods.make(name, Backend("numpy", kernels, dtype), features)
    buffer = ParameterBuffer(likelihood.backend, likelihood.parameters(), likelihood.fitted())
    tensors = {**buffer.views, **buffer.fitted}
    likelihood.bind(tensors)
    for tensor, value in (CASES[name].own or {} if own is None and name in CASES else own or {}).items():
        tensors[tensor][...] = value
    return likelihood, buffer


def evaluate(likelihood, buffer, out, X, weight=1.0, training=False, mask=None):
    """(nll_rows, d_out, d_params), everything poisoned before; training: as a training step does, which counts."""
    nll, d_out = np.full(len(out), np.nan, out.dtype), np.full_like(out, np.nan)
    buffer.grad[...] = np.nan
    d_params = likelihood.destinations(buffer.grads, counted=training)
    closed = training and likelihood.closed_form
    likelihood.over(mask, closed)(nll, d_out, d_params, out, X, weight)
    if closed:
        likelihood.fit(d_params)
    return nll, d_out, {name: grad.copy() for name, grad in buffer.grads.items()}


def assert_matches(nll, expected, size=0.0):
    """size: that of the largest term that was added up, where it is beyond the result."""
    size = max(size, np.abs(expected).max())
    assert np.isfinite(size)
    np.testing.assert_allclose(nll, expected, rtol=SCIPY["rtol"], atol=SCIPY["atol"] * size)


def test_every_likelihood_has_an_oracle_here():
    assert {form(name) for name in CASES} == set(likelihoods.LIKELIHOODS)


def test_every_likelihood_is_named_in_the_readme_and_in_the_message_for_an_unknown_one():
    readme = (Path(__file__).resolve().parent.parent / "README.md").read_text()
    with pytest.raises(UsageError) as refused:
        likelihoods.make("gausian", Backend("numpy"), 3)
    for text in (readme, str(refused.value)):
        assert [name for name in likelihoods.LIKELIHOODS if name not in text] == []


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
    expected = (CASES[name].nll or CASES[name].oracle)(out, X)
    largest = special.gammaln(1 + X.max()) if likelihood.integer else 0.0
    assert_matches(nll, expected.sum(axis=1), largest)
    assert np.isfinite(d_out).all() and all(np.isfinite(grad).all() for grad in d_params.values())


@pytest.mark.parametrize("name", CASES)
def test_row_weights_weight_the_gradients_and_not_the_nll(name):
    (likelihood, buffer), X = make(name), CASES[name].X
    out, weight = RNG.normal(size=(S * B, likelihood.width)), RNG.random((S, B))
    plain_nll, plain, _ = evaluate(likelihood, buffer, out, X)
    nll, d_out, d_params = evaluate(likelihood, buffer, out, X, weight)
    np.testing.assert_array_equal(nll, plain_nll)
    assert_sums(d_out, weight.reshape(-1, 1) * plain, of="sum")
    rows = [evaluate(likelihood, buffer, out[r : r + 1], X[r % B : r % B + 1])[2] for r in range(S * B)]
    for tensor, grad in d_params.items():
        alone = np.array([row[tensor] for row in rows])
        assert_sums(grad, np.tensordot(weight.ravel(), alone, 1), of="model")


@pytest.mark.parametrize("name", CASES)
def test_a_pass_leaves_nothing_behind_in_the_likelihood(name):
    """After other rows, the numbers are those of a likelihood that has seen none, and nothing is counted."""
    (fresh, buffer), X = make(name), CASES[name].X
    (used, used_buffer), out = make(name), RNG.normal(size=(S * B, fresh.width))
    state = used_buffer.state.copy()
    evaluate(used, used_buffer, 30 * out, X[::-1].copy(), RNG.random((S, B)))
    np.testing.assert_array_equal(used_buffer.state, state)
    assert used.clamped is None or used.clamped[0] == 0
    for ours, theirs in zip(evaluate(used, used_buffer, out, X), evaluate(fresh, buffer, out, X), strict=True):
        np.testing.assert_equal(ours, theirs)


MASK = (np.arange(B * D).reshape(B, D) % 3 != 1).astype(np.uint8)
MASK[0], MASK[-1] = 0, 1  # a row of nothing, a row without a gap


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_a_mask_of_ones_gives_the_bits_of_none(name, dtype, training):
    (likelihood, buffer), X = make(name, dtype=dtype), CASES[name].X.astype(dtype)
    out, weight = (3 * RNG.normal(size=(S * B, likelihood.width))).astype(dtype), RNG.random((S, B)).astype(dtype)
    runs = [evaluate(likelihood, buffer, out, X, weight, training, mask) for mask in (None, np.ones(X.shape, np.uint8))]
    for plain, ones in zip(*runs, strict=True):
        np.testing.assert_equal(ones, plain)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_what_stands_under_the_mask_never_changes_a_bit(name, kernels, training):
    (likelihood, buffer), X = make(name, kernels), CASES[name].X
    out, weight, found = 3 * RNG.normal(size=(S * B, likelihood.width)), RNG.random((S, B)), []
    hidden = np.tile(np.repeat(MASK[:, None], likelihood.width // D, axis=1).reshape(B, -1), (S, 1)) == 0
    for under in (0.0, 1e30, np.nan, np.inf):
        for outputs in (1.0, np.nan):
            there = np.where(hidden, outputs, out)
            found.append(evaluate(likelihood, buffer, there, np.where(MASK, X, under), weight, training, MASK))
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            np.testing.assert_equal(ours, theirs)
    assert np.isfinite(found[0][0]).all() and (found[0][1][hidden] == 0).all()


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_a_masked_nll_is_scipys_sum_over_the_observed_cells(name, kernels):
    likelihood, buffer = make(name, kernels)
    out, X = 4 * RNG.normal(size=(S * B, likelihood.width)), CASES[name].X
    nll, d_out, _ = evaluate(likelihood, buffer, out, X, mask=MASK)
    cells = CASES[name].oracle(out.reshape(S, B, -1), X)
    assert_matches(nll, (cells * MASK).sum(axis=2).ravel(), np.abs(cells).sum(axis=2).max())
    plain = evaluate(likelihood, buffer, out, X)[1]
    shown = np.tile(np.repeat(MASK[:, None], likelihood.width // D, axis=1).reshape(B, -1), (S, 1)) == 1
    np.testing.assert_array_equal(d_out[shown], plain[shown])


def test_the_variance_of_gaussian_optimal_is_the_mean_over_the_observed_cells():
    (likelihood, buffer), X = make("gaussian:optimal"), CASES["gaussian:optimal"].X
    out, weight = RNG.normal(size=(S * B, D)), RNG.random((S, B))
    nll, _, _ = evaluate(likelihood, buffer, out, X, weight, True, MASK)
    error = (out.reshape(S, B, D) - X) ** 2 * MASK
    variance = np.sum(weight[:, :, None] * error) / np.sum(weight[:, :, None] * MASK)
    assert_sums(np.exp(likelihood.logvar), variance, of="sums")
    expected = 0.5 * (error / variance + MASK * np.log(2 * np.pi * variance)).sum(axis=2)
    assert_sums(nll, expected.ravel(), of="sums")


@pytest.mark.parametrize("mask", [None, MASK], ids=["whole", "masked"])
@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_without_an_array_for_the_gradient_the_same_nll_is_written_and_nothing_else(name, kernels, mask):
    (likelihood, buffer), X = make(name, kernels), CASES[name].X
    assert likelihood.forward_only
    out, nll = 3 * RNG.normal(size=(S * B, likelihood.width)), np.full(S * B, np.nan)
    whole = evaluate(likelihood, buffer, out, X, mask=mask)[0]
    d_params = likelihood.destinations(buffer.grads, counted=True)
    before = {key: value.copy() for key, value in d_params.items()}
    likelihood.over(mask)(nll, None, d_params, out, X, 0.7)
    cells = CASES[name].oracle(out.reshape(S, B, -1), X)
    assert_matches(nll, whole, np.abs(cells).sum(axis=2).max())
    for key, value in before.items():
        np.testing.assert_array_equal(d_params[key], value)


def test_a_likelihood_without_a_neutral_cell_takes_no_mask(monkeypatch):
    monkeypatch.setattr(likelihoods.unit.Bernoulli, "neutral", None)
    likelihood, buffer = make("bernoulli")
    with pytest.raises(UsageError, match="takes no missing values"):
        evaluate(likelihood, buffer, np.zeros((B, D)), CASES["bernoulli"].X, mask=MASK)


@pytest.mark.parametrize("name", CASES)
def test_gradient_is_zero_where_the_likelihood_is_largest(name):
    X = CASES[name].X if CASES[name].inner is None else CASES[name].inner
    likelihood, buffer = make(name, features=X.shape[1])
    _, d_out, _ = evaluate(likelihood, buffer, CASES[name].best(X), X)
    assert_sums(d_out[:, :D], 0, of="sum", summed=1)


# ---- normalised -----------------------------------------------------------------------------------------------------


def _everything(name, q):
    """(x, weights) over the whole domain of one feature: what a sum or an integral is taken over."""
    if likelihoods.make(name, Backend("numpy", "reference", "float64"), 1).integer:
        x = np.arange(5.0 if name.startswith("categorical") else q.ppf(1 - 1e-12).max() + 10)
        return x, np.ones_like(x)
    if name == "continuous-bernoulli":
        edges = np.linspace(0, 1, 101)
    else:
        edges = (q.mean() + q.std() * np.linspace(-40, 40, 161)).ravel()
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = np.diff(edges)[:, None] / 2
    return (edges[:-1, None] + half + half * nodes).ravel(), (half * weights).ravel()


def total_probability(name, out, **own):
    """∫ or Σ of e^{−nll} over x, by the likelihood's own nll, at the raw outputs (width,) of one feature."""
    likelihood, buffer = make(name, features=1, own=own)
    case_own = {tensor: np.full(1, value) for tensor, value in own.items()}
    x, weights = _everything(name, CASES[name].scipy(out[None], **case_own))
    nll, _, _ = evaluate(likelihood, buffer, np.tile(out, (len(x), 1)), x[:, None])
    return float(weights @ np.exp(-nll))


@pytest.mark.parametrize("name", [name for name in CASES if name != "bernoulli"])
def test_the_distribution_is_normalised(name):
    rng = np.random.default_rng(1)
    width, counts = make(name, features=1)[0].width, name in ("poisson", "negative-binomial")
    for spread in 3 * (1e-3, 1.0, 3.0, 30.0):
        out = np.clip(spread * rng.normal(size=width), -30, 10 if counts else 30)  # few enough counts to sum over
        own = {
            tensor: float(np.clip(spread * rng.normal(), -1 if counts else -12, 12)) for tensor in CASES[name].own or {}
        }
        assert total_probability(name, out, **own) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("logit", [-1000.0, -2.0, 0.0, 3.0, 1000.0])
def test_bernoulli_is_normalised_over_0_and_1(logit):
    likelihood, buffer = make("bernoulli", features=1)
    nll, _, _ = evaluate(likelihood, buffer, np.full((2, 1), logit), np.array([[0.0], [1.0]]))
    assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-12)


def test_the_cross_entropy_of_grey_values_is_not_normalised():
    """What continuous-bernoulli is for: over [0, 1], e^{−cross-entropy} has a mass between ½ and 1."""
    nodes, weights = np.polynomial.legendre.leggauss(50)
    likelihood, buffer = make("bernoulli", features=1)
    nll, _, _ = evaluate(likelihood, buffer, np.full((50, 1), 0.0), 0.5 + 0.5 * nodes[:, None])
    assert 0.5 * weights @ np.exp(-nll) == pytest.approx(0.5, abs=1e-9)


# ---- means and draws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_mean_and_the_spread_of_scipys_distribution(name):
    (likelihood, _), n = make(name), 40_000
    out = np.tile(RNG.normal(size=likelihood.width), (n, 1))
    noise = RNG.random((n, D)) if likelihood.noise == "uniform" else RNG.normal(size=(n, D))
    X, mean = likelihood.draw(out, noise), likelihood.mean(out)
    oracle = CASES[name].scipy(out[0], **(CASES[name].own or {}))
    assert_sums(mean[0], oracle.mean(), of="model")
    error = np.sqrt(oracle.var() / n)
    assert (np.abs(X.mean(axis=0) - oracle.mean()) < 4.5 * error).all()
    squares = (X - oracle.mean()) ** 2
    assert (np.abs(squares.mean(axis=0) - oracle.var()) < 4.5 * squares.std(axis=0) / np.sqrt(n)).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("level", [-20.0, 0.0, 10.0, 20.0])
@pytest.mark.parametrize("name", CASES)
def test_draws_at_the_ends_of_the_noise_are_finite_and_in_the_domain(name, level):
    """Uniforms are multiples of 2⁻²⁴ in [0, 1), so 0 comes up. ln λ ≥ 10 is beyond SciPy's Poisson here."""
    likelihood, _ = make(name, own={"logtheta": 0.0} if name == "negative-binomial" else CASES[name].own)
    ends = [0, 2.0**-24, 0.5, 1 - 2.0**-24] if likelihood.noise == "uniform" else [-5.9, -1, 0, 5.9]
    noise = np.repeat(np.array(ends)[:, None], D, axis=1)
    X = likelihood.draw(np.full((len(ends), likelihood.width), level), noise)
    assert np.isfinite(X).all()
    likelihood.check(X)


@pytest.mark.parametrize(
    "name, out, noise, drawn",
    [
        ("gaussian", [3.0, 1000.0], 1.0, 3 + np.exp(5)),
        ("gaussian", [3.0, -1000.0], 1.0, 3 + np.exp(-5)),
        ("gaussian:shared", [3.0], 1.0, 3 + np.exp(5)),
        ("laplace", [3.0, 1000.0], 0.75, 3 + np.exp(5) * np.log(2)),
        ("laplace", [3.0, -1000.0], 0.75, 3 + np.exp(-5) * np.log(2)),
        ("poisson", [-20.0], 0.0, 0.0),
    ],
)
def test_a_draw_far_out_is_the_clamped_distributions_quantile(name, out, noise, drawn):
    likelihood, _ = make(name, own={"logvar": 1000.0} if name == "gaussian:shared" else None)
    X = likelihood.draw(np.repeat([out], D, axis=1), np.full((1, D), noise))
    assert_sums(X, np.full((1, D), drawn), of="sum")


@pytest.mark.parametrize("logtheta, theta, logmean", [(-30.0, np.exp(-10), 1.0), (30.0, np.exp(10), 8.0)])
def test_a_clamped_dispersion_draws_as_scipys_negative_binomial(logtheta, theta, logmean):
    likelihood, _ = make("negative-binomial", own={"logtheta": logtheta})
    u, mean = np.linspace(0.99991, 0.99997, D)[None], np.exp(logmean)  # at θ = e⁻¹⁰ all below 0.9995 is 0
    X = likelihood.draw(np.full((1, D), logmean), u)
    np.testing.assert_array_equal(X, stats.nbinom.ppf(u, theta, theta / (theta + mean)))
    assert X.min() > mean


def test_the_mean_of_counts_is_clamped_and_that_of_a_certain_class_is_the_class():
    assert make("poisson")[0].mean(np.array([[30.0]]))[0, 0] == np.exp(20.0)
    X = np.arange(D)[None] % 5.0
    np.testing.assert_array_equal(make("categorical:5")[0].mean(20 * _class_logits(X)), X)


def test_many_counts_have_the_mean_and_the_spread_of_the_poisson():
    """Beyond 1e4 the quantile is Cornish and Fisher's."""
    n, rate = 40_000, 1e6
    X = make("poisson", features=1)[0].draw(np.full((n, 1), np.log(rate)), np.random.default_rng(0).random((n, 1)))
    assert abs(X.mean() - rate) < 4.5 * np.sqrt(rate / n)
    assert abs(X.var() - rate) < 4.5 * rate * np.sqrt(2 / n)


# ---- what each is about ---------------------------------------------------------------------------------------------


def test_squared_error_and_kl_weight_are_the_fixed_gaussian():
    """MATH.md's reading of eq. 22: mean squared error over D plus w · KL is σ² = wD/2, up to scale and constant."""
    w = 0.01
    likelihood, buffer = make(f"gaussian:{float(np.sqrt(w * D / 2))!r}")
    X, out = RNG.normal(size=(B, D)), RNG.normal(size=(B, D))
    _, d_out, _ = evaluate(likelihood, buffer, out, X)
    assert_sums(w * d_out, 2 * (out - X) / D, of="model")


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
    nll, _, d_params = evaluate(likelihood, buffer, out, X, training=True)
    expected = -stats.norm.logpdf(X, out, np.exp(0.5 * np.clip(logvar, -10, 10))).sum(axis=1)
    assert_sums(nll, expected, of="model")
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
    nll, d_out, d_params = evaluate(likelihood, buffer, out, X, 1 / (B * S), training=True)
    assert nll.mean() == pytest.approx(D / 2 * (np.log(2 * np.pi * squared) + 1), rel=1e-13)
    assert_matches(nll, -stats.norm.logpdf(np.tile(X, (S, 1)), out, np.sqrt(squared)).sum(axis=1))
    assert_sums(d_out, (out - np.tile(X, (S, 1))) / (squared * B * S), of="sums")
    assert d_params == {} and likelihood.clamped[0] == 0
    assert likelihood.logvar[0] == pytest.approx(np.log(squared), rel=1e-13)


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_the_optimal_variance_minimises_the_weighted_loss(kernels):
    (likelihood, buffer), X, out = make("gaussian:optimal", kernels), REAL, RNG.normal(size=(S * B, D))
    weight = RNG.random((S, B))
    nll, _, _ = evaluate(likelihood, buffer, out, X, weight, training=True)
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
    nll, d_out, _ = evaluate(likelihood, buffer, X + error, X, training=True)
    assert_matches(nll, np.full(B, D / 2 * (np.log(2 * np.pi * variance) + error**2 / variance)))
    assert_sums(d_out, error / variance, of="model")
    assert likelihood.clamped[0] == 1


def test_the_fitted_variance_is_the_mean_squared_error_of_all_rows(monkeypatch):
    """In batches of 60, 60 and 10 rows, the last of which are worse: each row counts once."""
    monkeypatch.setattr("minivae.evaluation.bounds.BATCH_ROWS", 60)
    vae = mv.VAE(D, 2, (5,), likelihood="gaussian:optimal", backend="numpy", dtype="float64")
    X = np.random.default_rng(0).normal(size=(130, D))
    X[120:] *= 3
    fit_closed_form(vae, Batches(vae, X))
    mean, logvar = vae.encode(X)
    Z = mean + np.exp(0.5 * logvar) * vae.epsilon(None, len(X), "evaluation", None, 0)[0]
    assert vae.likelihood.logvar[0] == pytest.approx(np.log(((vae.decode(Z) - X) ** 2).mean()), abs=1e-12)


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


def _one(value):
    """Zeros and ones, and one value far down."""
    X = np.zeros((9000, D))
    X[::2] = 1
    X[8000, 2] = value
    return X


REFUSED = {
    "bernoulli, count": ("bernoulli", 3.0, "from 0 to 3: .*'gaussian', 'poisson' if they are counts"),
    "bernoulli, grey bytes": ("bernoulli", 25.5, r"'gaussian'$"),
    "continuous, above": (
        "continuous-bernoulli",
        1.5,
        "explains values in .0, 1., and these range from 0 to 1.5: scale",
    ),
    "continuous, below": ("continuous-bernoulli", -0.1, "'gaussian'"),
    **{f"NaN for {name}": (name, np.nan, "values are NaN or infinite, the first in row") for name in CASES},
    "a cell of infinity": ("gaussian", np.inf, "values are NaN or infinite, the first in row"),
    "no class at all": ("categorical:5", 1e31, "take 'poisson' if they are counts"),
    "class above": ("categorical:5", 16.0, "0 … 4, and these range from 0 to 16: take 'categorical:17'"),
    "class below": ("categorical:5", -1.0, "from -1 to 1: number the classes from 0"),
    "half a class": ("categorical:5", 0.5, "not all of them whole"),
    "negative count": ("poisson", -2.0, "counts, .* from -2 to 1: take likelihood 'gaussian'"),
    "half a count": ("poisson", 0.5, "not all of them whole: take likelihood 'continuous-bernoulli'"),
    "a count of 2.5": (
        "negative-binomial",
        2.5,
        "'negative-binomial' explains counts.*not all of them whole.*'gaussian'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_values_outside_the_domain_get_one_clear_line(case):
    name, value, match = REFUSED[case]
    with pytest.raises(UsageError, match=match) as caught:
        make(name)[0].check(_one(value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, bool])
def test_zeros_and_ones_are_in_every_domain(name, dtype):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UsageWarning)
        make(name)[0].check(_one(1).astype(dtype))


def test_continuous_bernoulli_warns_of_data_that_are_only_0_and_1():
    with pytest.warns(UsageWarning, match="'bernoulli'"):
        make("continuous-bernoulli")[0].check(_one(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make("continuous-bernoulli")[0].check(_one(0.5))
        make("continuous-bernoulli")[0].check(np.full((3, D), 0.5))


@pytest.mark.parametrize(
    "name",
    [
        *("categorical", "categorical:", "categorical:1", "categorical:0", "categorical:2.5", "categorical:K"),
        *("categorical:100000000000", "categorical:" + "9" * 30),
        *(
            "laplace:1",
            "poisson:3",
            "negative_binomial",
            "poison",
            "gaussian:",
            "gaussian:0",
            "gaussian:-1",
            "gaussian:x",
            "gaussian:inf",
            "bernoulli:2",
        ),
        *("gaussian:σ", "gaussian:shared:2"),
    ],
)
def test_an_unknown_likelihood_is_refused(name):
    with pytest.raises(UsageError, match="expected"):
        make(name)


def test_the_number_of_classes_is_the_width_and_part_of_the_name():
    likelihood, _ = make("categorical:17")
    assert likelihood.name == "categorical:17" and likelihood.width == 17 * D


def test_the_name_of_a_fixed_gaussian_keeps_every_digit_of_sigma():
    assert make(make("gaussian:0.12345678901234567")[0].name)[0].sigma == 0.12345678901234567
