"""Every command of the command line, as a user types it, its mistakes included.

A user's mistake is one line on standard error that begins with `minivae:`, and status 2; never a traceback.
"""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from minivae import plots
from minivae.errors import UsageWarning

ROOT = Path(__file__).resolve().parent.parent
SMALL = ["--hidden", "16", "--latent", "2", "--epochs", "3", "--batch-size", "100"]


def in_a_process(*arguments, cwd=ROOT):
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "minivae", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=600, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def minivae(*arguments, cwd=ROOT, pictures=False):
    """The same `main()` in this process, which has imported everything already: some thirty times quicker.

    pictures  whether `train` draws its pictures, which takes ten times as long as a short training
    """
    from minivae.__main__ import main

    out, err, before = io.StringIO(), io.StringIO(), (sys.argv, Path.cwd(), warnings.showwarning)
    try:
        sys.argv = ["minivae", *map(str, arguments)]
        os.chdir(cwd)
        drawing = contextlib.nullcontext() if pictures else mock.patch.object(plots, "available", lambda: False)
        with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), drawing:
            warnings.simplefilter("always", UsageWarning)
            try:
                main()
                status = 0
            except SystemExit as exit:
                status = exit.code or 0
    finally:
        sys.argv, warnings.showwarning = before[0], before[2]
        os.chdir(before[1])
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def ok(*arguments, **options):
    result = minivae(*arguments, **options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def mistake(*arguments, **options):
    result = minivae(*arguments, **options)
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    return result.stderr


def one_line(*arguments, **options):
    lines = [line for line in mistake(*arguments, **options).splitlines() if not line.startswith("minivae: warning")]
    assert len(lines) == 1, lines
    assert lines[0].startswith("minivae: ")
    return lines[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits with validation and two latent dimensions."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    ok("train", "digits", "--out", folder, *SMALL, "--validation", "0.1", "--epochs", "6", pictures=True)
    return folder


# ---- train ----------------------------------------------------------------------------------------------------------


def test_train_leaves_config_history_model_and_pictures(run):
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.json", "history.csv", "model.safetensors", "loss.png", "reconstructions.png", "samples.png",
        "manifold.png", "latent.png",
    }  # fmt: skip
    with open(run / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert float(rows[-1]["val_elbo"]) > float(rows[0]["val_elbo"])
    for name in names:
        if name.endswith(".png"):
            assert (run / name).read_bytes().startswith(b"\x89PNG")


def test_train_says_what_it_chose_and_why_and_gives_the_test_figure(tmp_path):
    result = minivae("train", "digits", "--out", tmp_path / "r", *SMALL)
    assert "bernoulli: grey pictures" in result.stdout
    assert "binarisation: dynamic" in result.stdout
    assert "numpy, fused kernels, float32" in result.stdout
    assert "test        elbo -" in result.stdout
    assert "rows/s" in result.stderr
    assert "elbo" in result.stderr


@pytest.mark.slow
def test_commands_work_as_processes_from_any_folder(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    for arguments in (["train", "x.npy", "--out", "r", *SMALL], ["evaluate", "r"], ["--help"]):
        result = in_a_process(*arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    result = in_a_process("train", "x.npy", "--out", "r", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("minivae: --out r holds a run")


def test_samples_png_is_a_grid_of_64_pictures(run):
    """As pixels: samples.png is a grid of 64 pictures of 8 × 8, gaps between and around them, and not one grey."""
    from matplotlib.image import imread

    pixels = imread(run / "samples.png")[..., 0]
    side = pixels.shape[1] // 73
    pixels = pixels[-73 * side :]  # below its title
    assert pixels.shape[:2] == (73 * side, 73 * side)
    small = pixels[side // 2 :: side, side // 2 :: side]
    for gaps in (small[::9], small[:, ::9]):
        assert np.allclose(gaps, small[0, 0])
    assert small.std() > 0.1


ROWS = np.random.default_rng(0).normal(size=(120, 5)) * [1, 10, 0.1, 3, 2] + 7
FORMATS = {
    "x.npy": lambda path: np.save(path, ROWS),
    "x.npz": lambda path: np.savez(path, X=ROWS, y=np.arange(120) % 3),
    "x.csv": lambda path: path.write_text("a,b,c,d,e\n" + "\n".join(",".join(map(str, row)) for row in ROWS)),
    "x.txt": lambda path: np.savetxt(path, ROWS),
}


@pytest.mark.parametrize("name", FORMATS)
def test_train_takes_every_format(name, tmp_path):
    FORMATS[name](tmp_path / name)
    out = ok("train", name, "--out", "r", *SMALL, "--scale", "standard", cwd=tmp_path)
    assert "gaussian" in out
    config = json.loads((tmp_path / "r/config.json").read_text())
    assert config["data"] == str(tmp_path / name)


def test_scaled_runs_report_in_the_datas_own_units(tmp_path):
    """Samples come back unscaled, and an exact density of the data bounds −nll: nats are of the data's units."""
    np.save(tmp_path / "x.npy", ROWS)
    ok("train", "x.npy", "--out", "r", *SMALL, "--scale", "standard", "--epochs", "40", "--lr", "0.01", cwd=tmp_path)
    ok("sample", "r", "-n", "500", "--draw", "-o", "s.npy", cwd=tmp_path)
    samples = np.load(tmp_path / "s.npy")
    np.testing.assert_allclose(samples.mean(axis=0), ROWS.mean(axis=0), atol=0.5 * ROWS.std(axis=0).max())
    np.testing.assert_allclose(samples.std(axis=0), ROWS.std(axis=0), rtol=0.5)
    elbo = json.loads(ok("evaluate", "r", "--json", cwd=tmp_path))["elbo"]
    entropy = 0.5 * np.log(2 * np.pi * np.e * ROWS.var(axis=0)).sum()
    assert abs(elbo + entropy) < 1.5


@pytest.mark.parametrize(
    "options",
    [
        ["--likelihood", "gaussian:0.3", "--activation", "silu", "--optimizer", "rmsprop", "--momentum", "0.5"],
        ["--likelihood", "gaussian", "--schedule", "warmup:1+cosine", "--init", "he", "--samples", "3", "--clip", "1"],
        ["--hidden", "none", "--optimizer", "nesterov", "--beta", "0.5", "--kl-warmup", "2", "--dtype", "float64"],
        [
            "--hidden",
            "16,8",
            "--binarize",
            "static",
            "--optimizer",
            "adamw",
            "--weight-decay",
            "0.1",
            "--beta-cycle",
            "2",
        ],
        ["--binarize", "threshold", "--optimizer", "adagrad", "--init", "normal:0.01", "--kernels", "reference"],
        ["--validation", "0.2", "--patience", "1", "--scale", "minmax", "--binarize", "none", "--seed", "7"],
    ],
    ids=lambda options: " ".join(options[:4]),
)
def test_train_takes_every_option(options, tmp_path):
    ok("train", "digits", "--out", tmp_path / "r", *SMALL, *options)
    assert np.isfinite(json.loads(ok("evaluate", tmp_path / "r", "--json"))["elbo"])


def test_a_loss_with_beta_below_one_is_not_called_a_bound(tmp_path):
    result = minivae("train", "digits", "--out", tmp_path / "r", *SMALL, "--kl-warmup", "9")
    assert "not a bound" in result.stderr
    with open(tmp_path / "r/history.csv", newline="") as file:
        assert {row["bound"] for row in csv.DictReader(file)} == {"no"}


def test_bernoulli_on_grey_pictures_warns_and_names_binarize(tmp_path):
    result = minivae("train", "digits", "--out", tmp_path / "r", *SMALL, "--binarize", "none")
    assert result.returncode == 0
    assert "--binarize dynamic" in result.stderr


def test_without_matplotlib_training_says_which_pictures_are_missing(tmp_path):
    """A module path in front that hides Matplotlib, as on a machine without the extra."""
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'matplotlib' else real(name, *a)\n"
        "sys.argv[0] = 'minivae'\nfrom minivae.__main__ import main\nmain()"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        [*command, "train", "digits", "--out", str(tmp_path / "r"), *SMALL], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "pip install matplotlib" in result.stdout
    result = subprocess.run(
        [*command, "sample", str(tmp_path / "r"), "-o", str(tmp_path / "s.png")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "pip install matplotlib" in result.stderr


def test_without_matplotlib_only_a_command_that_writes_arrays_advises_to(run, tmp_path, monkeypatch):
    monkeypatch.setattr("minivae.plots.draw.available", lambda: False)
    assert ".npy or .csv instead of .png" in one_line("sample", run, "-o", tmp_path / "x.png")
    assert "instead" not in one_line("picture", run, "loss", "-o", tmp_path / "x.png")


# ---- resume and interruption ----------------------------------------------------------------------------------------


def test_resume_continues_with_the_options_the_run_was_begun_with(tmp_path):
    ok("train", "digits", "--out", tmp_path / "r", *SMALL)
    ok("train", "digits", "--out", tmp_path / "r", "--resume", "--epochs", "5")
    ok("train", "digits", "--out", tmp_path / "once", *SMALL, "--epochs", "5")
    resumed, once = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("r", "once"))
    assert resumed == once


def test_resume_with_another_option_or_other_data_is_refused(run, tmp_path):
    assert "--latent 2" in one_line("train", "digits", "--out", run, "--resume", "--latent", "5")
    np.save(tmp_path / "x.npy", np.zeros((20, 64)))
    assert "begun with the data digits" in one_line("train", tmp_path / "x.npy", "--out", run, "--resume")
    assert "leave one of the two out" in one_line("train", "digits", "--out", run, "--resume", "--force")


def test_resume_sees_that_a_file_has_changed(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    ok("train", "x.npy", "--out", "r", *SMALL, cwd=tmp_path)
    np.save(tmp_path / "x.npy", ROWS + 1)
    assert "the data have changed" in one_line(
        "train", "x.npy", "--out", "r", "--resume", "--epochs", "9", cwd=tmp_path
    )


def test_evaluating_a_run_whose_file_has_changed_says_so(tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    ok("train", "x.npy", "--out", "r", *SMALL, "--scale", "standard", cwd=tmp_path)
    assert "has changed" not in minivae("evaluate", "r", cwd=tmp_path).stderr
    np.save(tmp_path / "x.npy", np.vstack([ROWS, ROWS]))
    result = minivae("evaluate", "r", cwd=tmp_path)
    assert result.returncode == 0
    assert "x.npy has changed since r was trained on it" in result.stderr


@pytest.mark.parametrize(
    "listener",
    [
        *(pytest.param(end, marks=pytest.mark.slow) for end in ("| true", "2>&1 | head -1", "> /dev/full 2>&1")),
        "<&- >&- 2>&-",
    ],
)
def test_a_training_goes_on_when_its_output_is_closed_or_full(listener, tmp_path):
    np.save(tmp_path / "x.npy", ROWS)
    arguments = " ".join(["train", str(tmp_path / "x.npy"), "--out", str(tmp_path / "r"), *SMALL])
    subprocess.run(f"{sys.executable} -m minivae {arguments} {listener}", shell=True, cwd=ROOT, timeout=600)
    assert len((tmp_path / "r/history.csv").read_text().splitlines()) == 4
    assert (tmp_path / "r/samples.png").exists()


def test_a_run_of_which_only_the_config_is_left_can_be_resumed(tmp_path):
    ok("train", "digits", "--out", tmp_path / "r", *SMALL)
    for name in ("model.safetensors", "history.csv"):
        (tmp_path / "r" / name).unlink()
    ok("train", "digits", "--out", tmp_path / "r", "--resume")
    assert np.isfinite(json.loads(ok("evaluate", tmp_path / "r", "--json"))["elbo"])


def test_test_rows_that_the_model_cannot_explain_are_found_before_the_training(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((200, 3)))
    arguments = ["train", "x.npy", "--out", "r", *SMALL, "--scale", "minmax", "--likelihood", "bernoulli"]
    for binarize in ("none", "dynamic"):
        line = one_line(*arguments, "--binarize", binarize, cwd=tmp_path)
        assert "gaussian" in line
        assert not (tmp_path / "r").exists()


def test_large_values_are_advised_to_scale(tmp_path):
    np.save(tmp_path / "x.npy", 1e4 * np.random.default_rng(0).random((200, 3)))
    result = minivae("train", "x.npy", "--out", "r", *SMALL, "--scale", "none", cwd=tmp_path)
    assert "--scale standard" in result.stderr


def test_a_save_interval_that_makes_no_sense_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIVAE_SAVE_SECONDS", "abc")
    assert "MINIVAE_SAVE_SECONDS='abc'" in one_line("train", "digits", "--out", tmp_path / "r", *SMALL)


def test_version():
    assert ok("--version").startswith("minivae 0.")


def test_the_objective_is_kept_in_the_config_said_and_checked_when_resumed(tmp_path):
    options = ["--objective", "iwae", "--samples", "4", "--antithetic"]
    said = ok("train", "digits", "--out", tmp_path / "r", *SMALL, *options)
    assert "objective   iwae, 4 samples a row in antithetic pairs" in said
    assert "test        iwae -" in said
    kept = json.loads((tmp_path / "r/config.json").read_text())["options"]
    assert (kept["objective"], kept["samples"], kept["antithetic"], kept["free_bits"]) == ("iwae", 4, True, 0.0)
    figures = json.loads(ok("evaluate", tmp_path / "r", "--json"))
    assert f"iwae {figures['iwae']:.3f}  elbo {figures['elbo']:.3f}" in said
    for change in (["--objective", "elbo"], ["--free-bits", "0.5"]):
        line = one_line("train", "digits", "--out", tmp_path / "r", "--resume", *change)
        assert f"was begun with {change[0]}" in line
    ok("train", "digits", "--out", tmp_path / "r", "--resume", "--epochs", "4")


def test_free_bits_reach_the_loss(tmp_path):
    ok("train", "digits", "--out", tmp_path / "r", *SMALL, "--epochs", "1", "--free-bits", "5")
    with open(tmp_path / "r/history.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["loss"]) >= float(row["nll"]) + 2 * 5.0 - 1e-6


def test_divergence_exits_1_and_names_step_and_tensor(tmp_path):
    options = [*SMALL, "--optimizer", "sgd", "--lr", "1e30"]
    result = minivae("train", "digits", "--out", tmp_path / "r", *options)
    assert result.returncode == 1
    assert "diverged at step" in result.stderr
    assert "Traceback" not in result.stderr


# ---- the other commands ---------------------------------------------------------------------------------------------


def test_evaluate_gives_its_figures_as_text_and_json(run):
    assert "elbo" in ok("evaluate", run)
    figures = json.loads(ok("evaluate", run, "--importance", "50", "--json"))
    assert figures["elbo"] == pytest.approx(-(figures["nll"] + figures["kl"]))
    assert figures["log_likelihood"] > figures["elbo"]
    assert 0 < figures["standard_error"] < 1
    assert figures["rows"] == 359


def test_evaluate_anneals_and_checks_itself_from_both_sides(run):
    options = ["-n", "3", "--ais", "30", "--chains", "4", "--bidirectional"]
    figures = json.loads(ok("evaluate", run, *options, "--json"))
    ais = figures["ais"]
    assert (figures["rows"], ais["temperatures"], ais["chains"]) == (3, 30, 4)
    assert abs(ais["log_likelihood"] - figures["elbo"]) < 15
    both = ais["bidirectional"]
    gap = both["upper"]["log_likelihood"] - both["lower"]["log_likelihood"]
    assert both["gap"] == pytest.approx(gap) and both["rows"] == 16
    text = ok("evaluate", run, *options)
    assert f"ln p(x) {ais['log_likelihood']:8.3f} ± {ais['standard_error']:.3f}" in text
    assert f"a gap of {both['gap']:.3f}" in text
    assert "first 3 rows of the test part of digits" in text


def test_evaluate_reports_which_dimensions_are_used(run):
    report = json.loads(ok("evaluate", run, "--report", "--json"))["report"]
    figures = json.loads(ok("evaluate", run, "--json"))
    assert (report["rate"], report["distortion"]) == (figures["kl"], figures["nll"])
    assert sorted(report["active"] + report["unused"]) == [0, 1]
    assert sum(report["kl_dims"]) == pytest.approx(report["rate"])
    assert 0 <= report["mutual_information"] <= np.log(report["mutual_information_rows"])
    text = ok("evaluate", run, "--report")
    assert f"{len(report['active'])} of 2 latent dimensions are active" in text
    assert f"{report['kl_dims'][1]:8.3f}" in text


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_evaluate_writes_the_log_likelihood_of_each_row(run, tmp_path, suffix):
    from minivae.cli.runs import open_run

    path = tmp_path / f"rows{suffix}"
    options = ["--importance", "5", "-n", "20", "--per-row", path]
    figures = json.loads(ok("evaluate", run, *options, "--json"))
    if suffix == ".npz":
        with np.load(path) as held:
            table = {name: held[name] for name in held}
    else:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        table = {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}
    part = open_run(run).part()
    np.testing.assert_array_equal(table["row"], part.rows[:20])
    np.testing.assert_array_equal(table["y"], part.y[:20])
    assert table["log_px"].mean() == pytest.approx(figures["log_likelihood"], rel=1e-12)
    assert np.sqrt((table["standard_error"] ** 2).sum()) / 20 == pytest.approx(figures["standard_error"], rel=1e-12)
    before = path.read_bytes()
    assert "--force" in one_line("evaluate", run, *options)
    assert path.read_bytes() == before
    assert "20 rows" in ok("evaluate", run, *options, "--force")


def test_evaluate_writes_annealed_log_likelihoods_too(run, tmp_path):
    options = ["--ais", "3", "--chains", "2", "-n", "5", "--per-row", tmp_path / "rows.npz"]
    ais = json.loads(ok("evaluate", run, *options, "--json"))["ais"]
    with np.load(tmp_path / "rows.npz") as held:
        assert held["log_px"].mean() == pytest.approx(ais["log_likelihood"], rel=1e-12)
        assert np.sqrt((held["standard_error"] ** 2).sum()) / 5 == pytest.approx(ais["standard_error"], rel=1e-12)


def test_evaluate_says_no_error_of_one_chain(run):
    options = ["-n", "3", "--ais", "3", "--chains", "1"]
    assert json.loads(ok("evaluate", run, *options, "--json"))["ais"]["standard_error"] is None


def test_evaluate_anneals_the_binarised_rows(run):
    from minivae.cli.runs import open_run
    from minivae.evaluation.annealing import annealed

    opened = open_run(run)
    part = opened.part().first(3)
    found = annealed(opened.vae, part.X, 3, 16, 10, rows=part.rows, binarize="dynamic").log_px.mean()
    shown = json.loads(ok("evaluate", run, "-n", "3", "--ais", "3", "--json"))["ais"]["log_likelihood"]
    assert shown == pytest.approx(found, rel=1e-9)


def test_evaluate_anneals_in_the_units_of_the_data(tmp_path):
    from minivae.cli.runs import open_run
    from minivae.evaluation.annealing import annealed, enclose

    np.save(tmp_path / "x.npy", ROWS)
    options = ["--likelihood", "gaussian:1", "--scale", "standard"]
    ok("train", "x.npy", "--out", "r", *SMALL, *options, cwd=tmp_path)
    figures = json.loads(ok("evaluate", "r", "--ais", "3", "--bidirectional", "--json", cwd=tmp_path))
    opened = open_run(tmp_path / "r")
    both = enclose(opened.vae, 16, 3, 16, 10)
    assert opened.vae.scale.log_jacobian != 0
    part = opened.part()
    found = annealed(opened.vae, part.X, 3, 16, 10, rows=part.rows)
    assert figures["ais"]["log_likelihood"] == pytest.approx(found.log_px.mean(), rel=1e-9)
    for side in ("lower", "upper"):
        shown = figures["ais"]["bidirectional"][side]["log_likelihood"]
        assert shown == pytest.approx(getattr(both, side).mean(), rel=1e-9)


def test_trace_prints_a_table_and_json(run):
    text = ok("trace", run, "-n", "50")
    assert "Y = relu(XW + b)" in text and "every number is finite" in text
    held = json.loads(ok("trace", run, "-n", "50", "--json"))
    assert held["part"] == "first 50 rows of the test part of digits"
    figures = json.loads(ok("evaluate", run, "-n", "50", "--json"))
    assert (held["rows"], round(held["kl"], 6)) == (50, round(figures["kl"], 6))
    assert held["given"][0]["smallest"] == 0 and held["given"][0]["largest"] == 1


def test_trace_of_a_run_whose_parameters_hold_nan_names_the_tensor(run, tmp_path):

    from minivae.training.checkpoint import read, write

    shutil.copytree(run, tmp_path / "r")
    saved = read(tmp_path / "r/model.safetensors")
    saved.tensors["best.decoder.0.W"][0, 0] = np.nan
    write(tmp_path / "r/model.safetensors", saved)
    assert "NaN or an infinity: decoder.0.W, 1 of its" in ok("trace", tmp_path / "r")
    assert json.loads(ok("trace", tmp_path / "r", "--json"))["first_nonfinite"] == "decoder.0.W"


def test_trace_uses_the_runs_own_beta_and_free_bits(tmp_path):
    ok("train", "digits", "--out", tmp_path / "r", *SMALL, "--epochs", "1", "--beta", "0.5", "--free-bits", "3")
    held = json.loads(ok("trace", tmp_path / "r", "--json"))
    (kl,) = (found for step in held["steps"] for found in step["results"] if found["name"] == "posterior.kl_dims")
    assert held["loss"] == pytest.approx(held["nll"] + 0.5 * sum(max(kl[end], 3) for end in ("smallest", "largest")))


def test_evaluate_splits_are_the_runs_own(run):
    rows = {
        split: json.loads(ok("evaluate", run, "--split", split, "--json"))["rows"] for split in ("train", "validation")
    }
    assert rows == {"train": 1294, "validation": 144}
    with open(run / "history.csv", newline="") as file:
        best = max(float(row["val_elbo"]) for row in csv.DictReader(file))
    assert json.loads(ok("evaluate", run, "--split", "validation", "--json"))["elbo"] == best


def test_evaluate_repeats_and_is_the_figure_that_train_gave(tmp_path):
    out = ok("train", "digits", "--out", tmp_path / "r", *SMALL)
    figures = json.loads(ok("evaluate", tmp_path / "r", "--json"))
    assert f"elbo {figures['elbo']:.3f}" in out
    assert json.loads(ok("evaluate", tmp_path / "r", "--json")) == figures


def test_commands_take_other_data(run, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((30, 8, 8)))
    assert json.loads(ok("evaluate", run, tmp_path / "x.npy", "--json"))["rows"] == 30
    ok("encode", run, tmp_path / "x.npy", "-o", tmp_path / "codes.npz")
    with np.load(tmp_path / "codes.npz") as codes:
        assert codes["mean"].shape == codes["logvar"].shape == (30, 2)


def test_sample_writes_arrays_and_pictures(run, tmp_path):
    ok("sample", run, "-n", "7", "-o", tmp_path / "a.npy")
    ok("sample", run, "-n", "7", "-o", tmp_path / "b.npy")
    ok("sample", run, "-n", "7", "-o", tmp_path / "c.npy", "--seed", "5", "--draw")
    a, b, c = (np.load(tmp_path / f"{name}.npy") for name in "abc")
    assert a.shape == (7, 64)
    np.testing.assert_array_equal(a, b)
    assert set(np.unique(c)) <= {0, 1}
    ok("sample", run, "-o", tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


def test_reconstruct_writes_arrays_and_pictures(run, tmp_path):
    ok("reconstruct", run, "-o", tmp_path / "r.npy")
    ok("reconstruct", run, "-o", tmp_path / "r.png")
    Y = np.load(tmp_path / "r.npy")
    assert Y.shape == (359, 64)
    assert 0 <= Y.min() <= Y.max() <= 1


def test_encode_writes_codes_with_labels_and_row_numbers(run, tmp_path):
    ok("encode", run, "-o", tmp_path / "codes.npz")
    with np.load(tmp_path / "codes.npz") as codes:
        assert {name: codes[name].shape for name in codes} == {
            "mean": (359, 2), "logvar": (359, 2), "rows": (359,), "y": (359,),
        }  # fmt: skip


def test_info_says_what_it_runs_on():
    facts = json.loads(ok("info", "--json"))
    assert facts["backend"].startswith("numpy, fused kernels, float32, products by ")
    assert "NumPy's" in facts["gemm numpy"] and ("Intel" in facts["gemm mkl"] or "pip install" in facts["gemm mkl"])
    assert facts["packages"]["numpy"] == np.__version__
    assert "openblas" in ok("info") or facts["blas"]


def test_info_says_which_mpi_and_nccl_there_are(monkeypatch):
    import standin

    loaded, facts = "mpi4py.MPI" in sys.modules, json.loads(ok("info", "--json"))
    found = re.match(
        r"mpi4py \d+\.\d+.*, (MPICH|Open MPI|Intel|Microsoft)|none: mpi4py (is not|cannot be)", facts["mpi"]
    )
    assert found, facts["mpi"]
    assert ("mpi4py.MPI" in sys.modules) == loaded  # another process has loaded it
    assert facts["nccl"] == "none: CuPy is not installed" or facts["nccl"].isdigit() or "CuPy finds" in facts["nccl"]
    standin.install(monkeypatch, nccl=True)
    assert json.loads(ok("info", "--json"))["nccl"] == "22304"
    standin.install(monkeypatch, nccl=False)
    assert "none: CuPy finds no NCCL (libnccl is not installed): pip install nvidia" in ok("info", "--json")


def test_info_lists_every_variable_with_its_value_and_meaning(monkeypatch):
    from minivae import environment

    monkeypatch.setenv("MINIVAE_DATA", "/somewhere")
    monkeypatch.delenv("MINIVAE_GEMM", raising=False)
    facts, shown = json.loads(ok("info", "--json")), " ".join(ok("info").split())  # however its lines are broken
    assert facts["MINIVAE_DATA"] == "/somewhere" and facts["MINIVAE_GEMM"] == "not set"
    for name, meaning in (environment.READ | environment.READ_BY_LIBRARIES).items():
        assert f" {name} {facts[name]} {meaning}" in shown


# ---- shell completion -----------------------------------------------------------------------------------------------


def completing(instruction, **more):
    """What the command prints for a shell that completes, and the modules that it loaded."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c",
         "import sys; sys.argv[0] = 'minivae'; from minivae.__main__ import main; main()"],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
        env=os.environ | {"_MINIVAE_COMPLETE": instruction} | more,
    )  # fmt: skip
    loaded = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines() if line.startswith("import time")}
    return result.stdout, loaded


@pytest.mark.parametrize("shell, says", [
    ("bash", "complete -o default -F _minivae_completion minivae"),
    ("zsh", "#compdef minivae"),
    ("fish", "complete --command minivae"),
])  # fmt: skip
def test_the_script_of_a_shell_is_printed(shell, says):
    script, loaded = completing(f"source_{shell}")
    assert says in script
    assert "typer" in loaded and not {"numpy", "numba", "rich.console"} & loaded


def test_completing_a_command_and_an_option_loads_nothing_heavy():
    commands, loaded = completing("complete_bash", COMP_WORDS="minivae tr", COMP_CWORD="1")
    assert commands.split() == ["train", "trace"]
    assert not {"numpy", "numba"} & loaded
    options, _ = completing("complete_bash", COMP_WORDS="minivae train --batch", COMP_CWORD="2")
    assert options.split() == ["--batch-size"]


# ---- mistakes -------------------------------------------------------------------------------------------------------

TRAIN_MISTAKES = {
    "unknown set": (["minst"], "mnist"),
    "no such file": (["no/such.npy"], "no/such.npy"),
    "hidden": (["digits", "--hidden", "a,b"], "--hidden"),
    "hidden 0": (["digits", "--hidden", "0"], "--hidden"),
    "latent": (["digits", "--latent", "0"], "latent_dim=0"),
    "likelihood": (["digits", "--likelihood", "cauchy"], "bernoulli, gaussian"),
    "sigma": (["digits", "--likelihood", "gaussian:0"], "σ > 0"),
    "scale": (["digits", "--scale", "log"], "minmax"),
    "activation": (["digits", "--activation", "gelu"], "silu"),
    "optimizer": (["digits", "--optimizer", "lion"], "adamw"),
    "momentum": (["digits", "--momentum", "0.9"], "adam has none"),
    "schedule": (["digits", "--schedule", "step"], "cosine"),
    "lr": (["digits", "--lr", "0"], "lr=0.0"),
    "init": (["digits", "--init", "zero"], "glorot"),
    "binarize": (["digits", "--binarize", "always"], "dynamic"),
    "validation": (["digits", "--validation", "1.5"], "--validation"),
    "patience": (["digits", "--patience", "3"], "validation"),
    "warm-up and cycle": (["digits", "--kl-warmup", "1", "--beta-cycle", "2"], "exclude each other"),
    "backend": (["digits", "--backend", "tpu"], "one of numpy, cupy, auto"),
    "no gpu": (["digits", "--backend", "cupy", "--kernels", "reference"], "cupy"),
    "kernels": (["digits", "--kernels", "slow"], "'fused' or 'reference'"),
    "dtype": (["digits", "--dtype", "float16"], "float32 or float64"),
    "seed": (["digits", "--seed", "-1"], "seed=-1"),
    "epochs": (["digits", "--epochs", "0"], "epochs=0"),
    "samples": (["digits", "--samples", "0"], "samples=0"),
    "objective": (["digits", "--objective", "elob"], "expected one of elbo, iwae"),
    "odd pairs": (["digits", "--samples", "3", "--antithetic"], "even number"),
    "free bits below 0": (["digits", "--free-bits", "-1"], "free_bits=-1.0"),
    "free bits of iwae": (["digits", "--objective", "iwae", "--free-bits", "1"], "leave them out"),
    "resume nothing": (["digits", "--resume"], "does not exist"),
}


@pytest.mark.parametrize("case", TRAIN_MISTAKES)
def test_mistakes_of_train_are_one_line_and_leave_nothing_behind(case, tmp_path):
    arguments, expected = TRAIN_MISTAKES[case]
    assert expected in one_line("train", *arguments, "--out", tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "digits", "--lr"],
        ["train"],
        ["evaluate"],
        ["trian"],
        ["train", "digits", "--out", "r", "--lr", "fast"],
    ],
)
def test_wrong_words_exit_2_without_a_traceback(arguments, tmp_path):
    assert mistake(*arguments, cwd=tmp_path)


def test_a_run_is_not_overwritten_and_force_replaces_only_runs(run, tmp_path):
    before = (run / "model.safetensors").read_bytes()
    assert "--resume continues a run, --force replaces it" in one_line("train", "digits", "--out", run)
    assert (run / "model.safetensors").read_bytes() == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/thesis.txt").write_text("years of work")
    assert "thesis.txt" in one_line("train", "digits", "--out", tmp_path / "notes")
    assert "leaves it alone" in one_line("train", "digits", "--out", tmp_path / "notes", "--force")
    (tmp_path / "file").write_text("x")
    assert "choose another folder" in one_line("train", "digits", "--out", tmp_path / "file", "--force")
    ok("train", "digits", "--out", tmp_path / "r", *SMALL, pictures=True)
    (tmp_path / "r/mine.txt").write_text("kept")
    ok("train", "digits", "--out", tmp_path / "r", *SMALL, "--latent", "3", "--force", pictures=True)
    assert (tmp_path / "r/mine.txt").read_text() == "kept"
    assert (tmp_path / "r/samples.png").exists()
    assert not (tmp_path / "r/manifold.png").exists()


def test_an_output_file_is_not_overwritten(run, tmp_path):
    (tmp_path / "s.npy").write_text("mine")
    assert "--force" in one_line("sample", run, "-o", tmp_path / "s.npy")
    assert (tmp_path / "s.npy").read_text() == "mine"
    ok("sample", run, "-o", tmp_path / "s.npy", "--force")


OUTPUTS = {
    "a.npy": ["sample"], "a.png": ["sample"], "b.npy": ["reconstruct"], "b.png": ["reconstruct"], "c.npz": ["encode"],
    "d.csv": ["evaluate", "--importance", 2, "-n", 5], "d.npz": ["evaluate", "--importance", 2, "-n", 5],
}  # fmt: skip


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_goes_to_a_new_file_or_where_force_sends_it(run, tmp_path, name):
    """Neither over a file, nor through a link to nothing, nor over what has come while the command computed."""
    command, *options = OUTPUTS[name]
    arguments = [command, run, *options, "--per-row" if command == "evaluate" else "-o"]
    path, target = tmp_path / name, tmp_path / "target"
    path.symlink_to(target)
    assert "--force" in one_line(*arguments, path)
    assert path.is_symlink() and not target.exists()
    ok(*arguments, path, "--force")
    assert path.is_symlink() and target.stat().st_size > 0
    written = target.read_bytes()
    assert "--force" in one_line(*arguments, path) and target.read_bytes() == written
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "target"])


def test_a_file_that_comes_while_a_command_computes_stays(run, tmp_path, monkeypatch):
    from minivae.vae import VAE

    path, sample = tmp_path / "x.npy", VAE.sample

    def slow_sample(self, *arguments, **options):
        path.write_text("mine")
        return sample(self, *arguments, **options)

    monkeypatch.setattr(VAE, "sample", slow_sample)
    assert "exists by now" in one_line("sample", run, "-o", path)
    assert path.read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_an_output_that_fails_leaves_what_was_there(run, tmp_path, monkeypatch):
    def full_disk(file, *_, **__):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "x.npy").write_text("mine")
    monkeypatch.setattr(np, "save", full_disk)
    assert "x.npy: No space left" in one_line("sample", run, "-o", tmp_path / "x.npy", "--force")
    assert "y.npy: No space left" in one_line("sample", run, "-o", tmp_path / "y.npy")
    assert (tmp_path / "x.npy").read_text() == "mine" and [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_an_array_for_which_there_is_no_room_is_one_clear_line(run, tmp_path):
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        line = one_line("sample", run, "-n", "64", "-o", tmp_path / "x.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "x.npy: could not be written whole; is the disk full? (" in line
    assert not list(tmp_path.iterdir())


RUN_MISTAKES = {
    "no run": (["evaluate", "no/such/run"], "does not exist"),
    "not a run": (["evaluate", "."], "no config.json"),
    "suffix": (["sample", "RUN", "-o", "x.jpg"], ".png or .npy"),
    "encode suffix": (["encode", "RUN", "-o", "x.npy"], ".npz"),
    "folder": (["sample", "RUN", "-o", "no/such/x.npy"], "a folder that exists"),
    "split": (["evaluate", "RUN", "--split", "dev"], "train, validation, test"),
    "importance": (["evaluate", "RUN", "--importance", "0"], "--importance=0: expected an integer"),
    "ais": (["evaluate", "RUN", "--ais", "0"], "--ais=0"),
    "chains": (["evaluate", "RUN", "--ais", "3", "--chains", "0"], "--chains=0"),
    "bidirectional alone": (["evaluate", "RUN", "--bidirectional"], "give --ais T as well"),
    "per row of nothing": (["evaluate", "RUN", "--per-row", "x.csv"], "--importance K or --ais T"),
    "per row of both": (["evaluate", "RUN", "--per-row", "x.csv", "--ais", "3", "--importance", "3"], "either"),
    "per row suffix": (["evaluate", "RUN", "--importance", "3", "--per-row", "x.txt"], "--per-row x.txt: expected a"),
    "trace n": (["trace", "RUN", "-n", "0"], "-n=0"),
    "trace of no run": (["trace", "no/such/run"], "does not exist"),
    "evaluate n": (["evaluate", "RUN", "-n", "0"], "-n=0"),
    "report of one row": (["evaluate", "RUN", "-n", "1", "--report"], "at least two"),
    "n": (["sample", "RUN", "-n", "0", "-o", "x.npy"], "n=0"),
    "reconstruct n": (["reconstruct", "RUN", "-n", "-3", "-o", "x.npy"], "-n -3"),
    "width": (["evaluate", "RUN", "rows.npy"], "5 features"),
    "seed": (["sample", "RUN", "--seed", "-1", "-o", "x.npy"], "seed=-1"),
}


@pytest.mark.parametrize("case", RUN_MISTAKES)
def test_mistakes_of_the_other_commands_are_one_line(case, run, tmp_path):
    arguments, expected = RUN_MISTAKES[case]
    np.save(tmp_path / "rows.npy", ROWS)
    arguments = [str(run) if word == "RUN" else word for word in arguments]
    assert expected in one_line(*arguments, cwd=tmp_path)


def _change_config(run, **changes):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    "damage, expected",
    [
        (lambda run: (run / "config.json").write_text("{"), "config.json"),
        (lambda run: (run / "config.json").write_text("[]"), "config.json"),
        (lambda run: _change_config(run, shape=[3, 8]), "config.json"),
        (lambda run: _change_config(run, options={"seed": 0, "validation": "x"}), "config.json"),
        (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
        (lambda run: (run / "model.safetensors").write_bytes(b"x" * 50), "model.safetensors"),
    ],
)
def test_a_damaged_run_is_named_in_one_line(damage, expected, tmp_path):
    ok("train", "digits", "--out", tmp_path / "r", *SMALL)
    damage(tmp_path / "r")
    assert expected in one_line("evaluate", tmp_path / "r")
