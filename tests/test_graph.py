"""Captured training steps, on the stand-in: a graph replays what was launched, with every scalar that was baked in.

Equal bits, captured or not, over warm-ups and schedules, show that nothing that changes between steps was baked in. And
cuBLASLt is driven through a stand-in of its bindings, which counts by columns as the real one does.
"""

import hostcuda
import numpy as np
import pytest
import standin
from tolerances import assert_sums

import minivae as mv
from minivae.backend import Backend
from minivae.training import state
from minivae.training.cuda_graph import Graphs
from minivae.training.loop import Training
from minivae.training.options import Options

needs_compiler = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")


@pytest.fixture
def device(monkeypatch):
    return standin.install(monkeypatch, nvmath=True)


@pytest.fixture
def without_nvmath(monkeypatch):
    return standin.install(monkeypatch)


# ---- products -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["AB", "AᵀB", "ABᵀ", "AᵀBᵀ"])
@pytest.mark.parametrize("m, k, n", [(1, 1, 1), (1, 7, 5), (5, 1, 7), (7, 5, 1), (16, 31, 8)])
def test_products_are_those_of_numpy(device, m, k, n, kind, dtype):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    on_device = [
        device.asarray(np.ascontiguousarray(X.T)).T if transposed else device.asarray(X)
        for X, transposed in ((A, "Aᵀ" in kind), (B, "Bᵀ" in kind))
    ]
    backend, out = Backend("cupy", "reference", dtype), device.empty((m, n), dtype)
    for _ in range(2):
        backend.gemm(out, *on_device)
    assert_sums(out._value, A @ B, summed=np.abs(A) @ np.abs(B), dtype=dtype)
    assert len(backend.gemm.plans) == 1


def test_a_product_of_strided_arrays_is_refused(device):
    A = standin.DeviceArray(np.ones((6, 8))[::2, ::2])
    with pytest.raises(ValueError, match="neither C-contiguous nor the transpose"):
        Backend("cupy", "reference", "float64").gemm(device.empty((3, 3)), A, device.asarray(np.ones((4, 3))))


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_used_only_when_asked_for(device, tf32):
    backend = Backend("cupy", "reference", tf32=tf32)
    backend.gemm(device.empty((1, 1), np.float32), *(device.asarray(np.ones((1, 1), np.float32)) for _ in "AB"))
    (operation, *_), *_ = backend.gemm.plans.values()
    assert backend.gemm.lt.objects[operation]["compute"] == (77 if tf32 else 68)


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_of_cupy_s_own_products_is_set_every_time(without_nvmath, tf32):
    asked = []
    without_nvmath._core._routines_linalg.set_compute_type = lambda dtype, kind: asked.append(kind)
    backend = Backend("cupy", "reference", tf32=tf32)
    backend.gemm(without_nvmath.empty((1, 1)), *(without_nvmath.asarray(np.ones((1, 1))) for _ in "AB"))
    assert asked == [3 if tf32 else 4]


# ---- captured training ----------------------------------------------------------------------------------------------

X = (np.random.default_rng(0).random((50, 8)) < 0.4).astype(float)
OPTIMIZERS = {
    "adamw": lambda: mv.AdamW(0.01),
    "sgd": lambda: mv.SGD(0.05, momentum=0.9),
    "rmsprop": lambda: mv.RMSprop(0.01),
    "adagrad": lambda: mv.Adagrad(0.05),
}


def fit(capture, optimizer="adamw", likelihood="bernoulli", backend="cupy", dtype="float64", samples=1, **options):
    """A short training with all that changes between steps; the model and its history."""
    vae = mv.VAE(8, 3, (6, 5), "silu", likelihood, samples=samples, backend=backend, dtype=dtype, seed=4)
    vae.backend.capture = vae.backend.capture and capture
    options = {"epochs": 3, "batch_size": 12, "beta": mv.Beta(0.7, warmup=2), "schedule": "warmup:1+cosine"} | options
    history = vae.fit(X.astype(dtype), optimizer=OPTIMIZERS[optimizer](), progress=False, **options)
    return vae, history


def assert_equal_runs(first, second):
    (one, its), (other, others) = first, second
    np.testing.assert_array_equal(one.backend.to_host(one.buffer.data), other.backend.to_host(other.buffer.data))
    for column in ("loss", "nll", "kl", "beta", "lr", "bound"):
        assert its[column] == others[column]


@needs_compiler
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_captured_steps_equal_uncaptured_ones_to_the_bit(device, optimizer, monkeypatch):
    monkeypatch.setitem(state.LOOK_EVERY, "cupy", 3)  # chunks that do not divide the five steps of an epoch
    more = {"clip": 1.0, "free_bits": 0.05, "binarize": "dynamic"}
    before = standin.Graph.launches
    captured = fit(True, optimizer, **more)
    assert standin.Graph.launches - before == 15 - 2  # all but the first of each of the two sizes
    assert_equal_runs(captured, fit(False, optimizer, **more))
    assert standin.Graph.launches - before == 15 - 2


@needs_compiler
@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian:0.5"])
def test_captured_steps_of_other_likelihoods_and_float32(device, likelihood):
    more = {"likelihood": likelihood, "dtype": "float32", "samples": 2}
    captured, uncaptured = fit(True, **more), fit(False, **more)
    assert_equal_runs(captured, uncaptured)
    assert captured[1]["clamped"] == uncaptured[1]["clamped"]


@needs_compiler
def test_captured_training_equals_numpys(device):
    captured = fit(True, binarize="dynamic")
    on_host = fit(False, binarize="dynamic", backend="numpy")
    assert_sums(captured[1]["loss"], on_host[1]["loss"], of="training")


