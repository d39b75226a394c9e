"""Every CUDA kernel, compiled for the host and run through its launcher, equals its reference.

On awkward shapes: one row, prime widths, rows by the warp and by the block, more of both than the small device of the
stand-in holds, pointers off by one element. Outputs start poisoned, inputs must stay as they were, and running threads
and blocks backwards must change no bit: what depends on an order that CUDA does not promise shows.
"""

import hostcuda
import numpy as np
import pytest
import standin
from tolerances import assert_close

from minivae import kernels
from minivae.kernels.dense import ACTIVATIONS, KEEPS_A

pytestmark = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")

REFERENCE = kernels.load("numpy", "reference", np)
CUDA = kernels.load("cupy", "fused", None)
DTYPES = ["float32", "float64"]
SHAPES = [(1, 1, 1), (1, 1, 7), (2, 53, 13), (1, 1, 1031), (3, 3, 257), (1, 7, 1024), (1, 101, 136), (3, 20, 8)]
LENGTHS = [1, 3, 1009, 24577]  # the last: more than the device's 6 blocks hold at once


@pytest.fixture(autouse=True)
def device(monkeypatch):
    return standin.install(monkeypatch)


def on_device(x, shift):
    """x on the stand-in's device, in memory that ends where it ends and begins `shift` elements behind 16 bytes."""
    if not isinstance(x, np.ndarray):
        return x
    flat = np.empty(x.size + shift, x.dtype)
    assert flat.ctypes.data % 16 == 0
    flat[shift:] = x.ravel()
    return standin.DeviceArray(flat[shift:].reshape(x.shape))


def run(op, arguments, shift=0, backwards=False):
    """The arguments after the CUDA kernel ran on copies of them."""
    given = [on_device(x, shift) for x in arguments]
    hostcuda.BACKWARDS = backwards
    try:
        getattr(CUDA, op)(*given)
    finally:
        hostcuda.BACKWARDS = False
    return [x._value if isinstance(x, standin.DeviceArray) else x for x in given]


def check(op, outputs, others, dtype, scale=1.0, scratch=0):
    """CUDA = reference for every output, for aligned and misaligned arrays, forwards and backwards.

    scratch: so many of the last outputs may hold anything
    """
    arguments = [*outputs, *others]
    expected = [x.copy() if isinstance(x, np.ndarray) else x for x in arguments]
    getattr(REFERENCE, op)(*expected)
    for shift in (0, 1):
        results = run(op, arguments, shift)
        compared = len(outputs) - scratch
        for mine, right in zip(results[:compared], expected[:compared], strict=True):
            assert not np.isnan(right).any()
            assert_close(mine, right, dtype, scale)
        for mine, before in zip(results[len(outputs) :], others, strict=True):
            np.testing.assert_array_equal(mine, before)
        for mine, again in zip(results[:compared], run(op, arguments, shift, backwards=True), strict=False):
            np.testing.assert_array_equal(mine, again)


def poisoned(*shape, dtype):
    return np.full(shape, np.nan, dtype)


# ---- the cases: op → (outputs, other arguments, scale), for a shape (S, B, D) or a length n --------------------------


def _dense_forward(activation, rng, dtype, S, B, D):
    XW, b = (4 * rng.normal(size=(B, D))).astype(dtype), rng.normal(size=D).astype(dtype)
    if activation in KEEPS_A:
        return "dense_forward", [XW, poisoned(B, D, dtype=dtype)], [b, activation], 1.0
    return "dense_forward", [XW], [None, b, activation], 1.0


def _dense_backward(activation, rng, dtype, S, B, D):
    A = (4 * rng.normal(size=(B, D))).astype(dtype)
    Y = A.copy()
    REFERENCE.dense_forward(Y, None, np.zeros(D, dtype), activation)
    dY, kept = rng.normal(size=(B, D)).astype(dtype), A if activation in KEEPS_A else None
    outputs = [dY, poisoned(D, dtype=dtype), poisoned(D, dtype=dtype)]
    return "dense_backward", outputs, [Y, kept, activation], np.sqrt(B), 1


