"""log, ln x!, Stirling's series and ratios of Γ of kernels/_special.py against wider arithmetic."""

import mpmath
import numpy as np
import pytest
from numba import njit

from minivae.kernels import _special

RNG = np.random.default_rng(0)
WIDER = {"float32": np.float64, "float64": np.longdouble}


@njit
def _log(Y, X):
    for i in range(X.size):
        Y[i] = _special.log(X[i])


@njit
def _log_factorial(Y, X):
    for i in range(X.size):
        Y[i] = _special.log_factorial(X[i])


@njit
def _stirling(L, P, X):
    for i in range(X.size):
        L[i], P[i] = _special.stirling(X[i])


@njit
def _log_rising(L, P, X, theta):
    for i in range(X.size):
        lgamma_8, digamma_8 = _special.stirling(theta[i] + 8.0)
        L[i], P[i] = _special.log_rising(X[i], theta[i], lgamma_8, digamma_8)


def _exact(function, X):
    with mpmath.workdps(40):
        return np.array([float(function(mpmath.mpf(x))) for x in X])


def relative(actual, expected):
    return np.abs(actual - expected) / np.maximum(1, np.abs(expected))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reach", [80.0, 1.0, 1e-3, 1e-6])
def test_log_is_right_to_two_ulp(reach, dtype):
    X = np.exp(RNG.uniform(-reach, reach, 100_000)).astype(dtype)
    Y, expected = np.empty_like(X), np.log(X.astype(WIDER[dtype]))
    _log(Y, X)
    assert (np.abs(Y - expected) <= 2 * np.spacing(np.abs(expected).astype(dtype))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_keeps_infinity_and_nan(dtype):
    X = np.array([1, np.inf, np.nan, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype)
    Y = np.empty_like(X)
    _log(Y, X)
    np.testing.assert_allclose(Y, np.log(X), rtol=1e-6)
    assert Y[0] == 0


def test_log_factorial_is_right_on_both_sides_of_the_table():
    X = np.concatenate([np.arange(600.0), np.round(np.exp(RNG.uniform(6, 17, 300))), [2.0**24]])
    Y = np.empty_like(X)
    _log_factorial(Y, X)
    assert relative(Y, _exact(lambda x: mpmath.loggamma(x + 1), X)).max() < 1e-15
    assert Y[0] == Y[1] == 0


def test_stirling_is_lgamma_and_digamma_to_fourteen_digits():
    X = np.concatenate([[8.0, np.nextafter(8, 9)], np.exp(RNG.uniform(np.log(8), np.log(1e8), 1000))])
    L, P = np.empty_like(X), np.empty_like(X)
    _stirling(L, P, X)
    assert relative(L, _exact(mpmath.loggamma, X)).max() < 2e-15
    assert relative(P, _exact(mpmath.digamma, X)).max() < 2e-15


def test_log_rising_is_the_ratio_of_two_gammas_and_its_derivative():
    X = np.concatenate([np.tile(np.arange(20.0), 40), np.round(np.exp(RNG.uniform(0, 14, 400)))])
    theta = np.exp(RNG.uniform(-10, 10, X.size))
    L, P = np.empty_like(X), np.empty_like(X)
    _log_rising(L, P, X, theta)
    with mpmath.workdps(40):
        pairs = [(mpmath.mpf(x), mpmath.mpf(t)) for x, t in zip(X, theta, strict=True)]
        ratio = np.array([float(mpmath.loggamma(x + t) - mpmath.loggamma(t)) for x, t in pairs])
        slope = np.array([float(mpmath.digamma(x + t) - mpmath.digamma(t)) for x, t in pairs])
        largest = np.array([float(mpmath.loggamma(x + t + 8)) for x, t in pairs])
    few = X <= 8
    assert relative(L[few], ratio[few]).max() < 4e-15
    assert (np.abs(L - ratio) / largest).max() < 1e-14
    assert relative(P, slope).max() < 4e-15
    assert not L[X == 0].any() and not P[X == 0].any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_passed_on(value):
    X = np.full(4, value)
    L, P, F = np.empty(4), np.empty(4), np.empty(4)
    _stirling(L, P, X)
    _log_factorial(F, X)
    assert not np.isfinite(L).any() and not np.isfinite(P).any() and not np.isfinite(F).any()


def test_the_references_take_the_special_functions_of_their_array_module(monkeypatch):
    import scipy.special
    import standin

    cupy = standin.install(monkeypatch)
    assert _special.special(np) is scipy.special
    assert _special.special(cupy).__name__ == "cupyx.scipy.special"
