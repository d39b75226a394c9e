"""Runs and models of commit f21def9 (0.1.0) load, evaluate and resume; what a newer version wrote says so.

tests/fixtures/f21def9: x.npy, `run` (minivae train x.npy --hidden 5 --latent 2 --epochs 2 --batch-size 20
--backend numpy --validation 0.2), `scaled` (vae.fit of a Gaussian model with scale=), and expected.npz: what that
version encoded and sampled with run's model; bare.safetensors (`vae.save` of a 'gaussian:optimal' model that was
trained without a scale) and bare_expected.npz; scaled_expected.npz: codes and reconstructions of rows that were scaled
by hand, as that version wanted it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tolerances import assert_close

import minivae as mv
from minivae import plots
from minivae.cli import runs
from minivae.cli.app import app
from minivae.errors import UsageError
from minivae.evaluation.bounds import evaluate
from minivae.training.history import read_history

OLD = Path(__file__).parent / "fixtures/f21def9"
X = np.load(OLD / "x.npy")


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy of the old files; the run's data lie where its config says."""
    monkeypatch.setattr(plots, "available", lambda: False)
    shutil.copytree(OLD, tmp_path / "old")
    change(tmp_path / "old/run", data=str(tmp_path / "old/x.npy"))
    return tmp_path / "old"


def change(run, **fields):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | fields))


def test_an_old_model_computes_what_it_did(old):
    vae = mv.VAE.load(old / "run/model.safetensors", backend="numpy")
    expected = np.load(old / "expected.npz")
    mean, logvar = vae.encode(X[:5])
    assert_close(mean, expected["mean"], "float32")
    assert_close(logvar, expected["logvar"], "float32")
    assert_close(vae.sample(3), expected["sample"], "float32")


def test_an_old_bare_model_has_no_scale_and_takes_rows_as_before(old):
    vae, expected = mv.VAE.load(old / "bare.safetensors", backend="numpy"), np.load(old / "bare_expected.npz")
    assert (vae.scale, vae.binarize, vae.columns) == (None, "none", None)
    mean, logvar = vae.encode(X[:5])
    found = {"mean": mean, "logvar": logvar, "decoded": vae.decode(mean), "log_px": vae.log_likelihood(X[:5], 20)[0]}
    found["objective"] = vae.objective(X[:5]).loss
    for name, value in found.items():
        size = np.abs(expected[name]).max()
        assert_close(value, expected[name], "float32", scale=8 * size)


def test_an_old_scaled_runs_model_takes_the_datas_units_and_says_so(old):
    with pytest.warns(mv.UsageWarning, match="rows in the data's own units"):
        vae = mv.VAE.load(old / "scaled/model.safetensors", backend="numpy")
    expected = np.load(old / "scaled_expected.npz")
    assert vae.scale.kind == "standard"
    assert_close(vae.encode(X[:5])[0], expected["mean"], "float32")
    assert_close(vae.reconstruct(X[:5]), expected["reconstructed"], "float32", scale=np.abs(X).max())


def test_an_old_run_evaluates_to_what_its_history_says(old):
    opened = runs.open_run(old / "run", backend="numpy")
    part = opened.part(split="validation")
    history = read_history(old / "run")
    best = max(row["val_elbo"] for row in history)
    assert_close(evaluate(opened.vae, part.X, rows=part.rows).elbo, best, "float32", scale=8)


def test_an_old_run_resumes(old, capsys):
    before = read_history(old / "run")
    app(["train", str(old / "x.npy"), "--out", str(old / "run"), "--resume", "--epochs", "4"], standalone_mode=False)
    rows = read_history(old / "run")
    assert rows[:2] == before
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    capsys.readouterr()


def test_an_old_scaled_run_of_the_library_resumes(old):
    vae = mv.VAE(8, 2, (5,), backend="numpy", likelihood="gaussian")
    history = vae.fit(X, 3, 20, scale=mv.Scale.fit("standard", X), run=old / "scaled", resume=True, progress=False)
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]


def test_a_config_of_a_newer_version_says_so_and_never_to_update_for_an_old_one(old):
    change(old / "run", minivae="7.1.0", warp=9)
    with pytest.raises(UsageError, match=r"written by a newer minivae 7\.1\.0; this is .*: update this one"):
        runs.open_run(old / "run")
    change(old / "run", minivae="0.0.3")
    with pytest.raises(UsageError, match="damaged: Object contains unknown field `warp`") as caught:
        runs.open_run(old / "run")
    assert "update" not in str(caught.value)
