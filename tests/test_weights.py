"""Weights of rows: a row of weight 3 is three rows, one of weight 0 is none, and a bad weight is named.

Oracle: the same model on the repeated rows themselves, with the same noise for each copy.
"""

import zlib

import hostcuda
import numpy as np
import pytest
import standin
from tolerances import assert_sums

import minivae as mv
from minivae.errors import UsageError
from minivae.evaluation.dealt import row_hashes

needs_compiler = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")
W = np.array([3, 0, 1, 2, 0, 1, 5])
rng = np.random.default_rng(0)
DATA = {
    "bernoulli": rng.random((7, 4)).round(),
    "continuous-bernoulli": rng.random((7, 4)),
    "gaussian": rng.normal(size=(7, 4)),
    "gaussian:0.5": rng.normal(size=(7, 4)),
    "gaussian:shared": rng.normal(size=(7, 4)),
    "laplace": rng.normal(size=(7, 4)),
    "categorical:3": rng.integers(0, 3, (7, 4)).astype(float),
    "poisson": rng.poisson(2.0, (7, 4)).astype(float),
    "negative-binomial": rng.poisson(2.0, (7, 4)).astype(float),
}


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("objective, samples, beta", [("elbo", 1, 0.7), ("elbo", 3, 1.0), ("iwae", 4, 1.0)])
@pytest.mark.parametrize("likelihood", DATA)
def test_the_gradient_of_a_weighted_batch_is_that_of_repeated_and_removed_rows(
    likelihood, objective, samples, beta, kernels
):
    X = DATA[likelihood]
    vae = mv.VAE(4, 3, (5,), "tanh", likelihood, objective, samples, "numpy", kernels, "float64", init="he")
    eps, copies = np.random.default_rng(1).normal(size=(samples, 7, 3)), np.repeat(np.arange(7), W)
    expected = vae.objective_and_grad(X[copies], eps=np.ascontiguousarray(eps[:, copies]), beta=beta)
    gradient = vae.buffer.grad.copy()
    found = vae.objective_and_grad(X, eps=eps, beta=beta, weights=W * 7 / W.sum())
    assert np.abs(vae.buffer.grad - gradient).max() <= 1e-12 * np.abs(gradient).max()
    for name in ("loss", "nll", "kl", "elbo"):
        assert_sums(getattr(found, name), getattr(expected, name), of="model")
    assert_sums(found.sums() / 7, expected.sums() / len(copies), of="model")


def test_the_weighted_gradient_is_torchs():
    torch = pytest.importorskip("torch")
    X, eps = DATA["gaussian:0.5"], np.random.default_rng(1).normal(size=(7, 3))
    vae = mv.VAE(4, 3, (), likelihood="gaussian:0.5", backend="numpy", dtype="float64")
    vae.objective_and_grad(X, eps=eps, beta=0.3, weights=W.astype(float))
    p = {name: torch.tensor(view, requires_grad=True) for name, view in vae.parameters.items()}
    H = torch.tensor(X) @ p["encoder.0.W"] + p["encoder.0.b"]
    q = torch.distributions.Normal(H[:, :3], torch.exp(H[:, 3:] / 2))
    out = (q.mean + q.stddev * torch.tensor(eps)) @ p["decoder.0.W"] + p["decoder.0.b"]
    nll = -torch.distributions.Normal(out, 0.5).log_prob(torch.tensor(X)).sum(1)
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    (torch.tensor(W) * (nll + 0.3 * kl)).mean().backward()
    for name, tensor in p.items():
        assert_sums(vae.gradients[name], tensor.grad, of="model", summed=np.abs(tensor.grad.numpy()).max())


def fitted(X, backend="numpy", kernels="reference", **options):
    vae = mv.VAE(4, 3, (5,), likelihood="gaussian", backend=backend, kernels=kernels, dtype="float64", seed=3)
    history = vae.fit(X, epochs=3, optimizer=mv.SGD(1e-3), **options)
    return vae, history


