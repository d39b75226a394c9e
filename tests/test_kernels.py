"""Every op: fused = reference, on awkward shapes and in the regimes its branches exist for; outputs written whole.

Awkward shapes: one row, one column, prime widths, more rows than a block of the bias sum, S > 1.
"""

import numpy as np
import pytest
from tolerances import assert_close

from minivae import kernels
from minivae.kernels import dense

FUSED = kernels.load("numpy", "fused", np)
REFERENCE = kernels.load("numpy", "reference", np)
DTYPES = ["float32", "float64"]
SHAPES = [(1, 1, 1), (1, 1, 7), (1, 131, 13), (3, 1, 5), (3, 17, 31), (1, 200, 784)]  # S, B, D


def check_both(op, make, dtype, scale=1.0, scratch=None):
    """Run an op of both kinds on equal arguments and compare every array; `make` gives (outputs, others).

    Outputs start poisoned, so that an element that is not written shows. scratch: the output that is none.
    """
    results = []
    for ops in (FUSED, REFERENCE):
        outputs, others = make()
        for out in outputs:
            if out.dtype.kind == "f":
                out[np.isnan(out)] = np.nan
        getattr(ops, op)(*outputs, *others)
        results.append([out for k, out in enumerate(outputs) if k != scratch])
    for fused, reference in zip(*results, strict=True):
        assert not np.isnan(reference).any()
        assert_close(fused, reference, dtype, scale)


def poisoned(*shape, dtype):
    return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", dense.ACTIVATIONS)
def test_dense_forward_fused_equals_reference(activation, shape, dtype):
    _, B, H = shape
    rng = np.random.default_rng(0)
    XW, b = (4 * rng.normal(size=(B, H))).astype(dtype), rng.normal(size=H).astype(dtype)

    def make():
        A = poisoned(B, H, dtype=dtype)
        keeps = activation in dense.KEEPS_A
        return ([XW.copy(), A] if keeps else [XW.copy()]), ((b, activation) if keeps else (None, b, activation))

    check_both("dense_forward", make, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", dense.ACTIVATIONS)
def test_dense_backward_fused_equals_reference(activation, shape, dtype):
    _, B, H = shape
    rng = np.random.default_rng(0)
    A = (4 * rng.normal(size=(B, H))).astype(dtype)
    Y = A.copy()
    REFERENCE.dense_forward(Y, None, np.zeros(H, dtype), activation)
    dY = rng.normal(size=(B, H)).astype(dtype)

    def make():
        kept = A if activation in dense.KEEPS_A else None
        return [dY.copy(), poisoned(H, dtype=dtype)], (poisoned(dense.scratch(B, H), dtype=dtype), Y, kept, activation)

    check_both("dense_backward", make, dtype, scale=np.sqrt(B))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", dense.ACTIVATIONS)
def test_dense_is_finite_at_large_inputs(activation, dtype):
    Y = np.array([[-1000, -30, 0, 30, 1000]], dtype)
    A, dA, b = np.empty_like(Y), np.ones_like(Y), np.zeros(5, dtype)
    expected, db = Y.copy(), np.empty(5, dtype)
    REFERENCE.dense_forward(expected, None, b, activation)
    FUSED.dense_forward(Y, A, b, activation)
    FUSED.dense_backward(dA, db, np.empty(5, dtype), Y, A, activation)
    assert_close(Y, expected, dtype)
    assert np.isfinite(dA).all()


def test_bias_gradient_in_float32_keeps_its_digits_over_many_rows():
    """Summed row after row it would be wrong by 1e-5; in blocks it is not."""
    dY = np.random.default_rng(0).normal(1, 1, (8192, 16)).astype(np.float32)
    exact, db = dY.astype(np.float64).sum(axis=0), np.empty(16, np.float32)
    FUSED.dense_backward(dY, db, np.empty(dense.scratch(8192, 16), np.float32), dY, None, "identity")
    assert np.abs(db / exact - 1).max() < 5e-7


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_latent_fused_equals_reference(shape, dtype):
    S, B, L = shape
    rng = np.random.default_rng(0)
    H, eps = rng.normal(size=(B, 2 * L)).astype(dtype), rng.normal(size=(S, B, L)).astype(dtype)
    outputs = [(S, B, L), (B, L), (B,), (L,)]
    check_both(
        "latent_forward", lambda: ([poisoned(*s, dtype=dtype) for s in outputs], (H, eps)), dtype, scale=np.sqrt(B * L)
    )

    sigma = np.exp(0.5 * H[:, L:])
    dZ, weight = rng.normal(size=(S, B, L)).astype(dtype), rng.random(L).astype(dtype)
    check_both(
        "latent_backward", lambda: ([poisoned(B, 2 * L, dtype=dtype)], (dZ, eps, sigma, H, weight)), dtype, scale=S
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("logvar", [-60.0, -20.0, 20.0, 60.0])
def test_latent_at_tiny_and_huge_variances(logvar, dtype):
    H = np.array([[0.3, -2.0, logvar, logvar]], dtype)
    eps = np.array([[[0.5, -1.5]]], dtype)

    def make():
        return [poisoned(*s, dtype=dtype) for s in ((1, 1, 2), (1, 2), (1,), (2,))], (H, eps)

    check_both("latent_forward", make, dtype)


def _importance_case(shape, dtype, spread=3.0):
    """Z, ε, σ and H that belong together, and losses so far apart that a few samples carry the weight."""
    S, B, L = shape
    rng = np.random.default_rng(0)
    H, eps = rng.normal(size=(B, 2 * L)).astype(dtype), rng.normal(size=shape).astype(dtype)
    Z, sigma = np.empty(shape, dtype), np.empty((B, L), dtype)
    REFERENCE.latent_forward(Z, sigma, np.empty(B, dtype), np.empty(L, dtype), H, eps)
    return H, eps, Z, sigma, (spread * rng.normal(size=(S, B))).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (50, 3, 2)], ids=str)
