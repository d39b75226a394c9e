"""Signals: a training saves and stops between two steps; a command that is interrupted says one line."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import minivae as mv
from minivae.training.history import read_history
from minivae.training.signals import Terminated

ROOT = Path(__file__).resolve().parent.parent
X = (np.random.default_rng(0).random((60, 8)) < 0.4).astype(np.float32)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def fit(folder=None, epochs=5, send=(), at=2, **more):
    """Train; after the epoch `at` the process sends itself the signals."""

    def callback(row):
        if row["epoch"] == at:
            for signum in send:
                os.kill(os.getpid(), signum)

    vae = mv.VAE(8, 2, (5,), backend="numpy")
    return vae.fit(X, epochs, 20, run=folder, progress=False, callback=callback, **more)


@pytest.mark.parametrize("signum", STATUS)
def test_a_signal_saves_and_stops_and_a_resume_ends_with_the_same_bytes(signum, tmp_path):
    before = signal.getsignal(signum)
    with pytest.raises(KeyboardInterrupt if signum == signal.SIGINT else Terminated) as caught:
        fit(tmp_path / "r", send=[signum])
    assert signum == signal.SIGINT or caught.value.code == STATUS[signum]
    assert signal.getsignal(signum) is before
    assert len(read_history(tmp_path / "r")) == 2
    fit(tmp_path / "r", resume=True)
    fit(tmp_path / "whole")
    resumed, whole = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("r", "whole"))
    assert resumed == whole


def test_ignored_signals_stay_ignored(tmp_path):
    """As under nohup, or in the background of a shell script."""
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in STATUS}
    try:
        assert len(fit(tmp_path / "r", send=list(STATUS))) == 5
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_a_handler_of_the_users_own_stays_in_place(tmp_path):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda signum, frame: seen.append(signum))
    try:
        assert len(fit(tmp_path / "r", send=[signal.SIGTERM])) == 5
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_hangup_and_termination_together_still_save(tmp_path):
    """A session that ends sends both; only a second Ctrl-C stops at once."""
    with pytest.raises(Terminated):
        fit(tmp_path / "r", send=[signal.SIGHUP, signal.SIGTERM, signal.SIGTERM])
    assert len(read_history(tmp_path / "r")) == 2


def test_a_training_without_a_run_leaves_termination_alone():
    handlers = []
    mv.VAE(8, 2, (5,), backend="numpy").fit(
        X, 1, progress=False, callback=lambda row: handlers.append(signal.getsignal(signal.SIGTERM))
    )
    assert handlers == [signal.SIG_DFL]


def test_a_training_in_another_thread_sets_no_handler(tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(len(fit(tmp_path / "r", epochs=1))))
    thread.start()
    thread.join()
    assert results == [1]


# ---- the command ----------------------------------------------------------------------------------------------------

COMMAND = """
import os, signal, sys
{}
sys.argv = ["minivae", "train", sys.argv[1], "--out", sys.argv[2], "--hidden", "5", "--latent", "2", "--epochs", "5",
            "--batch-size", "20", "--backend", "numpy"]
from minivae.__main__ import main
main()
"""
AT_AN_EPOCH = """
from minivae.training import history
def row(*arguments, real=history.epoch_row):
    if real(*arguments)["epoch"] == 3:
        os.kill(os.getpid(), {})
    return real(*arguments)
history.epoch_row = row
"""
AT_AN_IMPORT = """
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


def command(before, tmp_path):
    np.save(tmp_path / "x.npy", X)
    arguments = [sys.executable, "-c", COMMAND.format(before), str(tmp_path / "x.npy"), str(tmp_path / "r")]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("signum", STATUS)
def test_the_command_says_how_to_resume_and_exits_with_the_signals_status(signum, tmp_path):
    result = command(AT_AN_EPOCH.format(int(signum)), tmp_path)
    assert result.returncode == STATUS[signum]
    assert result.stderr.splitlines()[-1].endswith("--resume")
    assert "Traceback" not in result.stderr
    assert len(read_history(tmp_path / "r")) == 3


@pytest.mark.parametrize(
    "module",
    ["minivae.cli.app", "typer", "numpy", "numba", "numba.core.types", "minivae.kernels.adam", "minivae.training.loop"],
)
def test_ctrl_c_in_the_first_second_is_one_line(module, tmp_path):
    result = command(AT_AN_IMPORT.format(module), tmp_path)
    assert (result.returncode, result.stderr) == (130, "minivae: interrupted\n")


def test_ctrl_c_while_data_are_read_is_one_line(tmp_path):
    before = "import minivae.cli.train as t; t.load = lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)"
    result = command(before, tmp_path)
    assert result.returncode == 130
    assert result.stderr.strip() == "minivae: interrupted; training had not begun"
