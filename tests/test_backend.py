"""Choosing a backend; the CuPy backend proven on the CPU by a stand-in that refuses implicit conversions."""

import builtins
import re
import sys

import hostcuda
import numpy as np
import pytest
import standin
from tolerances import assert_sums

import minivae as mv
from minivae.backend import Backend, resolve
from minivae.errors import UsageError
from minivae.evaluation.bounds import evaluate


@pytest.fixture
def device(monkeypatch):
    return standin.install(monkeypatch)


@pytest.fixture
def no_cupy(monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "cupy":
            raise ImportError("No module named 'cupy'")
        return real(name, *args, **kwargs)

    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_defaults_are_numpy_fused_float32(no_cupy):
    assert re.fullmatch(r"numpy, fused kernels, float32, products by (numpy|mkl), \d+ threads?", str(Backend()))


def test_argument_wins_over_environment_and_environment_over_auto(monkeypatch, device):
    monkeypatch.setenv("MINIVAE_BACKEND", "cupy")
    assert Backend(kernels="reference").name == "cupy"
    assert Backend("numpy", kernels="reference").name == "numpy"
    monkeypatch.setenv("MINIVAE_BACKEND", "numpy")
    assert Backend(kernels="reference").name == "numpy"


@pytest.mark.parametrize("kernels", ["reference", "fused"])
def test_auto_takes_a_gpu_that_answers(device, kernels):
    assert Backend(kernels=kernels).name == "cupy"


def test_missing_cupy_is_an_error_that_names_the_extra(no_cupy):
    with pytest.raises(UsageError, match=r'pip install "cupy-cuda12x\[ctk\]"'):
        Backend("cupy", kernels="reference")


@pytest.mark.parametrize(
    "driver, says",
    [
        (0, "there is no NVIDIA driver: install NVIDIA's driver"),
        (11080, "serves CUDA 11, and this CuPy is built for CUDA 12: update the driver, or .*cupy-cuda11x"),
        (12020, "no GPU answers .cudaErrorNoDevice.: see what `nvidia-smi` says"),
    ],
)
def test_a_gpu_that_does_not_answer_is_an_error_that_says_why(device, driver, says):
    def fail():
        raise device.cuda.runtime.CUDARuntimeError("cudaErrorNoDevice")

    device.cuda.runtime.getDeviceCount = fail
    device.cuda.runtime.driverGetVersion = lambda: driver
    with pytest.raises(UsageError, match=says):
        Backend("cupy", kernels="reference")
    assert Backend(kernels="reference").name == "numpy"


@pytest.mark.parametrize(
    "allocate", [lambda backend: backend.empty((2**20, 40)), lambda b: b.asarray(np.zeros((5, 3)))]
)
def test_a_batch_that_does_not_fit_is_an_error_that_says_what_to_do(device, allocate):
    def full(*_):
        raise device.cuda.memory.OutOfMemoryError("Out of memory allocating 1 byte")

    backend = Backend("cupy", kernels="reference")
    device.empty = device.asarray = full
    with pytest.raises(UsageError, match=r"no room for \d+ MiB more \(1,024 of 16,384 MiB are free\): .*--batch-size"):
        allocate(backend)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"name": "jax"}, "expected one of numpy, cupy, auto"),
        ({"kernels": "fast"}, "expected 'fused' or 'reference'"),
        ({"dtype": "float16"}, "expected float32 or float64"),
        ({"dtype": "nonsense"}, "expected float32 or float64"),
        ({"dtype": "f4,,"}, "dtype='f4,,': expected float32 or float64"),
        ({"dtype": ">f4"}, "expected float32 or float64"),
    ],
)
def test_unknown_choices_are_refused(arguments, match):
    with pytest.raises(UsageError, match=match):
        Backend(**arguments)


def test_an_unknown_name_in_the_environment_is_traced_to_it(monkeypatch):
    monkeypatch.setenv("MINIVAE_BACKEND", "tpu")
    with pytest.raises(UsageError, match="MINIVAE_BACKEND"):
        Backend()


def test_contradicting_a_given_backend_is_an_error():
    backend = Backend("numpy", "reference", "float64")
    assert resolve(backend, "reference", "float64") is backend
    with pytest.raises(UsageError, match="contradicts"):
        resolve(backend, "fused", None)
    with pytest.raises(UsageError, match="contradicts"):
        mv.VAE(4, backend=backend, dtype="float32")


