"""Conditions on the command line, from the file to the samples. Oracles: pandas, and a classifier of real digits."""

import json

import numpy as np
import pytest
from test_cli import ok, one_line
from test_table_commands import NAMES, N, gapped, people

import minivae as mv

pd = pytest.importorskip("pandas")

SMALL = ("--latent", "2", "--hidden", "32", "--batch-size", "64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of a table with gaps that was given two of its columns, beside its file."""
    folder = tmp_path_factory.mktemp("conditions")
    frame = gapped(people()).assign(age=np.random.default_rng(2).integers(18, 80, N))
    frame.to_csv(folder / "people.csv", index=False)
    frame[["height", "children"]].fillna(0).assign(club=[k % 3 for k in range(N)], w=frame["age"] / 7).to_csv(
        folder / "numbers.csv", index=False
    )
    given = ("--ignore", "id", "--condition", "club,age")
    said = ok("train", folder / "people.csv", *given, "--out", folder / "run", *SMALL, "--epochs", "3",
              "--validation", "0.2")  # fmt: skip
    assert "condition   club (2 labels), age (a number)" in said
    return folder


def test_digits_that_the_command_draws_by_label_are_recognised(tmp_path):
    datasets, linear = pytest.importorskip("sklearn.datasets"), pytest.importorskip("sklearn.linear_model")
    rows, labels = datasets.load_digits(return_X_y=True)
    reader = linear.LogisticRegression(max_iter=300).fit(rows / 16, labels)
    ok("train", "digits", "--condition", "label", "--out", tmp_path / "run", "--latent", "8", "--hidden", "100",
       "--epochs", "40", "--batch-size", "64", "--lr", "2e-3")  # fmt: skip
    found = []
    for label in range(10):
        ok("sample", tmp_path / "run", "-n", 30, "--condition", f"label={label}", "-o", tmp_path / f"{label}.npy")
        found.append((reader.predict(np.load(tmp_path / f"{label}.npy")) == label).mean())
    assert np.mean(found) >= 0.9
    line = one_line("train", "digits", "--condition", "age", "--out", tmp_path / "other")
    assert "digits has no column 'age'" in line and "--condition label" in line


def test_conditions_are_no_features_and_are_kept_with_the_model(folder):
    vae = mv.VAE.load(folder / "run")
    assert list(vae.columns) == NAMES == vae.schema.names
    assert vae.condition.names == ("club", "age")
    levels, (mean, std) = vae.condition.columns
    ages = pd.read_csv(folder / "people.csv")["age"]
    assert levels == ["A", "B"] and mean == pytest.approx(ages.mean()) and std == pytest.approx(ages.std(ddof=0))
    assert json.loads((folder / "run/config.json").read_text())["options"]["condition"] == ["club", "age"]


def test_commands_read_the_conditions_from_the_columns_of_the_data(folder):
    frame, vae = pd.read_csv(folder / "people.csv"), mv.VAE.load(folder / "run")
    given = {"condition": frame[["age", "club"]]}
    X = vae.schema.encode(frame)
    ok("encode", folder / "run", folder / "people.csv", "-o", folder / "codes.npz", "--force")
    np.testing.assert_array_equal(np.load(folder / "codes.npz")["mean"], vae.encode(X, **given)[0])
    assert np.load(folder / "codes.npz")["y"].tolist() == frame["club"].tolist()  # which colours the pictures
    ok("reconstruct", folder / "run", folder / "people.csv", "-o", folder / "back.npy", "--force")
    np.testing.assert_array_equal(np.load(folder / "back.npy"), vae.reconstruct(X, **given))
    ok("impute", folder / "run", folder / "people.csv", "-o", folder / "filled.csv", "--importance", 20, "--force")
    filled = pd.read_csv(folder / "filled.csv")  # numbers of seven digits, which round by 5e-7 at most
    np.testing.assert_allclose(filled["height"], vae.impute(X, samples=20, **given)[:, 0], rtol=5e-7)
    assert filled["club"].tolist() == frame["club"].tolist()
    found = json.loads(ok("evaluate", folder / "run", folder / "people.csv", "--importance", 10, "--json"))
    assert found["log_likelihood"] == pytest.approx(vae.log_likelihood(X, 10, **given)[0].mean())
    ok("score", folder / "run", folder / "people.csv", "-o", folder / "scores.csv", "--columns-top", 1, "--force")
    ok("evaluate", folder / "run", "--split", "validation")
    ok("trace", folder / "run", "-n", 8)
    other = pd.read_csv(folder / "people.csv").assign(club="A")
    other.to_csv(folder / "other.csv", index=False)
    ok("encode", folder / "run", folder / "other.csv", "-o", folder / "others.npz", "--force")
    same = np.load(folder / "others.npz")["mean"] == np.load(folder / "codes.npz")["mean"]
    assert same[frame["club"] == "A"].all() and not same[frame["club"] == "B"].all(axis=1).any()


def test_samples_are_of_the_condition_that_is_given(folder):
    vae = mv.VAE.load(folder / "run")
    ok("sample", folder / "run", "-n", 20, "--mean", "--condition", "club=B,age=40", "-o", folder / "b.npy", "--force")
    expected = vae.sample(20, condition={"age": 40.0, "club": "B"})
    np.testing.assert_array_equal(np.load(folder / "b.npy"), expected)
    ok("sample", folder / "run/model.safetensors", "-n", 4, "--condition", "age=40", "--condition", "club=A",
       "-o", folder / "a.csv", "--force")  # fmt: skip
    table = pd.read_csv(folder / "a.csv")
    assert {*table["job"]} <= {"baker", "engineer", "student"}
    assert (table[["club", "age"]] == ["A", 40]).all(axis=None)
    ok("picture", folder / "run", "samples", "--condition", "club=A,age=30", "-o", folder / "s.svg", "--force")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["needs a value of each column", "expected club=A,age="]),
        (["club=A"], ["needs a value of each column"]),
        (["club=C,age=3"], ["club=C", "not trained with it", "A, B"]),
        (["club=A,age=3,job=baker"], ["not trained with 'job'", "club=A,age="]),
        (["club=A,age=old"], ["age=old", "a number"]),
        (["A"], ["belongs to no column"]),
        (["club=A,club=B,age=3"], ["second one"]),
    ],
)
def test_a_condition_that_the_model_was_not_trained_with_is_one_line(folder, tmp_path, options, words):
    flags = [part for option in options for part in ("--condition", option)]
    line = one_line("sample", folder / "run", "-o", tmp_path / "x.csv", *flags)
    for word in words:
        assert word in line, line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.assign(club=["C", *f["club"][1:]]), ["line 2, column 'club'", "'C'", "was not trained with it"]),
        (lambda f: f.assign(club=[None, *f["club"][1:]]), ["line 2, column 'club'", "missing"]),
        (lambda f: f.assign(age=[*f["age"][:3], "x", *f["age"][4:]]), ["line 5, column 'age'", "'x'"]),
        (lambda f: f.drop(columns="age"), ["line 1", "no column 'age'"]),
    ],
)
def test_data_without_the_condition_are_one_line(folder, tmp_path, change, words):
    change(pd.read_csv(folder / "people.csv")).to_csv(tmp_path / "new.csv", index=False)
    line = one_line("evaluate", folder / "run", tmp_path / "new.csv")
    for word in [str(tmp_path / "new.csv"), *words]:
        assert word in line, line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["people.csv", "--condition", "clbu"], ["no column 'clbu'", "did you mean 'club'?"]),
        (["people.csv", "--condition", "club,,age"], ["with commas between"]),
        (["people.csv", "--condition", "club,club"], ["each once"]),
        (["people.csv", "--ignore", "id", "--condition", "job"], ["column 'job'", "condition is missing"]),
    ],
)
def test_conditions_that_a_table_has_not_are_one_line(folder, tmp_path, options, words):
    line = one_line("train", folder / options[0], "--out", tmp_path / "r", *options[1:])
    for word in words:
        assert word in line, line


