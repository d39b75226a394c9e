"""Training on a GPU: captured steps against uncaptured ones and the CPU, `scripts/gpu_check.sh correct` runs it second.

Also that two runs have the same bits, that no step synchronises, and that nothing is allocated in steady state.
"""

import os
import warnings
from importlib import import_module

import numpy as np
import pytest
from tolerances import LOSSES, assert_sums

import minivae as mv
from minivae.backend import Backend
from minivae.errors import UsageError
from minivae.training.loop import Training
from minivae.training.options import Options

pytestmark = pytest.mark.gpu

SMOKE = bool(os.environ.get("GPU_SMOKE"))  # the stand-in's device is slow
DTYPES = ["float32"] if SMOKE else ["float32", "float64"]


@pytest.fixture
def cupy():
    return import_module("cupy")


X = (np.random.default_rng(0).random((200 if SMOKE else 1000, 64)) < 0.3).astype(np.float64)
FIVES = {"latent_dim": 8, "hidden": (20, 10) if SMOKE else (100, 50), "activation": "relu", "seed": 3}


def losses(backend, dtype, likelihood, steps):
    vae = mv.VAE(64, likelihood=likelihood, backend=backend, dtype=dtype, **FIVES)
    data, optimizer = X[:128].astype(dtype), mv.Adam(1e-3)
    if backend == "cupy":
        data = vae.backend.asarray(data)
    return np.array([vae.train_step(data, optimizer, clip=5.0).loss for _ in range(5 if SMOKE else steps)])


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


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian:0.5"])
@pytest.mark.parametrize("dtype, steps", LOSSES)
def test_training_equals_the_cpu_s(dtype, steps, likelihood):
    on_gpu, on_cpu = (losses(name, dtype, likelihood, steps) for name in ("cupy", "numpy"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=LOSSES[dtype, steps] * np.finfo(dtype).eps)


def test_an_encoder_that_sees_a_transform_trains_as_on_the_cpu():
    """Captured or not."""
    needs_capture()
    counts, found = np.random.default_rng(1).poisson(2.0, (200, 12)), []
    for backend, capture in (("cupy", True), ("cupy", False), ("numpy", False)):
        vae = mv.VAE(12, 2, (5,), likelihood="poisson", inputs="log1p", backend=backend, dtype="float64", seed=3)
        vae.backend.capture = capture
        found.append(vae.fit(counts, epochs=2, batch_size=60, progress=False)["loss"])
    assert found[0] == found[1]
    assert_sums(found[0], found[2], of="training")


@pytest.mark.parametrize("capture", [False, True])
def test_two_runs_have_the_same_bits(capture):
    if capture:
        needs_capture()
    np.testing.assert_array_equal(fit(capture, binarize="dynamic")[0], fit(capture, binarize="dynamic")[0])


def test_ten_thousand_replays():
    needs_capture()
    captured, uncaptured = (fit(capture, epochs=3 if SMOKE else 1000, batch_size=100) for capture in (True, False))
    np.testing.assert_array_equal(captured[0], uncaptured[0])


def test_no_step_synchronises(cupy):
    cupyx = import_module("cupyx")
    vae, optimizer = mv.VAE(64, backend="cupy", **FIVES), mv.Adam()
    data, rows = cupy.asarray(X.astype(np.float32)), cupy.arange(len(X))
    vae.train_step(data, optimizer, rows=rows, clip=1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with cupyx.allow_synchronize(False):
            for _ in range(3 if SMOKE else 20):
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
    order, plan = cupy.arange(len(X)), [(1e-3, 1.0)] * (len(X) // 100)
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
