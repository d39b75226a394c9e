"""Tables as people have them: their schema, and the way to the matrix that a model takes and back. Oracle: pandas."""

import gzip
import json
import tracemalloc
import warnings

import frames
import numpy as np
import pytest

import minivae as mv
from minivae.datasets import table as tables
from minivae.datasets.columns import Column, Columns
from minivae.datasets.table import read_table
from minivae.errors import UsageError, UsageWarning

pd = pytest.importorskip("pandas")

N = 120


@pytest.fixture(scope="module")
def people():
    return frames.people(N)


KINDS = {
    "age": "real", "income": "positive", "children": "count", "job": "categorical", "school": "ordinal",
    "member": "binary", "height": "real", "town": "categorical", "grade": "ordinal",
}  # fmt: skip


def one_line(action, *words):
    """The UsageError of an action: one line with these words."""
    with pytest.raises(UsageError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    for word in words:
        assert word in message, message
    return message


def test_the_kinds_that_a_frame_suggests(people):
    assert {column.name: column.kind for column in mv.Columns.infer(people).columns} == KINDS


def test_names_dtypes_and_categories_come_back_as_they_came(people):
    columns = mv.Columns.infer(people)
    X = columns.encode(people)
    assert X.dtype == np.float64 and X.shape == (N, 9)
    pd.testing.assert_frame_equal(columns.to_frame(X, index=people.index), people)


def test_a_schema_comes_back_from_its_json(people):
    columns = mv.Columns.infer(people, label="town")
    assert Columns.from_json(columns.to_json()) == columns
    assert json.loads(columns.to_json())["columns"][3]["categories"] == ["c", "a", "b", "never"]
    assert columns.label == "town" and columns.labels(people)[:5].tolist() == [*people["town"][:4], ""]


def test_blocks_hold_every_column_once_with_its_number_of_classes(people):
    columns = mv.Columns.infer(people)
    blocks = columns.blocks()
    assert sorted(d for block in blocks for d in block.columns) == list(range(len(columns)))
    for block in blocks:
        for d in block.columns:
            column = columns.features[d]
            assert block.kind == column.kind and block.parameter == len(column.categories or [])
    assert ("ordinal", 3, (4, 8)) in blocks


def test_columns_of_another_order_or_beside_ignored_ones_are_the_same(people):
    columns = mv.Columns.infer(people, ignore=["grade"])
    assert columns.names == [name for name in KINDS if name != "grade"]
    other = people[people.columns[::-1]].drop(columns="grade")
    np.testing.assert_array_equal(columns.encode(other), columns.encode(people))


def test_rows_and_dicts_are_tables(people):
    columns = Columns({"a": "real", "b": "categorical"})
    rows = [{"a": 1.5, "b": "x"}, {"a": None, "b": "y"}, {"b": "z", "a": 2}, {"a": 3, "b": "x"}]
    fitted = columns.fitted(rows)
    np.testing.assert_array_equal(fitted.encode(rows), [[1.5, 0], [np.nan, 1], [2, 2], [3, 0]])
    np.testing.assert_array_equal(fitted.encode({"b": ["z"], "a": [7]}), [[7, 2]])
    np.testing.assert_array_equal(fitted.encode([[1.0, "y"]]), [[1, 1]])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.csv", {}),
        ("x.csv.gz", {}),
        ("x.tsv", {"sep": "\t"}),
        ("x.csv", {"sep": ";", "decimal": ","}),
        ("x.tsv.gz", {"sep": "\t", "decimal": ",", "quoting": 1}),
        ("x.csv", {"na_rep": "NA", "encoding": "utf-8-sig", "lineterminator": "\r\n"}),
        ("x.csv", {"quoting": 2, "na_rep": "None"}),
        ("x.csv", {"decimal": ","}),
    ],
)
def test_a_file_is_read_as_pandas_reads_it(tmp_path, people, name, options):
    people.to_csv(tmp_path / name, index=False, **options)
    read = {key: value for key, value in options.items() if key in ("sep", "decimal")}
    expected = pd.read_csv(tmp_path / name, float_precision="round_trip", **read)
    table = read_table(tmp_path / name)
    columns = mv.Columns.infer(table)
    assert (table.delimiter, table.decimal) == (options.get("sep", ","), options.get("decimal", "."))
    found = columns.to_frame(columns.encode(table))
    for column in found:
        one, other = found[column], expected[column]
        assert (one.isna() == other.isna()).all()
        if other.dtype.kind == "f":
            np.testing.assert_array_equal(one.astype(float), other)
        else:
            assert one.dropna().astype(str).tolist() == other.dropna().astype(str).tolist()


