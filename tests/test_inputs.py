"""What the encoder sees, where that is not what the decoder explains (`inputs.py`)."""

import json

import hostcuda
import numpy as np
import pytest
import standin
from tolerances import assert_close, assert_sums

import minivae as mv
from minivae.evaluation.passes import nll_and_grad
from minivae.inputs import Batch, as_batch

RNG = np.random.default_rng(5)
COUNTS = RNG.poisson(3.0, (40, 6)).astype(float)
CLASSES = RNG.integers(0, 4, (40, 6)).astype(float)

# encoding → (likelihood, rows, the columns of x_in, in NumPy)
SEEN = {
    "log1p": ("poisson", COUNTS, np.log(1 + COUNTS)),
    "one-hot:4": ("categorical:4", CLASSES, np.concatenate([k == CLASSES for k in range(4)], axis=1)),
    "centred:4": ("categorical:4", CLASSES, CLASSES / 1.5 - 1),
}


def model(likelihood, inputs, seed=1, **more):
    return mv.VAE(6, 2, (5,), "tanh", likelihood, seed=seed, inputs=inputs, backend="numpy", dtype="float64", **more)


@pytest.mark.parametrize("inputs", SEEN)
def test_the_encoder_sees_the_transform_and_the_decoder_explains_the_rows(inputs):
    likelihood, X, seen = SEEN[inputs]
    vae, plain = model(likelihood, inputs), mv.VAE(seen.shape[1], 2, (5,), "tanh", backend="numpy", dtype="float64")
    for name in ("encoder.0.W", "encoder.0.b", "encoder.1.W", "encoder.1.b"):
        plain.parameters[name][...] = vae.parameters[name]
    for ours, theirs in zip(vae.encode(X), plain.encode(seen.astype(float)), strict=True):
        assert_close(ours, theirs, "float64")
    mean, logvar = (H.copy() for H in vae.encode(X))
    eps = RNG.normal(size=(40, 2))
    assert_close(vae.objective(X, eps).kl_rows, 0.5 * (mean**2 + np.exp(logvar) - logvar - 1).sum(axis=1), "float64", 4)
    out = vae.decoder.forward(mean + np.exp(0.5 * logvar) * eps)
    nll, _ = nll_and_grad(vae, out.copy(), as_batch(vae, X), 1.0)
    assert_sums(vae.objective(X, eps).nll_rows, nll, "sums")


@pytest.mark.parametrize("inputs", SEEN)
def test_gradients_agree_with_differences(inputs):
    likelihood, X, _ = SEEN[inputs]
    vae, eps = model(likelihood, inputs), RNG.normal(size=(40, 2))
    vae.objective_and_grad(X, eps)
    G = vae.buffer.grad.copy()
    direction = RNG.normal(size=G.shape)
    start, h, losses = vae.buffer.data.copy(), 1e-5, []
    for step in (h, -h):
        vae.buffer.data[...] = start + step * direction
        losses.append(vae.objective(X, eps).loss)
    vae.buffer.data[...] = start
    assert (losses[0] - losses[1]) / (2 * h) == pytest.approx(float((G * direction).sum()), rel=1e-7)


def test_an_x_in_of_the_callers_own_is_what_the_encoder_sees():
    vae, X = model("poisson", "auto"), COUNTS
    eps, other = RNG.normal(size=(1, 40, 2)), np.log1p(COUNTS)
    seen = vae.forward(Batch(X, other), eps, 1.0, 0.0).copy()
    assert_close(seen.kl_rows, vae.forward(as_batch(vae, other), eps, 1.0, 0.0).copy().kl_rows, "float64")
    assert seen.nll != vae.forward(as_batch(vae, other), eps, 1.0, 0.0).nll


@pytest.mark.parametrize("inputs", SEEN)
def test_a_model_with_inputs_trains_saves_scores_and_is_traced(tmp_path, inputs):
    likelihood, X, seen = SEEN[inputs]
    vae = model(likelihood, inputs)
    history = vae.fit(X, epochs=3, batch_size=16, progress=False, validation=X[:10])
    assert np.isfinite(history["elbo"]).all()
    vae.save(tmp_path / "model.safetensors")
    again = mv.VAE.load(tmp_path / "model.safetensors", backend="numpy")
    assert again.config() == vae.config() == json.loads(json.dumps(vae.config())) and vae.config()["inputs"] == inputs
    for ours, theirs in zip(vae.log_likelihood(X, samples=5), again.log_likelihood(X, samples=5), strict=True):
        assert (ours == theirs).all()
    traced = vae.trace(X)
    assert_close(traced["x_in"], seen, "float64")
    assert vae.trace(X).terms.loss == vae.objective(X).loss


def test_the_identity_is_not_in_a_models_file_and_changes_no_bit():
    same, auto = model("poisson", "same"), model("poisson", "auto")
    assert same.inputs is auto.inputs is None and "inputs" not in same.config()
    assert same.objective(COUNTS).loss == auto.objective(COUNTS).loss


@pytest.mark.parametrize("name", ["logs", "one-hot", "one-hot:1", "centred:x", "same:3", 3])
def test_an_unknown_encoding_is_one_line(name):
    with pytest.raises(mv.UsageError, match="inputs"):
        model("poisson", name)


def test_no_export_of_a_transform(tmp_path):
    for export in (lambda v: v.to_onnx(tmp_path), lambda v: v.to_torch()):
        with pytest.raises(mv.UsageError, match="transform of the rows"):
            export(model("poisson", "log1p"))


@pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")
@pytest.mark.parametrize("inputs", SEEN)
def test_on_a_device_captured_or_not_the_transform_is_the_cpus(monkeypatch, inputs):
    standin.install(monkeypatch, nvmath=True)
    likelihood, X, _ = SEEN[inputs]
    found = []
    for backend, capture in (("cupy", True), ("cupy", False), ("numpy", False)):
        vae = mv.VAE(6, 2, (5,), "tanh", likelihood, seed=1, inputs=inputs, backend=backend, dtype="float64")
        vae.backend.capture = capture
        found.append(vae.fit(X, epochs=2, batch_size=15, progress=False)["loss"])
    assert found[0] == found[1]
    assert_sums(found[0], found[2], "training")
