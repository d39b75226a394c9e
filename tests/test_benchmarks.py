"""The benchmarks of bench/ are pytest-benchmark's: they are kept, compared, and a slower run fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_benchmark")
ROOT = Path(__file__).resolve().parent.parent


def bench(store, *options):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=",
               "bench/bench_step.py::bench_train_step[64-32-2-20]", f"--benchmark-storage=file://{store}",
               "--benchmark-max-time=0.01", "--benchmark-min-rounds=2", *options]  # fmt: skip
    alone = {name: value for name, value in os.environ.items() if "XDIST" not in name}  # a worker keeps no benchmarks
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=alone | {"COLUMNS": "200"})


def test_a_run_is_kept_and_a_later_one_that_is_slower_than_it_fails(tmp_path):
    first = bench(tmp_path, "--benchmark-autosave")
    assert first.returncode == 0, first.stdout + first.stderr
    (kept,) = tmp_path.rglob("*.json")
    data = json.loads(kept.read_text())
    (step,) = data["benchmarks"]
    assert step["name"] == "bench_train_step[64-32-2-20]"
    assert step["extra_info"]["rows_per_second"] == pytest.approx(20 / step["stats"]["median"])
    for factor, status in ((1e6, 0), (1e-6, 1)):  # the kept run made so much slower, so much faster
        for name in ("min", "mean", "median"):
            step["stats"][name] *= factor
        kept.write_text(json.dumps(data))
        later = bench(tmp_path, "--benchmark-compare", "--benchmark-compare-fail=median:50%")
        assert (later.returncode != 0) == bool(status), later.stdout + later.stderr
        assert ("Performance has regressed" in later.stdout + later.stderr) == bool(status)
        for name in ("min", "mean", "median"):
            step["stats"][name] /= factor