def test_a_file_that_is_written_is_read_again(tmp_path, people):
    people.to_csv(tmp_path / "x.csv", index=False, sep=";", decimal=",")
    table = read_table(tmp_path / "x.csv")
    columns = mv.Columns.infer(table)
    X = columns.encode(table)
    with open(tmp_path / "y.csv", "wb") as file:
        columns.write_csv(file, columns.rows(X))
    np.testing.assert_allclose(columns.encode(read_table(tmp_path / "y.csv")), X, rtol=1e-6)
    assert (tmp_path / "y.csv").read_text().splitlines()[0] == "age;income;children;job;school;member;height;town;grade"


def test_a_column_that_numbers_the_rows_is_ignored(tmp_path, people):
    people.to_csv(tmp_path / "x.csv")
    with pytest.warns(UsageWarning, match="numbers the rows"):
        columns = mv.Columns.infer(read_table(tmp_path / "x.csv"))
    assert columns.columns[0] == Column("column 1", "ignore", None, "int64") and len(columns) == 9


def test_categories_are_the_same_in_a_file_and_in_a_frame(tmp_path):
    frame = pd.DataFrame({"b": [True, False, True], "k": [1, 2, 2], "s": ["7", "8", "8"]})
    columns = Columns({"b": "binary", "k": "binary", "s": "binary"}).fitted(frame)
    (tmp_path / "x.csv").write_text("s,k,b\n7,1.0,TRUE\n8,2,false\n8,2,True\n")
    np.testing.assert_array_equal(columns.encode(read_table(tmp_path / "x.csv")), columns.encode(frame))


def test_an_unseen_category_may_be_a_missing_cell(tmp_path):
    columns = Columns([Column("a", "real"), Column("b", "categorical", ["x", "y", "z"])])
    (tmp_path / "x.csv").write_text("a,b\n1,x\n2,w\n")
    table = read_table(tmp_path / "x.csv")
    one_line(lambda: columns.encode(table), "x.csv, line 3, column 'b'", "'w'", "'x', 'y', 'z'", "--unseen missing")
    np.testing.assert_array_equal(columns.encode(table, unseen="missing"), [[1, 0], [2, np.nan]])


