"""The bench suite: contenders take turns, none that computes something else is timed, and ratios are right."""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from mpi import runtime
from test_cli import minivae, mistake, one_line

from minivae.bench import (
    busy,
    epochs,
    evaluations,
    headline,
    losses,
    machine,
    page,
    problems,
    race,
    scaling,
    startup,
    steps,
    sums,
    tables,
    work,
)
from minivae.bench.figures import Cell, Figures, Measured, intervals, mean_interval, mean_ratio, ratios
from minivae.bench.race import Result
from minivae.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"widths": [12, 7, 3], "batch": 5, "rows": 20, "threads": 1}


@pytest.fixture(autouse=True)
def made_up_rows(monkeypatch):
    """MNIST takes seconds to read, and nothing here needs it."""
    monkeypatch.setattr(problems, "mnist", lambda: None)


@pytest.fixture
def standins(monkeypatch):
    """The contenders of contenders.py, whose kind is that module's name; no pause between turns."""
    monkeypatch.setattr(race, "PAUSE", 0.0)
    return {"kind": "contenders", "threads": 1}


# ---- the race -------------------------------------------------------------------------------------------------------


def test_contenders_take_turns(standins, tmp_path):
    log = tmp_path / "log"
    results = race.race({**standins, "log": str(log)}, ["a", "b", "c"], turns=4, block=0.0)
    order = [name for name, _ in itertools.groupby(log.read_text().split())]
    assert order == ["a", "b", "c"] * 5  # the first time round is the warm-up
    assert [len(result.seconds) for result in results.values()] == [4, 4, 4]
    assert all(result.checked for result in results.values())


def test_every_contender_has_the_cores_and_threads_of_its_case(standins, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "7")
    facts = race.race(standins, ["a", "b"], turns=1, block=0.0)["b"].facts
    assert facts["threads"] == "1"
    assert facts["cores"] == (machine.cores(1) if hasattr(os, "sched_setaffinity") else None)


def test_a_unit_is_timed_without_warming_up_and_with_what_is_left_under_way(standins):
    seconds = race.race(standins, ["clockwork"], turns=3, block=0.0)["clockwork"].seconds
    assert seconds == [0.4, 0.4, 0.4]  # (2 s + 2 s) for ten units


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system cannot forget a peak")
def test_peak_memory_is_that_of_the_work_and_not_of_its_preparation_or_of_this_process(standins):
    ballast = np.ones(400 * 2**20, np.uint8)
    peak = race.race(standins, ["hungry"], turns=1, block=0.0)["hungry"].peak_bytes
    assert ballast[-1]
    assert 100 * 2**20 < peak < 250 * 2**20


@pytest.mark.parametrize("name, said", [("loss", "loss differs by 1.0e-03"), ("gradient", "decoder.0.b differs"),
                                        ("missing", "encoder.1.W is missing")])  # fmt: skip
def test_a_contender_that_computes_something_else_is_refused(standins, name, said):
    with pytest.raises(UsageError, match=f"{name} disagrees with float64: {said}"):
        race.race({**standins, **SMALL}, [name], turns=1, block=0.0)


def test_a_contender_that_computes_the_same_is_timed(standins):
    result = race.race({**standins, **SMALL}, ["right"], turns=2, block=0.0)["right"]
    assert result.checked
    assert len(result.seconds) == 2


@pytest.mark.parametrize(
    "got, said",
    [
        ({"x": np.ones((2, 3))}, None),
        ({"x": np.ones((2, 3)) + 1e-6, "more": np.ones(1)}, None),
        ({"x": np.ones((2, 3)) + 1e-4}, "differs by 1.0e-04"),
        ({"x": np.full((2, 3), np.nan)}, "differs by nan"),
        ({"x": np.ones((3, 2))}, "shape"),
        ({}, "x is missing"),
    ],
)
def test_disagreement_is_found_in_every_form(got, said):
    why = work.disagreement({}, {"x": np.ones((2, 3))}, got)
    assert (why is None) if said is None else (said in why)


