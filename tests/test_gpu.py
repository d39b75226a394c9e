"""Every op on a GPU against its reference, in both dtypes: `scripts/gpu_check.sh correct` runs it first.

Outputs agree within the tolerances of the CPU's kernels, two runs give the same bits, and inputs are left alone.
"""

import os
from importlib import import_module

import numpy as np
import ops
import pytest
from ops import DTYPES
from test_cuda_kernels import CUDA, DIMS, REFERENCE, SHAPES, WHERE
from tolerances import NORMAL_ULPS

pytestmark = pytest.mark.gpu

SMOKE = bool(os.environ.get("GPU_SMOKE"))  # the stand-in's device is slow
LARGE = [(1, 128, 784), (2, 701, 129), (1, 5003, 784), (1, 3, 20011), (1, 1, 2**20 + 3)]
if SMOKE:
    SHAPES, LARGE = [(2, 53, 13)], []


@pytest.fixture
def cupy():
    return import_module("cupy")


def run(cupy, op, arguments, shift=0):
    """The arguments after the CUDA kernel ran on copies of them, `shift` elements behind an aligned place."""
    given = []
    for x in arguments:
        if isinstance(x, np.ndarray):
            flat = cupy.empty(x.size + shift, x.dtype)
            flat[shift:] = cupy.asarray(x.ravel())
            x = flat[shift:].reshape(x.shape)
        given.append(x)
    getattr(CUDA, op)(*given)
    return [cupy.asnumpy(x) if isinstance(x, cupy.ndarray) else x for x in given]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases())
def test_an_op_equals_its_reference_and_itself(cupy, op, case, dtype):
    """And two runs have the same bits."""
    for shape in SHAPES + LARGE:
        arguments = ops.example(op, case, dtype, shape)
        expected = ops.by_reference(op, arguments)
        for shift in (0, 1):
            mine, again = run(cupy, op, arguments, shift), run(cupy, op, arguments, shift)
            ops.assert_same(op, arguments, mine, expected, dtype)
            for i in ops.OPS[op].written:
                np.testing.assert_array_equal(mine[i], again[i])


@pytest.mark.parametrize("D", DIMS)
@pytest.mark.parametrize("op, dtype", [("bits", "uint32"), *((op, t) for op in ("uniform", "normal") for t in DTYPES)])
def test_noise_is_that_of_the_reference(cupy, op, dtype, D):
    expected = np.empty((3, 5, D), dtype)
    getattr(REFERENCE, op)(expected, *WHERE)
    allowed = NORMAL_ULPS[dtype] * np.spacing(np.abs(expected)) if op == "normal" else 0
    for shift in (0, 1):
        mine = run(cupy, op, [np.zeros((3, 5, D), dtype), *WHERE], shift)[0]
        assert (np.abs(mine.astype(np.float64) - expected) <= allowed).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_binarisation_is_the_reference_s_to_the_bit(cupy, dtype):
    X = np.random.default_rng(0).random((5, 97)).astype(dtype)
    expected = X.copy()
    REFERENCE.binarize(expected, *WHERE)
    np.testing.assert_array_equal(run(cupy, "binarize", [X, *WHERE])[0], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bernoulli_is_exact_at_logits_of_a_thousand(cupy, dtype):
    """1/1 is 1 by the card's own reciprocal too."""
    logits, targets = np.array([[-1000, -1000, 1000, 1000, 0]], dtype), np.array([[0, 1, 0, 1, 0.5]], dtype)
    nll, d = run(cupy, "bernoulli", [np.zeros(1, dtype), np.empty_like(logits), logits, targets, 2.0])[:2]
    assert nll[0] == pytest.approx(2000 + np.log(2), rel=1e-6)
    np.testing.assert_array_equal(d, [[0, -2, 2, 0, 0]])


def test_parity_of_every_call_that_the_engine_makes(monkeypatch):
    from minivae.gradcheck.ours import parity

    if SMOKE:  # one of each op: test_cuda_kernels.py has all of them there
        some = {call.op: call for call in parity.record()}.values()
        monkeypatch.setattr(parity, "record", lambda: some)
    rows = parity.run(("cupy",)).rows
    assert [(row.op, row.kernels, row.dtype, row.ulps) for row in rows if row.verdict != "ok"] == []
