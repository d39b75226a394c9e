"""Every CUDA kernel, compiled for the host and run through its launcher, equals its reference.

On awkward shapes: one row, prime widths, rows by the warp and by the block, more of both than the small device of the
stand-in holds, pointers off by one element. Outputs start poisoned, inputs must stay as they were, and running threads
and blocks backwards must change no bit: what depends on an order that CUDA does not promise shows.
"""

import warnings
from dataclasses import replace

import hostcuda
import numpy as np
import ops
import pytest
import standin
from ops import DTYPES
from tolerances import NORMAL_ULPS

from minivae import kernels
from minivae.kernels.dense import ACTIVATIONS, KEEPS_A

pytestmark = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")

REFERENCE = kernels.load("numpy", "reference", np)
CUDA = kernels.load("cupy", "fused", None)
SHAPES = [(1, 1, 1), (1, 1, 7), (2, 53, 13), (1, 1, 1031), (3, 3, 257), (1, 7, 1024), (1, 101, 136), (3, 20, 8)]
LONG = [(1, 1, 24577)]  # for ops on flat arrays: more elements than the device's 6 blocks hold at once


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


def check(op, arguments, dtype):
    """CUDA = reference, for aligned and misaligned arrays, to the same bits forwards and backwards."""
    expected = ops.by_reference(op, arguments)
    for shift in (0, 1):
        mine = run(op, arguments, shift)
        ops.assert_same(op, arguments, mine, expected, dtype)
        again = run(op, arguments, shift, backwards=True)
        for i in ops.OPS[op].written:
            np.testing.assert_array_equal(mine[i], again[i])
        if op in ops.OPTIMISERS:
            for i in ops.OPS[op].written:
                np.testing.assert_array_equal(mine[i] == 0, expected[i] == 0)  # flushed, not only small


def poisoned(*shape, dtype):
    return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases())
def test_an_op_equals_its_reference(op, case, dtype):
    for shape in SHAPES + (LONG if op in (*ops.OPTIMISERS, "clip_norm") else []):
        check(op, ops.example(op, case, dtype, shape), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases(*ops.FORWARD_ONLY))
def test_without_gradients_the_same_loss_is_written_and_nothing_else(op, case, dtype):
    for shape in [(2, 53, 13), (3, 20, 8)]:
        whole = ops.example(op, case, dtype, shape)
        arguments = ops.forward_only(op, whole)
        for shift in (0, 1):
            mine = run(op, arguments, shift)
            np.testing.assert_array_equal(mine[0], run(op, whole, shift)[0])
            ops.assert_only_the_first_was_written(op, arguments, mine)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("H", [1, 13, 136, 520])
def test_bias_gradient_in_parts_equals_the_reference(H, dtype):
    """More rows than a part: their sums go through `partial`, and db keeps its digits."""
    arguments = ops.example("dense_backward", "relu", dtype, (1, 1103, H))
    dY, Y = arguments[0], arguments[3]
    dY += 1
    check("dense_backward", arguments, dtype)
    hostcuda.launches.clear()
    db = run("dense_backward", arguments)[1]
    assert hostcuda.launches == ["dense_backward", "dense_add_partial"]
    exact = np.where(Y > 0, dY.astype(np.float64), 0).sum(axis=0)
    assert np.abs(db / exact - 1).max() < (5e-7 if dtype == "float32" else 5e-15)


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
    """Uniforms to the bit, normals within a few ulp."""
    expected = np.empty((3, 5, D), dtype)
    getattr(REFERENCE, op)(expected, *WHERE)
    for shift in (0, 1):
        mine = run(op, [poisoned(3, 5, D, dtype=dtype), *WHERE], shift)[0]
        allowed = NORMAL_ULPS[dtype] * np.spacing(np.abs(expected)) if op == "normal" else 0
        assert (np.abs(mine - expected) <= allowed).all()


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


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("op", ops.LIKELIHOODS)
def test_nan_and_infinite_outputs_of_every_likelihood_reach_its_loss(op, bad):
    arguments = ops.example(op, "one weight", "float32", (1, 2, 3))
    decoded = next(x for x in arguments[2:] if x.shape == arguments[1].shape)
    decoded[0, 0] = bad
    expected = ops.by_reference(op, arguments)
    np.testing.assert_array_equal(np.isfinite(run(op, arguments)[0]), np.isfinite(expected[0]))


