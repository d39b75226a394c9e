"""Files: what is saved is what is loaded, a write is whole or not at all, and damage is named in one line."""

import contextlib
import errno
import json
import os
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minivae as mv
from minivae.disk import write_whole
from minivae.errors import UsageError
from minivae.training import checkpoint


def model(**more):
    return mv.VAE(6, 2, (5, 4), "silu", "gaussian:0.25", samples=3, seed=2**63 + 5, backend="numpy", **more)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_saved_model_loads_as_it_was(dtype, tmp_path):
    vae = model(dtype=dtype, init="he")
    vae.train_step(np.ones((3, 6)), mv.Adam())
    vae.save(tmp_path / "m.safetensors")
    loaded = mv.VAE.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.buffer.data, vae.buffer.data)
    assert loaded.config() == vae.config()
    assert loaded.backend.dtype == dtype
    assert loaded.passes == 1
    np.testing.assert_array_equal(loaded.sample(5), vae.sample(5))


def test_a_model_loads_in_another_dtype_when_asked(tmp_path):
    vae = model()
    vae.save(tmp_path / "m.safetensors")
    loaded = mv.VAE.load(tmp_path / "m.safetensors", dtype="float64", kernels="reference")
    assert loaded.backend.dtype == "float64"
    for name, view in vae.parameters.items():
        np.testing.assert_array_equal(loaded.parameters[name], view)


def test_the_file_is_plain_safetensors_with_named_tensors(tmp_path):
    vae = model()
    vae.save(tmp_path / "m.safetensors")
    tensors = load_file(tmp_path / "m.safetensors")
    assert set(tensors) == set(vae.parameters)
    assert tensors["encoder.0.W"].shape == (6, 5)