@pytest.mark.parametrize("shape", [(1,), (3, 5), (1000,)])
def test_arrays_start_on_a_cache_line(shape):
    for dtype in ("float32", "float64", "int64"):
        assert Backend("numpy").empty(shape, dtype).ctypes.data % 64 == 0


def test_an_array_for_the_device_has_the_dtype_that_was_asked_for(device):
    backend = Backend("cupy")
    for given in ([1, 2], np.array([1.0, 2.0]), backend.asarray(np.array([1, 2]))):
        x = backend.asarray(given, "float32")
        assert backend.owns(x) and x.dtype == "float32" and backend.to_host(x).tolist() == [1, 2]
    assert backend.asarray(np.array([1, 2])).dtype == "int64"


def test_the_stand_in_refuses_what_a_device_array_refuses():
    x = standin.module().asarray(np.ones(3))
    for implicit in (float, int, bool, np.asarray, np.sqrt, list, len):
        with pytest.raises(TypeError):
            implicit(x)
    with pytest.raises(TypeError):
        x + np.ones(3)
    with pytest.raises(TypeError):
        np.ones(3) * x


# ---- the whole model on the stand-in --------------------------------------------------------------------------------

LIKELIHOODS = [form.replace("σ", "0.5").replace("K", "2") for form in mv.LIKELIHOODS]
FUSED = pytest.param("fused", marks=pytest.mark.skipif(hostcuda.compiler() is None, reason="needs g++ for the kernels"))
KERNELS = ["reference", FUSED]  # of the device, against the reference on the host
OPTIMIZERS = {
    "sgd": lambda: mv.SGD(0.05),
    "momentum": lambda: mv.SGD(0.05, momentum=0.9, nesterov=True),
    "adagrad": lambda: mv.Adagrad(0.05),
    "rmsprop": lambda: mv.RMSprop(0.01, momentum=0.5),
    "adam": lambda: mv.Adam(0.01),
    "adamw": lambda: mv.AdamW(0.01),
}


def _models(likelihood, activation="relu", samples=1, kernels="reference", **more):
    arguments = {"latent_dim": 3, "hidden": (6, 5), "activation": activation, "likelihood": likelihood}
    arguments |= {"samples": samples, "dtype": "float64", "seed": 4} | more
    on_device = mv.VAE(8, backend="cupy", kernels=kernels, **arguments)
    return on_device, mv.VAE(8, backend="numpy", kernels="reference", **arguments)


def _data(n=21):
    return (np.random.default_rng(0).random((n, 8)) < 0.4).astype(float)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    "likelihood, optimizer",
    [*((name, "adam") for name in LIKELIHOODS), *(("gaussian", name) for name in OPTIMIZERS if name != "adam")],
)
def test_training_steps_on_the_device_equal_numpys_and_never_touch_the_host(device, likelihood, optimizer, kernels):
    on_device, on_host = _models(likelihood, "silu", samples=2, kernels=kernels)
    updates = OPTIMIZERS[optimizer](), OPTIMIZERS[optimizer]()
    X = _data()
    on_the_device = device.asarray(X)
    standin.transfers["to_host"] = 0
    for _ in range(3):
        terms = on_device.train_step(on_the_device, updates[0], beta=0.7, free_bits=0.05, clip=1.0)
        reference = on_host.train_step(X, updates[1], beta=0.7, free_bits=0.05, clip=1.0)
    assert standin.transfers["to_host"] == 0
    assert terms.loss == pytest.approx(reference.loss, rel=1e-12)
    assert standin.transfers["to_host"] > 0
    assert_sums(device.asnumpy(on_device.buffer.data), on_host.buffer.data, of="training")


