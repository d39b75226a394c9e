"""A table from its file to samples and imputations, by the commands. Oracles: pandas, and the complete table."""

import json

import numpy as np
import pytest
from test_cli import ok, one_line

import minivae as mv

pd = pytest.importorskip("pandas")

N = 400
NAMES = ["height", "income", "children", "job", "smoker"]


def people():
    """A table whose columns hang together, complete."""
    rng = np.random.default_rng(0)
    t = rng.normal(size=N)
    return pd.DataFrame(
        {
            "id": [f"p{k}" for k in range(N)],
            "height": np.round(170 + 8 * t + rng.normal(size=N), 1),
            "income": np.round(np.exp(10 + t + 0.2 * rng.normal(size=N)), 2),
            "children": rng.poisson(np.exp(0.3 * t)),
            "job": np.where(t > 0.5, "engineer", np.where(t < -0.5, "student", "baker")),
            "smoker": np.where(rng.random(N) < 1 / (1 + np.exp(-4 * t)), "yes", "no"),
            "club": rng.choice(["A", "B"], N),
        }
    )


def gapped(frame):
    """The frame with one cell in six missing, and one row without any."""
    gaps = np.random.default_rng(1).random((N, len(NAMES))) < 1 / 6
    gaps[5] = True
    frame = frame.astype({"children": "Int64"})
    for d, name in enumerate(NAMES):
        frame.loc[gaps[:, d], name] = None
    return frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of a table with gaps, beside its file."""
    folder = tmp_path_factory.mktemp("table")
    gapped(people()).to_csv(folder / "people.csv", index=False, sep=";", decimal=",")
    ok("columns", folder / "people.csv", "--label", "club", "-o", folder / "columns.json")
    ok(
        "train", folder / "people.csv", "--columns", folder / "columns.json", "--out", folder / "run", "--latent", "2",
        "--hidden", "32", "--epochs", "40", "--lr", "5e-3", "--batch-size", "64", "--validation", "0.1",
        pictures=True,
    )  # fmt: skip
    return folder


def read(path, **options):
    return pd.read_csv(path, sep=";", decimal=",", float_precision="round_trip", **options)


def test_columns_says_what_it_believes(folder):
    schema = mv.Columns.read(folder / "columns.json")
    kinds = {column.name: column.kind for column in schema.columns}
    assert kinds == {
        "id": "ignore", "height": "real", "income": "positive", "children": "count", "job": "categorical",
        "smoker": "binary", "club": "label",
    }  # fmt: skip
    assert mv.Columns.from_json(ok("columns", folder / "people.csv", "--label", "club")) == schema


def test_the_run_knows_its_columns_and_labels(folder):
    vae = mv.VAE.load(folder / "run")
    assert list(vae.columns) == NAMES and vae.missing
    config = json.loads((folder / "run/config.json").read_text())
    assert [column["name"] for column in config["columns"]["columns"]] == ["id", *NAMES, "club"]
    ok("encode", folder / "run", folder / "people.csv", "-o", folder / "codes.npz", "--force")
    assert np.load(folder / "codes.npz")["y"].tolist() == people()["club"].tolist()


def test_samples_are_rows_with_the_names_and_categories_of_the_table(folder):
    said = ok("sample", folder / "run", "-n", 300, "-o", folder / "new.csv", "--force")
    assert "draws" in said
    new, known = read(folder / "new.csv"), people()
    assert list(new.columns) == NAMES and new["children"].dtype.kind == "i"
    assert {*new["job"]} == {*known["job"]} and {*new["smoker"]} == {"yes", "no"}
    assert (new["income"] > 0).all() and abs(new["height"].mean() - known["height"].mean()) < 4
    said = ok("sample", folder / "run", "-n", 3, "-o", folder / "mean.csv", "--mean", "--force")
    assert "means, not draws" in said and read(folder / "mean.csv")["children"].dtype.kind == "f"
    one_line("sample", folder / "run", "-n", 3, "-o", folder / "x.csv", "--mean", "--draw")


def test_imputation_fills_gaps_and_keeps_what_is_there(folder):
    said = ok("impute", folder / "run", folder / "people.csv", "-o", folder / "filled.csv", "--force")
    given, filled, truth = (read(folder / "people.csv", dtype=str), read(folder / "filled.csv", dtype=str), people())
    there = given.notna()
    assert list(filled.columns) == list(given.columns) and filled.notna().all(axis=None)
    assert (filled.where(there) == given).where(there, True).all(axis=None)
    assert f"{int((~there).sum().sum()):,} of {N * len(NAMES):,} cells filled" in said
    gap = ~there["height"]
    error = read(folder / "filled.csv")["height"][gap] - truth["height"][gap]
    assert (error**2).mean() < 0.5 * truth["height"].var()
    gap = ~there["job"]
    assert (filled["job"][gap] == truth["job"][gap]).mean() > 1.2 * truth["job"].value_counts(normalize=True).max()


def test_a_row_without_a_cell_is_filled_from_the_prior(folder, tmp_path):
    (tmp_path / "x.csv").write_text(HEAD + ";" * 6 + "\n")
    more = ("-o", tmp_path / "y.csv", "--importance", 100_000)
    assert "1 row, 5 of 5 cells" in ok("impute", folder / "run", tmp_path / "x.csv", *more)
    drawn = read(tmp_path / "y.csv")
    ok("sample", folder / "run", "-n", 4000, "--mean", "-o", tmp_path / "mean.csv")
    assert drawn["height"][0] == pytest.approx(read(tmp_path / "mean.csv")["height"].mean(), abs=1)


def test_draws_differ_where_cells_are_missing_alone(folder):
    ok(
        "impute",
        folder / "run",
        folder / "people.csv",
        "-o",
        folder / "d.csv",
        "--draws",
        3,
        "--importance",
        50,
        "--force",
    )
    drawn, given = read(folder / "d.csv"), read(folder / "people.csv")
    assert drawn["draw"].tolist() == np.repeat([1, 2, 3], N).tolist()
    height = drawn["height"].to_numpy().reshape(3, N)
    spread, gap = np.ptp(height, axis=0), given["height"].isna().to_numpy()
    assert (spread[~gap] == 0).all() and (spread[gap] > 0).all()


def test_reports_and_pictures_name_the_columns(folder):
    ok("score", folder / "run", folder / "people.csv", "-o", folder / "scores.csv", "--force")
    assert len(pd.read_csv(folder / "scores.csv")) == N
    ok("reconstruct", folder / "run", folder / "people.csv", "-o", folder / "back.csv", "-n", 5, "--force")
    assert list(read(folder / "back.csv").columns) == NAMES
    ok("picture", folder / "run", "samples", "-o", folder / "s.svg", "--force")
    ok("evaluate", folder / "run", folder / "people.csv")


def test_a_run_goes_on_without_the_file_of_columns(folder):
    (folder / "columns.json").rename(folder / "elsewhere.json")
    try:
        assert "resuming" in ok("train", folder / "people.csv", "--out", folder / "run", "--resume", "--epochs", "41")
    finally:
        (folder / "elsewhere.json").rename(folder / "columns.json")


HEAD = ";".join(["id", *NAMES, "club"]) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "p1;170,5;2e4;1;pilot;yes;A\n", ["line 2, column 'job'", "'pilot'", "'baker', 'engineer', 'student'"]),
        (HEAD + "p1;170,5;0;1;baker;yes;A\n", ["line 2, column 'income'", "over 0"]),
        (HEAD + "p1;170,5;2e4;-1;baker;yes;A\n", ["line 2, column 'children'", "'-1'"]),
        (HEAD + "p1;170,5;2e4;2,5;baker;yes;A\n", ["line 2, column 'children'", "'2,5'"]),
        (HEAD.replace("job", "work") + "p1;170,5;2e4;1;baker;yes;A\n", ["line 1", "no column 'job'", "'work' too"]),
    ],
)
def test_a_table_that_the_model_cannot_take_is_one_line(folder, tmp_path, text, words):
    (tmp_path / "new.csv").write_text(text)
    for command in (["evaluate", folder / "run", tmp_path / "new.csv"],
                    ["impute", folder / "run", tmp_path / "new.csv", "-o", tmp_path / "out.csv"]):  # fmt: skip
        line = one_line(*command)
        assert str(tmp_path / "new.csv") in line and not (tmp_path / "out.csv").exists()
        for word in words:
            assert word in line, line


def test_an_unseen_category_may_be_filled_as_missing(folder, tmp_path):
    (tmp_path / "new.csv").write_text(HEAD + "p1;170,5;2e4;1;pilot;yes;A\n")
    ok("impute", folder / "run", tmp_path / "new.csv", "-o", tmp_path / "out.csv", "--unseen", "missing")
    assert read(tmp_path / "out.csv")["job"][0] in {*people()["job"]}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--label", "clbu"], ["no column 'clbu'", "did you mean 'club'?"]),
        (["--ignore", "nothing"], ["no column 'nothing'"]),
        ([], ["'id'", "400 different values in 400 rows", "--ignore id"]),
        (["--ignore", "id", "--likelihood", "gaussian"], ["'job'", "a finite number", "line 2"]),
        (["--columns", "none.json"], ["none.json"]),
        (["--columns", "COLUMNS", "--likelihood", "poisson"], ["--likelihood poisson"]),
    ],
)
def test_what_cannot_be_trained_is_one_line(folder, tmp_path, options, words):
    options = [str(folder / "columns.json") if option == "COLUMNS" else option for option in options]
    line = one_line("train", folder / "people.csv", "--out", tmp_path / "r", *options)
    for word in words:
        assert word in line, line


def test_a_set_that_is_no_table_has_no_label_column(tmp_path):
    assert "--label" in one_line("train", "digits", "--label", "x", "--out", tmp_path / "r")
    assert "a table" in one_line("columns", "digits")


def test_a_table_of_numbers_trains_by_default_and_keeps_its_names(tmp_path):
    frame = people()[["height", "income"]].assign(kind=[k % 3 for k in range(N)])
    frame.to_csv(tmp_path / "x.csv", index=False)
    ok("train", tmp_path / "x.csv", "--label", "kind", "--out", tmp_path / "r", "--hidden", "32", "--epochs", "2",
       "--latent", "2")  # fmt: skip
    vae = mv.VAE.load(tmp_path / "r")
    assert vae.columns == ("height", "income") and vae.scale.kind == "standard" and vae.likelihood.name == "gaussian"
    ok("sample", tmp_path / "r", "-n", 4, "-o", tmp_path / "new.csv")
    assert list(pd.read_csv(tmp_path / "new.csv").columns) == ["height", "income"]