def test_importance_fused_equals_reference(shape, dtype):
    S, B, L = shape
    H, eps, Z, sigma, nll = _importance_case(shape, dtype)
    outputs = [(S, B), (S, B), (B,)]
    check_both(
        "importance_forward",
        lambda: ([poisoned(*s, dtype=dtype) for s in outputs], (nll, Z, eps, H, 0.7)),
        dtype,
        scale=5 * L,
    )
    weight, dZ = np.random.default_rng(1).random((S, B)).astype(dtype), (Z + eps).astype(dtype)
    check_both(
        "importance_backward",
        lambda: ([poisoned(B, 2 * L, dtype=dtype)], (dZ, eps, sigma, Z, weight, 0.7)),
        dtype,
        scale=10 * S,
    )


@pytest.mark.parametrize("ops", [FUSED, REFERENCE], ids=["fused", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_importance_weights_are_exact_where_the_losses_are_thousands(dtype, ops):
    """e^1000 overflows, e^−1000 vanishes: the bound is the largest ln w less ln S, whose sample has all the weight."""
    H, eps, Z, _, _ = _importance_case((3, 2, 1), dtype)
    nll = np.array([[5000, -2000], [1000, 0], [9000, 3000]], dtype)
    log_w, weight, bound = np.empty((3, 2), dtype), np.empty((3, 2), dtype), np.empty(2, dtype)
    ops.importance_forward(log_w, weight, bound, nll, Z, eps, H, 1.0)
    np.testing.assert_array_equal(weight, [[0, 0.5], [0.5, 0], [0, 0]])
    np.testing.assert_allclose(bound, np.array([log_w[1, 0], log_w[0, 1]]) - np.log(3), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_shows_in_the_bound(bad):
    for ops in (FUSED, REFERENCE):
        H, eps, Z, _, nll = _importance_case((3, 2, 1), "float32")
        nll[:, 0] = bad
        bound = np.zeros(2, np.float32)
        with np.errstate(all="ignore"):
            ops.importance_forward(np.empty((3, 2), "f4"), np.empty((3, 2), "f4"), bound, nll, Z, eps, H, 1.0)
        assert not np.isfinite(bound[0])
        assert np.isfinite(bound[1])


def _likelihood_case(shape, dtype, width, size=3.0):
    S, B, D = shape
    rng = np.random.default_rng(1)
    out = (size * rng.normal(size=(S * B, width * D))).astype(dtype)
    X = rng.random((B, D)).astype(dtype)
    return out, X, rng.random((S, B)).astype(dtype)


WEIGHTS = {"scalar": lambda weight: 0.37, "rows": lambda weight: weight}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_bernoulli_fused_equals_reference(kind, shape, dtype):
    logits, X, weight = _likelihood_case(shape, dtype, 1)
    R, D = logits.shape

    def make():
        return [poisoned(R, dtype=dtype), poisoned(R, D, dtype=dtype)], (logits, X, WEIGHTS[kind](weight))

    check_both("bernoulli", make, dtype, scale=D)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_gaussian_fused_equals_reference(kind, shape, dtype):
    out, X, weight = _likelihood_case(shape, dtype, 2)
    R, D = shape[0] * shape[1], shape[2]

    def make():
        outputs = [poisoned(R, dtype=dtype), poisoned(R, 2 * D, dtype=dtype), np.zeros(1, np.int64)]
        return outputs, (out, X, WEIGHTS[kind](weight))

    check_both("gaussian", make, dtype, scale=D * np.exp(10))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_gaussian_fixed_fused_equals_reference(kind, shape, dtype):
    mean, X, weight = _likelihood_case(shape, dtype, 1)
    R, D = mean.shape

    def make():
        return [poisoned(R, dtype=dtype), poisoned(R, D, dtype=dtype)], (mean, X, WEIGHTS[kind](weight), 0.3)

    check_both("gaussian_fixed", make, dtype, scale=100 * D)


def _counter(dtype):
    return np.zeros(1, np.int64)


# op → what it takes for (R, B, D) and a generator: outputs (a shape, or a function of the dtype), the arguments between
# them and the weight, and the size of a row's terms
LIKELIHOODS = {
    "gaussian_shared": lambda R, B, D, rng: (
        [(R,), (R, D), (1,), _counter],
        [rng.normal(size=(R, D)), rng.normal(size=1), rng.normal(size=(B, D))],
        4 * D,
    ),
    "gaussian_optimal": lambda R, B, D, rng: (
        [(R,), (R, D), lambda dtype: np.full(1, np.nan), _counter],
        [rng.normal(size=(R, D)), rng.normal(size=(B, D))],
        4 * D,
    ),
    "laplace": lambda R, B, D, rng: (
        [(R,), (R, 2 * D), _counter],
        [3 * rng.normal(size=(R, 2 * D)), rng.normal(size=(B, D))],
        D * np.exp(5),
    ),
    "continuous_bernoulli": lambda R, B, D, rng: (
        [(R,), (R, D)],
        [rng.choice([1e-6, 0.5, 3.0, 300.0], (R, D)) * rng.normal(size=(R, D)), rng.random((B, D))],
        300 * D,
    ),
    "categorical": lambda R, B, D, rng: (
        [(R,), (R, 6 * D), lambda dtype: np.zeros((2, D), dtype)],
        [rng.choice([1.0, 30.0], (R, 6 * D)) * rng.normal(size=(R, 6 * D)), rng.integers(0, 6, (B, D))],
        30 * D,
    ),
    "poisson": lambda R, B, D, rng: (
        [(R,), (R, D), _counter],
        [rng.normal(size=(R, D)), rng.poisson(3, (B, D))],
        20 * D,
    ),
    "poisson, far": lambda R, B, D, rng: (
        [(R,), (R, D), _counter],
        [12 * rng.normal(size=(R, D)), _counts(rng, (B, D))],
        np.exp(20) * D,
    ),
    "negative_binomial": lambda R, B, D, rng: (
        [(R,), (R, D), (D,), _counter, lambda dtype: np.zeros((5, D))],
        [rng.normal(size=(R, D)), rng.normal(size=D), rng.poisson(3, (B, D))],
        20 * D,
    ),
    "negative_binomial, far": lambda R, B, D, rng: (
        [(R,), (R, D), (D,), _counter, lambda dtype: np.zeros((5, D))],
        [12 * rng.normal(size=(R, D)), 6 * rng.normal(size=D), _counts(rng, (B, D))],
        1e5 * D,
    ),
}
SCRATCH = {"categorical": 2, "negative_binomial": 4}  # op → the output that may hold anything


def _counts(rng, shape):
    """Zeros, a few, some beyond the table of factorials, and huge ones."""
    return rng.poisson(rng.choice([0.1, 5.0, 250.0, 3e5], shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("case", LIKELIHOODS)
def test_likelihood_fused_equals_reference(case, kind, shape, dtype):
    S, B, D = shape
    op, rng = case.partition(",")[0], np.random.default_rng(1)
    outputs, others, scale = LIKELIHOODS[case](S * B, B, D, rng)
    others = [other.astype(dtype) for other in others]
    weight = WEIGHTS[kind](rng.random((S, B)).astype(dtype))

    def make():
        fresh = [out(dtype) if callable(out) else poisoned(*out, dtype=dtype) for out in outputs]
        return fresh, (*others, weight)

    check_both(op, make, dtype, scale=scale, scratch=SCRATCH.get(op))


@pytest.mark.parametrize("ops", [FUSED, REFERENCE], ids=["fused", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_is_exact_at_logits_of_a_thousand(dtype, ops):
    logits = np.array([[-1000, -1000, 1000, 1000, 0]], dtype)
    X = np.array([[0, 1, 0, 1, 0.5]], dtype)
    nll, d = np.empty(1, dtype), np.empty_like(logits)
    ops.bernoulli(nll, d, logits, X, 2.0)
    assert nll[0] == pytest.approx(2000 + np.log(2), rel=1e-6)
    np.testing.assert_array_equal(d, [[0, -2, 2, 0, 0]])


@pytest.mark.parametrize("ops", [FUSED, REFERENCE], ids=["fused", "reference"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_clamps_log_variances_zeroes_their_gradient_and_counts(dtype, ops):
    out = np.array([[0, 0, 0, 0, -1000, -10, 10, 1000]], dtype)
    nll, d, clamped = np.empty(1, dtype), np.empty_like(out), np.array([5])
    ops.gaussian(nll, d, clamped, out, np.zeros((1, 4), dtype), 1.0)
    assert nll[0] == pytest.approx(0.5 * 4 * np.log(2 * np.pi), rel=1e-6)
    np.testing.assert_array_equal(d[0, 4:], [0, 0.5, 0.5, 0])
    assert clamped[0] == 7


@pytest.mark.parametrize("op", [case for case in LIKELIHOODS if "," not in case])
def test_nan_and_infinite_outputs_of_the_decoder_are_not_swallowed(op):
    for bad in (np.nan, np.inf):
        outputs, others, _ = LIKELIHOODS[op](1, 1, 3, np.random.default_rng(0))
        others = [np.asarray(other, np.float32) for other in others]
        others[0][0, 1] = bad
        fresh = [out(np.float32) if callable(out) else np.zeros(out, np.float32) for out in outputs]
        with np.errstate(all="ignore"):
            getattr(FUSED, op)(*fresh, *others, 1.0)
        clamps = op in ("poisson", "negative_binomial") and bad == np.inf
        assert np.isfinite(fresh[0][0]) == clamps


@pytest.mark.parametrize("op, width", [("bernoulli", 1), ("gaussian", 2), ("gaussian_fixed", 1)])
def test_nan_and_infinite_outputs_are_not_swallowed(op, width):
    for bad in (np.nan, np.inf):
        out = np.full((1, 3 * width), bad, np.float32)
        nll, d, X = np.zeros(1, np.float32), np.zeros_like(out), np.full((1, 3), 0.5, np.float32)
        counter = [np.zeros(1, np.int64)] if op == "gaussian" else []
        getattr(FUSED, op)(nll, d, *counter, out, X, 1.0, *([1.0] if op == "gaussian_fixed" else []))
        assert not np.isfinite(nll[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_clip_norm_fused_equals_reference(norm, dtype):
    G = np.random.default_rng(0).normal(size=1009).astype(dtype)
    check_both("clip_norm", lambda: ([G.copy(), np.full(1, np.nan)], (norm,)), dtype, scale=np.linalg.norm(G))


def test_every_op_is_listed_with_both_kinds():
    assert len(set(kernels.op_names())) == len(kernels.op_names())
    for op in kernels.op_names():
        assert callable(getattr(FUSED, op))
        assert callable(getattr(REFERENCE, op))