@pytest.mark.parametrize("likelihood", [name for name in LIKELIHOODS if name != "gaussian:optimal"])
def test_importance_weighted_steps_on_the_device_equal_numpys_and_never_touch_the_host(device, likelihood):
    on_device, on_host = _models(likelihood, samples=4, objective="iwae", antithetic=True)
    updates = mv.Adam(0.01), mv.Adam(0.01)
    X = _data()
    on_the_device = device.asarray(X)
    standin.transfers["to_host"] = 0
    for _ in range(3):
        terms = on_device.train_step(on_the_device, updates[0], beta=0.7)
        reference = on_host.train_step(X, updates[1], beta=0.7)
    assert standin.transfers["to_host"] == 0
    assert terms.loss == pytest.approx(reference.loss, rel=1e-12)
    assert_sums(terms.log_w, reference.log_w, of="training")
    assert_sums(device.asnumpy(on_device.buffer.data), on_host.buffer.data, of="training")
    assert evaluate(on_device, X).iwae == pytest.approx(evaluate(on_host, X).iwae, rel=1e-9)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("binarize, scale", [("dynamic", "none"), ("threshold", "none"), ("none", "standard")])
def test_fit_evaluate_and_use_on_the_device_equal_numpys(device, binarize, scale, kernels, tmp_path):
    likelihood = "gaussian" if scale == "standard" else "bernoulli"
    X = np.random.default_rng(0).random((40, 8))
    fitted = mv.Scale.fit(scale, X)
    models = _models(likelihood, kernels=kernels)
    histories = [
        vae.fit(
            X, 2, 16, validation=X[:7], binarize=binarize, scale=fitted, beta=mv.Beta(1, warmup=1), progress=False,
            run=tmp_path / vae.backend.name,
        )
        for vae in models
    ]  # fmt: skip
    for column in ("loss", "elbo", "kl", "val_elbo"):
        assert_sums(*[history[column] for history in histories], of="training")
    results = [evaluate(vae, X, scale=fitted, binarize=binarize).elbo for vae in models]
    assert results[0] == pytest.approx(results[1], rel=1e-9)
    kept = [vae.log_likelihood(_data(5), samples=10)[0] for vae in models]
    assert_sums(*kept, of="training")
    for use in (
        lambda vae: vae.encode(_data())[1],
        lambda vae: vae.decode(np.ones((3, 3)), draw=True),
        lambda vae: vae.sample(5, seed=1),
        lambda vae: vae.reconstruct(_data()),
    ):
        first, second = (use(vae) for vae in models)
        assert isinstance(first, np.ndarray)
        assert_sums(first, second, of="training")


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_means_and_draws_on_the_device_equal_numpys(device, likelihood):
    models, Z = _models(likelihood), np.random.default_rng(0).normal(size=(9, 3))
    for draw in (False, True):
        first, second = (vae.decode(Z, draw=draw) for vae in models)
        assert_sums(first, second, of="training")


def test_the_optimal_variance_of_an_epoch_is_the_same_on_the_device(device):
    models = _models("gaussian:optimal")
    for vae in models:
        vae.fit(_data(40), epochs=2, batch_size=16, progress=False)
    on_device, on_host = (vae.backend.to_host(vae.likelihood.logvar) for vae in models)
    assert_sums(on_device, on_host, of="training")


def test_data_on_disk_reach_the_device_batch_by_batch(device, tmp_path):
    np.save(tmp_path / "x.npy", _data(40))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    histories = [vae.fit(mapped, epochs=2, batch_size=16, progress=False) for vae in _models("bernoulli")]
    assert_sums(*[history["loss"] for history in histories], of="training")


def test_results_stay_on_the_device_when_asked_to(device):
    vae, _ = _models("bernoulli")
    for result in (
        *vae.encode(_data(), device=True),
        vae.sample(3, device=True),
        vae.reconstruct(_data(), device=True),
    ):
        assert isinstance(result, standin.DeviceArray)


def test_a_model_saved_on_the_device_loads_on_the_host(device, tmp_path):
    on_device, _ = _models("gaussian")
    on_device.save(tmp_path / "m.safetensors")
    loaded = mv.VAE.load(tmp_path / "m.safetensors", backend="numpy")
    np.testing.assert_array_equal(loaded.buffer.data, device.asnumpy(on_device.buffer.data))


@pytest.mark.parametrize("size", [2**20, 2**22 + 4])
def test_a_large_array_starts_on_a_huge_page_and_is_long_enough_for_numpy_to_ask_for_them(size):
    """NumPy's `_npy_alloc` asks for them from 4 MiB on."""
    x = Backend("numpy").empty(size // 4)
    assert x.ctypes.data % 2**21 == 0
    assert x.base.nbytes >= 2**22 and x.nbytes == size // 4 * 4
