"""Models in other programs: ONNX against onnx's reference and onnxruntime, the PyTorch module against autograd."""

import copy
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_cli import minivae

import minivae as mv
from minivae import likelihoods
from minivae.cli.plugin import load
from minivae.errors import UsageError
from minivae.kernels.dense import ACTIVATIONS

onnx = pytest.importorskip("onnx")
onnx_reference = pytest.importorskip("onnx.reference")
onnxruntime = pytest.importorskip("onnxruntime")

LIKELIHOODS = [name.replace("σ", "0.5").replace("K", "4") for name in mv.LIKELIHOODS]
D, L, ROWS = 6, 3, (1, 7, 1000)
RELATIVE = {"float32": 1e-5, "float64": 1e-12}  # to the largest value of an output


def rows_for(likelihood, n, rng):
    if likelihood.startswith(("poisson", "negative")):
        return rng.poisson(3.0, (n, D)).astype(np.float64)
    if likelihood.startswith("categorical"):
        return rng.integers(0, 4, (n, D)).astype(np.float64)
    if likelihood.startswith(("bernoulli", "continuous")):
        X = rng.random((n, D))
        return np.round(X) if likelihood == "bernoulli" else X
    return rng.normal(size=(n, D)) * [1, 10, 1e-2, 1, 5, 1e3] + [0, 5, 0, 2000, 1, -1e4]


def model(likelihood, dtype="float64", activation="tanh", scaled=True):
    """A model whose every parameter is at random, so large that some outputs are clamped, with a scale where it can."""
    vae = mv.VAE(D, L, (5,), activation, likelihood, backend="numpy", dtype=dtype, seed=3)
    rng = np.random.default_rng(5)
    for name, view in vae.parameters.items():
        view[...] = rng.normal(size=view.shape) * (2 if name.startswith("decoder") else 0.6)
    for view in vae.buffer.fitted.values():
        view[...] = -0.7
    if scaled and not vae.likelihood.integer:
        kind = "standard" if vae.likelihood.domain == "real" else "minmax"
        X = rows_for(likelihood, 50, rng)
        vae.scale = mv.Scale.fit(kind, X if kind == "standard" else np.vstack([X, X - 0.25, X + 0.5]))
    return vae


def close(actual, expected, dtype, what=""):
    assert actual.dtype == dtype and actual.shape == expected.shape, what
    apart, bound = np.abs(actual - expected).max(), RELATIVE[np.dtype(dtype).name] * np.abs(expected).max()
    assert apart <= bound, f"{what}: {apart:.3g} apart, {bound:.3g} allowed"


def written(vae, tmp_path, **options):
    vae.to_onnx(tmp_path, **options)
    return [(tmp_path / f"{part}.onnx").read_bytes() for part in ("encoder", "decoder")]


def parameters_of(vae, Z):
    """The parameters of p(x|z) in the data's units, by SciPy's and NumPy's names for what they are."""
    out, name = vae.decoder.forward(Z.astype(vae.backend.dtype)).astype(np.float64), vae.likelihood.name
    factor = 1.0 if vae.scale is None else vae.scale.factor
    if name.startswith("categorical"):
        return {"logits": out.reshape(len(Z), 4, D)}
    if name in ("bernoulli", "continuous-bernoulli"):
        return {"logits": out}
    if name == "gaussian":
        return {"logvar": np.clip(out[:, D:], -10, 10) + 2 * np.log(factor)}
    if name == "laplace":
        return {"logscale": np.clip(out[:, D:], -5, 5) + np.log(factor)}
    if name == "poisson":
        return {"lograte": np.minimum(out, 20)}
    if name == "negative-binomial":
        logtheta = np.clip(vae.parameters["likelihood.logtheta"].astype(np.float64), -10, 10)
        return {"logmean": np.minimum(out, 20), "logtheta": logtheta[None]}
    own = {"gaussian:0.5": lambda: 2 * math.log(0.5), "gaussian:optimal": lambda: -0.7}
    own["gaussian:shared"] = lambda: float(vae.parameters["likelihood.logvar"][0])
    return {"logvar": (own[name]() + 2 * np.log(factor * np.ones(D)))[None]}