def _latent_forward(rng, dtype, S, B, D):
    H, eps = rng.normal(size=(B, 2 * D)).astype(dtype), rng.normal(size=(S, B, D)).astype(dtype)
    outputs = [poisoned(*s, dtype=dtype) for s in ((S, B, D), (B, D), (B,), (D,))]
    return "latent_forward", outputs, [H, eps], np.sqrt(B * D)


def _latent_backward(rng, dtype, S, B, D):
    H, (dZ, eps) = rng.normal(size=(B, 2 * D)).astype(dtype), rng.normal(size=(2, S, B, D)).astype(dtype)
    others = [dZ, eps, np.exp(0.5 * H[:, D:]), H, rng.random(D).astype(dtype)]
    return "latent_backward", [poisoned(B, 2 * D, dtype=dtype)], others, S


def _likelihood(op, width, weight, rng, dtype, S, B, D):
    out, X = (3 * rng.normal(size=(S * B, width * D))).astype(dtype), rng.random((B, D)).astype(dtype)
    outputs = [poisoned(S * B, dtype=dtype), poisoned(S * B, width * D, dtype=dtype)]
    more, scale = [], D
    if op == "gaussian":
        outputs, scale = [*outputs, np.full(1, 5)], D * np.exp(10)
        out[:, D:] *= 5  # so that some are clamped
    if op == "gaussian_fixed":
        more, scale = [0.3], 100 * D
    return op, outputs, [out, X, 0.37 if weight == "one" else rng.random((S, B)).astype(dtype), *more], scale


def _row_weight(weight, rng, dtype, S, B):
    return 0.37 if weight == "one" else rng.random((S, B)).astype(dtype)


def _laplace(weight, rng, dtype, S, B, D):
    out, X = (3 * rng.normal(size=(S * B, 2 * D))).astype(dtype), rng.random((B, D)).astype(dtype)
    out[:, D:] *= 2  # so that some are clamped
    out[0, 0] = X[0, 0]  # where there is no derivative
    outputs = [poisoned(S * B, dtype=dtype), poisoned(S * B, 2 * D, dtype=dtype), np.full(1, 5)]
    return "laplace", outputs, [out, X, _row_weight(weight, rng, dtype, S, B)], D


def _continuous_bernoulli(weight, rng, dtype, S, B, D):
    logits, X = (4 * rng.normal(size=(S * B, D))).astype(dtype), rng.random((B, D)).astype(dtype)
    logits[0, ::3] *= 1e-6  # around ½, where the formula is 0/0
    logits[-1, ::5] = 0
    outputs = [poisoned(S * B, dtype=dtype), poisoned(S * B, D, dtype=dtype)]
    return "continuous_bernoulli", outputs, [logits, X, _row_weight(weight, rng, dtype, S, B)], D


def _gaussian_shared(logvar, weight, rng, dtype, S, B, D):
    mean, X = rng.normal(size=(S * B, D)).astype(dtype), rng.random((B, D)).astype(dtype)
    outputs = [poisoned(*s, dtype=dtype) for s in ((S * B,), (S * B, D), (1,))]
    others = [mean, np.full(1, logvar, dtype), X, _row_weight(weight, rng, dtype, S, B)]
    return "gaussian_shared", [*outputs, np.full(1, 5)], others, S * B * D


def _gaussian_optimal(error, weight, rng, dtype, S, B, D):
    X = rng.random((B, D)).astype(dtype)
    mean = (np.tile(X, (S, 1)) + error * rng.normal(size=(S * B, D))).astype(dtype)
    outputs = [poisoned(S * B, dtype=dtype), poisoned(S * B, D, dtype=dtype), np.full(1, np.nan), np.full(1, 5)]
    return "gaussian_optimal", outputs, [mean, X, _row_weight(weight, rng, dtype, S, B)], D


def _categorical(classes, weight, rng, dtype, S, B, D):
    logits = (3 * rng.normal(size=(S * B, classes * D))).astype(dtype)
    outputs = [poisoned(S * B, dtype=dtype), poisoned(S * B, classes * D, dtype=dtype)]
    X = rng.integers(0, classes, (B, D)).astype(dtype)
    others = [poisoned(2, D, dtype=dtype), logits, X, _row_weight(weight, rng, dtype, S, B)]
    return "categorical", outputs, others, D