@pytest.mark.parametrize("op", ["importance_forward", "importance_backward"])
def test_the_weight_of_the_prior_may_stand_in_device_memory(op):
    """A captured graph changes β between steps: the kernel reads it when it runs."""
    *arguments, beta = ops.example(op, "", "float32", (3, 5, 7))
    for mine, right in zip(run(op, [*arguments, np.array(beta)]), run(op, [*arguments, beta]), strict=True):
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
    "op, case, changing",
    [
        ("sgd", "plain", ["lr"]),
        ("adagrad", "", ["lr"]),
        ("rmsprop", "plain", ["lr"]),
        ("adam", "AdamW", ["lr", "decay", "correction1", "correction2"]),
        ("clip_norm", "clips", ["max_norm"]),
    ],
)
def test_a_number_in_device_memory_is_the_same_as_the_number(op, case, changing):
    """What a captured graph advances."""
    arguments = ops.example(op, case, "float32", (1, 1, 1009))
    expected = run(op, arguments)
    for name in changing:
        arguments[ops.index(op, name)] = np.array([arguments[ops.index(op, name)]])
    mine = run(op, arguments)
    for i in ops.OPS[op].written:
        np.testing.assert_array_equal(mine[i], expected[i])


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


@pytest.mark.parametrize("weight, error", [(np.ones(6), TypeError), (np.ones((3, 4), np.float32)[:, ::2], ValueError)])
def test_row_weights_that_the_kernel_would_misread_are_refused(weight, error):
    nll, d, logits, X, _ = (on_device(x, 0) for x in ops.example("bernoulli", "row weights", "float32", (3, 2, 5)))
    with pytest.raises(error, match=r"float32 was given an array of float64|not C-contiguous"):
        CUDA.bernoulli(nll, d, logits, X, standin.DeviceArray(weight))


def test_an_array_that_is_not_contiguous_is_refused():
    x = standin.DeviceArray(np.zeros((4, 6))[:, ::2])
    with pytest.raises(ValueError, match="not C-contiguous"):
        CUDA.dense_forward(x, None, standin.DeviceArray(np.zeros(3)), "relu")


def test_an_op_without_a_cuda_kernel_runs_its_reference_and_says_so_once(monkeypatch):
    from minivae.kernels import bernoulli

    monkeypatch.setitem(bernoulli.OPS, "bernoulli", replace(bernoulli.OPS["bernoulli"], cuda=None))
    arguments = ops.example("bernoulli", "row weights", "float64", (2, 3, 5))
    instead = kernels.load("cupy", "fused", np).bernoulli
    with pytest.warns(UserWarning, match="the op 'bernoulli' has no CUDA kernel: its reference runs instead"):
        mine = ops.after(instead, arguments)
    ops.assert_same("bernoulli", arguments, mine, ops.by_reference("bernoulli", arguments), "float64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ops.after(instead, arguments)


# ---- the engine's own calls ---------------------------------------------------------------------------------------


def test_parity_of_every_call_that_the_engine_makes():
    from minivae.gradcheck.ours import parity

    rows = [row for row in parity.run(("cupy",)).rows if row.kernels == "fused"]
    assert [(row.op, row.dtype, row.ulps) for row in rows if row.verdict != "ok"] == []
    assert {row.op for row in rows} == set(kernels.op_names())


MASKED = [f"likelihoods.{name}.missing" for name in ("gaussian", "gaussian:optimal", "categorical:9", "poisson")]


@pytest.mark.parametrize(
    "name", ["ops.dense.silu", "ops.latent", "latent.free_bits", "likelihoods.gaussian.rows", *MASKED]
)
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
