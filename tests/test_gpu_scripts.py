"""The GPU benchmarks and checks, run on the stand-in at tiny sizes: that they run, write their cells, and go on."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import hostcuda
import pytest
import standin

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


def test_kernels_are_measured_against_copy_bandwidth_and_what_is_done_is_not_done_again(results, tmp_path, capsys):
    bench = script("bench_gpu_kernels")
    assert bench.main(["--smoke", "--seconds", "0"]) == 3  # no time for a single one
    assert bench.main(["--smoke"]) == 0
    found = cells(tmp_path / "gpu-kernels-smoke.json")
    assert {"bernoulli", "gaussian", "adam", "normal", "gather uint8"} <= set(found)
    for cell in found.values():
        assert cell["share_of_copy"] == pytest.approx(
            cell["bytes"] / (cell["us"] / 1e6) / cell["copy_bytes_per_second"]
        )
    capsys.readouterr()
    assert bench.main(["--smoke", "--seconds", "0"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_the_bernoulli_kernel_s_bytes_are_counted_by_hand(results):
    import numpy as np

    bench, cupy = script("bench_gpu_kernels"), sys.modules["cupy"]
    (_, op, arguments, moved), *_ = bench.cases(cupy, np.random.default_rng(0), 64, 16, 100)
    assert op == "bernoulli"
    assert moved == sum(x.nbytes for x in arguments[1:4])  # out: the gradient; in: logits and X


def test_steps_are_raced_and_a_peer_that_is_not_there_is_named(results, tmp_path, monkeypatch):
    bench = script("bench_gpu_step")
    monkeypatch.delitem(bench.CONTENDERS, "torch.compile")  # compiles for half a minute
    assert bench.main(["--smoke"]) == 0
    found = cells(tmp_path / "gpu-step-smoke.json")
    assert set(found) == {"16-8-3, batch 8, TF32 off", "16-8-3, batch 8, TF32 on"}
    for cell in found.values():
        for name, result in cell["contenders"].items():
            if isinstance(result, str):
                assert not name.startswith("ours")
                assert result.startswith("did not run: ModuleNotFoundError")
            else:
                assert result["median_us"] > 0


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
    (tmp_path / "test_it.py").write_text("def test_one(): pass\ndef test_two(): assert 0, 'so it is'\n")
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
    assert "so it is" in found["test_it.py::test_two"]["error"]


@pytest.mark.parametrize("part", ["correct", "bench", "sanitize", "nonsense"])
def test_the_check_without_a_gpu_fails_and_says_why(part, tmp_path):
    """On a copy of the tree, so that nothing is written here. (sanitize needs no GPU to say what it lacks.)"""
    import shutil

    copy = tmp_path / "checkout"
    left_out = shutil.ignore_patterns(".git", ".venv", ".*cache*", "__pycache__", "demo", "shared")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=left_out)
    result = subprocess.run(
        ["bash", "scripts/gpu_check.sh", part], cwd=copy, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "GPU_SECONDS": "5", "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    said = result.stdout + result.stderr
    if part == "nonsense":
        assert result.returncode == 2
        assert "gpu_check.sh correct" in said
    elif part == "sanitize":
        assert "compute-sanitizer" in said
    else:
        assert result.returncode not in (0, 3)
        assert "the cupy backend needs CuPy" in said or "NVIDIA driver" in said or "no GPU answers" in said
