"""Every op: fused = reference, on awkward shapes and in the regimes its branches exist for; outputs written whole.

Awkward shapes: one row, one column, prime widths, more rows than a block of the bias sum, S > 1.
"""

import numpy as np
import ops
import pytest
from ops import DTYPES
from tolerances import assert_close

from minivae import kernels
from minivae.kernels import dense

FUSED = kernels.load("numpy", "fused", np)
REFERENCE = kernels.load("numpy", "reference", np)
SHAPES = [(1, 1, 1), (1, 1, 7), (1, 131, 13), (3, 1, 5), (50, 3, 2), (3, 17, 31), (1, 200, 784)]  # S, B, D


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases())
def test_fused_equals_reference(op, case, dtype):
    for shape in SHAPES:
        arguments = ops.example(op, case, dtype, shape)
        mine = ops.after(getattr(FUSED, op), arguments)
        ops.assert_same(op, arguments, mine, ops.by_reference(op, arguments), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases(*ops.FORWARD_ONLY))
def test_without_gradients_the_same_loss_is_written_and_nothing_else(op, case, dtype):
    for shape in [(1, 1, 7), (3, 17, 31)]:
        whole = ops.example(op, case, dtype, shape)
        arguments, expected = ops.forward_only(op, whole), ops.by_reference(op, whole)[0]
        for kind in (FUSED, REFERENCE):
            mine = ops.after(getattr(kind, op), arguments)
            assert_close(mine[0], expected, dtype, ops.OPS[op].scale(*whole))
            ops.assert_only_the_first_was_written(op, arguments, mine)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", dense.ACTIVATIONS)
def test_dense_is_finite_at_large_inputs(activation, dtype):
    Y = np.array([[-1000, -30, 0, 30, 1000]], dtype)
    A = np.empty_like(Y) if activation in dense.KEEPS_A else None
    dA, b = np.ones_like(Y), np.zeros(5, dtype)
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
@pytest.mark.parametrize("logvar", [-60.0, -20.0, 20.0, 60.0])
def test_latent_at_tiny_and_huge_variances(logvar, dtype):
    arguments = ops.example("latent_forward", "", dtype, (1, 1, 2))
    arguments[ops.index("latent_forward", "H")][:, 2:] = logvar
    mine = ops.after(FUSED.latent_forward, arguments)
    ops.assert_same("latent_forward", arguments, mine, ops.by_reference("latent_forward", arguments), dtype)


KINDS = pytest.mark.parametrize("kind", [FUSED, REFERENCE], ids=["fused", "reference"])


@KINDS
@pytest.mark.parametrize("dtype", DTYPES)
def test_importance_weights_are_exact_where_the_losses_are_thousands(dtype, kind):
    """e^1000 overflows, e^−1000 vanishes: the bound is the largest ln w less ln S, whose sample has all the weight."""
    arguments = ops.example("importance_forward", "", dtype, (3, 2, 1))
    arguments[ops.index("importance_forward", "nll")][...] = [[5000, -2000], [1000, 0], [9000, 3000]]
    log_w, weight, bound = ops.after(kind.importance_forward, arguments)[:3]
    np.testing.assert_array_equal(weight, [[0, 0.5], [0.5, 0], [0, 0]])
    np.testing.assert_allclose(bound, np.array([log_w[1, 0], log_w[0, 1]]) - np.log(3), rtol=1e-6)


@KINDS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_shows_in_the_bound(bad, kind):
    arguments = ops.example("importance_forward", "", "float32", (3, 2, 1))
    arguments[ops.index("importance_forward", "nll")][:, 0] = bad
    bound = ops.after(kind.importance_forward, arguments)[2]
    assert np.isfinite(bound).tolist() == [False, True]


@KINDS
@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_is_exact_at_logits_of_a_thousand(dtype, kind):
    logits = np.array([[-1000, -1000, 1000, 1000, 0]], dtype)
    X = np.array([[0, 1, 0, 1, 0.5]], dtype)
    nll, d = np.empty(1, dtype), np.empty_like(logits)
    kind.bernoulli(nll, d, logits, X, 2.0)
    assert nll[0] == pytest.approx(2000 + np.log(2), rel=1e-6)
    np.testing.assert_array_equal(d, [[0, -2, 2, 0, 0]])


@KINDS
@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_clamps_log_variances_zeroes_their_gradient_and_counts(dtype, kind):
    out = np.array([[0, 0, 0, 0, -1000, -10, 10, 1000]], dtype)
    nll, d, clamped = np.empty(1, dtype), np.empty_like(out), np.array([5])
    kind.gaussian(nll, d, clamped, out, np.zeros((1, 4), dtype), 1.0)
    assert nll[0] == pytest.approx(0.5 * 4 * np.log(2 * np.pi), rel=1e-6)
    np.testing.assert_array_equal(d[0, 4:], [0, 0.5, 0.5, 0])
    assert clamped[0] == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("op", ops.LIKELIHOODS)
def test_nan_and_infinite_outputs_of_the_decoder_are_not_swallowed(op, bad):
    arguments = ops.example(op, "one weight", "float32", (1, 1, 3))
    decoded = arguments[1].shape  # d_out's
    out = next(x for x in arguments[2:] if getattr(x, "shape", None) == decoded and not np.isnan(x).any())
    out[0, 1] = bad
    nll = ops.after(getattr(FUSED, op), arguments)[0]
    clamps = op in ("poisson", "negative_binomial") and bad == np.inf
    assert np.isfinite(nll[0]) == clamps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases(*ops.OPTIMISERS))
def test_small_moments_become_zero(op, case, dtype):
    arguments = ops.example(op, case, dtype, (1, 1, 1009))
    mine, expected = ops.after(getattr(FUSED, op), arguments), ops.by_reference(op, arguments)
    for i in ops.OPS[op].written:
        if arguments[i] is not None:
            np.testing.assert_array_equal(mine[i] == 0, expected[i] == 0)


def test_every_op_is_listed_with_all_its_kinds():
    assert len(set(kernels.op_names())) == len(kernels.op_names())
    for name, op in kernels.ops().items():
        assert callable(op.reference) and callable(op.fused) and callable(op.cuda), name
        assert set(op.outputs + op.updated + op.scratch + op.double) <= set(op.names), name
        assert op.written, name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases())
def test_the_roles_of_arguments_are_as_declared(op, case, dtype):
    """What is only written starts as NaN, so that reading it would show; what is float64 always is said to be."""
    record, arguments = ops.OPS[op], ops.example(op, case, dtype, (2, 3, 5))
    assert len(arguments) == len(record.names)
    for argument, x in zip(record.names, arguments, strict=True):
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            continue
        assert np.isnan(x).all() == (argument in record.outputs + record.scratch), argument
        if op != "gather":
            assert (x.dtype == "float64") == (argument in record.double or dtype == "float64"), argument
    assert record.bytes(*arguments) > 0
