"""`minivae score`: the table says what the model says, and a mistake is one line."""

import csv
import json

import numpy as np
import pytest
from tolerances import assert_sums

from minivae.cli.app import app
from minivae.cli.runs import open_run
from minivae.errors import UsageError
from minivae.evaluation.dealt import row_hashes

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 5)) * [1, 10, 1, 1, 1] + 0.1 * rng.normal(size=(200, 5))


def command(*arguments):
    app([str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    np.save(folder / "X.npy", X)
    options = "--likelihood gaussian:shared --scale standard --hidden none --latent 2 --epochs 150 --batch-size 20"
    command("train", folder / "X.npy", "--out", folder / "run", "--dtype", "float64", "--lr", "0.01", *options.split())
    spoilt = X[:12].copy()
    spoilt[3, 1] += 40  # in column 1, which varies most of all
    np.save(folder / "new.npy", spoilt)
    return folder


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_scores_are_the_models_and_an_outlier_and_its_column_are_found(run, tmp_path, capsys):
    out = tmp_path / "s.csv"
    command("score", run / "run", run / "new.npy", "-o", out, "--contamination", 0.05, "--columns-top", 5)
    rows, opened = table(out), open_run(run / "run")
    rows_new = np.load(run / "new.npy")
    log_px, error = opened.vae.log_likelihood(rows_new, 100, rows=row_hashes(rows_new))
    np.testing.assert_array_equal([float(row["score"]) for row in rows], -log_px)
    np.testing.assert_array_equal([float(row["standard_error"]) for row in rows], error)
    train = opened.part(split="train").X
    reference = -opened.vae.log_likelihood(train, 100, rows=row_hashes(train))[0]
    expected = [100 * np.mean(reference <= -value) for value in log_px]
    assert_sums([float(row["percentile"]) for row in rows], expected)
    assert (rows[3]["outlier"], rows[3]["column_1"], rows[3]["percentile"]) == ("yes", "1", "100.0")
    assert sum(row["outlier"] == "yes" for row in rows) <= 3
    shares = [[float(row[f"share_{k}"]) for k in range(1, 6)] for row in rows]
    assert_sums(np.sum(shares, axis=1), -log_px, of="model", summed=np.abs(shares).sum(axis=1))
    assert (np.diff(shares, axis=1) <= 0).all()
    said = capsys.readouterr().out
    assert f"threshold  {np.quantile(reference, 0.95):10.3f}" in said and "12 rows" in said


def test_a_row_scores_the_same_in_another_order_and_alone(run, tmp_path):
    order = rng.permutation(12)
    np.save(tmp_path / "shuffled.npy", np.load(run / "new.npy")[order])
    np.save(tmp_path / "one.npy", np.load(run / "new.npy")[7:8])
    scores = {}
    for name, data in {"all": run / "new.npy", "order": tmp_path / "shuffled.npy", "one": tmp_path / "one.npy"}.items():
        command("score", run / "run", data, "-o", tmp_path / f"{name}.npz")
        scores[name] = np.load(tmp_path / f"{name}.npz")["score"]
    np.testing.assert_allclose(scores["order"], scores["all"][order], rtol=1e-7)
    np.testing.assert_allclose(scores["one"], scores["all"][7:8], rtol=1e-7)


def test_a_row_near_the_threshold_is_undecided(run, tmp_path, capsys):
    command("score", run / "run", run / "new.npy", "-o", tmp_path / "s.csv")
    first = table(tmp_path / "s.csv")[0]
    score, error = float(first["score"]), float(first["standard_error"])
    assert error > 0 and "outlier" not in first
    for offset, verdict in ((-1.9, "undecided"), (1.9, "undecided"), (-2.1, "yes"), (2.1, "no")):
        capsys.readouterr()
        out = tmp_path / f"{offset}.csv"
        threshold = score + offset * error
        command("score", run / "run", run / "new.npy", "-o", out, "--threshold", repr(threshold), "--json")
        assert table(out)[0]["outlier"] == verdict
        said = json.loads(capsys.readouterr().out)
        assert said["outliers"] + said["inliers"] + said["undecided"] == said["rows"] == 12
        assert (said["threshold"], said["contamination"]) == (threshold, None)


@pytest.mark.parametrize(
    "options, message",
    [
        ("--contamination 0.6", r"--contamination 0.6: expected a share of the training rows in \(0, 0.5\]"),
        ("--contamination 0", "expected a share"),
        ("--contamination 0.1 --threshold 3", "leave one of the two out"),
        ("--threshold nan", "a finite number"),
        ("--columns-top 6", "at most 5, the number of columns"),
        ("--columns-top 0", "at least 1"),
        ("--importance 1", "at least 2 samples"),
        ("--out s.txt", "ends in .csv or .npz"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(run, tmp_path, options, message):
    out = tmp_path / "s.csv"
    with pytest.raises(UsageError, match=message) as caught:
        command("score", run / "run", run / "new.npy", "-o", out, *options.split())
    assert "\n" not in str(caught.value) and not out.exists()


def test_an_existing_file_is_kept_and_nan_is_named(run, tmp_path):
    out = tmp_path / "s.csv"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists: choose another name, or --force"):
        command("score", run / "run", "-o", out)
    assert out.read_text() == "mine"
    spoilt = X[:3].copy()
    spoilt[1, 2] = np.nan
    np.save(tmp_path / "nan.npy", spoilt)
    with pytest.raises(UsageError, match="NaN or infinite, the first in row 1, column 2"):
        command("score", run / "run", tmp_path / "nan.npy", "-o", out, "--force")
    assert out.read_text() == "mine"


def test_a_model_saved_from_python_is_compared_with_the_rows_that_are_named(run, tmp_path, capsys):
    vae = open_run(run / "run").vae
    vae.save(tmp_path / "bare.safetensors")
    command("score", tmp_path / "bare.safetensors", run / "X.npy", "-o", tmp_path / "s.csv")
    reference = -vae.log_likelihood(X, 100, rows=row_hashes(X))[0]
    ranks = [100 * np.mean(reference <= value) for value in reference]
    assert_sums([float(row["percentile"]) for row in table(tmp_path / "s.csv")], ranks)
    with pytest.raises(UsageError, match="does not know its data: name them after it"):
        command("score", tmp_path / "bare.safetensors", "-o", tmp_path / "t.csv")
    with pytest.raises(UsageError, match=r"give its run, .*run"):
        command("score", run / "run/model.safetensors", "-o", tmp_path / "t.csv")