@needs_compiler
def test_captured_training_in_float32_stays_near_numpys_over_a_hundred_steps(device):
    more = {"dtype": "float32", "binarize": "dynamic", "epochs": 20}
    captured, on_host = fit(True, **more), fit(False, backend="numpy", **more)
    np.testing.assert_allclose(captured[1]["loss"][:2], on_host[1]["loss"][:2], rtol=1e-6)
    np.testing.assert_allclose(captured[1]["loss"], on_host[1]["loss"], rtol=1e-3)


@needs_compiler
def test_rows_of_the_data_set_and_a_validation_with_larger_batches(device):
    """The validation grows the workspace after the capture: the graphs are made anew, and nothing is lost."""
    rows, larger = np.arange(1000, 1050), (np.random.default_rng(1).random((200, 8)) < 0.4).astype(float)
    more = {"rows": rows, "validation": larger, "binarize": "static"}
    before = standin.Graph.captures
    captured = fit(True, **more)
    assert standin.Graph.captures - before == 2 + 2
    assert_equal_runs(captured, fit(False, **more))
    assert captured[1]["val_elbo"] == fit(False, **more)[1]["val_elbo"]


@needs_compiler
def test_a_larger_batch_that_comes_later_has_the_smaller_one_captured_anew(device):
    """As in a run that is resumed before the last batch of an epoch: what it was captured with is gone."""
    found = []
    for capture in (True, False):
        vae = mv.VAE(8, 3, (6,), backend="cupy", dtype="float64", seed=4)
        vae.backend.capture = capture
        training = Training(vae, X, Options(batch_size=24))
        order, captures = device.asarray(np.arange(50)), standin.Graph.captures
        for step in (2, 0, 2, 2):  # of 2 rows, of 24, and of 2 again
            training.at.step = step
            training._steps(order, [(0.01, 1.0)], 1)
        assert standin.Graph.captures - captures == 3 * capture
        found.append(vae.backend.to_host(vae.buffer.data))
    np.testing.assert_array_equal(*found)


@needs_compiler
def test_a_captured_run_resumes(device, tmp_path):
    whole = fit(True)
    fit(True, run=tmp_path / "run", epochs=2, schedule="constant")
    resumed = fit(True, run=tmp_path / "run", epochs=3, schedule="constant", resume=True)
    assert_equal_runs(resumed, fit(True, schedule="constant"))
    assert whole[1]["lr"] != resumed[1]["lr"]


@needs_compiler
def test_a_number_that_is_baked_in_would_be_seen(device, monkeypatch):
    def bake(self, P, G, backend):
        self.optimizer.update(P, G, backend, self.optimizer.numbers())

    uncaptured = fit(False)
    monkeypatch.setattr(Graphs, "update", bake)
    with pytest.raises(AssertionError):
        assert_equal_runs(fit(True), uncaptured)


@needs_compiler
def test_a_diverging_captured_training_is_found(device):
    with pytest.raises(mv.Diverged, match="NaN or an infinity"):
        fit(True, "sgd", schedule="constant", epochs=200, likelihood="gaussian:0.001")


@needs_compiler
def test_no_step_transfers_to_the_host_but_for_a_look_at_the_losses(device):
    vae = mv.VAE(8, 3, (6,), backend="cupy", dtype="float64")
    training = Training(vae, X, Options(epochs=1, batch_size=5))
    plan, order = [(0.01, 1.0)] * 10, device.asarray(np.arange(50))
    standin.transfers["to_host"] = 0
    training.graphs.run(order, plan, 1, 0, 5)
    assert standin.transfers["to_host"] == 0


@pytest.mark.parametrize(
    "change",
    [{"kernels": "reference"}, {"scale": mv.Scale.fit("standard", X)}, {"binarize": "none", "memmap": True}],
    ids=["reference kernels", "scaled data", "data on disk"],
)
def test_steps_that_cannot_be_captured_run_uncaptured(device, change, tmp_path):
    np.save(tmp_path / "x.npy", X)
    data = np.load(tmp_path / "x.npy", mmap_mode="r") if change.pop("memmap", False) else X
    kernels, scale = change.pop("kernels", "fused"), change.pop("scale", None)
    likelihood = "gaussian" if scale else "bernoulli"
    vae = mv.VAE(8, 3, (6,), likelihood=likelihood, backend="cupy", kernels=kernels, dtype="float64")
    assert Training(vae, data, Options(scale=scale, **change)).graphs is None


def test_without_nvmath_steps_run_uncaptured_and_that_is_said(without_nvmath):
    backend = Backend("cupy")
    assert not backend.capture
    assert "uncaptured steps, products by CuPy: nvmath-python binds no cuBLASLt here" in backend.gemm.about


def test_info_says_how_steps_run(device):
    from minivae.cli.train import describe_machine

    assert describe_machine()["gpu steps"] == "captured steps: products by cuBLASLt through nvmath-python"


def test_a_transfer_during_capture_is_refused_by_the_stand_in(device):
    stream = device.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    try:
        for transfer in (lambda: device.asarray(np.ones(3)), lambda: device.asnumpy(standin.DeviceArray(np.ones(3)))):
            with pytest.raises(standin.DeviceError, match="being captured"):
                transfer()
    finally:
        stream.end_capture()


def test_the_stand_in_s_graph_runs_at_launch_alone_with_baked_scalars(device):
    x, factor = device.asarray(np.ones(3)), 2.0
    stream = device.cuda.Stream(non_blocking=True)
    stream.begin_capture()
    x *= factor
    y = x + 1
    x[...] = y
    graph = stream.end_capture()
    assert x._value.tolist() == [1, 1, 1]
    factor = 5.0
    graph.launch()
    graph.launch()
    assert x._value.tolist() == [7, 7, 7]