@pytest.mark.parametrize(
    "name, said",
    [
        ("dies", "the contender dies stopped: and the last line"),
        ("killed", "the contender killed was killed by signal 9"),
        ("silent", "the contender silent gave no answer in 1 s"),
    ],
)
def test_a_contender_that_stops_gives_one_clear_sentence(standins, name, said, monkeypatch):
    monkeypatch.setattr(race, "PATIENCE", 1.0 if name == "silent" else 60.0)
    with pytest.raises(UsageError) as error:
        race.race(standins, [name], turns=1, block=0.0)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_contender_that_cannot_run_here_is_left_out_and_says_why(standins):
    results = race.race(standins, ["a", "absent"], turns=1, block=0.0)
    assert results["absent"].left_out == "its library is not here"
    assert results["absent"].seconds == []
    assert len(results["a"].seconds) == 1


# ---- starting up ----------------------------------------------------------------------------------------------------


def test_starting_is_measured_up_to_the_first_step(tmp_path):
    for run in (lambda: startup.import_of("minivae"), startup.help_page):
        assert run().cpu > 0
    assert startup.first_step(tmp_path, Path(os.environ["NUMBA_CACHE_DIR"])).cpu > 0
    assert list((tmp_path / "run").iterdir())


COUNT_COMPILATIONS = """
import numpy as np, minivae as mv
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    mv.VAE(30, 2, (5,), seed=0, backend="numpy").fit(np.eye(30, dtype="f4"), epochs=1, progress=False)
print(len(compiled.buffer))
"""


def test_a_second_process_compiles_nothing():
    counts = [
        int(
            subprocess.run([sys.executable, "-c", COUNT_COMPILATIONS], cwd=ROOT, check=True, capture_output=True).stdout
        )
        for _ in range(2)
    ]
    assert counts[1] == 0


@pytest.mark.parametrize("name", ["dies", "killed", "absent"])
def test_a_race_that_is_not_strict_continues_without_a_contender_that_stops(standins, name):
    results = race.race(standins, ["a", name, "b"], turns=2, block=0.0, strict=False)
    assert results[name].left_out
    assert results[name].seconds == []
    assert [len(results[other].seconds) for other in ("a", "b")] == [2, 2]


def test_a_race_that_is_not_strict_times_no_contender_that_computes_something_else(standins):
    results = race.race({**standins, **SMALL}, ["right", "loss"], turns=1, block=0.0, strict=False)
    assert "loss differs" in results["loss"].left_out
    assert (results["loss"].seconds, len(results["right"].seconds)) == ([], 1)


# ---- the contenders -------------------------------------------------------------------------------------------------

CASES = {
    "step": {"kind": "step", **SMALL, "widths": [12, 7, 5, 3]},
    "busy": {"kind": "busy", **SMALL, "widths": [12, 7, 5, 3], "neighbours": 1},
    "epoch": {"kind": "epoch", "widths": [12, 7, 3], "batch": 32, "rows": 1000, "threads": 1},
    "bernoulli": {"kind": "kernel", "likelihood": "bernoulli", "rows": 7, "features": 13, "threads": 1},
    "gaussian": {"kind": "kernel", "likelihood": "gaussian", "rows": 7, "features": 13, "threads": 1},
    "evaluate": {"kind": "evaluate", "widths": [12, 7, 3], "rows": 5, "samples": 400, "threads": 1},
}
ROOMS = {"step": steps, "busy": busy, "epoch": epochs, "bernoulli": losses, "gaussian": losses, "evaluate": evaluations}


@pytest.fixture
def threads_and_flags():
    """Give torch back its threads and its subnormals."""
    if find_spec("torch") is None:
        yield
        return
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("case, name", [(case, name) for case, room in ROOMS.items() for name in room.CONTENDERS])
def test_every_contender_computes_what_float64_does(case, name, threads_and_flags):
    if name == "torch.compile":
        pytest.skip("compiling takes longer than this whole file; every race checks it")
    room, case = ROOMS[case], {**CASES[case], "name": name}
    arrays = room.prepare(case)
    try:
        contender = room.make(case, arrays)
    except UsageError as error:
        assert name not in ("minivae", "reference", "floor")
        pytest.skip(str(error))
    got = contender.results()
    assert (got is None) == name.startswith("floor")
    if got is not None:
        got = {name: np.asarray(value, np.float64) for name, value in got.items()}
        disagreement = getattr(room, "disagreement", work.disagreement)
        assert disagreement(case, room.expected(case, arrays), got) is None
    contender.before_turn()
    contender.run()
    contender.finish()