# ---- ONNX -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_onnx_computes_what_encode_and_decode_compute(likelihood, activation, dtype, tmp_path):
    vae, rng = model(likelihood, dtype, activation), np.random.default_rng(0)
    files = written(vae, tmp_path)
    readers = [onnx_reference.ReferenceEvaluator(onnx.load_model_from_string(data)) for data in files]
    if dtype == "float32":
        readers += [onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]) for data in files]
    for data in files:
        onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    for n in ROWS:
        X, Z = rows_for(likelihood, n, rng).astype(dtype), rng.normal(size=(n, L)).astype(dtype)
        given = parameters_of(vae, Z)
        for encoder, decoder in zip(readers[::2], readers[1::2], strict=True):
            for name, found, expected in zip(
                ("mean", "logvar"), encoder.run(["mean", "logvar"], {"x": X}), vae.encode(X), strict=True
            ):
                close(found, expected, dtype, f"{type(encoder).__name__} {name}")
            found = decoder.run(["x_mean", *given], {"z": Z})
            for name, value, expected in zip(("x_mean", *given), found, (vae.decode(Z), *given.values()), strict=True):
                close(value, expected, dtype, f"{type(decoder).__name__} {name}")


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_file_is_little_more_than_its_parameters_and_the_same_each_time(likelihood, tmp_path):
    vae = model(likelihood, "float32")
    first = written(vae, tmp_path)
    assert written(vae, tmp_path) == first
    for half, data in zip(("encoder", "decoder"), first, strict=True):
        size = sum(view.nbytes for name, view in vae.parameters.items() if name.startswith(half))
        assert size < len(data) <= size + 10_000


def test_another_process_writes_the_same_bytes(tmp_path):
    model("gaussian", "float32").save(tmp_path / "m.safetensors")
    code = "import sys, minivae as mv; mv.VAE.load(sys.argv[1], backend='numpy').to_onnx(sys.argv[2])"
    for folder in ("a", "b"):
        argv = [sys.executable, "-c", code, str(tmp_path / "m.safetensors"), str(tmp_path / folder)]
        subprocess.run(argv, check=True)
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_threshold_is_in_the_encoder(tmp_path):
    vae = model("bernoulli", "float32", scaled=False)
    vae.binarize = "threshold"
    X = np.random.default_rng(0).random((9, D)).astype("float32")
    X[0] = 0.5
    (found,) = onnxruntime.InferenceSession(written(vae, tmp_path)[0]).run(["mean"], {"x": X})
    close(found, vae.encode(X)[0], "float32")


@pytest.mark.parametrize("opset", [13, 17, onnx.defs.onnx_opset_version()])
def test_every_opset_says_the_same(opset, tmp_path):
    vae, Z = model("continuous-bernoulli"), np.random.default_rng(0).normal(size=(5, L))
    loaded = onnx.load_model_from_string(written(vae, tmp_path, opset=opset)[1])
    assert loaded.opset_import[0].version == opset
    onnx.checker.check_model(loaded, full_check=True)
    close(onnx_reference.ReferenceEvaluator(loaded).run(["x_mean"], {"z": Z})[0], vae.decode(Z), "float64")