SCHEMA = Columns(
    [
        Column("r", "real"), Column("p", "positive"), Column("n", "count"),
        Column("b", "binary", ["no", "yes"]), Column("id", "ignore"),
    ]
)  # fmt: skip
GOOD = "r,p,n,b,id\n1.5,2,3,no,k\n0.5,1,0,yes,l\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD.replace("0.5,1,0", "0.5,1,-1"), ["line 3, column 'n'", "a count", "'-1'"]),
        (GOOD.replace("0.5,1,0", "0.5,1,2.5"), ["line 3, column 'n'", "'2.5'"]),
        (GOOD.replace("0.5,1,0", "0.5,0,0"), ["line 3, column 'p'", "over 0", "'0'"]),
        (GOOD.replace("0.5,1,0", '"0,5",1,0'), ["line 3, column 'r'", "'0,5'"]),
        (GOOD.replace("0.5,1,0", "inf,1,0"), ["line 3, column 'r'", "finite", "'inf'"]),
        (GOOD.replace("0.5,1,0", "x,1,0"), ["line 3, column 'r'", "'x'"]),
        (GOOD.replace("yes", "maybe"), ["line 3, column 'b'", "'maybe'", "'no', 'yes'"]),
        (GOOD.replace("r,p,n", "r,n,n"), ["'n'", "2 times"]),
        (GOOD.replace("r,p,n", "r,q,n"), ["line 1", "no column 'p'", "'q' too", "'r', 'p', 'n', 'b'"]),
        ("r,p,b\n1,2,no\n", ["line 1", "no column 'n'"]),
        ("r,p,n,b,c\n1,2,3,no,k\n", ["line 1", "'c' too"]),
        (GOOD + "1,2,3\n", ["line 4", "expected 5 columns", "has 3"]),
        (GOOD + '1,2,3,"no,k\n', ["x.csv"]),
        ("", ["x.csv", "empty"]),
        ("r,p,n,b,id\n", ["only a header"]),
        (b"r,p\n\xff,1\n", ["x.csv", "utf-8"]),
    ],
)
def test_bad_input_is_one_line_that_names_file_line_and_column(tmp_path, text, words):
    (tmp_path / "x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    one_line(lambda: SCHEMA.encode(read_table(tmp_path / "x.csv")), str(tmp_path / "x.csv"), *words)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([""] * 9, ["'c'", "all its 9 cells are missing", "--ignore c"]),
        (["7"] * 9, ["'c'", "constant", "'7'", "--ignore c"]),
        (["NA", *"aaaaaaaa"], ["'c'", "constant", "'a'"]),
        (list("abcdefghi"), ["'c'", "9 different values in 9 rows", "an id", "--ignore c"]),
        ([f"2024-01-0{k}" for k in range(1, 10)], ["'c'", "dates such as 2024-01-01", "--ignore c"]),
        ([f"{k}.12.24" for k in range(1, 10)], ["'c'", "dates such as 1.12.24"]),
        (["1.5", "2.5", '"3,5"', *"456789"], ["line 4, column 'c'", "'3,5'", "decimal comma"]),
        ([*"12345678", "x"], ["line 10, column 'c'", "'x'", "--columns"]),
    ],
    ids=["missing", "constant", "constant text", "id", "dates", "short dates", "decimal comma", "text"],
)
def test_a_column_that_no_model_can_use_is_one_line(tmp_path, cells, words):
    (tmp_path / "x.csv").write_text("a,c\n" + "".join(f"{k * 1.5},{cell}\n" for k, cell in enumerate(cells)))
    table = read_table(tmp_path / "x.csv")
    message = one_line(lambda: mv.Columns.infer(table), str(tmp_path / "x.csv"), *words)
    assert mv.Columns.infer(table, ignore=["c"]).names == ["a"]
    with pytest.warns(UsageWarning) as warned:
        assert mv.Columns.infer(table, strict=False)["c"].kind == "ignore"
    assert message in str(warned[0].message)


def test_a_frame_of_dates_is_one_line():
    frame = pd.DataFrame({"a": [1.5, 2, 3], "when": pd.date_range("2024-01-01", periods=3)})
    one_line(lambda: mv.Columns.infer(frame), "'when'", "dates", "--ignore when")


def test_many_categories_are_warned_of():
    cells = [f"c{k % 1001}" for k in range(3003)]
    with pytest.warns(UsageWarning, match="1,001 categories"):
        mv.Columns.infer({"a": np.arange(3003) % 7 / 2, "c": cells})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", ["x.json", "expected the columns"]),
        (b"\xff", ["x.json", "utf-8"]),
        (b'{"columns": []}', ["$.columns"]),
        (b'{"columns": [{"name": "a", "kind": "int"}]}', ["'int'", "$.columns[0].kind"]),
        (b'{"columns": [{"name": "a", "kind": "real", "colour": 1}]}', ["colour"]),
        (b'{"columns": [{"name": "a", "kind": "ignore"}]}', ["no feature"]),
        (b'{"columns": [{"name": "a", "kind": "real", "categories": ["x"]}]}', ["'a' is real", "no categories"]),
        (b'{"columns": [{"name": "a", "kind": "binary", "categories": ["x"]}]}', ["'a' is binary", "2 categories"]),
        (b'{"columns": [{"name": "a", "kind": "ordinal", "categories": ["x", "x"]}]}', ["'a'", "differ"]),
        (b'{"columns": [{"name": "a", "kind": "real"}, {"name": "a", "kind": "real"}]}', ["'a'", "2 times"]),
        (b'{"columns": ' + b"[" * 100_000, ["expected the columns"]),
    ],
)
def test_a_bad_schema_is_one_line(tmp_path, text, words):
    (tmp_path / "x.json").write_bytes(text)
    one_line(lambda: Columns.read(tmp_path / "x.json"), *words)