def test_only_the_ratios_of_the_weights_count_and_equal_ones_change_nothing():
    X = DATA["gaussian"]
    plain, told = fitted(X, batch_size=2)
    vae, history = fitted(X, batch_size=2, weights=np.full(7, 4, "int16"))
    assert_sums(vae.buffer.data, plain.buffer.data, of="training")
    assert_sums(history["loss"], told["loss"], of="training")
    a, b = (fitted(X, batch_size=2, weights=W * factor)[0].buffer.data for factor in (1.0, 8.0))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - plain.buffer.data).max() > 1e-4


def test_rows_of_weight_0_do_not_train():
    X, spoilt = DATA["gaussian"], DATA["gaussian"].copy()
    spoilt[W == 0] = 50.0
    a, b = (fitted(rows, batch_size=3, weights=W)[0].buffer.data for rows in (X, spoilt))
    assert_sums(a, b, of="training")


@pytest.mark.parametrize("kernels", ["reference", pytest.param("fused", marks=needs_compiler)])
def test_weights_work_on_a_device_without_a_captured_step(kernels, monkeypatch):
    X = DATA["gaussian"]
    expected, _ = fitted(X, batch_size=3, weights=W)
    standin.install(monkeypatch, nvmath=True)
    vae, _ = fitted(X, "cupy", kernels, batch_size=3, weights=W)
    assert vae.backend.capture == (kernels == "fused")
    assert_sums(vae.backend.to_host(vae.buffer.data), expected.buffer.data, of="training")


def test_a_run_resumes_with_its_own_weights_alone(tmp_path):
    X = DATA["gaussian"]
    fitted(X, weights=W, run=tmp_path / "run")
    with pytest.raises(UsageError, match="data"):
        fitted(X, weights=W[::-1].copy(), run=tmp_path / "run", resume=True)
    fitted(X, weights=W, run=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.ones(6), r"expected an array \(7,\) of numbers, one for each row; got float64 \(6,\)"),
        ([1.0] * 7, "got list"),
        (np.array(["a"] * 7), "got <U1"),
        (-np.ones(7), "finite numbers ≥ 0, at least one of them > 0"),
        (np.arange(-1.0, 6.0), "finite numbers ≥ 0"),
        (np.zeros(7), "at least one"),
        (np.full(7, np.nan), "finite"),
    ],
)
def test_a_bad_weight_is_named(weights, message):
    vae = mv.VAE(4, 3, (5,), likelihood="gaussian", backend="numpy")
    X, before = DATA["gaussian"], vae.buffer.data.copy()
    for call in (vae.objective, vae.objective_and_grad, vae.fit):
        with pytest.raises(UsageError, match=f"weights: .*{message}"):
            call(X, weights=weights)
    with pytest.raises(UsageError, match=message):
        vae.train_step(X, mv.Adam(), weights=weights)
    np.testing.assert_array_equal(vae.buffer.data, before)


def test_what_has_no_weighted_meaning_says_so():
    X = DATA["gaussian"]
    with pytest.raises(UsageError, match="leave one out"):
        mv.VAE(4, 3, (5,), likelihood="gaussian", backend="numpy").fit(X, free_bits=0.1, weights=W)
    with pytest.raises(UsageError, match="gaussian:shared"):
        mv.VAE(4, 3, (5,), likelihood="gaussian:optimal", backend="numpy").fit(X, weights=W)


def test_a_rows_hash_is_the_crc_of_its_values_alone():
    X = np.array([[0.0, 1.5, np.nan], [-0.0, 1.5, -np.float64(np.nan)], [3, 2, 1], [1, 2, 3]])
    hashes = row_hashes(X)
    assert hashes[0] == hashes[1] and len(set(hashes.tolist())) == 3
    assert hashes[2] == zlib.crc32(bytes.fromhex("00000000000008400000000000000040000000000000f03f"))
    for other in (X.astype("float32"), np.asfortranarray(X), X.astype(">f8"), X.repeat(2, axis=0)[::2]):
        np.testing.assert_array_equal(row_hashes(other), hashes)
    np.testing.assert_array_equal(row_hashes(np.array([[3, 2, 1]], "uint8")), hashes[2:3])