def test_a_file_says_what_it_is(tmp_path):
    vae = model("gaussian")
    vae.columns = tuple("abcdeü")
    loaded = onnx.load_model_from_string(written(vae, tmp_path)[1])
    facts = {entry.key: entry.value for entry in loaded.metadata_props}
    assert (facts["minivae"], facts["likelihood"], facts["part"]) == (mv.__version__, "gaussian", "decoder")
    assert json.loads(facts["columns"]) == list("abcdeü") and facts["scale"] == "standard"
    assert loaded.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("options, said", [
    ({"part": "decodr"}, "expected one of encoder, decoder, both"),
    ({"opset": 12}, "opset=12: expected 13 to"),
    ({"opset": 10_000}, "opset=10000: expected 13 to"),
    ({"opset": 17.0}, "expected an integer"),
])  # fmt: skip
def test_mistakes_are_one_sentence_and_write_nothing(options, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        model("bernoulli").to_onnx(tmp_path / "new", **options)
    assert not list(tmp_path.iterdir())


def test_a_part_wants_a_file_and_both_a_folder(tmp_path):
    vae = model("bernoulli")
    with pytest.raises(UsageError, match=r"expected a file, such as encoder\.onnx"):
        vae.to_onnx(tmp_path, part="encoder")
    (tmp_path / "taken").touch()
    with pytest.raises(UsageError, match="is a file"):
        vae.to_onnx(tmp_path / "taken")
    vae.to_onnx(tmp_path / "e.onnx", part="encoder")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["e.onnx", "taken"]


def test_without_onnx_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install onnx"):
        model("bernoulli").to_onnx(tmp_path)


def test_a_registered_likelihood_exports_its_encoder_alone(tmp_path):
    load([Path(__file__).parent / "student_t.py"])
    try:
        vae = mv.VAE(D, L, (5,), likelihood="student-t", backend="numpy")
    finally:
        likelihoods.unregister_likelihood("student-t")
        del sys.modules["minivae_plugin_student_t"]  # a plugin is run once a process
    vae.to_onnx(tmp_path / "e.onnx", part="encoder")
    with pytest.raises(UsageError, match="only those have a decoder"):
        vae.to_onnx(tmp_path / "d.onnx", part="decoder")


# ---- PyTorch --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_module_computes_what_encode_and_decode_compute(likelihood, activation, torch):
    for dtype, scaled in (("float32", False), ("float64", True)):
        vae, rng = model(likelihood, dtype, activation, scaled), np.random.default_rng(0)
        module = vae.to_torch()
        X, Z = rows_for(likelihood, 20, rng).astype(dtype), rng.normal(size=(20, L)).astype(dtype)
        if likelihood.startswith(("gaussian", "laplace")) and not scaled:
            X = rng.normal(size=X.shape).astype(dtype)
        with torch.no_grad():
            found = [*module.encode(torch.from_numpy(X)), module.decode(torch.from_numpy(Z))]
        for value, expected in zip(found, (*vae.encode(X), vae.decode(Z)), strict=True):
            assert np.abs(value.numpy() - expected).max() <= 1e-6 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradients_of_its_elbo_are_those_of_minivae(likelihood, scaled, samples, torch):
    vae, rng = model(likelihood, "float64", "softplus", scaled), np.random.default_rng(1)
    X = rows_for(likelihood, 11, np.random.default_rng(2))
    if likelihood.startswith(("gaussian", "laplace")) and not scaled:
        X = rng.normal(size=X.shape)
    eps = rng.normal(size=(samples, 11, L))
    terms, module = vae.objective_and_grad(X, eps, beta=0.7), vae.to_torch()
    elbo = module.elbo(torch.from_numpy(X), torch.from_numpy(eps), beta=0.7)
    (-elbo).backward()
    assert abs(-elbo.item() - terms.loss) <= 1e-9 * abs(terms.loss)
    mine = {f"{half}.{2 * i}": f"{half}.{i}" for half in ("encoder", "decoder") for i in (0, 1)}
    found = {name: p.grad.numpy() for name, p in module.named_parameters()}
    for theirs, ours in mine.items():
        for end, grad in (("weight", vae.gradients[f"{ours}.W"].T), ("bias", vae.gradients[f"{ours}.b"])):
            apart = np.abs(found.pop(f"{theirs}.{end}") - grad).max()
            assert apart <= 1e-6 * np.abs(grad).max(), f"{ours} {end}"
    for name, grad in found.items():
        np.testing.assert_allclose(grad, vae.gradients[f"likelihood.{name}"], rtol=1e-6)


def test_the_module_is_a_copy_that_trains_saves_and_pickles(torch):
    vae = model("gaussian:optimal", "float32")
    X = rows_for("gaussian", 50, np.random.default_rng(0))
    before, module = vae.decode(np.zeros((1, L), "float32")), vae.to_torch()
    optimizer, x = torch.optim.Adam(module.parameters(), 1e-2), torch.from_numpy(X)
    first = -module.elbo(x).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss = -module.elbo(x)
        loss.backward()
        optimizer.step()
    assert loss.item() < first - 1
    np.testing.assert_array_equal(vae.decode(np.zeros((1, L), "float32")), before)
    again = pickle.loads(pickle.dumps(module))
    module.eval(), again.eval()
    with torch.no_grad():
        torch.testing.assert_close(again(x), module(x))
    assert copy.deepcopy(module).state_dict().keys() == module.state_dict().keys()


def test_without_torch_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="pip install torch"):
        model("bernoulli").to_torch()


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on a table that is scaled."""
    folder = tmp_path_factory.mktemp("export")
    np.save(folder / "x.npy", rows_for("gaussian", 40, np.random.default_rng(0)))
    options = ["--hidden", "4", "--latent", "2", "--epochs", "1", "--scale", "standard"]
    assert minivae("train", folder / "x.npy", "--out", folder / "run", *options).returncode == 0
    return folder / "run"


def test_the_command_writes_what_the_method_writes(run, tmp_path):
    assert minivae("export", run, "-o", tmp_path / "a" / "b").returncode == 0
    mv.VAE.load(run / "model.safetensors", backend="numpy").to_onnx(tmp_path / "mine")
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (tmp_path / "a" / "b" / name).read_bytes() == (tmp_path / "mine" / name).read_bytes()
    again = minivae("export", run, "-o", tmp_path / "mine", "--part", "encoder")
    assert again.returncode == 2 and "encoder.onnx exist already" in again.stderr.replace("\n", " ")
    assert minivae("export", run, "-o", tmp_path / "mine", "--part", "encoder", "--force").returncode == 0


def test_a_mistake_is_one_line_and_writes_nothing(run, tmp_path):
    (tmp_path / "file").touch()
    for arguments, said in (
        (["-o", tmp_path / "new", "--part", "decode"], "--part decode: expected one of encoder, decoder, both"),
        (["-o", tmp_path / "new", "--opset", "9"], "opset=9: expected 13 to"),
        (["-o", tmp_path / "file"], "is a file: expected a folder"),
        (["-o", "/proc/new"], "/proc/new"),
    ):
        found = minivae("export", run, *arguments)
        assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1, found.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