def test_an_epoch_that_learns_something_else_is_refused():
    right = {"epoch": np.array(100.0), "loss": np.array(1.0)}
    assert epochs.disagreement({}, right, {**right, "epoch": np.array(101.0)}) is None
    assert "mean loss is 104" in epochs.disagreement({}, right, {**right, "epoch": np.array(104.0)})
    assert "loss differs" in epochs.disagreement({}, right, {**right, "loss": np.array(1.1)})


def test_an_estimate_off_by_more_than_its_standard_error_is_refused():
    right = {"log_px": np.array([-1.0]), "mean": np.array(-1.0), "error": np.array(0.01)}
    assert evaluations.disagreement({}, right, {**right, "mean": np.array(-1.05)}) is None
    assert "would be chance" in evaluations.disagreement({}, right, {**right, "mean": np.array(-1.1)})
    assert "log_px differs" in evaluations.disagreement({}, right, {**right, "log_px": np.array([-1.01])})


def test_no_relu_of_a_problem_lies_at_its_kink():
    """Else a unit that is 0 in float32 and 1e-9 in float64 would make right gradients differ."""
    arrays = problems.model([100, 80, 60, 4], 1000, 1000)
    W = {name: value.astype(np.float64) for name, value in problems.parameters(arrays).items()}
    Y, nearest = arrays["rows"].astype(np.float64), []
    for i in range(3):
        A = Y @ W[f"encoder.{i}.W"] + W[f"encoder.{i}.b"]
        Y = np.maximum(A, 0)
        nearest.append(np.abs(A).min())
    assert min(nearest[:2]) > 1e-4


def test_made_up_rows_are_binary_with_features_that_are_rarely_on():
    rows = problems.rows(200, 4000)
    rate = rows.mean(axis=0)
    assert set(np.unique(rows)) == {0, 1}
    assert rate.min() < 2e-3
    assert 0.3 < rate.max() < 0.6


def test_an_exponent_is_that_of_a_power_law():
    assert scaling.exponent([8, 16, 64, 128], [5.0, 3.0, 3.0 * 4**1.5, 3.0 * 8**1.5]) == pytest.approx(1.5)


@pytest.mark.parametrize("quick", [True, False])
def test_every_race_of_the_plan_names_contenders_that_exist(quick):
    cells = headline.plan(quick, True, 2)
    for cell in cells:
        if cell.case["kind"] != "scaling":
            assert set(cell.names) <= set(work.module_of(cell.case).CONTENDERS)
    assert [c.case["batch"] for c in cells if c.case["kind"] == "step"] == [20, 128, 512, 4096]
    assert {c.case["kind"] for c in cells} >= {"step", "kernel", "epoch", "evaluate", "rate"}
    assert not any("torch" in name or name == "jax" for c in headline.plan(quick, False, 2) for name in c.names)


SUM = {"kind": "sum", "ranks": 2, "numbers": 1000, "each": 2, "threads": 2}


def test_sums_over_ranks_are_raced_beside_mpis_own(monkeypatch):
    """A wrong sum does not race: `expected` is NumPy's, in float64."""
    runtime()
    monkeypatch.setattr(race, "PAUSE", 0.0)
    results = race.race(SUM, list(sums.CONTENDERS), turns=2, block=0.0)
    assert [(r.checked, len(r.seconds), r.left_out) for r in results.values()] == [(True, 2, "")] * 3
    assert "MPI" in results["mpi"].facts["mpi"]
    right = sums.expected(SUM, {})
    wrong = {"sum": right["sum"] - sums.numbers_of(1, SUM)}
    assert work.disagreement(SUM, right, wrong)


