"""exp, expm1, log1p of kernels/_math.py against wider arithmetic, in ulp."""

import numpy as np
import pytest
from numba import njit

from minivae.kernels import _curved, _math, _normal

WIDER = {"float32": np.float64, "float64": np.longdouble}


def loop(function):
    """Compile Y[i] = function(X[i])."""

    @njit
    def over(Y, X):
        for i in range(X.size):
            Y[i] = function(X[i])

    over.__name__ = function.__name__
    return over


FUNCTIONS = (_math.exp, _math.expm1_negative, _math.log1p_unit, _curved.tanh, _curved.softplus, _curved.sigmoid)
_exp, _expm1, _log1p, _tanh, _softplus, _sigmoid = map(loop, FUNCTIONS)


def _apply(function, X):
    Y = np.empty_like(X)
    function(Y, X)
    return Y


CASES = {
    "exp": (_exp, np.exp, (-87, 88.7), (-708, 709.7), 2),
    "exp near 0": (_exp, np.exp, (-1e-3, 1e-3), (-1e-3, 1e-3), 2),
    "expm1": (_expm1, np.expm1, (-80, 0), (-700, 0), 2),
    "expm1 near 0": (_expm1, np.expm1, (-1e-3, 0), (-1e-3, 0), 2),
    "log1p": (_log1p, np.log1p, (0, 1), (0, 1), 2),
    "log1p near 0": (_log1p, np.log1p, (0, 1e-3), (0, 1e-3), 2),
    "tanh": (_tanh, np.tanh, (-10, 10), (-20, 20), 4),
    "tanh near 0": (_tanh, np.tanh, (-1e-3, 1e-3), (-1e-3, 1e-3), 4),
    "softplus": (_softplus, lambda x: np.log1p(np.exp(x)), (-80, 80), (-700, 700), 4),
    "sigmoid": (_sigmoid, lambda x: 1 / (1 + np.exp(-x)), (-80, 80), (-700, 700), 4),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_function_is_right_to_a_few_ulp(case, dtype):
    function, oracle, single, double, ulps = CASES[case]
    low, high = single if dtype == "float32" else double
    X = np.random.default_rng(0).uniform(low, high, 200_000).astype(dtype)
    expected = oracle(X.astype(WIDER[dtype]))
    error = np.abs(_apply(function, X) - expected) / np.spacing(np.abs(expected).astype(dtype))
    assert error.max() <= ulps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_at_its_edges(dtype):
    X = np.array([-np.inf, -1e4, 0, 1e4, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(_apply(_exp, X), np.array([0, 0, 1, np.inf, np.inf, np.nan], dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", [_sigmoid, _tanh, _softplus, _expm1], ids=lambda f: f.__name__)
def test_nan_stays_nan(function, dtype):
    assert np.isnan(_apply(function, np.array([np.nan], dtype))[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_values_are_exact(dtype):
    X = np.array([-1000, 1000], dtype)
    np.testing.assert_array_equal(_apply(_sigmoid, X), np.array([0, 1], dtype))
    np.testing.assert_array_equal(_apply(_tanh, X), np.array([-1, 1], dtype))
    np.testing.assert_array_equal(_apply(_softplus, X), np.array([0, 1000], dtype))


def test_float32_stays_float32():
    """A bare constant would make the kernel compute in float64, at half the speed."""
    assembly = next(iter(_exp.inspect_llvm().values())) if _exp.signatures else ""
    _apply(_exp, np.zeros(4, np.float32))
    assembly = next(text for signature, text in _exp.inspect_llvm().items() if "float32" in str(signature))
    assert "fpext float" not in assembly


# ---- Box–Muller's parts -----------------------------------------------------------------------------------------

WORDS = np.unique(np.concatenate([np.arange(300), 2 ** np.arange(24), 2**24 - 1 - np.arange(300),
                                  np.random.default_rng(0).integers(0, 2**24, 20_000)]))  # fmt: skip


@njit
def _parts(radius, cos, sin, words):
    for i in range(words.size):
        radius[i] = _normal.radius(words[i])
        cos[i], sin[i] = _normal.cos_sin_of_turn(words[i])


@pytest.fixture(scope="module")
def parts():
    radius, cos, sin = np.empty((3, WORDS.size))
    _parts(radius, cos, sin, WORDS)
    return radius, cos, sin


def _ulps(actual, expected):
    return float(np.max(np.abs(actual - expected) / np.spacing(np.abs(expected).astype(np.float64))))


def test_the_radius_is_right_to_two_ulp(parts):
    expected = np.sqrt(-2 * np.log((2 * WORDS.astype(np.longdouble) + 1) * np.longdouble(2) ** -25))
    assert _ulps(parts[0], expected) <= 2


def test_cosine_and_sine_of_a_turn_are_right_to_two_ulp_near_their_zeros_too(parts):
    mpmath = pytest.importorskip("mpmath")
    chosen = np.concatenate([WORDS[:40], WORDS[-40:], np.array([k * 2**21 + d for k in range(8) for d in (-1, 0, 1)])])
    chosen = np.unique(chosen[chosen >= 0])
    radius, cos, sin = np.empty((3, chosen.size))
    _parts(radius, cos, sin, chosen)
    with mpmath.workdps(40):
        angles = [2 * mpmath.pi * int(word) / mpmath.mpf(2) ** 24 for word in chosen]
        exact_cos, exact_sin = ([f(angle) for angle in angles] for f in (mpmath.cos, mpmath.sin))
        for ours, exact in ((cos, exact_cos), (sin, exact_sin)):
            for value, true in zip(ours, exact, strict=True):
                error = abs(mpmath.mpf(float(value)) - true)
                assert error <= 2 * np.spacing(abs(float(true))) or error < 1e-30


def test_cosine_and_sine_of_a_turn_follow_numpy_over_the_whole_turn(parts):
    angle = 2 * np.pi * (WORDS / 2**24)
    np.testing.assert_allclose(parts[1], np.cos(angle), rtol=0, atol=1e-15)
    np.testing.assert_allclose(parts[2], np.sin(angle), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_negative_has_the_bits_of_exp(dtype):
    lowest = np.log(np.finfo(dtype).tiny)
    near = np.nextafter(dtype(lowest), [-np.inf, 0], dtype=dtype)
    x = np.concatenate([np.linspace(1.2 * lowest, 0, 100_001), near, [-np.inf, np.nan, -0.0]]).astype(dtype)
    np.testing.assert_array_equal(_apply(loop(_math.exp_negative), x), _apply(_exp, x))
