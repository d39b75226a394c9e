"""A table from its file to samples and imputations, by the commands. Oracles: pandas, and the complete table."""

import json

import numpy as np
import pytest
from test_cli import minivae, ok, one_line

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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of a table without a gap that is given its club, beside its file and schema."""
    folder = tmp_path_factory.mktemp("whole")
    people().drop(columns="id").to_csv(folder / "people.csv", index=False)
    ok("columns", folder / "people.csv", "--condition", "club", "-o", folder / "columns.json")
    ok("train", folder / "people.csv", "--columns", folder / "columns.json", "--out", folder / "run", *QUICK)
    return folder


QUICK = ("--latent", "2", "--hidden", "32", "--batch-size", "64", "--epochs", "1")
CELLS = {"height": "170.5", "income": "20000", "children": "1", "job": "baker", "smoker": "yes", "club": "A"}


def file_of(path, *rows, head=tuple(CELLS)):
    path.write_text("\n".join(",".join(row) for row in (head, *(row.values() for row in rows))) + "\n")
    return path


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("job", "pilot", ["'pilot' is not among its 3 categories"]),
        ("children", "-1", ["expected a count", "found '-1'", "change its kind (--columns)"]),
        ("children", "2.5", ["expected a count", "found '2.5'"]),
        ("income", "0", ["expected a number over 0", "found '0'"]),
        ("height", "170,5", ["found '170,5'; a decimal comma among points?"]),
        ("height", "inf", ["expected a finite number", "found 'inf'"]),
        ("height", "", ["it is missing", "or with --unseen missing"]),
        ("club", "", ["a condition is missing"]),
        ("club", "C", ["'C'", "the model was not trained with it"]),
    ],
)
def test_a_bad_cell_is_one_line_of_every_command(whole, tmp_path, column, cell, words):
    path, schema = tmp_path / "new.csv", ("--columns", whole / "columns.json")
    frame = people().drop(columns="id").astype(object)
    frame.loc[1, column] = cell
    frame.to_csv(path, index=False)
    commands = [("evaluate", whole / "run", path), ("encode", whole / "run", path, "-o", tmp_path / "codes.npz")]
    if (column, cell) != ("height", "") and column != "club":
        commands.append(("train", path, *schema, "--out", tmp_path / "other"))
    for command in commands:
        line = one_line(*command)
        for word in [f"{path}, line 3, column {column!r}: ", *words]:
            assert word in line, line
    assert "without missing cells" in one_line("impute", whole / "run", path, "-o", tmp_path / "filled.csv")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: names[:-2] + names[-1:], ["has no column 'smoker'"]),
        (lambda names: [*names, "x"], ["has 'x' too", "was not made for"]),
        (lambda names: ["heigth", *names[1:]], ["has no column 'height'", "did you mean 'heigth'?"]),
        (lambda names: [*names[:-1], "job"], ["the column 'job' is there 2 times"]),
        (lambda names: names[:-1], ["has no column 'club'"]),
    ],
)
def test_other_columns_are_one_line_of_every_command(whole, tmp_path, change, words):
    names = change(list(CELLS))
    path = file_of(tmp_path / "new.csv", {k: CELLS.get(name, "3") for k, name in enumerate(names)}, head=names)
    for command in (["evaluate", whole / "run", path], ["encode", whole / "run", path, "-o", tmp_path / "codes.npz"]):
        line = one_line(*command)
        for word in [f"{path}, line 1", *words]:
            assert word in line, line


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("", ["all its 400 cells are missing", "--ignore x"]),
        ("3", ["constant", "'3'", "--ignore x"]),
        ([f"p{k}" for k in range(N)], ["400 different values in 400 rows", "--ignore x"]),
        ("2021-04-03", ["dates such as 2021-04-03", "--ignore x"]),
        (["170,5", *["170.5", "171.5"] * (N // 2 - 1), "2.5"], ["line 2", "a decimal comma among points?"]),
        (["1.5", "inf", *["2.5"] * (N - 2)], ["line 3", "found 'inf'"]),
    ],
)
def test_a_column_that_cannot_be_trained_on_is_one_line(tmp_path, cells, words):
    people().drop(columns="id").assign(x=cells).to_csv(tmp_path / "people.csv", index=False)
    result = minivae("train", tmp_path / "people.csv", "--out", tmp_path / "r")
    assert result.returncode == 2 and result.stderr.count("\n") == 1, result.stderr
    for word in ["people.csv", "column 'x'", *words]:
        assert word in result.stderr, result.stderr


def test_ids_of_numbers_and_very_many_categories_are_warned_of(tmp_path):
    rng = np.random.default_rng(0)
    zips = [f"z{k}" for k in rng.permutation(np.arange(2400) % 1100)]
    pd.DataFrame({"n": 7000 + rng.permutation(2400), "zip": zips}).to_csv(tmp_path / "x.csv", index=False)
    said = minivae("train", tmp_path / "x.csv", "--out", tmp_path / "r", *QUICK).stderr
    assert "column 'n': whole numbers, all different" in said and "--ignore n" in said
    assert "column 'zip': 1,100 categories" in said and "--ignore zip" in said


def test_unseen_categories_may_be_missing_in_training_and_then_everywhere(whole, tmp_path):
    path = file_of(tmp_path / "new.csv", *[CELLS | {"height": str(k)} for k in range(20)], CELLS | {"job": "pilot"},
                   CELLS | {"income": "3", "job": "student", "smoker": "no", "children": "2", "club": "B"})  # fmt: skip
    ok("train", path, "--columns", whole / "columns.json", "--unseen", "missing", "--out", tmp_path / "r", *QUICK)
    ok("evaluate", tmp_path / "r", path)
    (tmp_path / "empty.csv").write_text(",".join(CELLS) + "\n,,,,,A\n")
    ok("encode", tmp_path / "r", tmp_path / "empty.csv", "-o", tmp_path / "codes.npz")
    ok("impute", tmp_path / "r", tmp_path / "empty.csv", "-o", tmp_path / "filled.csv", "--importance", 10)
    assert np.isfinite(np.load(tmp_path / "codes.npz")["mean"]).all()
    job = mv.Columns.read(whole / "columns.json")["job"]
    assert pd.read_csv(tmp_path / "filled.csv")["job"][0] in job.categories


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