def test_without_mpi4py_no_sums_race_and_one_line_says_so(monkeypatch, tmp_path):
    spec = sums.importlib.util.find_spec
    monkeypatch.setattr(sums.importlib.util, "find_spec", lambda name: None if name == "mpi4py" else spec(name))
    assert not [cell for cell in headline.plan(False, False, 2) if cell.case["kind"] == "sum"]
    with pytest.raises(UsageError, match=r"mpi4py is not here: .*pip install"):
        sums.make({**SUM, "name": "mpi"}, {})
    monkeypatch.setattr(headline, "plan", lambda quick, peers, threads: [])
    said = minivae("bench", "--quick", cwd=tmp_path).stderr.splitlines()
    assert len([line for line in said if "sums over ranks are left out" in line]) == 1


def test_ranks_that_do_not_start_say_why(monkeypatch, tmp_path):
    launcher = tmp_path / "mpiexec"
    launcher.write_text("#!/bin/sh\necho no ranks today >&2\nexit 3\n")
    launcher.chmod(0o755)
    monkeypatch.setattr(sums, "missing", lambda: "")
    monkeypatch.setattr(sums, "_mpiexec", lambda: str(launcher))
    with pytest.raises(UsageError, match="mpiexec ended with status 3: no ranks today"):
        sums.make({**SUM, "name": "mpi"}, {})


# ---- the machine ----------------------------------------------------------------------------------------------------


def test_the_machine_is_described_as_json_knows_it():
    found = json.loads(json.dumps(machine.describe()))
    assert found["versions"]["numpy"] == np.__version__
    assert found["processors"] >= 1