def test_a_table_over_the_limit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 5_000_000))  # 20 MB out of 20 kB
    monkeypatch.setenv("MINIVAE_MAX_BYTES", "1000000")
    tracemalloc.start()
    one_line(lambda: read_table(tmp_path / "x.csv.gz"), "x.csv.gz", "MINIVAE_MAX_BYTES")
    assert tracemalloc.get_traced_memory()[1] < 16 * tables._BLOCK
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["short", "long"])
def test_reading_takes_no_more_than_it_was_checked_for(tmp_path, monkeypatch, kind):
    rng = np.random.default_rng(1)
    rows = rng.random((4_000, 5)) if kind == "long" else rng.integers(0, 9, (8_000, 5))
    np.savetxt(tmp_path / "x.csv", rows, delimiter=",", fmt="%.17g")
    asked = []
    monkeypatch.setattr(tables, "check_memory", lambda where, needed, declared: asked.append(needed))
    tracemalloc.start()
    table = read_table(tmp_path / "x.csv")
    Columns({str(k): "real" for k in range(5)}).encode(table)
    assert tracemalloc.get_traced_memory()[1] < max(asked)
    tracemalloc.stop()


def test_damaged_files_are_one_line(tmp_path, people):
    people.to_csv(tmp_path / "x.csv.gz", index=False)
    whole = (tmp_path / "x.csv.gz").read_bytes()
    rng = np.random.default_rng(2)
    for _ in range(60):
        bad = bytearray(whole)
        for at in rng.integers(0, len(bad), 3):
            bad[at] = rng.integers(256)
        (tmp_path / "y.csv.gz").write_bytes(bytes(bad[: rng.integers(1, len(bad))]))
        with pytest.raises(UsageError) as caught:
            mv.Columns.infer(read_table(tmp_path / "y.csv.gz"))
        assert "\n" not in str(caught.value) and str(tmp_path / "y.csv.gz") in str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# A file as a data set


FLOWERS = "no,width,colour,kind\n" + "".join(f"{k},{k * 0.7 % 3:.1f},{k % 3 + 1},{'ab'[k % 2]}\n" for k in range(20))


