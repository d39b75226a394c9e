"""Models that know their table: frames in and out, and the schema in the model's file. Oracle: pandas."""

import copy
import json
import pickle

import frames
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import minivae as mv

pd = pytest.importorskip("pandas")

N = 60


@pytest.fixture(scope="module")
def frame():
    made = frames.people(N)[["height", "children", "job", "member"]]
    made.insert(0, "name", [f"p{k}" for k in range(N)])
    return made.assign(club=np.resize(["x", "y"], N)).set_index(np.arange(N) + 100)


@pytest.fixture(scope="module")
def vae(frame):
    columns = mv.Columns.infer(frame, ignore=["name"], condition=["club"])
    made = mv.VAE(len(columns), 2, (8,), likelihood=columns, missing=True, condition=columns.condition(frame),
                  backend="numpy")  # fmt: skip
    made.fit(frame, epochs=2, scale="standard", validation=frame[:10], progress=False)
    return made


def test_a_frame_is_what_its_matrix_and_its_conditions_are(vae, frame):
    X, given = vae.schema.encode(frame), {"condition": frame[["club"]]}
    assert vae.columns == ("height", "children", "job", "member")
    for call in (
        lambda rows, **more: vae.encode(rows, **more)[0],
        lambda rows, **more: vae.log_likelihood(rows, 5, **more)[0],
        lambda rows, **more: vae.objective(rows, **more).loss,
        lambda rows, **more: vae.trace(rows, **more).terms.loss,
    ):
        np.testing.assert_array_equal(call(frame), call(X, **given))
        np.testing.assert_array_equal(call(frame[frame.columns[::-1]]), call(X, **given))
        np.testing.assert_array_equal(call({name: frame[name].tolist() for name in frame}), call(X, **given))
    again = copy.deepcopy(vae)
    again.fit(frame, epochs=1, progress=False)
    other = copy.deepcopy(vae)
    other.fit(X, epochs=1, progress=False, **given)
    np.testing.assert_array_equal(again.buffer.data, other.buffer.data)
    assert not np.array_equal(vae.encode(frame)[0], vae.encode(frame.assign(club="x"))[0])


def test_frames_come_back_with_names_dtypes_categories_and_what_was_there(vae, frame):
    filled = vae.impute(frame, samples=20)
    assert filled.notna().all(axis=None)
    pd.testing.assert_frame_equal(filled.where(frame.notna()).astype(frame.dtypes), frame)
    assert (filled.dtypes == frame.dtypes).all() and filled.index.equals(frame.index)
    draws = vae.impute(frame, draws=2, samples=5)
    assert len(draws) == 2 and all(draw.notna().all(axis=None) for draw in draws)
    back = vae.reconstruct(frame)
    assert list(back) == list(frame) and (back.dtypes == frame.dtypes).all() and back["name"].equals(frame["name"])
    X = vae.schema.encode(frame)
    np.testing.assert_array_equal(vae.schema.encode(back)[:, 2:], vae.reconstruct(X, condition=frame[["club"]])[:, 2:])
    cells = vae.impute({name: frame[name].tolist() for name in frame}, samples=20)
    assert cells["job"].tolist() == filled["job"].tolist() and cells["name"] == frame["name"].tolist()
    assert isinstance(vae.impute(X, samples=5, condition=frame[["club"]]), np.ndarray)


def test_a_loaded_model_gives_rows_with_names(vae, frame, tmp_path):
    vae.save(tmp_path / "model.safetensors")
    for again in (mv.VAE.load(tmp_path / "model.safetensors"), pickle.loads(pickle.dumps(vae))):
        assert again.schema == vae.schema
        rows = again.schema.to_frame(again.sample(5, draw=True, condition="y"))
        assert list(rows) == list(vae.columns) and rows["job"].dtype == frame["job"].dtype
        jobs = again.schema.decode(again.sample(5, draw=True, condition="y"))["job"]
        assert {*jobs} <= {*frame["job"].cat.categories}
        np.testing.assert_array_equal(again.encode(frame)[0], vae.encode(frame)[0])


def test_mistakes_with_a_frame_are_one_line(vae, frame):
    for wrong, words in (
        (frame.drop(columns="job"), "has no column 'job'"),
        (frame.assign(club="z"), "column 'club': 'z' is not among its 2 categories 'x', 'y'"),
        (frame.assign(job="z"), "column 'job': 'z'"),
        (frame.assign(more=1), "has 'more' too"),
    ):
        for call in (vae.encode, vae.impute, vae.fit, vae.log_likelihood):
            with pytest.raises(mv.UsageError, match=words) as refused:
                call(wrong)
            assert "\n" not in str(refused.value)


def _changed(held):
    """Schemas that a file may not have, and what is said of each."""
    column = held["columns"][1]
    return [
        ({**held, "columns": held["columns"][:-2]}, "does not fit its model"),
        ({**held, "columns": [{**c, "kind": "count"} if c is column else c for c in held["columns"]]}, "does not fit"),
        ({**held, "columns": [{**c, "name": "other"} if c is column else c for c in held["columns"]]}, "does not fit"),
        ({**held, "columns": []}, "columns"),
        ({**held, "columns": [{"name": "a", "kind": "exec"}]}, "'exec'"),
        ({**held, "more": 1}, "more"),
        ([1], "expected the columns"),
        ("x" * 10_000, "expected the columns"),
        ({**held, "columns": [column, column]}, "2 times"),
        ({**held, "columns": [{**column, "categories": list(range(3))}]}, "no categories"),
    ]


def test_a_file_with_another_schema_is_one_line(vae, tmp_path):
    vae.save(tmp_path / "good.safetensors")
    with safe_open(tmp_path / "good.safetensors", framework="np") as file:
        text = json.loads(file.metadata()["minivae"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for schema, words in _changed(text["extra"]["schema"]):
        bad = {**text, "extra": {**text["extra"], "schema": schema}}
        save_file(tensors, tmp_path / "bad.safetensors", metadata={"minivae": json.dumps(bad)})
        with pytest.raises(mv.UsageError, match=words) as refused:
            mv.VAE.load(tmp_path / "bad.safetensors")
        assert "\n" not in str(refused.value) and str(tmp_path / "bad.safetensors") in str(refused.value)
        assert len(str(refused.value)) < 500
    plain = {**text, "extra": {k: v for k, v in text["extra"].items() if k != "schema"}}  # as older files are
    save_file(tensors, tmp_path / "old.safetensors", metadata={"minivae": json.dumps(plain)})
    assert mv.VAE.load(tmp_path / "old.safetensors").schema is None