def test_cores_are_taken_before_their_second_threads(monkeypatch):
    siblings = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}
    monkeypatch.setattr(machine, "available", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(machine, "_read", lambda path: siblings[int(re.search(r"cpu(\d+)/", str(path))[1])])
    assert machine.cores(2) == [0, 2]
    assert machine.cores(3) == [0, 2, 1]


def test_a_system_without_affinity_works_and_the_report_says_so(monkeypatch):
    for name in ("sched_setaffinity", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    assert machine.pin(2) is False
    assert machine.available() == list(range(os.cpu_count()))
    figures = Figures(True, "2026-01-01", machine.describe())
    assert any("pins no process" in line for line in tables.machine_lines(figures))


# ---- figures and reports --------------------------------------------------------------------------------------------

TIMES = {
    "minivae": 2.0, "minivae-mkl": 1.6, "torch": 4.0, "torch-default": 1.0, "torch.compile": 3.0, "jax": 5.0,
    "minivae-dense": 2.5, "torch-csr": 4.5, "torch-bag": 3.5,
    "mpi": 2.2, "mpi-in-two": 1.9,
    "reference": 12.0, "floor": 1.25, "floor-mkl": 1.0, "copy": 1.0, "gemm": 1.0, "gemm-mkl": 1.0,
}  # fmt: skip


def hash_of(name):
    return sum(map(ord, name)) % 5


def made_up(peers=True, quick=False):
    """Figures of a whole run, every time made up: TIMES in ms around a median, larger for larger batches."""
    machine_facts = {**machine.describe(), "cpu": "An Example CPU", "versions": {"minivae": "0"}}
    figures = Figures(quick, "2026-01-02T03:04:05+00:00", machine_facts, complete=True)
    for cell in headline.plan(quick, peers, 2):
        results = {}
        for name in cell.names:
            t = 1e-3 * (TIMES[name] * cell.case.get("batch", 1) if name in TIMES else float(name))
            facts = {"bytes": 10**6, "flops": 10**9, "blas": "a BLAS"}
            slow = hash_of(name)  # the turn in which it was slow: not the same for all
            turns = [0.6 * t, 0.8 * t, t, 1.3 * t, 1.7 * t]
            results[name] = Result(name, turns[slow:] + turns[:slow], 123_000_000, True, facts)
        figures.cells.append(Measured(cell, results))
    return figures


def test_ratios_are_those_of_medians_and_the_best_peer_is_the_fastest_that_counts():
    cell = Measured(Cell({"kind": "step", "batch": 1}, [], 3, 0.0, {}), {})
    for name, t in TIMES.items():
        cell.results[name] = Result(name, [t, t, t] if name == "minivae" else [0.5 * t, t, 100 * t])
    found = ratios(cell)
    assert found["best peer / minivae"] == pytest.approx(3.0 / 2.0)  # torch.compile; torch-default is not a peer
    assert found["best peer / minivae-mkl"] == pytest.approx(3.0 / 1.6)
    assert found["minivae / floor"] == pytest.approx(2.0 / 1.25)
    assert found["minivae-mkl / floor-mkl"] == pytest.approx(1.6 / 1.0)
    assert found["reference / minivae"] == pytest.approx(6.0)
    cell.results["torch.compile"] = Result("torch.compile", left_out="no compiler")
    assert ratios(cell)["best peer / minivae"] == pytest.approx(4.0 / 2.0)


def test_ratios_without_peers_or_floors_are_left_out():
    cell = Measured(Cell({"kind": "step", "batch": 1}, [], 1, 0.0, {}), {"minivae": Result("minivae", [1.0])})
    assert ratios(cell) == {}
    assert mean_ratio([cell], "best peer / minivae") is None


def test_the_mean_of_ratios_is_geometric():
    def cell(torch):
        results = {"minivae": Result("minivae", [1.0]), "torch": Result("torch", [torch])}
        return Measured(Cell({"kind": "step", "batch": 1}, [], 1, 0.0, {}), results)

    assert mean_ratio([cell(1.0), cell(4.0)], "best peer / minivae") == pytest.approx(2.0)


def test_every_ratio_has_its_interval_over_the_turns_if_there_are_five():
    def cell(seconds):
        results = {
            "minivae": Result("minivae", [1.0, 2.0, 4.0, 3.0, 5.0][: len(seconds)]),
            "torch": Result("torch", seconds),
        }
        return Measured(Cell({"kind": "step", "batch": 1}, [], 1, 0.0, {}), results)

    drifting = cell([1.5, 3.0, 6.0, 4.5, 7.5])  # 1.5 times in every turn, whatever the machine did
    assert intervals(drifting)["torch / minivae"] == pytest.approx((1.5, 1.5))
    low, high = intervals(cell([1.5, 3.0, 2.0, 4.5, 7.5]))["best peer / minivae"]
    assert low < 1 < high
    assert intervals(cell([1.5, 3.0, 6.0, 4.5]))["torch / minivae"] is None
    assert mean_interval([drifting, drifting], "torch / minivae") == pytest.approx((1.5, 1.5))
    assert mean_interval([drifting, cell([1.5])], "torch / minivae") is None


def test_the_mean_of_independent_ratios_is_known_better_than_one():
    results = {"minivae": Result("minivae", [1.0] * 5), "torch": Result("torch", [1.0, 2.0, 2.0, 2.0, 4.0])}
    cell = Measured(Cell({"kind": "step", "batch": 1}, [], 1, 0.0, {}), results)
    assert intervals(cell)["torch / minivae"] == pytest.approx((1.0, 4.0))
    assert mean_interval([cell] * 4, "torch / minivae") == pytest.approx((2 / 2**0.5, 2 * 2**0.5))


def test_a_ratio_whose_interval_holds_1_is_undecided_in_the_tables_and_on_the_page():
    texts = [text for table in tables.tables(made_up()) for _, row in table.ratios for text in row]
    shown = [re.fullmatch(r"([\d.]+)(\??)\n([\d.]+)–([\d.]+)", text) for text in texts if text != tables.GAP]
    assert {s[2] for s in shown} == {"", "?"}
    assert all((s[2] == "?") == (float(s[3]) <= 1 <= float(s[4])) for s in shown if "1.00" not in (s[3], s[4]))
    assert "?<br>0." in page.markdown(made_up(), "x.json", "0" * 64)


def test_figures_survive_their_file(tmp_path):
    figures = made_up()
    figures.write(tmp_path / "figures.json")
    again = Figures.read(tmp_path / "figures.json")
    assert again.to_json() == figures.to_json()
    data = json.loads((tmp_path / "figures.json").read_text())
    step = next(cell for cell in data["cells"] if cell["case"]["kind"] == "step")
    assert step["ratios"]["best peer / minivae"] == 1.5
    assert len(step["intervals"]["best peer / minivae"]) == 2
    assert step["results"][0]["median"] == pytest.approx(2e-3 * 20)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "bench", "schema": 1}', "another schema"])
def test_a_file_of_something_else_is_named_in_one_sentence(text, tmp_path):
    text = json.dumps({**made_up().to_json(), "schema": 0}) if text == "another schema" else text
    (tmp_path / "figures.json").write_text(text)
    with pytest.raises(UsageError, match=r"figures\.json: not the figures"):
        Figures.read(tmp_path / "figures.json")


@pytest.mark.parametrize("peers", [True, False])
def test_a_report_of_80_columns_cuts_no_number(peers):
    from rich.console import Console

    from minivae.bench.report import render

    figures = made_up(peers)
    console = Console(width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(render(figures))
    text = console.export_text()
    for table in tables.tables(figures):
        for label, cells in table.rows + table.ratios:
            assert label in text
            for cell in cells:
                assert all(word in text for word in cell.split()), (label, cell)
    assert "…" not in text


def test_contenders_that_did_not_race_are_in_the_report_with_the_reason():
    figures = made_up()
    figures.cells[1].results["jax"] = Result("jax", left_out="jax is not here")
    assert tables.left_out(figures) == {"jax": "jax is not here"}
    assert "- jax: jax is not here" in page.markdown(figures, "x.json", "0" * 64)
    assert dict(tables.tables(figures)[0].rows)["jax"][0] == tables.GAP


# ---- the page -------------------------------------------------------------------------------------------------------


def check_page(docs):
    """The page and its pictures are what the file that it names makes of them."""
    text = (docs / page.PAGE).read_text()
    source = re.search(r"from (\S+), sha256", text)[1]
    digest = page.sha256(docs / source)
    figures = Figures.read(docs / source)
    assert text == page.markdown(figures, source, digest)
    for picture in {page.BARS, page.LINES} & set(re.findall(r"\((\w+\.png)\)", text)):
        assert digest.encode() in (docs / picture).read_bytes(), f"{picture} was drawn from other figures"


def test_a_page_that_was_made_of_other_figures_is_found_out(tmp_path):
    pytest.importorskip("matplotlib")
    figures, docs = made_up(), tmp_path / "docs"
    docs.mkdir()
    figures.write(tmp_path / "figures.json")
    page.main([str(tmp_path / "figures.json"), str(docs)])
    check_page(docs)
    kept_page = (docs / page.PAGE).read_text()
    figures.cells[1].results["minivae"].seconds[1] *= 1.0001
    figures.write(tmp_path / "figures.json")
    with pytest.raises(AssertionError):
        check_page(docs)
    (docs / page.PAGE).write_text(kept_page.replace(" 1.50 ", " 2.50 "))
    with pytest.raises(AssertionError):
        check_page(docs)


def test_the_page_in_docs_is_made_of_its_figures():
    check_page(ROOT / "docs")


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(standins, monkeypatch):
    """`minivae bench` with two races of stand-ins; the second one's contenders can be changed."""
    names = ["a"]

    def cells(quick, peers, threads):
        whole = {"turns": 2, "block": 0.0, "warm_up": {"units": 1, "seconds": 0.0}}
        return [Cell({**standins, "race": 1}, ["a", "absent"], **whole), Cell({**standins, "race": 2}, names, **whole)]

    monkeypatch.setattr(headline, "plan", cells)
    return names


def test_bench_prints_json_that_parses_and_says_who_is_left_out(plan, tmp_path):
    result = minivae("bench", "--quick", "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    data = json.loads(result.stdout)
    assert [len(cell["results"][0]["seconds"]) for cell in data["cells"]] == [2, 2]
    assert data["complete"]
    assert data["cells"][0]["results"][1]["left_out"] == "its library is not here"
    assert "absent is left out: its library is not here" in minivae("bench", "--quick", cwd=tmp_path).stderr


def test_bench_saves_each_race_and_resumes_after_the_last(plan, tmp_path):
    plan[:] = ["dies"]
    assert "dies stopped" in mistake("bench", "--out", "f.json", cwd=tmp_path)
    first = json.loads((tmp_path / "f.json").read_text())
    assert (len(first["cells"]), first["complete"]) == (1, False)
    plan[:] = ["b"]
    assert minivae("bench", "--out", "f.json", "--resume", cwd=tmp_path).returncode == 0
    second = json.loads((tmp_path / "f.json").read_text())
    assert (len(second["cells"]), second["complete"]) == (2, True)
    assert second["cells"][0] == first["cells"][0]


def test_bench_resumes_no_file_of_another_machine_or_other_races(plan, tmp_path):
    minivae("bench", "--out", "f.json", cwd=tmp_path)
    data = json.loads((tmp_path / "f.json").read_text())
    changed = {**data, "machine": {**data["machine"], "cpu": "another"}}
    (tmp_path / "f.json").write_text(json.dumps(changed))
    assert "cpu another" in one_line("bench", "--out", "f.json", "--resume", cwd=tmp_path)
    (tmp_path / "f.json").write_text(json.dumps(data))
    plan[:] = ["c"]
    assert "other races" in one_line("bench", "--out", "f.json", "--resume", cwd=tmp_path)


def test_bench_says_where_an_interrupted_run_is_kept(plan, tmp_path, monkeypatch):
    def interrupted(figures, cells, say, done):
        figures.cells.append(Measured(cells[0], {"a": Result("a", [1.0])}))
        done(figures.cells[0])
        raise KeyboardInterrupt

    monkeypatch.setattr(headline, "run", interrupted)
    result = minivae("bench", "--out", "f.json", cwd=tmp_path)
    assert result.returncode == 130
    assert "f.json --resume" in result.stderr
    assert Figures.read(tmp_path / "f.json").cells


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--out", "x.txt"], "ends in .json"),
        (["--out", "no/such/x.json"], "a folder that exists"),
        (["--out", "there.json"], "--resume goes on with it, --force replaces it"),
        (["--out", "x.json", "--resume"], "no such file to go on with"),
        (["--resume"], "--resume needs --out"),
        (["--out", "there.json", "--resume", "--force"], "leave one of the two out"),
        (["--out", "there.json", "--resume"], "not the figures"),
        (["--threads", "0"], "--threads 0"),
    ],
)
def test_mistakes_of_bench_are_one_line(plan, arguments, said, tmp_path):
    (tmp_path / "there.json").write_text("{}")
    assert said in one_line("bench", *arguments, cwd=tmp_path)


def test_bench_in_a_checkout_keeps_full_runs_and_no_quick_ones(plan, tmp_path):
    (tmp_path / "bench").mkdir()
    minivae("bench", "--quick", cwd=tmp_path)
    assert not list(tmp_path.rglob("*.json"))
    minivae("bench", cwd=tmp_path)
    (path,) = tmp_path.rglob("*.json")
    assert path.parent == tmp_path / "bench" / "results"
    assert Figures.read(path).date[:10] in path.name
    assert Figures.read(path).complete


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to read on this system")


# ---- neighbours ----------------------------------------------------------------------------------------------------


@needs_proc
def test_neighbours_compute_inside_and_are_gone_afterwards():
    with busy.beside(2, 1) as neighbours:
        assert len(neighbours) == 2
        for pid in neighbours:
            wait_for(lambda pid=pid: seconds_of(pid) > 0.3)
    assert [seconds_of(pid) for pid in neighbours] == [None, None]


@needs_proc
def test_neighbours_end_with_the_process_that_started_them():
    script = "from minivae.bench import busy\nwith busy.beside(1, 1) as pids: print(*pids, flush=True); input()"
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert seconds_of(pid) is not None
    parent.kill()
    parent.communicate()
    wait_for(lambda: seconds_of(pid) is None)


def seconds_of(pid):
    """The processor time of a process; None where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
