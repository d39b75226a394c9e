"""Pickles and copies: a model, and what trains it, go on in another process as if they had stayed."""

import copy
import multiprocessing
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import standin
from tolerances import assert_sums

import minivae as mv
from minivae.cli.plugin import load
from minivae.errors import UsageError, UsageWarning
from minivae.likelihoods import unregister_likelihood

PLUGIN = Path(__file__).parent / "student_t.py"
X = np.random.default_rng(0).normal(size=(40, 5)) * [1, 2, 3, 4, 5]


def through_joblib(thing, folder):
    joblib.dump(thing, folder / "thing.joblib")
    return joblib.load(folder / "thing.joblib")


WAYS = {
    "pickle": lambda thing, folder: pickle.loads(pickle.dumps(thing)),
    "oldest pickle": lambda thing, folder: pickle.loads(pickle.dumps(thing, protocol=0)),
    "deepcopy": lambda thing, folder: copy.deepcopy(thing),
    "copy": lambda thing, folder: copy.copy(thing),
    "joblib": through_joblib,
}


def trained(dtype="float64", likelihood="gaussian:optimal", **more):
    vae = mv.VAE(5, 2, (7,), "silu", likelihood, seed=2**63 + 5, backend="numpy", dtype=dtype, **more)
    vae.columns = ("a", "b", "c", "d", "e")
    vae.fit(X, epochs=2, batch_size=16, scale=mv.Scale.fit("standard", X))
    return vae


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_comes_back_as_it_was(way, dtype, tmp_path):
    vae = trained(dtype)
    again = WAYS[way](vae, tmp_path)
    assert type(again) is mv.VAE and again is not vae
    assert (again.config(), again.backend.dtype, again.passes) == (vae.config(), dtype, 2)
    assert (again.columns, again.binarize, again.scale.kind) == (vae.columns, "none", "standard")
    np.testing.assert_array_equal(again.buffer.state, vae.buffer.state)
    for ours, theirs in zip(again.log_likelihood(X, samples=5), vae.log_likelihood(X, samples=5), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(again.sample(3, draw=True), vae.sample(3, draw=True))


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_shares_nothing_with_its_model(way, tmp_path):
    vae = trained()
    before = vae.buffer.state.copy()
    WAYS[way](vae, tmp_path).fit(X, epochs=1)
    np.testing.assert_array_equal(vae.buffer.state, before)


OPTIMIZERS = {
    "SGD": lambda: mv.SGD(1e-3, momentum=0.9, nesterov=True),
    "Adagrad": lambda: mv.Adagrad(1e-3),
    "RMSprop": lambda: mv.RMSprop(1e-3, momentum=0.5),
    "Adam": lambda: mv.Adam(1e-3),
    "AdamW": lambda: mv.AdamW(1e-3),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_continues_bit_for_bit_with_a_copied_model_and_optimizer(name, way, tmp_path):
    vae, optimizer = mv.VAE(5, 2, (7,), likelihood="gaussian", backend="numpy", dtype="float64"), OPTIMIZERS[name]()
    vae.scale = mv.Scale.fit("standard", X)
    for _ in range(3):
        vae.train_step(X, optimizer)
    again, its = WAYS[way](vae, tmp_path), WAYS[way](optimizer, tmp_path)
    assert its.steps == 3 and type(its) is type(optimizer)
    for _ in range(3):
        vae.train_step(X, optimizer)
        again.train_step(X, its)
    np.testing.assert_array_equal(again.buffer.state, vae.buffer.state)
    assert np.isfinite(vae.buffer.state).all()


def test_a_copied_optimizer_serves_one_model_and_only_one_of_its_size():
    vae, optimizer = mv.VAE(5, 2, (7,), backend="numpy"), mv.Adam()
    binary = (X > 0).astype("float32")
    vae.train_step(binary, optimizer)
    its = copy.deepcopy(optimizer)
    with pytest.raises(UsageError, match=r"moments of \d+ parameters, and the model has \d+"):
        mv.VAE(5, 2, (30,), backend="numpy").train_step(binary, its)
    its = copy.deepcopy(optimizer)
    copy.deepcopy(vae).train_step(binary, its)
    with pytest.raises(UsageError, match="another model"):
        vae.train_step(binary, its)


@pytest.mark.parametrize("way", WAYS)
def test_the_objects_of_a_training_can_be_pickled(way, tmp_path):
    vae = mv.VAE(5, 2, (), likelihood="gaussian:shared", backend="numpy")
    schedule, beta, scale = mv.Schedule("milestones", 2.0, (3.0,), 0.5), mv.Beta(2.0, 3.0), mv.Scale.fit("minmax", X)
    history = vae.fit(X, epochs=3, validation=X, scale=scale)
    terms, traced = vae.objective(X), vae.trace(X)
    back = [WAYS[way](thing, tmp_path) for thing in (schedule, beta, scale, history, terms, traced, vae.backend)]
    assert back[:2] == [schedule, beta]
    np.testing.assert_array_equal(back[2].apply(X), scale.apply(X))
    assert (back[3].rows, back[3].best_epoch, back[3].stopped) == (history.rows, history.best_epoch, "finished")
    assert back[4].loss == terms.loss and back[4].kl_rows.tolist() == terms.kl_rows.tolist()
    assert len(back[5].steps) == len(traced.steps)
    assert repr(back[6]) == repr(vae.backend)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_model_works_in_another_process(method):
    vae = trained()
    with multiprocessing.get_context(method).Pool(1) as pool:
        log_px, error = pool.apply_async(vae.log_likelihood, (X, 5)).get(timeout=600)
    expected = vae.log_likelihood(X, 5)
    np.testing.assert_array_equal([log_px, error], expected)


def test_a_pickle_holds_the_weights_once_and_no_scratch():
    vae = mv.VAE(300, 20, (200,), backend="numpy")
    vae.objective(np.zeros((2000, 300), "float32"))
    text = pickle.dumps(vae)
    assert len(text) < 4 * vae.buffer.count + 5000
    names = {str(argument) for _, argument, _ in pickletools.genops(text)}
    assert not [name for name in names if name.startswith(("numpy.", "minivae.buffers"))], "plain data alone"


def test_a_model_of_a_gpu_comes_up_on_the_cpu_with_a_warning(monkeypatch):
    arguments = {"likelihood": "gaussian", "kernels": "reference", "dtype": "float64"}
    expected, its = mv.VAE(5, 2, (7,), backend="numpy", **arguments), mv.Adam()
    for _ in range(4):
        expected.train_step(X / 5, its)
    with monkeypatch.context() as device:
        standin.install(device)
        vae, optimizer = mv.VAE(5, 2, (7,), backend="cupy", **arguments), mv.Adam()
        for _ in range(2):
            vae.train_step(vae.backend.asarray(X / 5), optimizer)
        assert pickle.loads(pickle.dumps(vae)).backend.name == "cupy"
        text = pickle.dumps([vae, optimizer])
    with pytest.warns(UsageWarning, match=r"CuPy.*\. What was pickled with it now runs on numpy, reference kernels"):
        again, optimizer = pickle.loads(text)
    for _ in range(2):
        again.train_step(X / 5, optimizer)
    assert again.backend.name == "numpy"
    assert_sums(again.buffer.state, expected.buffer.state, of="training")


@pytest.mark.parametrize("name", ["columns", "_columns"])  # as pickles of now and of before have it
def test_a_model_that_is_not_fitted_keeps_the_names_of_its_columns(name):
    vae = mv.VAE(2, 1, (3,), likelihood="auto", backend="numpy")
    vae.columns = ["height", "weight"]
    make, arguments, state = vae.__reduce__()
    made = make(*arguments)
    made.__setstate__({name: state["columns"], "schema": state["schema"]})
    assert made.columns == copy.copy(vae).columns == ("height", "weight")


def test_a_likelihood_that_is_not_registered_is_named():
    load([PLUGIN])
    try:
        text = pickle.dumps(mv.VAE(5, 2, (), likelihood="student-t", backend="numpy"))
    finally:
        unregister_likelihood("student-t")
        del sys.modules["minivae_plugin_student_t"]  # a plugin is run once a process
    with pytest.raises(UsageError, match="no likelihood is called 'student-t': register it first"):
        pickle.loads(text)


def test_a_pickle_is_opened_without_importing_minivae_first(tmp_path):
    (tmp_path / "vae.pickle").write_bytes(pickle.dumps(trained()))
    code = f"import pickle; print(pickle.load(open({str(tmp_path / 'vae.pickle')!r}, 'rb')).features)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600).stdout == "5\n"
