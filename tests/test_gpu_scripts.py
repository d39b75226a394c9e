"""The GPU benchmarks and checks, run on the stand-in at tiny sizes: that they run, write their cells, and go on."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import hostcuda
import numpy as np
import pytest
import standin

from minivae import kernels

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")


@pytest.fixture
def results(monkeypatch, tmp_path):
    """scripts/gpu_results.py writing to a folder of the test's own."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import gpu_results

    monkeypatch.setattr(gpu_results, "FOLDER", tmp_path)
    standin.install(monkeypatch, nvmath=True)
    return gpu_results


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(path):
    return json.loads(path.read_text())["cells"]


@pytest.mark.slow
def test_kernels_are_measured_against_copy_bandwidth_once(results, tmp_path, capsys):
    bench = script("bench_gpu_kernels")
    assert bench.main(["--smoke", "--seconds", "0"]) == 3  # no time for a single one
    assert bench.main(["--smoke"]) == 0
    found = cells(tmp_path / "gpu-kernels-smoke.json")
    assert {name.split()[0] for name in found} == {name for name, op in kernels.ops().items() if op.cuda}
    for cell in found.values():
        assert cell["share_of_copy"] == pytest.approx(
            cell["bytes"] / (cell["us"] / 1e6) / cell["copy_bytes_per_second"]
        )
    capsys.readouterr()
    assert bench.main(["--smoke", "--seconds", "0"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_the_likelihoods_are_measured_alone_where_they_are_asked_for(results, tmp_path):
    assert script("bench_gpu_kernels").main(["--smoke", "--likelihoods"]) == 0
    measured = {name.split()[0] for name in cells(tmp_path / "gpu-kernels-smoke.json")}
    assert measured == {"bernoulli", "gaussian", "gaussian_fixed"}


def test_the_bernoulli_kernel_s_bytes_are_counted_by_hand():
    op = kernels.ops()["bernoulli"]
    arguments = op.example(np.random.default_rng(0), "float32", 1, 64, 16, op.cases[0])
    assert op.bytes(*arguments) == 4 * 64 * (16 + 16 + 16 + 1)  # logits and X in; gradient and losses out


def test_curves_are_laid_over_each_other(results, tmp_path):
    pytest.importorskip("sklearn")
    assert script("bench_gpu_curves").main(["--smoke"]) == 0
    found = cells(tmp_path / "gpu-curves-smoke.json")
    assert found["numpy"]["loss"] == pytest.approx(found["cupy"]["loss"], rel=1e-4)


def test_cells_of_other_sources_are_forgotten(results, tmp_path):
    first = results.Results("x", __file__)
    first.add("cell", value=1)
    first.add("failed", ok=False)
    again = results.Results("x", __file__)
    assert again.done("cell")
    assert not again.done("failed")
    assert not results.Results("x").done("cell")


def test_the_plugin_writes_each_test_and_runs_what_passed_no_more(results, tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import pytest\ndef test_one(): pass\ndef test_two(): assert 0, 'so it is'\n"
        "def test_three(): pytest.skip('no')\n"
    )
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
import gpu_results, pathlib, pytest
gpu_results.FOLDER = pathlib.Path({str(tmp_path)!r})
sys.exit(pytest.main(["-q", "-p", "gpu_results", "--gpu-results", "t", "-p", "no:cacheprovider", "test_it.py"]))
"""
    for passed, deselected in (("1 passed", ""), ("1 failed", "1 deselected")):
        result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 1
        assert passed in result.stdout
        assert deselected in result.stdout
    found = cells(tmp_path / "gpu-t.json")
    assert found["test_it.py::test_one"]["ok"]
    assert "so it is" in found["test_it.py::test_two"]["why"]
    assert (found["test_it.py::test_three"]["ok"], found["test_it.py::test_three"]["why"]) == (None, "no")