def written(tmp_path, text, name="x.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_a_table_of_numbers_stays_as_it_is_with_its_names(tmp_path):
    path = written(tmp_path, FLOWERS)
    d = mv.load(path, hold_out=False, label="kind", ignore=["no"])
    assert d.names == ("width", "colour") and d.columns is None
    assert d.y.tolist() == ["a", "b"] * 10 and d.X[:3].tolist() == [[0.0, 1], [0.7, 2], [1.4, 3]]
    with pytest.warns(UsageWarning, match="numbers the rows"):
        assert mv.load(path, label="kind").names == ("width", "colour")


def test_a_table_with_text_or_a_gap_has_a_schema(tmp_path):
    d = mv.load(written(tmp_path, FLOWERS), hold_out=False, ignore=["no"])
    assert d.columns.names == ["width", "colour", "kind"] and d.X[1].tolist() == [0.7, 2, 1]
    d = mv.load(written(tmp_path, FLOWERS.replace("1,0.7", "1,NA")), hold_out=False, ignore=["no", "kind"])
    assert d.columns["width"].kind == "real" and np.isnan(d.X[1, 0]) and np.isfinite(d.X).sum() == 39
    assert mv.load(tmp_path / "x.csv", ignore=["no", "kind"], mixed=False).columns is None


def test_a_file_is_read_by_the_schema_of_another(tmp_path):
    columns = mv.load(written(tmp_path, FLOWERS), ignore=["no"]).columns
    d = mv.load(written(tmp_path, "kind;width;colour\nb;2,5;2\n;;1\n", "y.csv"), hold_out=False, columns=columns)
    np.testing.assert_array_equal(d.X, [[2.5, 2, 1], [np.nan, 1, np.nan]])
    path = written(tmp_path, "kind,width,colour\nq,2.5,2\n", "z.csv")
    one_line(lambda: mv.load(path, columns=columns), "z.csv, line 2, column 'kind'", "'q'")
    assert np.isnan(mv.load(path, columns=columns, unseen="missing").X[0, 2])


def test_a_file_of_numbers_is_read_by_names(tmp_path):
    path = written(tmp_path, "b,a\n1.5,2\n3,4\n")
    assert mv.load(path, columns=["a", "b"]).X.tolist() == [[2, 1.5], [4, 3]]
    one_line(lambda: mv.load(path, columns=["a", "c"]), "no column 'c'", "'b' too")
    one_line(lambda: mv.load(path, label="c"), "no column 'c'")


def test_parquet_is_read_where_pyarrow_is(tmp_path, people):
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 and no more")
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        one_line(lambda: mv.load(path), "x.parquet", "pip install pyarrow")
        return
    one_line(lambda: mv.load(path), "x.parquet")
    people.to_parquet(path)
    columns = mv.Columns.infer(people)
    np.testing.assert_array_equal(columns.encode(read_table(path)), columns.encode(people))


# ---------------------------------------------------------------------------------------------------------------------
# Estimators


def test_estimators_take_a_frame_of_several_kinds_with_gaps(people):
    sklearn = pytest.importorskip("minivae.sklearn")
    model = sklearn.VAE(2, (8,), epochs=2, columns="infer", random_state=0, backend="numpy", dtype="float32")
    model.fit(people)
    assert model.transform(people).shape == (N, 2) and model.__sklearn_tags__().input_tags.allow_nan
    scores = model.score_samples(people)
    np.testing.assert_allclose(model.score_samples(people[::-1])[::-1], scores, atol=1e-3)  # the row's own noise
    filled = model.impute(people)
    assert filled.notna().all(axis=None) and (filled.dtypes == people.dtypes).all()
    there = people.notna().to_numpy()
    for d, name in enumerate(people):
        assert filled[name][there[:, d]].tolist() == people[name][there[:, d]].tolist()
    assert list(model.sample(3).columns) == list(people.columns)
    assert model.vae_.schema == model.columns_ and (model.vae_.encode(people)[0] == model.transform(people)).all()
    one_line(lambda: model.transform(people.assign(town="Rome")), "column 'town'", "'Rome'")
    one_line(lambda: sklearn.VAE(columns="guess").fit(people), "columns", "infer")
    assert not sklearn.VAE().__sklearn_tags__().input_tags.allow_nan


def test_a_detector_takes_a_schema(people):
    sklearn = pytest.importorskip("minivae.sklearn")
    columns = mv.Columns.infer(people)
    model = sklearn.VAEDetector(0.1, 2, (8,), epochs=1, columns=columns, backend="numpy", dtype="float32")
    assert {*model.fit(people).predict(people)} == {-1, 1}


def test_a_line_of_empty_cells_is_a_row_and_an_empty_line_none(tmp_path):
    path = written(tmp_path, ",,\na,b,c\n1.5,x,2\n,,\n\n2.5,y,3\n ,NA,\n")
    table = read_table(path)
    assert len(table) == 4 and table.lines.tolist() == [3, 4, 6, 7]
    X = Columns({"a": "real", "b": "binary", "c": "real"}).fitted(table).encode(table)
    assert np.isnan(X[[1, 3]]).all() and np.isfinite(X[[0, 2]]).all()
    assert len(read_table(written(tmp_path, "1.5,x\n\n,\n"))) == 2


def test_numbers_that_may_be_an_id_are_warned_of():
    rng = np.random.default_rng(0)
    with pytest.warns(UsageWarning, match="'key': whole numbers, all different .*--ignore key"):
        assert Columns.infer({"key": 500 + rng.permutation(30), "a": rng.random(30)})["key"].kind == "real"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Columns.infer({"pay": 90 * rng.permutation(30), "a": rng.random(30)})
