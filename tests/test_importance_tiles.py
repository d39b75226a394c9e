"""ln w of importance samples by one kernel (`evaluation/importance_kernel.py`), against SciPy and plain NumPy."""

import numpy as np
import pytest
from numba import njit
from scipy import special, stats
from test_math import loop
from test_threads import needs_pool
from tolerances import assert_sums

import minivae as mv
from minivae import kernels
from minivae.evaluation import importance_kernel, tiles
from minivae.kernels import _threads

K, N, D, L = 30, 70, 37, 5  # two blocks of rows, and D is no multiple of anything
ACTIVATIONS = {"relu": lambda a: np.maximum(a, 0), "silu": lambda a: a * special.expit(a)}
RNG = np.random.default_rng(0)
X = (RNG.random((N, D)) < 0.3).astype(np.float32)
EPS = RNG.standard_normal((K, N, L), np.float32)
SIDE = np.array(list("abcab" * (N // 5)))
REAL = tiles._by_one_kernel


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    """How often the kernel was taken; its tiles are of 48 rows, so that there are many, and a short one."""
    taken = []
    monkeypatch.setattr(tiles, "TILE_ROWS", 48)
    monkeypatch.setattr(tiles, "LEAST_SAMPLES", 1)
    monkeypatch.setattr(tiles, "_by_one_kernel", lambda *given: taken.append(1) or REAL(*given))
    return taken


def model(activation="relu", hidden=(20, 11), **given):
    """A model in float32 whose biases are not 0."""
    vae = mv.VAE(D, L, hidden, activation=activation, backend=mv.Backend("numpy", gemm="numpy"), **given)
    if not hasattr(vae.backend.gemm, "address"):
        pytest.skip("NumPy's BLAS is called through numpy.dot here")
    for name, values in vae.parameters.items():
        values += RNG.normal(size=values.shape).astype(np.float32) * (0.3 if name.endswith("b") else 0)
    return vae


def log_weights(vae, activation, beside=()):
    """ln w (K, N) in float64: the decoder by NumPy, the densities by SciPy."""
    held = {name: values.astype(np.float64) for name, values in vae.parameters.items()}
    mean, logvar = (half.astype(np.float64) for half in vae.encode(X, **({"condition": SIDE} if len(beside) else {})))
    z = mean + np.exp(0.5 * logvar) * EPS
    out = np.concatenate([z, np.broadcast_to(beside, (K, *beside.shape))], axis=2) if len(beside) else z
    last = len(vae.decoder.layers) - 1
    for i in range(last + 1):
        out = out @ held[f"decoder.{i}.W"] + held[f"decoder.{i}.b"]
        out = ACTIVATIONS[activation](out) if i < last else out
    gap = stats.norm.logpdf(z) - stats.norm.logpdf(z, mean, np.exp(0.5 * logvar))
    return gap.sum(axis=2) + (X * special.log_expit(out) + (1 - X) * special.log_expit(-out)).sum(axis=2)


@pytest.mark.parametrize("activation, hidden", [("relu", (20, 11)), ("silu", (20, 11)), ("relu", ())])
def test_the_estimate_is_scipys(counted, activation, hidden):
    vae = model(activation, hidden)
    log_px, error = vae.log_likelihood(X, K, eps=EPS)
    assert len(counted) == 2
    log_w = log_weights(vae, activation)
    expected = special.logsumexp(log_w, axis=0) - np.log(K)
    assert_sums(log_px, expected, of="model", dtype="float32")
    w = np.exp(log_w - expected)
    assert_sums(error, w.std(axis=0, ddof=1) / np.sqrt(K), of="model", dtype="float32")


def test_a_condition_is_joined_to_z(counted):
    vae = model(condition=SIDE)
    log_px, _ = vae.log_likelihood(X, K, eps=EPS, condition=SIDE)
    assert counted
    beside = (SIDE[:, None] == np.array(["a", "b", "c"])).astype(float)
    expected = special.logsumexp(log_weights(vae, "relu", beside), axis=0) - np.log(K)
    assert_sums(log_px, expected, of="model", dtype="float32")


def test_layer_by_layer_it_is_the_same(counted, monkeypatch):
    vae = model()
    found = vae.log_likelihood(X, K)
    monkeypatch.setattr(tiles, "CACHED_VALUES", D)  # too few for one kernel
    layers = vae.log_likelihood(X, K)
    assert len(counted) == 2
    for ours, theirs in zip(found, layers, strict=True):
        assert_sums(ours, theirs, of="model", dtype="float32")


@pytest.mark.parametrize("given", [{"likelihood": "gaussian"}, {"missing": True}, {"dtype": "float64"}])
def test_other_models_go_layer_by_layer(counted, given):
    vae = mv.VAE(D, L, (20, 11), backend="numpy", **given)
    rows = np.where(X == 1, np.nan, X) if "missing" in given else X
    assert np.isfinite(vae.log_likelihood(rows, 3)[0]).all() and not counted


@needs_pool
def test_bits_are_the_same_for_any_number_of_threads():
    vae, before = model(), _threads.most()
    found = set()
    try:
        for threads in (1, 2, 3):
            kernels.limit_threads(threads)
            found.add(b"".join(part.tobytes() for part in vae.log_likelihood(X, 400)))
    finally:
        kernels.limit_threads(before)
    assert len(found) == 1


def test_few_samples_go_layer_by_layer(counted, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(tiles, "_by_one_kernel", lambda *given: counted.append(1) or REAL(*given))
    vae = model()
    vae.log_likelihood(X[:5], tiles.LEAST_SAMPLES - 1)
    assert not counted
    vae.log_likelihood(X[:5], tiles.LEAST_SAMPLES)
    assert counted


def test_small_losses_are_not_lost():
    """A decoder that is sure and right: each of its losses is far below the resolution of 1."""
    vae = model()
    for values in vae.parameters.values():
        values[...] = 0
    vae.parameters["decoder.2.b"][...] = np.linspace(-40, -12, D)
    log_px, _ = vae.log_likelihood(0 * X, K, eps=0 * EPS)  # so that z is 0, and p(z) is q(z|x)
    losses = np.log1p(np.exp(np.linspace(-40, -12, D).astype(np.float32).astype(np.float64)))
    assert losses.max() < 1e-5
    assert_sums(log_px, -losses.sum(), of="sums", dtype="float32")


def test_nan_in_the_decoder_shows():
    vae = model()
    vae.parameters["decoder.2.W"][3, D - 1] = np.nan
    with np.errstate(all="ignore"):
        assert np.isnan(vae.log_likelihood(X, 3)[0]).all()


@pytest.mark.parametrize(
    "function, oracle, low, high, ulps",
    [
        (importance_kernel.exp_negative, np.exp, -87.2, 0, 2),
        (importance_kernel.exp_negative, np.exp, -1e-3, 0, 2),
        (importance_kernel.log1p, np.log1p, 0, 15, 3),
        (importance_kernel.log1p, np.log1p, 0, 1e-3, 3),
    ],
    ids=["exp", "exp near 0", "log1p", "log1p near 0"],
)
def test_function_is_right_to_a_few_ulp(function, oracle, low, high, ulps):
    given = RNG.uniform(low, high, 200_000).astype(np.float32)
    found, expected = np.empty_like(given), oracle(given.astype(np.float64))
    loop(function)(found, given)
    assert (np.abs(found - expected) / np.spacing(np.abs(expected).astype(np.float32))).max() <= ulps


def test_the_loss_is_of_vectors():
    """One call in its loop would make it ten times slower, with every result still right."""

    @njit
    def alone(logits, b, x):
        return importance_kernel._nll(logits, b, x)

    row = np.zeros(128, np.float32)
    alone(row, row, row)
    code = next(iter(alone.inspect_llvm().values()))
    assert "x float> " in "".join(line for line in code.splitlines() if "= fdiv" in line)