def test_a_model_without_a_condition_takes_none(folder, tmp_path):
    ok("train", folder / "numbers.csv", "--out", tmp_path / "r", *SMALL, "--epochs", "1")
    line = one_line("sample", tmp_path / "r", "-o", tmp_path / "x.csv", "--condition", "club=1")
    assert "trained without one" in line


def test_a_table_of_numbers_may_be_given_some_of_them(folder, tmp_path):
    ok("train", folder / "numbers.csv", "--condition", "club,w", "--out", tmp_path / "r", *SMALL, "--epochs", "1")
    ok("train", folder / "numbers.csv", "--out", tmp_path / "r", "--resume", "--epochs", "2")
    vae, frame = mv.VAE.load(tmp_path / "r"), pd.read_csv(folder / "numbers.csv")
    assert vae.columns == ("height", "children") and vae.condition.columns[0] == [0, 1, 2]
    ok("encode", tmp_path / "r", folder / "numbers.csv", "-o", tmp_path / "c.npz")
    expected = vae.encode(frame[["height", "children"]].to_numpy(float), condition=frame[["club", "w"]])[0]
    np.testing.assert_array_equal(np.load(tmp_path / "c.npz")["mean"], expected)
    ok("sample", tmp_path / "r", "-n", 2, "--condition", "club=2,w=5", "-o", tmp_path / "x.csv")
    assert [*pd.read_csv(tmp_path / "x.csv")] == ["height", "children", "club", "w"]


def test_evaluate_says_what_each_column_costs(folder):
    frame = pd.read_csv(folder / "people.csv")
    found = json.loads(ok("evaluate", folder / "run", folder / "people.csv", "--json"))
    assert [column["name"] for column in found["columns"]] == NAMES
    assert [column["rows"] for column in found["columns"]] == frame[NAMES].notna().sum().tolist()
    total = sum(column["nll"] * column["rows"] for column in found["columns"])
    assert total / N == pytest.approx(found["nll"], rel=1e-4)
    said = ok("evaluate", folder / "run", folder / "people.csv")
    assert "income" in said and "positive" in said and f"of {frame['job'].notna().sum()} cells" in said
