"""gather, log_sum_exp and advance, of both kinds, against NumPy's own indexing, SciPy, and values by hand."""

import numpy as np
import pytest
from scipy.special import logsumexp
from tolerances import assert_sums

from minivae import kernels

KINDS = {kind: kernels.load("numpy", kind, np) for kind in ("fused", "reference")}


@pytest.fixture(params=KINDS)
def ops(request):
    return KINDS[request.param]


@pytest.mark.parametrize("source", ["uint8", "float32", "float64", "int64"])
def test_gather_takes_the_rows_and_converts(ops, source):
    X, rows = np.arange(35).reshape(7, 5).astype(source), np.array([6, 0, 0, 3])
    out = np.full((4, 5), np.nan, np.float32)
    ops.gather(out, X, rows)
    np.testing.assert_array_equal(out, X[rows])
    numbers = np.zeros(4, np.int64)
    ops.gather(numbers, np.arange(7) + 2**40, rows)
    np.testing.assert_array_equal(numbers, rows + 2**40)


@pytest.mark.parametrize("scale", [1.0, 400.0])
def test_log_sum_exp_over_tiles_is_scipy_s_over_all(ops, scale):
    log_w = scale * np.random.default_rng(0).normal(size=(30, 5))
    largest, total, squares = np.full(5, -np.inf), np.zeros(5), np.zeros(5)
    for tile in (log_w[:1], log_w[1:20], log_w[20:]):
        ops.log_sum_exp(largest, total, squares, tile)
    assert_sums(largest + np.log(total), logsumexp(log_w, axis=0), of="sums")
    assert_sums(2 * largest + np.log(squares), logsumexp(2 * log_w, axis=0), of="sums")


def test_advance_hands_out_numbers_and_rows_and_moves_on(ops):
    table, order = np.arange(12.0).reshape(4, 3), np.array([5, 3, 8, 1, 9, 0])
    now, index, cursor = np.zeros(3), np.zeros(2, np.int64), np.array([1, 2])
    ops.advance(now, index, cursor, table, order)
    assert (now.tolist(), index.tolist(), cursor.tolist()) == ([3, 4, 5], [8, 1], [2, 4])
    ops.advance(now, index, cursor, table, order)
    assert (now.tolist(), index.tolist(), cursor.tolist()) == ([6, 7, 8], [9, 0], [3, 6])
