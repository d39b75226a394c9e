"""What only a GPU can show: `pytest -m gpu --require-gpu tests/test_gpu.py`, or scripts/gpu_check.sh correct.

Parity of every op and of training with the CPU, captured steps equal to uncaptured ones, gradients, bit-for-bit
repeatability, no synchronisation inside a step, no allocation in steady state.
"""

import warnings
from importlib import import_module

import numpy as np
import ops
import pytest
from ops import DTYPES
from test_cuda_kernels import CUDA, DIMS, REFERENCE, SHAPES, WHERE
from tolerances import NORMAL_ULPS

import minivae as mv
from minivae.backend import Backend
from minivae.errors import UsageError
from minivae.training.loop import Training
from minivae.training.options import Options

pytestmark = pytest.mark.gpu

LARGE = [(1, 128, 784), (2, 701, 129), (1, 5003, 784), (1, 3, 20011), (1, 1, 2**20 + 3)]


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


def test_parity_of_every_call_that_the_engine_makes():
    from minivae.gradcheck.ours import parity

    rows = parity.run(("cupy",)).rows
    assert [(row.op, row.kernels, row.dtype, row.ulps) for row in rows if row.verdict != "ok"] == []


@pytest.mark.parametrize("kernels", ["reference", "fused"])
def test_gradients_on_the_device_are_right(kernels):
    from minivae.gradcheck.compare import examine
    from minivae.gradcheck.ours import targets
    from minivae.gradcheck.problem import Settings

    for target in targets.walk():
        result = examine(targets.build(target, kernels, 0, "cupy"), Settings(max_entries=0, directions=2))
        assert result.ok, (target.name, result.hints)


# ---- training -------------------------------------------------------------------------------------------------------

X = (np.random.default_rng(0).random((1000, 64)) < 0.3).astype(np.float64)
FIVES = {"latent_dim": 8, "hidden": (100, 50), "activation": "relu", "seed": 3}


def losses(backend, dtype, likelihood, steps):
    vae = mv.VAE(64, likelihood=likelihood, backend=backend, dtype=dtype, **FIVES)
    data, optimizer = X[:128].astype(dtype), mv.Adam(1e-3)
    if backend == "cupy":
        data = vae.backend.asarray(data)
    return np.array([vae.train_step(data, optimizer, clip=5.0).loss for _ in range(steps)])


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian:0.5"])
@pytest.mark.parametrize("dtype, steps, rtol", [("float64", 100, 1e-10), ("float32", 10, 1e-6), ("float32", 100, 1e-3)])
def test_training_equals_the_cpu_s(dtype, steps, rtol, likelihood):
    on_gpu, on_cpu = (losses(name, dtype, likelihood, steps) for name in ("cupy", "numpy"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=rtol)


def fit(capture, dtype="float32", optimizer=mv.AdamW, **options):
    vae = mv.VAE(64, backend="cupy", dtype=dtype, **FIVES)
    vae.backend.capture = vae.backend.capture and capture
    options = {"epochs": 4, "batch_size": 96, "schedule": "warmup:1+cosine", "beta": mv.Beta(1, warmup=2)} | options
    history = vae.fit(X, optimizer=optimizer(0.003), progress=False, **options)
    return vae.backend.to_host(vae.buffer.data), history


def needs_capture():
    backend = Backend("cupy")
    if not backend.capture:
        pytest.skip(backend.gemm.about)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("optimizer", [mv.AdamW, mv.SGD, mv.RMSprop, mv.Adagrad])
def test_captured_steps_equal_uncaptured_ones_to_the_bit(optimizer, dtype):
    """Through warm-up and schedule, clipping, free bits, binarisation, a short last batch, a larger validation."""
    needs_capture()
    more = {"clip": 1.0, "free_bits": 0.02, "binarize": "dynamic", "validation": X[:300]}
    captured, uncaptured = (fit(capture, dtype, optimizer, **more) for capture in (True, False))
    np.testing.assert_array_equal(captured[0], uncaptured[0])
    for column in ("loss", "nll", "kl", "val_elbo", "lr", "beta"):
        assert captured[1][column] == uncaptured[1][column]


@pytest.mark.parametrize("capture", [False, True])
def test_two_runs_have_the_same_bits(capture):
    if capture:
        needs_capture()
    np.testing.assert_array_equal(fit(capture, binarize="dynamic")[0], fit(capture, binarize="dynamic")[0])


def test_ten_thousand_replays():
    needs_capture()
    captured, uncaptured = (fit(capture, epochs=1000, batch_size=100) for capture in (True, False))
    np.testing.assert_array_equal(captured[0], uncaptured[0])


def test_no_step_synchronises(cupy):
    cupyx = import_module("cupyx")
    vae, optimizer = mv.VAE(64, backend="cupy", **FIVES), mv.Adam()
    data, rows = cupy.asarray(X.astype(np.float32)), cupy.arange(1000)
    vae.train_step(data, optimizer, rows=rows, clip=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with cupyx.allow_synchronize(False):
            for _ in range(20):
                terms = vae.train_step(data, optimizer, rows=rows, clip=1.0)
                terms.sums()
            with pytest.raises(cupyx.DeviceSynchronized):  # what one that did would have raised
                _ = terms.loss


@pytest.mark.parametrize("capture", [False, True])
def test_nothing_is_allocated_in_steady_state(cupy, capture):
    """No step asks the driver for memory; captured steps do not even ask CuPy's pool."""
    asked = {"driver": 0, "pool": 0}

    class Count(cupy.cuda.MemoryHook):
        name = "count"

        def alloc_preprocess(self, **_):
            asked["driver"] += 1

        def malloc_preprocess(self, **_):
            asked["pool"] += 1

    vae = mv.VAE(64, backend="cupy", **FIVES)
    if capture:
        needs_capture()
    vae.backend.capture = vae.backend.capture and capture
    training = Training(vae, X, Options(batch_size=100, binarize="dynamic", clip=1.0))
    order, plan = cupy.arange(1000), [(1e-3, 1.0)] * 10
    for _ in range(3):
        training._steps(order, plan, 1)
    with Count():
        for _ in range(10):
            training._steps(order, plan, 2)
    assert asked["driver"] == 0
    assert not capture or asked["pool"] <= 10 * 3  # the table and the cursor of each chunk of ten steps


def test_a_batch_that_does_not_fit_says_what_to_do(cupy):
    _, total = cupy.cuda.runtime.memGetInfo()
    with pytest.raises(UsageError, match=r"no room for .* MiB more .*--batch-size"):
        Backend("cupy").empty((total,))


def test_tf32_is_off_unless_asked_for():
    """A product whose factors need more than 10 bits: exact to float32 without TF32, and coarser with it."""
    A = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    exact = A.astype(np.float64) @ A.astype(np.float64)
    errors = {}
    for tf32 in (False, True):
        backend = Backend("cupy", tf32=tf32)
        out = backend.empty((512, 512))
        backend.gemm(out, *(backend.asarray(A) for _ in "AB"))
        errors[tf32] = np.abs(backend.to_host(out) - exact).max() / np.abs(exact).max()
    assert errors[False] < 2e-6
    assert errors[True] > 1e-5 or not _has_tf32()


def _has_tf32():
    return int(import_module("cupy").cuda.Device().compute_capability) >= 80