# What is computed in float64 whatever the dtype: the largest terms that cancel, x ln x! and ln Γ(e¹⁰).
POISSON, NEGATIVE_BINOMIAL = {"float32": 1, "float64": 1e3}, {"float32": 1, "float64": 1e5}


def _poisson(weight, rng, dtype, S, B, D):
    lograte = (2 * rng.normal(size=(S * B, D))).astype(dtype)
    lograte[0, -1] = 20.5  # clamped
    X = rng.poisson(3, (B, D)).astype(dtype)
    X[-1, 0] = 4000  # beyond the table of ln x!
    outputs = [poisoned(S * B, dtype=dtype), poisoned(S * B, D, dtype=dtype), np.full(1, 5)]
    return "poisson", outputs, [lograte, X, _row_weight(weight, rng, dtype, S, B)], POISSON[dtype]


def _negative_binomial(weight, rng, dtype, S, B, D):
    logmean, logtheta = (2 * rng.normal(size=(S * B, D))).astype(dtype), (3 * rng.normal(size=D)).astype(dtype)
    logmean[0, -1], logtheta[-1] = 20.5, 10.5  # clamped
    X = rng.poisson(5, (B, D)).astype(dtype)
    X[-1, 0] = 700
    outputs = [poisoned(*s, dtype=dtype) for s in ((S * B,), (S * B, D), (D,))]
    outputs += [np.full(1, 5), np.full((5, D), np.nan)]
    others = [logmean, logtheta, X, _row_weight(weight, rng, dtype, S, B)]
    return "negative_binomial", outputs, others, NEGATIVE_BINOMIAL[dtype], 1


def _importance_forward(beta, rng, dtype, S, B, D):
    Z, eps, H = (rng.normal(size=s).astype(dtype) for s in ((S, B, D), (S, B, D), (B, 2 * D)))
    outputs = [poisoned(*s, dtype=dtype) for s in ((S, B), (S, B), (B,))]
    nll = (3 * rng.normal(size=(S, B))).astype(dtype)
    return "importance_forward", outputs, [nll, Z, eps, H, beta], 4 * D


def _importance_backward(rng, dtype, S, B, D):
    dZ, eps, Z = rng.normal(size=(3, S, B, D)).astype(dtype)
    sigma, weight = rng.random((B, D)).astype(dtype), rng.random((S, B)).astype(dtype)
    return "importance_backward", [poisoned(B, 2 * D, dtype=dtype)], [dZ, eps, sigma, Z, weight, 0.7], 4 * S


def _gather(source, rng, dtype, S, B, D):
    X = (100 * rng.random((29, D))).astype(source)
    return "gather", [poisoned(B, D, dtype=dtype)], [X, rng.integers(0, 29, B)], 1.0


def _gather_integers(rng, dtype, S, B, D):
    return "gather", [np.full(B, -1)], [rng.integers(0, 2**40, 29), rng.integers(0, 29, B)], 1.0


def _log_sum_exp(first, rng, dtype, S, B, D):
    log_w = (30 * rng.normal(size=(B, D))).astype(dtype)
    before = [np.full(D, -np.inf, dtype), np.zeros(D, dtype), np.zeros(D, dtype)]
    if not first:
        REFERENCE.log_sum_exp(*before, (30 * rng.normal(size=(5, D))).astype(dtype))
    return "log_sum_exp", before, [log_w], B