def test_equal_states_give_equal_bytes(tmp_path):
    for name in "ab":
        model().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_place_that_cannot_be_written_has_the_name_that_was_given(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        write_whole(tmp_path / "m.safetensors", b"x")
    assert caught.value.filename == str(tmp_path / "m.safetensors")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    model().save(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        model(init="he").save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_file_and_its_folder_are_synced_before_and_after_the_rename(tmp_path, monkeypatch):
    calls = []
    real = {"fsync": __import__("os").fsync, "replace": __import__("os").replace}
    monkeypatch.setattr("os.fsync", lambda fd: (calls.append("fsync"), real["fsync"](fd))[1])
    monkeypatch.setattr("os.replace", lambda a, b: (calls.append("replace"), real["replace"](a, b))[1])
    model().save(tmp_path / "m")
    assert calls == ["fsync", "replace", "fsync"]


def _rewrite(path, change):
    """The file again with its description changed."""
    held = checkpoint.read(path)
    text = {"version": 1, "model": held.model, "dtype": held.dtype, "training": {}, "extra": {}}
    change(text, held.tensors)
    save_file(held.tensors, path, metadata={"minivae": json.dumps(text)})


def _float8(path):
    """A tensor of a type that NumPy does not have; the file is written by hand."""
    text = json.dumps({"version": 1, "model": {}, "dtype": "float32", "training": {}, "extra": {}})
    tensor = {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}
    header = json.dumps({"__metadata__": {"minivae": text}, "a": tensor})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + b"12")


DAMAGE = {
    "missing": (lambda path: path.unlink(), "no such model file"),
    "empty": (lambda path: path.write_bytes(b""), "whole"),
    "text": (lambda path: path.write_text("hello" * 100), "whole"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-20]), "whole"),
    "header cut": (lambda path: path.write_bytes(path.read_bytes()[:30]), "whole"),
    "someone else's": (lambda path: save_file({"a": np.ones(3)}, path), "not one that minivae wrote"),
    "metadata no JSON": (lambda path: save_file({"a": np.ones(3)}, path, metadata={"minivae": "{"}), "whole"),
    "metadata a list": (lambda path: save_file({"a": np.ones(3)}, path, metadata={"minivae": "[1]"}), "whole"),
    "newer": (
        lambda path: _rewrite(path, lambda text, _: text.update(version=2, minivae="0.9.1", model=[])),
        r"written by a newer minivae 0\.9\.1; this is .* update this one",
    ),
    "older than any": (lambda path: _rewrite(path, lambda text, _: text.update(version="old")), "Expected `int`"),
    "float8": (_float8, "'a' is F8_E4M3, not one of F64"),
    "brackets": (lambda path: save_file({"a": np.ones(3)}, path, metadata={"minivae": "[" * 100_000}), "whole"),
    "huge layers": (
        lambda path: _rewrite(path, lambda text, _: text["model"].update(hidden=[30_000, 30_000])),
        r"the model needs floats \(6, 30000\)",
    ),
    "huge likelihood": (
        lambda path: _rewrite(path, lambda text, _: text["model"].update(likelihood="categorical:16777216")),
        "the model needs floats",
    ),
    "huge rows": (
        lambda path: _rewrite(path, lambda text, _: text["model"].update(features=50_000_000)),
        "the model needs floats",
    ),
    "tensor missing": (lambda path: _rewrite(path, lambda _, t: t.pop("decoder.0.b")), "'decoder.0.b' is missing"),
    "tensor's shape": (
        lambda path: _rewrite(path, lambda _, t: t.update({"encoder.0.b": np.ones(7, np.float32)})),
        r"the model needs floats \(5,\)",
    ),
    "tensor of integers": (
        lambda path: _rewrite(path, lambda _, t: t.update({"encoder.0.b": np.ones(5, np.int64)})),
        "needs floats",
    ),
    "unknown argument": (lambda path: _rewrite(path, lambda text, _: text["model"].update(depth=3)), "makes no sense"),
    "training a list": (
        lambda path: _rewrite(path, lambda text, _: text.update(training=[])),
        "got `array`",
    ),
    "extra a list": (
        lambda path: _rewrite(path, lambda text, _: text.update(extra=[])),
        "got `array`",
    ),
    "passes": (
        lambda path: _rewrite(path, lambda text, _: text["training"].update(passes="x")),
        "`int`, got `str`",
    ),
    "no width": (
        lambda path: _rewrite(path, lambda text, _: text["model"].update(features=0)),
        ">= 1",
    ),
    "hidden a word": (lambda path: _rewrite(path, lambda text, _: text["model"].update(hidden="ab")), "hidden"),
    "dtype": (lambda path: _rewrite(path, lambda text, _: text.update(dtype="int8")), "Invalid enum value 'int8'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named_in_one_line(damage, tmp_path):
    path = tmp_path / "model.safetensors"
    model().save(path)
    harm, match = DAMAGE[damage]
    harm(path)
    with allocating_at_most(2**24), pytest.raises(UsageError, match=match) as caught:
        mv.VAE.load(path)
    assert str(caught.value).isprintable()


@contextlib.contextmanager
def allocating_at_most(limit):
    """Fail where more bytes are held at once inside."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_with_parameters_that_are_not_finite_is_warned_of(value, tmp_path):
    vae = model()
    vae.parameters["decoder.0.b"][1] = value
    vae.save(tmp_path / "m.safetensors")
    with pytest.warns(mv.UsageWarning, match=r"m\.safetensors: 'decoder\.0\.b' holds NaN or infinite values"):
        mv.VAE.load(tmp_path / "m.safetensors")


def test_saving_into_a_folder_that_is_not_there_says_so(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        model().save(tmp_path / "no" / "m.safetensors")


def test_a_run_folder_loads_as_the_model_in_it_and_is_not_saved_over(tmp_path):
    vae = model()
    vae.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(mv.VAE.load(tmp_path).buffer.data, vae.buffer.data)
    with pytest.raises(UsageError, match="is a folder"):
        model().save(tmp_path)


@pytest.mark.parametrize("saved", ["by save", "by the run"])
def test_a_models_file_keeps_its_scale_binarisation_and_column_names(tmp_path, saved):
    X = np.random.default_rng(0).normal(5, 2, (40, 6))
    vae = mv.VAE(6, 2, (5,), likelihood="continuous-bernoulli", backend="numpy")
    vae.columns = list("abcdef")
    vae.fit(X, epochs=1, scale=mv.Scale.fit("minmax", X), binarize="none", run=tmp_path / "r", progress=False)
    vae.save(tmp_path / "m")
    loaded = mv.VAE.load(tmp_path / ("m" if saved == "by save" else "r/model.safetensors"), backend="numpy")
    assert (loaded.scale.kind, loaded.binarize, loaded.columns) == ("minmax", "none", tuple("abcdef"))
    np.testing.assert_array_equal(loaded.encode(X), vae.encode(X))
    np.testing.assert_array_equal(loaded.sample(5), vae.sample(5))


def test_which_is_best_or_last(tmp_path):
    model().save(tmp_path / "m")
    with pytest.raises(UsageError, match="'best' or 'last'"):
        mv.VAE.load(tmp_path / "m", which="first")
