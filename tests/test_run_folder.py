"""A run's folder: one training at a time, whole files, and a run after a kill at every moment of every write."""

import errno
import fcntl
import inspect
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest

import minivae as mv
from minivae import disk, plots
from minivae.cli import runs
from minivae.cli.app import app
from minivae.cli.app import train as train_command
from minivae.errors import UsageError, UsageWarning
from minivae.training.checkpoint import read
from minivae.training.history import read_history

ROOT = Path(__file__).resolve().parent.parent
X = (np.random.default_rng(0).random((60, 8)) < 0.4).astype(np.float32)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A file of 60 rows; no pictures are drawn."""
    monkeypatch.setattr(plots, "available", lambda: False)
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def train(data, folder, *more):
    """`minivae train`, in this process."""
    arguments = ["--hidden", "5", "--latent", "2", "--batch-size", "20", "--backend", "numpy", *more]
    app(["train", str(data), "--out", str(folder), *arguments], standalone_mode=False)


def fit(folder, epochs=2, **more):
    return mv.VAE(8, 2, (5,), backend="numpy").fit(X, epochs, 20, run=folder, progress=False, **more)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- killed at every write ------------------------------------------------------------------------------------------

CALLS = ("replace", "fsync", "unlink")  # what changes a folder, and what makes it last


def killed(point, function):
    """Run `function` in a process that is killed before the call number `point` of CALLS; False if there was none."""
    child = os.fork()
    if child == 0:
        left = point

        def counted(call):
            def count(*arguments, **more):
                nonlocal left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return call(*arguments, **more)

            return count

        try:
            for name in CALLS:
                setattr(os, name, counted(getattr(os, name)))
            function()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def finished(folder):
    return read(folder / "model.safetensors").training["position"]["epoch"], len(read_history(folder))


@pytest.mark.slow
def test_a_forced_training_killed_at_any_write_is_resumable_or_yields_to_force(data, tmp_path, capsys):
    """Neither --resume nor --force is stuck, and what is resumed ends as the run that was left alone."""
    new = ("--epochs", "2", "--seed", "5")
    train(data, tmp_path / "alone", *new)
    alone = (tmp_path / "alone/model.safetensors").read_bytes()
    train(data, tmp_path / "old", "--epochs", "3")
    (tmp_path / "old/loss.png").write_bytes(b"of the old run")
    points = resumed = 0
    while True:
        folder = shutil.copytree(tmp_path / "old", tmp_path / f"r{points}")
        if not killed(points, lambda folder=folder: train(data, folder, "--force", *new)):
            break
        points += 1
        try:
            train(data, folder, "--resume")
            resumed += 1
        except UsageError as error:
            assert "was begun with" in str(error)  # the old run's checkpoint under the new run's options
        else:
            assert finished(folder) in [(3, 2), (4, 3)]
        train(data, folder, "--force", *new)
        assert (folder / "model.safetensors").read_bytes() == alone
        assert sorted(content(folder)) == ["config.json", "history.csv", "model.safetensors"]
    assert points > 15
    assert resumed >= points - 6
    capsys.readouterr()


def test_a_training_killed_at_any_write_resumes_to_the_same_bytes(tmp_path):
    fit(tmp_path / "alone")
    points = 0
    while True:
        folder = tmp_path / f"r{points}"
        if not killed(points, lambda folder=folder: fit(folder, save_seconds=0.0)):
            break
        folder.mkdir(exist_ok=True)
        fit(folder, resume=True)
        assert (folder / "model.safetensors").read_bytes() == (tmp_path / "alone/model.safetensors").read_bytes()
        assert sorted(content(folder)) == ["history.csv", "model.safetensors"]
        points += 1
    assert points > 20


def test_an_epochs_row_is_on_the_disk_before_the_checkpoint_that_counts_it(tmp_path, monkeypatch):
    """A power cut takes what was not synced: then the checkpoint must not know of it."""
    rows_synced, real = 0, os.fsync

    def fsync(descriptor):
        nonlocal rows_synced
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("history.csv"):
            rows_synced = (tmp_path / "r/history.csv").read_text().count("\n") - 1
        real(descriptor)

    def replace(temporary, path, real=os.replace):
        if path.name == "model.safetensors":
            assert read(temporary).training["position"]["epoch"] - 1 <= rows_synced
        real(temporary, path)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    fit(tmp_path / "r", save_seconds=0.0)
    assert rows_synced == 2


# ---- one training at a time -----------------------------------------------------------------------------------------


@pytest.fixture
def busy(data, tmp_path):
    """The folder of a run that another process holds, with a write under way."""
    train(data, tmp_path / "r", "--epochs", "2")
    (tmp_path / "r/.model.safetensors.77.minivae-tmp").write_bytes(b"half")
    with open(tmp_path / "r" / disk.LOCK_FILE, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path / "r"


@pytest.mark.parametrize("how", ["--resume", "--force", "neither"])
def test_a_second_training_in_a_folder_gets_one_line_and_changes_nothing(how, busy, data, capsys):
    before = content(busy)
    with pytest.raises(UsageError, match="another training is working in this folder") as caught:
        train(data, busy, *([] if how == "neither" else [how]))
    assert "\n" not in str(caught.value)
    assert content(busy) == before
    capsys.readouterr()


def test_a_refused_training_deletes_no_file_of_a_write_under_way(data, tmp_path, capsys):
    train(data, tmp_path / "r", "--epochs", "1")
    (tmp_path / "r/.model.safetensors.77.minivae-tmp").write_bytes(b"half")
    before = content(tmp_path / "r")
    with pytest.raises(UsageError, match="holds a run"):
        train(data, tmp_path / "r")
    assert content(tmp_path / "r") == before
    capsys.readouterr()


def test_of_many_resumes_at_once_one_trains_and_the_others_are_refused(tmp_path):
    fit(tmp_path / "r", epochs=1)
    code = (
        "import sys, numpy as np, minivae as mv\n"
        "X = (np.random.default_rng(0).random((60, 8)) < 0.4).astype(np.float32)\n"
        "vae = mv.VAE(8, 2, (5,), backend='numpy')\n"
        "try: vae.fit(X, 2000, 20, run=sys.argv[1], resume=True, progress=False)\n"
        "except mv.UsageError as error: sys.exit('another training' in str(error) and 9)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "r")]
    codes = [process.wait(120) for process in [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]]
    assert set(codes) <= {0, 9}
    assert codes.count(0) >= 1
    assert [row["epoch"] for row in read_history(tmp_path / "r")] == list(range(1, 2001))


def test_a_lock_ends_with_the_process_that_held_it(tmp_path):
    def hold():
        with disk.locked(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert killed(99, hold)
    with disk.locked(tmp_path), pytest.raises(UsageError), disk.locked(tmp_path):
        pass
    assert content(tmp_path) == {}


def test_a_file_system_without_locks_is_mentioned_and_training_continues(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UsageWarning, match="cannot be locked here"):
        fit(tmp_path / "r")
    assert sorted(content(tmp_path / "r")) == ["history.csv", "model.safetensors"]


# ---- files ----------------------------------------------------------------------------------------------------------


def test_two_threads_that_save_to_one_path_never_tear_it(tmp_path):
    """One process has one number, so it must not name the temporary file."""
    errors, path = [], tmp_path / "m"
    disk.write_whole(path, b"0" * 100_000)

    def write(digit):
        for _ in range(60):
            try:
                disk.write_whole(path, digit * 100_000)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(digit,)) for digit in (b"1", b"2")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        data = path.read_bytes()
        assert len(data) == 100_000
        assert len(set(data)) == 1
    assert errors == []
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_link_planted_in_the_temporary_files_place_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_bytes(b"mine")
    names = iter(["aa", "bb"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(names))
    for name in (".m.aa.minivae-tmp", f".m.{os.getpid()}.minivae-tmp"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    disk.write_whole(tmp_path / "m", b"new")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert (tmp_path / "m").read_bytes() == b"new"
    assert not (tmp_path / "m").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_file_keeps_its_mode(mode, tmp_path):
    disk.write_whole(tmp_path / "m", b"old")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == 0o666 & ~umask
    (tmp_path / "m").chmod(mode)
    disk.write_whole(tmp_path / "m", b"new")
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == mode


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_a_folder_that_cannot_be_synced_stops_no_training(code, tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    assert len(fit(tmp_path / "r")) == 2


def test_a_disk_that_fails_while_a_folder_is_synced_is_an_error(tmp_path, monkeypatch):
    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        disk.write_whole(tmp_path / "m", b"new")


def test_force_replaces_a_run_and_nothing_else(data, tmp_path, capsys):
    train(data, tmp_path / "r", "--epochs", "1")
    for name in (*runs.PICTURES, "notes.txt"):
        (tmp_path / "r" / name).write_bytes(b"x")
    train(data, tmp_path / "r", "--epochs", "2", "--force")
    assert sorted(content(tmp_path / "r")) == ["config.json", "history.csv", "model.safetensors", "notes.txt"]
    assert len(read_history(tmp_path / "r")) == 2
    (tmp_path / "r/config.json").unlink()
    with pytest.raises(UsageError, match="is not a run's folder"):
        train(data, tmp_path / "r", "--force")
    capsys.readouterr()


# ---- what a run's files say -----------------------------------------------------------------------------------------


def test_the_schema_of_the_options_is_the_command():
    """Names, order and defaults of `minivae train` and of config.json are one list; `scale` was "none" in old files."""
    command = list(inspect.signature(train_command).parameters.values())
    options = [
        (p.name, p.default) for p in command if p.name not in ("context", "data", "out", "force", "resume", "plugin")
    ]
    fields = [(field.name, field.default) for field in msgspec.structs.fields(runs.TrainOptions)]
    options[options.index(("scale", "auto"))] = ("scale", "none")
    options[options.index(("ignore", None))] = ("ignore", ())
    options[options.index(("condition", None))] = ("condition", ())
    assert fields == options


CONFIG = {
    "epochs endless": (lambda c: c["options"].update(epochs=2**63), r"<= 4294967295.*options\.epochs"),
    "epochs text": (lambda c: c["options"].update(epochs="2"), "got `str`"),
    "seed": (lambda c: c["options"].update(seed=-1), ">= 0"),
    "validation": (lambda c: c["options"].update(validation=1.0), "< 1.0"),
    "schedule": (lambda c: c["options"].update(schedule=1), "got `int`"),
    "hidden": (lambda c: c["options"].update(hidden=[5]), "got `array`"),
    "dtype": (lambda c: c["options"].update(dtype="f4,,"), "Invalid enum value"),
    "optimizer": (lambda c: c["options"].update(optimizer=None), "got `null`"),
    "a long name": (lambda c: c["options"].update(likelihood="x" * 5000), "length <= 200"),
    "options": (lambda c: c.update(options=[]), "got `array`"),
    "shape": (lambda c: c.update(shape=[[0], 300_000_000]), "got `array`"),
    "another shape": (lambda c: c.update(shape=[3, 3]), "have not 8 features"),
    "no data": (lambda c: c.pop("data"), "missing required field `data`"),
}


@pytest.mark.parametrize("harm", CONFIG)
def test_a_damaged_config_is_named_in_one_line(harm, data, tmp_path, capsys):
    change, match = CONFIG[harm]
    train(data, tmp_path / "r", "--epochs", "1")
    config = json.loads((tmp_path / "r/config.json").read_text())
    change(config)
    (tmp_path / "r/config.json").write_text(json.dumps(config))
    before = content(tmp_path / "r")
    for command in (lambda: train(data, tmp_path / "r", "--resume"), lambda: runs.open_run(tmp_path / "r")):
        with pytest.raises(UsageError, match=match) as caught:
            command()
        assert str(caught.value).startswith(str(tmp_path / "r/config.json"))
        assert str(caught.value).isprintable()
    assert content(tmp_path / "r") == before
    capsys.readouterr()


HUGE = {
    "latent": {"latent": 2**20},
    "hidden": {"hidden": str(2**20)},
    "classes": {"likelihood": f"categorical:{2**20}"},
    "samples": {"samples": 2**20},
    "batch size": {"batch_size": 2**52},
}


@pytest.mark.parametrize("options", HUGE.values(), ids=HUGE)
def test_a_config_of_another_size_than_the_checkpoint_is_refused_before_it_takes_memory(options, data, tmp_path):
    train(data, tmp_path / "r", "--epochs", "1")
    config = json.loads((tmp_path / "r/config.json").read_text())
    config["options"].update(options)
    (tmp_path / "r/config.json").write_text(json.dumps(config))
    before = content(tmp_path / "r")
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=r"of different runs|the model needs floats|only --epochs may change"):
            app(["train", str(data), "--out", str(tmp_path / "r"), "--resume"], standalone_mode=False)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert content(tmp_path / "r") == before


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "NaN", '{"data": ' + "[" * 100_000, "\xff"])
def test_a_config_that_minivae_did_not_write_is_named_in_one_line(text, tmp_path):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(
        UsageError, match=r"config\.json: expected the config\.json that `minivae train` wrote"
    ) as caught:
        runs.open_run(tmp_path)
    assert str(caught.value).isprintable()


def test_a_config_and_a_model_of_different_runs_are_told_apart(data, tmp_path, capsys):
    train(data, tmp_path / "r", "--epochs", "1")
    mv.VAE(6, 2, (5,), backend="numpy").save(tmp_path / "r/model.safetensors")
    with pytest.raises(UsageError, match="says 8 features, and the model beside it takes 6"):
        runs.open_run(tmp_path / "r")
    capsys.readouterr()