BY_SHAPE = {
    **{f"dense_forward {a}": (_dense_forward, a) for a in ACTIVATIONS},
    **{f"dense_backward {a}": (_dense_backward, a) for a in ACTIVATIONS},
    "latent_forward": (_latent_forward,),
    "latent_backward": (_latent_backward,),
    **{
        f"{op}, {weight} weight": (_likelihood, op, width, weight)
        for op, width in (("bernoulli", 1), ("gaussian", 2), ("gaussian_fixed", 1))
        for weight in ("one", "each its")
    },
    **{
        f"{case}, {weight} weight": (make, *which, weight)
        for weight in ("one", "each its")
        for case, make, *which in (
            ("laplace", _laplace),
            ("continuous_bernoulli", _continuous_bernoulli),
            ("gaussian_shared", _gaussian_shared, -0.7),
            ("gaussian_shared clamped", _gaussian_shared, -10.5),
            ("gaussian_optimal", _gaussian_optimal, 0.3),
            ("gaussian_optimal clamped", _gaussian_optimal, 1e-3),
            ("gaussian_optimal clamped from above", _gaussian_optimal, 1e3),
            ("categorical of 2", _categorical, 2),
            ("categorical of 11", _categorical, 11),
            ("poisson", _poisson),
            ("negative_binomial", _negative_binomial),
        )
    },
    "importance_forward": (_importance_forward, 0.7),
    "importance_backward": (_importance_backward,),
    **{f"gather from {source}": (_gather, source) for source in ("uint8", "float32", "float64", "int16")},
    "gather integers": (_gather_integers,),
    "log_sum_exp, first tile": (_log_sum_exp, True),
    "log_sum_exp, later tile": (_log_sum_exp, False),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", BY_SHAPE)
def test_an_op_on_rows_equals_its_reference(case, dtype):
    make, *which = BY_SHAPE[case]
    for shape in SHAPES:
        op, outputs, others, *rest = make(*which, np.random.default_rng(0), dtype, *shape)
        check(op, outputs, others, dtype, *rest)


def _state(rng, dtype, n, count):
    arrays = rng.normal(size=(count, n)).astype(dtype)
    still = slice(None, None, max(1, n // 7))  # no gradient and no parameter: moments that are to be flushed
    arrays[:, still] = 1e-39
    arrays[[0, -1], still] = 0
    return [*arrays[:-1]], arrays[-1]


def _sgd(momentum, nesterov, rng, dtype, n):
    (P, V), G = _state(rng, dtype, n, 3)
    if momentum:
        return "sgd", [P, V], [G, 0.05, momentum, nesterov, 0.01], 1.0
    return "sgd", [P], [None, G, 0.05, 0.0, False, 0.01], 1.0


def _adagrad(rng, dtype, n):
    (P, A), G = _state(rng, dtype, n, 3)
    return "adagrad", [P, np.abs(A)], [G, 0.05, 1e-10, 0.01], 1.0


def _rmsprop(momentum, rng, dtype, n):
    (P, A, V), G = _state(rng, dtype, n, 4)
    if momentum:
        return "rmsprop", [P, np.abs(A), V], [G, 0.01, 0.99, 1e-8, momentum, 0.01], 1.0
    return "rmsprop", [P, np.abs(A)], [None, G, 0.01, 0.99, 1e-8, 0.0, 0.01], 1.0


def _adam(l2, decay, rng, dtype, n):
    (P, M, V), G = _state(rng, dtype, n, 4)
    return "adam", [P, M, np.abs(V)], [G, 0.01, 0.9, 0.999, 1e-8, l2, decay, 1 - 0.9**3, 1 - 0.999**3], 1.0


def _clip_norm(largest, rng, dtype, n):
    G = rng.normal(size=n).astype(dtype)
    return "clip_norm", [G, np.full(1, np.nan)], [largest], np.linalg.norm(G)


BY_LENGTH = {
    "sgd": (_sgd, 0.0, False),
    "sgd momentum": (_sgd, 0.9, False),
    "sgd nesterov": (_sgd, 0.9, True),
    "adagrad": (_adagrad,),
    "rmsprop": (_rmsprop, 0.0),
    "rmsprop momentum": (_rmsprop, 0.5),
    "adam": (_adam, 0.01, 0.0),
    "adamw": (_adam, 0.0, 1e-4),
    "clip_norm that clips": (_clip_norm, 1e-3),
    "clip_norm that does not": (_clip_norm, 1e6),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", BY_LENGTH)
def test_an_op_on_flat_arrays_equals_its_reference(case, dtype):
    make, *which = BY_LENGTH[case]
    for n in LENGTHS:
        op, outputs, others, *rest = make(*which, np.random.default_rng(0), dtype, n)
        check(op, outputs, others, dtype, *rest)
        expected = [x.copy() if isinstance(x, np.ndarray) else x for x in [*outputs, *others]]
        getattr(REFERENCE, op)(*expected)
        for mine, right in zip(run(op, [*outputs, *others])[: len(outputs)], expected, strict=False):
            np.testing.assert_array_equal(mine == 0, right == 0)  # flushed, not only small


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("H", [1, 13, 136, 520])
def test_bias_gradient_in_parts_equals_the_reference(H, dtype):
    """More rows than a part: their sums go through `partial`, and db keeps its digits."""
    rng = np.random.default_rng(0)
    dY, Y = rng.normal(1, 1, (1103, H)).astype(dtype), rng.normal(size=(1103, H)).astype(dtype)
    outputs = [dY, poisoned(H, dtype=dtype), poisoned(4 * H, dtype=dtype)]
    check("dense_backward", outputs, [Y, None, "relu"], dtype, np.sqrt(len(Y)), 1)
    hostcuda.launches.clear()
    db = run("dense_backward", [*outputs, Y, None, "relu"])[1]
    assert hostcuda.launches == ["dense_backward", "dense_add_partial"]
    exact = np.where(Y > 0, dY.astype(np.float64), 0).sum(axis=0)
    assert np.abs(db / exact - 1).max() < (5e-7 if dtype == "float32" else 5e-15)


@pytest.mark.parametrize("B", [1, 7, 1300])
def test_advance_moves_on_to_the_next_step(B):
    rng = np.random.default_rng(0)
    outputs, cursor = [np.zeros(6), np.zeros(B, np.int64)], np.array([2, 100])
    arguments = [*outputs, cursor, rng.normal(size=(5, 6)), rng.permutation(3000)]
    expected = [x.copy() for x in arguments]
    REFERENCE.advance(*expected)
    for backwards in (False, True):
        for mine, right in zip(run("advance", arguments, backwards=backwards), expected, strict=True):
            np.testing.assert_array_equal(mine, right)


# ---- noise ----------------------------------------------------------------------------------------------------------

WHERE = (np.array([5, 0, 2**32 - 1, 77, 2**31]), 3, 2**31, 2**32 - 4, 2**64 - 3)
DIMS = [1, 2, 3, 4, 5, 8, 97, 500]


@pytest.mark.parametrize("D", DIMS)
def test_bits_are_those_of_reference_and_numba(D):
    numba, reference = (np.empty((3, 5, D), np.uint32) for _ in range(2))
    kernels.load("numpy", "fused", np).bits(numba, *WHERE)
    REFERENCE.bits(reference, *WHERE)
    np.testing.assert_array_equal(numba, reference)
    for shift in (0, 1):
        mine = run("bits", [np.zeros((3, 5, D), np.uint32), *WHERE], shift)[0]
        np.testing.assert_array_equal(mine, reference)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["uniform", "normal"])
@pytest.mark.parametrize("D", DIMS)
def test_draws_equal_the_reference(op, D, dtype):
    """Uniforms to the bit, normals within 2 ulp."""
    expected = np.empty((3, 5, D), dtype)
    getattr(REFERENCE, op)(expected, *WHERE)
    for shift in (0, 1):
        mine = run(op, [poisoned(3, 5, D, dtype=dtype), *WHERE], shift)[0]
        assert (np.abs(mine - expected) <= (2 if op == "normal" else 0) * np.spacing(np.abs(expected))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", DIMS)
def test_binarisation_is_the_reference_s_to_the_bit(D, dtype):
    X = np.random.default_rng(0).random((5, D)).astype(dtype)
    expected = X.copy()
    REFERENCE.binarize(expected, *WHERE)
    for shift in (0, 1):
        np.testing.assert_array_equal(run("binarize", [X, *WHERE], shift)[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_mean_that_equals_its_uniform_is_not_drawn(dtype):
    """x ← 1 where u < x: 0 is never drawn, 1 always, and u itself gives 0."""
    U = np.empty((1, 5, 97), dtype)
    REFERENCE.uniform(U, *WHERE)
    for X, drawn in (
        (U[0], 0),
        (np.zeros((5, 97), dtype), 0),
        (np.ones((5, 97), dtype), 1),
        (np.nextafter(U[0], 2), 1),
    ):
        assert (run("binarize", [X.astype(dtype), *WHERE])[0] == drawn).all()


def test_more_noise_than_a_kernel_can_count_is_refused():
    endless = standin.DeviceArray(np.broadcast_to(np.float32(0), (2**20, 2**20, 4)))
    with pytest.raises(ValueError, match="blocks of noise"):
        CUDA.normal(endless, standin.DeviceArray(np.zeros(2**20, np.int64)), 0, 0, 0, 0)


# ---- regimes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_is_exact_at_logits_of_a_thousand(dtype):
    logits, X = np.array([[-1000, -1000, 1000, 1000, 0]], dtype), np.array([[0, 1, 0, 1, 0.5]], dtype)
    nll, d = run("bernoulli", [poisoned(1, dtype=dtype), np.empty_like(logits), logits, X, 2.0])[:2]
    assert nll[0] == pytest.approx(2000 + np.log(2), rel=1e-6)
    np.testing.assert_array_equal(d, [[0, -2, 2, 0, 0]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_clamps_zeroes_and_counts(dtype):
    out = np.array([[0, 0, 0, 0, -11, -10, 10, 500], [0, 0, 0, 0, -500, 0, 0, 0]], dtype)
    arguments = [poisoned(2, dtype=dtype), np.empty_like(out), np.full(1, 7), out, np.ones((2, 4), dtype), 1.0]
    nll, d, clamped = run("gaussian", arguments)[:3]
    assert clamped[0] == 7 + 3
    assert np.isfinite(nll).all()
    assert (d[0, [4, 7]] == 0).all()
    assert (d[0, [5, 6]] != 0).all()
    assert d[1, 4] == 0


@pytest.mark.parametrize("op, width", [("bernoulli", 1), ("gaussian", 2), ("gaussian_fixed", 1)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinite_outputs_are_not_swallowed(bad, op, width):
    out = np.full((1, 3 * width), bad, np.float32)
    counter, sigma = [np.zeros(1, np.int64)] if op == "gaussian" else [], [1.0] if op == "gaussian_fixed" else []
    arguments = [np.zeros(1, np.float32), np.zeros_like(out), *counter, out, np.full((1, 3), 0.5, np.float32), 1.0]
    assert not np.isfinite(run(op, arguments + sigma)[0][0])


@pytest.mark.parametrize("case", [case for case in BY_SHAPE if case.endswith("one weight")])
def test_nan_and_infinite_outputs_of_every_likelihood_reach_its_loss(case):
    make, *which = BY_SHAPE[case]
    op, outputs, others, *_ = make(*which, np.random.default_rng(0), "float32", 1, 2, 3)
    decoded = next(x for x in others if x.ndim == 2 and not np.isnan(x).any())
    for bad in (np.nan, np.inf):
        decoded[0, 0] = bad
        given = [x.copy() if isinstance(x, np.ndarray) else x for x in [*outputs, *others]]
        expected = [x.copy() if isinstance(x, np.ndarray) else x for x in given]
        with np.errstate(invalid="ignore", divide="ignore"):
            getattr(REFERENCE, op)(*expected)
        np.testing.assert_array_equal(np.isfinite(run(op, given)[0]), np.isfinite(expected[0]))


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_weight_of_the_prior_may_stand_in_device_memory(direction):
    """A captured graph changes β between steps: the kernel reads it when it runs."""
    make, *which = BY_SHAPE[f"importance_{direction}"]
    op, outputs, others, *_ = make(*which, np.random.default_rng(0), "float32", 3, 5, 7)
    *others, beta = others
    for mine, right in zip(
        run(op, [*outputs, *others, np.array(beta)]), run(op, [*outputs, *others, beta]), strict=True
    ):
        np.testing.assert_array_equal(mine, right)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_finite_at_large_inputs_and_keep_nan(activation):
    Y = np.array([[-1000, -30, 0, 30, 1000, np.nan]], np.float32)
    A = np.empty_like(Y) if activation in KEEPS_A else None
    y, a = run("dense_forward", [Y, A, np.zeros(6, np.float32), activation])[:2]
    expected = Y.copy()
    REFERENCE.dense_forward(expected, None, np.zeros(6, np.float32), activation)
    np.testing.assert_allclose(y, expected, rtol=3e-6)
    dA = run("dense_backward", [np.ones_like(Y), *np.empty((2, 6), np.float32), y, a, activation])[0]
    assert np.isfinite(dA[0, :5]).all()


@pytest.mark.parametrize("G", [[np.nan, 1.0], [np.inf, 1.0]])
def test_clip_norm_spreads_what_is_not_finite(G):
    arguments = [np.array(G), np.zeros(1), 1.0]
    results = run("clip_norm", arguments)[:2]
    with np.errstate(invalid="ignore"):
        REFERENCE.clip_norm(*arguments)
    for mine, right in zip(results, arguments, strict=False):
        np.testing.assert_array_equal(mine, right)
    assert not np.isfinite(results[0]).all()


# ---- numbers in device memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case, changing",
    [("sgd", [0]), ("adagrad", [0]), ("rmsprop", [0]), ("adamw", [0, 5, 6, 7]), ("clip_norm that clips", [-1])],
)
def test_a_number_in_device_memory_is_the_same_as_the_number(case, changing):
    """What a captured graph advances: `changing` counts from the first number of the op's arguments."""
    make, *which = BY_LENGTH[case]
    op, outputs, others, _ = make(*which, np.random.default_rng(0), "float32", 1009)
    expected = run(op, [*outputs, *others])
    first = next((i for i, x in enumerate(others) if isinstance(x, float)), 0)
    for i in changing:
        others[first + i if i >= 0 else i] = np.array([float(others[first + i if i >= 0 else i])])
    for mine, right in zip(run(op, [*outputs, *others]), expected[: len(outputs)], strict=False):
        np.testing.assert_array_equal(mine, right)


def test_a_pass_in_device_memory_is_the_same_as_the_number():
    out = poisoned(2, 5, 7, dtype="float32")
    rows, stream, sample, pass_, seed = WHERE
    expected = run("normal", [out, rows, stream, sample, pass_, seed])[0]
    mine = run("normal", [out, rows, stream, sample, np.array([float(pass_)]), seed])[0]
    np.testing.assert_array_equal(mine, expected)


# ---- the launcher refuses what a kernel would misread ----------------------------------------------------------------


def test_another_dtype_than_the_kernel_s_is_refused():
    x = standin.DeviceArray(np.zeros((2, 3)))
    with pytest.raises(TypeError, match="kernel for float64 was given an array of float32"):
        CUDA.dense_forward(x, None, standin.DeviceArray(np.zeros(3, np.float32)), "relu")


def test_an_array_that_is_not_contiguous_is_refused():
    x = standin.DeviceArray(np.zeros((4, 6))[:, ::2])
    with pytest.raises(ValueError, match="not C-contiguous"):
        CUDA.dense_forward(x, None, standin.DeviceArray(np.zeros(3)), "relu")


def test_every_op_has_a_cuda_kernel_and_a_case_here():
    cases = {name.split(",")[0].split(" ")[0] for name in (*BY_SHAPE, *BY_LENGTH)} - {"adamw"}
    assert cases | {"bits", "uniform", "normal", "binarize"} == set(kernels.op_names()) - {"advance"}
    for module in kernels.files().values():
        for op, kinds in module.OPS.items():
            assert len(kinds) == 3, f"{op}: reference, Numba, CUDA"


def test_an_op_without_a_cuda_kernel_says_so_when_it_is_called(monkeypatch):
    from minivae.kernels import bernoulli

    monkeypatch.setitem(bernoulli.OPS, "bernoulli", bernoulli.OPS["bernoulli"][:2])
    with pytest.raises(NotImplementedError, match="bernoulli has no CUDA kernel yet: use kernels='reference'"):
        kernels.load("cupy", "fused", None).bernoulli()


# ---- the engine's own calls ---------------------------------------------------------------------------------------


def test_parity_of_every_call_that_the_engine_makes():
    from minivae.gradcheck.ours import parity

    rows = [row for row in parity.run(("cupy",)).rows if row.kernels == "fused"]
    assert [(row.op, row.dtype, row.ulps) for row in rows if row.verdict != "ok"] == []
    assert {row.op for row in rows} == set(kernels.op_names())


@pytest.mark.parametrize("name", ["ops.dense.silu", "ops.latent", "latent.free_bits", "likelihoods.gaussian.rows"])
def test_gradients_through_the_cuda_kernels_are_right(name):
    from minivae.gradcheck.compare import examine
    from minivae.gradcheck.ours import targets
    from minivae.gradcheck.problem import Settings

    (target, *_) = targets.select([name])
    result = examine(targets.build(target, "fused", 0, "cupy"), Settings(max_entries=0, directions=2))
    assert result.ok, result.hints


# ---- the harness itself ---------------------------------------------------------------------------------------------


def _launch(body, block=(64,), grid=(1,), out=64):
    """Run `extern "C" __global__ void k(float* out) {body}` on the host, forwards and backwards."""
    code = "#define real float\n" + 'extern "C" __global__ void k(float* out) {' + body + "}"
    results = []
    for hostcuda.BACKWARDS in (True, False):
        x = standin.DeviceArray(np.zeros(out, np.float32))
        hostcuda.RawModule(code).get_function("k")(grid, block, (x,))
        results.append(x._value)
    return results


def test_the_harness_sees_a_missing_barrier():
    reverse = "__shared__ float s[64]; s[threadIdx.x] = threadIdx.x; {barrier} out[threadIdx.x] = s[63 - threadIdx.x];"
    first, second = _launch(reverse.format(barrier="__syncthreads();"))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, np.arange(64)[::-1])
    first, second = _launch(reverse.format(barrier="s[threadIdx.x] += 1; "))
    assert (first != second).any()


def test_the_harness_sees_a_barrier_that_not_all_reach():
    with pytest.raises(hostcuda.LaunchError, match="never come"):
        _launch("if (threadIdx.x < 40) __syncthreads(); out[0] = 1;")
    with pytest.raises(hostcuda.LaunchError, match="never come"):
        _launch("if (threadIdx.x != 3) out[threadIdx.x] = __shfl_xor_sync(0xffffffff, 1.0f, 1);")


def test_the_harness_shuffles_as_a_warp_does():
    first, second = _launch("out[threadIdx.x] = __shfl_xor_sync(0xffffffff, (float)threadIdx.x, 5);")
    np.testing.assert_array_equal(first, np.arange(64) ^ 5)
    np.testing.assert_array_equal(first, second)


def test_the_harness_runs_on_processors_whose_switch_is_not_written_by_hand():
    """With ucontext in the place of the assembly for x86-64."""
    code = '#define real float\nextern "C" __global__ void k(float* out) { out[threadIdx.x] = '
    code += "__shfl_xor_sync(0xffffffff, (float)threadIdx.x, 9); __syncthreads(); }"
    x = standin.DeviceArray(np.zeros(64, np.float32))
    hostcuda.RawModule(code, ("-DHOST_UCONTEXT",)).get_function("k")((2,), (64,), (x,))
    np.testing.assert_array_equal(x._value, np.arange(64) ^ 9)


def test_the_harness_refuses_arguments_of_other_types():
    code = 'extern "C" __global__ void k(float* x, double y, int n) { x[n] = y; }'
    kernel = hostcuda.RawModule(code).get_function("k")
    x = standin.DeviceArray(np.zeros(3, np.float32))
    kernel((1,), (32,), (x, np.float64(2), np.int32(1)))
    assert x._value.tolist() == [0, 2, 0]
    wrong = [
        (standin.DeviceArray(np.zeros(3)), np.float64(2), np.int32(1)),
        (x, np.float32(2), np.int32(1)),
        (x, np.float64(2), np.int64(1)),
        (x, np.float64(2)),
    ]
    for arguments in wrong:
        with pytest.raises(TypeError):
            kernel((1,), (32,), arguments)
