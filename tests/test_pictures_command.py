"""`minivae picture`, `minivae compare`, `minivae encode -o codes.tsv`, and runs that are given no folder or no data."""

import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest
from test_cli import SMALL, mistake, ok, one_line

import minivae as mv
from minivae import plots
from minivae.cli.runs import open_run

pytest.importorskip("matplotlib")
from matplotlib.image import imread


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs on pictures (4, 5) with labels, one on a table, and one of a model with one latent dimension."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    np.savez(folder / "x.npz", X=rng.random((60, 4, 5)), y=np.arange(60) % 3)
    np.save(folder / "t.npy", rng.normal(size=(60, 5)))
    for name, data, options in (
        ("p", "x.npz", ["--latent", "3"]),
        ("q", "x.npz", ["--validation", "0.2"]),
        ("t", "t.npy", []),
        ("one", "x.npz", ["--latent", "1"]),
    ):
        ok("train", data, "--out", name, *SMALL, *options, "--seed", "1", cwd=folder, pictures=name in ("t", "one"))
    return folder


SHAPE, DRAWS = (4, 5), "x ~ p(x|z) for z ~ N(0, I): draws"
KINDS = {  # options, and what mv.plots draws of a model, of rows X and of labels y when asked for the same
    "manifold": (["--dims", "3,1", "--range", "2", "--size", "4", "--rows", "1"],
                 lambda v, X, y: plots.manifold(v, SHAPE, dims=[2, 0], reach=2, size=4, z=v.encode(X[1:2])[0][0])),
    "latent": (["--dims", "2,3", "-n", "5", "--split", "train"],
               lambda v, X, y: plots.latent(v.encode(X[:5])[0], y[:5], dims=[1, 2],
                                            rows="first 5 rows of the training part of x.npz")),
    "traverse": (["--dims", "2,1", "--rows", "3", "--size", "5", "--range", "1"],
                 lambda v, X, y: plots.traverse(v, SHAPE, z=v.encode(X[3:4])[0][0], dims=[1, 0], reach=1, steps=5)),
    "interpolate": (["--rows", "0,3,2,1", "--size", "4"],
                    lambda v, X, y: plots.interpolate(v, X[[0, 2]], X[[3, 1]], SHAPE, steps=4)),
    "samples": (["-n", "9", "--seed", "4", "--draw"],
                lambda v, X, y: plots.grid(v.sample(9, seed=4, draw=True), SHAPE, title=DRAWS)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_is_that_of_its_options(kind, runs, tmp_path):
    options, drawn = KINDS[kind]
    for file, given in (("own.png", options), ("plain.png", [])):
        assert ok("picture", "p", kind, "-o", tmp_path / file, *given, cwd=runs) == f"{tmp_path / file}: {kind}\n"
    run = open_run(runs / "p", "numpy")
    part = run.part(split="train" if kind == "latent" else None)
    plots.save(drawn(run.vae, part.X, part.y), tmp_path / "expected.png")
    np.testing.assert_array_equal(imread(tmp_path / "own.png"), imread(tmp_path / "expected.png"))
    assert (tmp_path / "own.png").read_bytes() != (tmp_path / "plain.png").read_bytes()


@pytest.mark.parametrize("kind", [*KINDS, "loss"])
def test_every_kind_is_written_as_svg_and_pdf_the_same_each_time(kind, runs, tmp_path):
    for name in ("1.svg", "2.svg", "1.pdf"):
        ok("picture", "p", kind, "-o", tmp_path / name, cwd=runs)
    ElementTree.parse(tmp_path / "1.svg")
    assert (tmp_path / "1.svg").read_bytes() == (tmp_path / "2.svg").read_bytes()
    assert (tmp_path / "1.pdf").read_bytes()[:5] == b"%PDF-"


@pytest.mark.parametrize("kind", ["latent", "traverse", "interpolate", "samples", "loss"])
def test_a_table_has_its_pictures_too(kind, runs, tmp_path):
    ok("picture", "t", kind, "-o", tmp_path / "x.png", cwd=runs)
    assert imread(tmp_path / "x.png").size > 10_000


@pytest.mark.parametrize("arguments, said", [
    (["p", "scatter"], "picture scatter: expected one of manifold, latent"),
    (["p", "latent", "--dims", "1,4"], "--dims 1,4: expected dimensions from 1 to 3"),
    (["p", "latent", "--dims", "0,1"], "--dims '0,1': expected integers ≥ 1"),
    (["p", "latent", "--dims", "2,2"], "expected two different ones of 3"),
    (["p", "manifold", "--range", "-1"], "--range=-1.0: expected a number > 0"),
    (["p", "manifold", "--range", "nan"], "--range=nan: expected a number > 0"),
    (["p", "manifold", "--size", "1"], "--size=1: expected an integer of at least 2"),
    (["p", "interpolate", "--rows", "1"], "expected pairs, as in 0,5"),
    (["p", "interpolate", "--rows", "1,99"], "--rows 99: expected rows from 0 to 11"),
    (["p", "samples", "-n", "0"], "-n=0: expected an integer of at least 1"),
    (["t", "manifold"], "take traverse"),
    (["one", "manifold"], "this model has one: take traverse"),
    (["one", "latent"], "minivae explore draws it"),
    (["gone", "latent"], "does not exist"),
])  # fmt: skip
def test_mistakes_are_one_line_and_leave_no_file(arguments, said, runs, tmp_path):
    assert said in one_line("picture", *arguments, "-o", tmp_path / "x.png", cwd=runs)
    assert not list(tmp_path.iterdir())


def test_a_picture_is_not_written_over_nor_into_a_name_it_does_not_know(runs, tmp_path):
    (tmp_path / "x.png").write_text("mine")
    assert "exists" in one_line("picture", "p", "loss", "-o", tmp_path / "x.png", cwd=runs)
    assert (tmp_path / "x.png").read_text() == "mine"
    assert ".png or .svg or .pdf" in one_line("picture", "p", "loss", "-o", tmp_path / "x.jpg", cwd=runs)


# ---- compare --------------------------------------------------------------------------------------------------------


def test_runs_are_compared_in_one_table_and_one_picture(runs, tmp_path):
    said = ok("compare", "p", "q", "-o", tmp_path / "c.png", cwd=runs)
    assert (tmp_path / "c.png").stat().st_size > 10_000
    for name in ("p", "q"):
        last = (runs / name / "history.csv").read_text().splitlines()[-1].split(",")
        line = next(line for line in said.splitlines() if line.split()[:1] == [name])
        assert f"{float(last[3]):.2f}" in line and f"{float(last[5]):.2f}" in line
    assert "20-16-3" in said and "differ" not in said


def test_a_comparison_for_programs_says_where_runs_differ(runs):
    found = json.loads(ok("compare", "q", "t", "--json", cwd=runs))
    assert [one["run"] for one in found["runs"]] == ["q", "t"]
    assert found["differ_in"] == ["data", "likelihood", "scale"]
    assert found["runs"][0]["best_val_elbo"] is not None and found["runs"][1]["best_val_elbo"] is None
    assert "differ in data, likelihood, scale: their nats" in ok("compare", "q", "t", cwd=runs)


def test_a_run_that_is_none_is_one_line(runs, tmp_path):
    assert "does not exist" in one_line("compare", "p", "gone", cwd=runs)
    begun = shutil.copytree(runs / "p", tmp_path / "begun")
    (begun / "history.csv").write_text((begun / "history.csv").read_text().splitlines(keepends=True)[0])
    assert "no epoch is finished yet" in one_line("compare", "p", begun, cwd=runs)


# ---- codes for the projector ----------------------------------------------------------------------------------------


def test_codes_and_labels_are_what_the_projector_reads(runs, tmp_path):
    ok("encode", "p", "-o", tmp_path / "z.tsv", "--metadata", tmp_path / "y.tsv", cwd=runs)
    ok("encode", "p", "-o", tmp_path / "z.npz", cwd=runs)
    kept = np.load(tmp_path / "z.npz")
    np.testing.assert_array_equal(np.loadtxt(tmp_path / "z.tsv", delimiter="\t", dtype=np.float32), kept["mean"])
    header, *lines = (tmp_path / "y.tsv").read_text().splitlines()
    assert header == "row\tlabel"
    np.testing.assert_array_equal([list(map(int, line.split("\t"))) for line in lines], np.c_[kept["rows"], kept["y"]])


def test_without_labels_the_metadata_are_one_column_without_a_header(runs, tmp_path):
    ok("encode", "t", "-o", tmp_path / "z.tsv", "--metadata", tmp_path / "y.tsv", cwd=runs)
    assert len((tmp_path / "y.tsv").read_text().splitlines()) == 12
    assert (tmp_path / "y.tsv").read_text().splitlines()[0].isdigit()


@pytest.mark.parametrize("arguments, said", [
    (["-o", "z.npz", "--metadata", "y.tsv"], "--metadata goes with a .tsv"),
    (["-o", "z.tsv", "--metadata", "y.csv"], "expected a name that ends in .tsv"),
    (["-o", "z.tsv", "--metadata", "z.tsv"], "is the file of -o"),
])  # fmt: skip
def test_mistakes_of_encode_are_one_line(arguments, said, runs):
    assert said in one_line("encode", "p", *arguments, cwd=runs)
    assert not (runs / "z.tsv").exists() and not (runs / "z.npz").exists()


# ---- runs without a folder, without data ----------------------------------------------------------------------------


def test_a_run_that_is_given_no_folder_takes_the_first_free_one_and_says_so(runs, tmp_path):
    for number in (1, 2):
        said = ok("train", runs / "x.npz", *SMALL, cwd=tmp_path)
        assert f"folder      runs/x-{number}: no --out was given" in said
        assert (tmp_path / "runs" / f"x-{number}" / "model.safetensors").exists()
    assert "name its folder by --out" in one_line("train", runs / "x.npz", "--resume", cwd=tmp_path)
    assert "runs" not in mistake("train", "gone.npy", cwd=tmp_path)


def test_a_run_of_fit_serves_every_command_once_it_is_told_the_data(runs, tmp_path):
    data = mv.load(runs / "x.npz")
    vae = mv.VAE(20, 2, (8,), backend="numpy", seed=3)
    vae.fit(data.X, epochs=2, binarize="dynamic", run=tmp_path / "r", progress=False)
    np.testing.assert_array_equal(mv.VAE.load(tmp_path / "r").buffer.data, vae.buffer.data)
    x = runs / "x.npz"
    assert "does not know its data" in one_line("evaluate", tmp_path / "r")
    assert "elbo" in ok("evaluate", tmp_path / "r", x)
    assert "elbo" in ok("evaluate", tmp_path / "r" / "model.safetensors", x)
    ok("encode", tmp_path / "r", x, "-o", tmp_path / "z.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "z.npz")["mean"], vae.encode(mv.load(x, hold_out=False).X)[0])
    ok("reconstruct", tmp_path / "r", x, "-o", tmp_path / "r.png")
    ok("sample", tmp_path / "r", "-o", tmp_path / "s.npy")
    ok("explore", tmp_path / "r", x, "-o", tmp_path / "e.html")
    assert '"shape":[4,5]' in (tmp_path / "e.html").read_text()
    ok("picture", tmp_path / "r", "latent", x, "-o", tmp_path / "l.png")
    ok("picture", tmp_path / "r", "manifold", x, "-o", tmp_path / "m.png")
    ok("picture", tmp_path / "r", "loss", "-o", tmp_path / "loss.png")
    ok("compare", tmp_path / "r", runs / "p")


def test_a_sample_says_whether_it_is_means_or_draws(runs, tmp_path):
    said = ok("sample", "p", "-o", tmp_path / "s.npy", cwd=runs)
    assert "E[x|z] for z ~ N(0, I): means, not draws" in said
    assert "x ~ p(x|z) for z ~ N(0, I): draws" in ok("sample", "p", "--draw", "-o", tmp_path / "d.npy", cwd=runs)
