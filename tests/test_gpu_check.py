"""scripts/gpu_check.sh from end to end on the stand-in for CuPy: order, resumption, time budget, missing packages."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import hostcuda
import pytest
import standin_site

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")


@pytest.fixture
def gpu_check(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("gpu_check")


class Machine:
    """A machine with the stand-in for its GPU, whose results and counts lie in a folder of the test's own."""

    def __init__(self, folder, nvmath=True, absent=(), sanitizer=True, **environment):
        self.results, self.counts = folder / "results", folder / "counts"
        self.counts.mkdir()
        (folder / "bin").mkdir()
        if sanitizer:  # runs what it is to watch, and finds nothing
            tool = folder / "bin" / "compute-sanitizer"
            tool.write_text('#!/bin/sh\nwhile [ "$1" != "$PYTHON" ]; do shift; done\nexec "$@"\n')
            tool.chmod(0o755)
        site = standin_site.make(folder / "site", nvmath, absent)
        self.environment = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin", "PYTHON": sys.executable, "PYTHONPATH": str(site),
            "GPU_RESULTS": str(self.results), "STANDIN_COUNTS": str(self.counts), "HOME": str(folder),
            "NUMBA_CACHE_DIR": os.environ["NUMBA_CACHE_DIR"], **environment,
        }  # fmt: skip

    def start(self, part):
        command = ["bash", "scripts/gpu_check.sh", part]
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)  # fmt: skip

    def run(self, part):
        """(exit status, output)"""
        process = self.start(part)
        output, _ = process.communicate(timeout=900)
        return process.returncode, output

    def has_done(self, monkeypatch, *steps):
        """Write into its results that these steps were done before."""
        import gpu_check
        import gpu_results

        monkeypatch.setattr(gpu_results, "FOLDER", self.results)
        for step in steps:
            gpu_results.Results("check", gpu_check.__file__).add(step, ok=True)

    def cells(self, name):
        return json.loads((self.results / f"gpu-{name}.json").read_text())["cells"]


def steps(output):
    """The names of the steps that were begun, in order."""
    return [line.split()[1][:-1] for line in output.splitlines() if line.startswith("== ") and "s left)" in line]


def estimate(counts, card_seconds):
    """Seconds of each process, with the device's time here replaced by that of a large card."""
    found = [json.loads(path.read_text()) for path in counts.glob("*.json")]
    return {
        " ".join(one["argv"])[-60:]: one["seconds"] - one["device_seconds"]
        + card_seconds(one["launches"], one["bytes"], one["modules"])
        for one in found
    }  # fmt: skip


@pytest.mark.hours  # 40 s; the order, the plan and the kill of a step have tests of their own
def test_all_continues_after_a_kill_runs_the_most_valuable_first_and_does_nothing_twice(tmp_path, gpu_check):
    machine = Machine(tmp_path, absent=("torch",), GPU_SMOKE="1", GPU_SECONDS="800")
    process, before = machine.start("all"), []
    for line in process.stdout:
        before.append(line)
        if line.startswith("== likelihoods"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    passed = {name for name, cell in machine.cells("correct").items() if cell["ok"]}
    files = {"tests/test_gpu.py", "tests/test_gpu_training.py", "tests/test_gpu_ranks.py"}
    assert {name.partition("::")[0] for name in passed} == files

    status, after = machine.run("all")
    assert status == 0, after
    order = [step.name for step in gpu_check.PLAN]
    assert steps("".join(before)) == order[:4]
    assert steps(after) == order[3:]
    assert [line.split(None, 1)[1] for line in after.splitlines()[-len(order) :]] == ["done before"] * 3 + ["done"] * 8
    left_out = {name: cell["why"] for name, cell in machine.cells("correct").items() if not cell["ok"]}
    assert left_out == {"tests/test_gpu_ranks.py::test_ranks_on_all_gpus_have_the_bits_of_one": "there is one GPU"}
    assert machine.cells("sanitize")["memcheck, all ops"]["ok"]
    for cell in machine.cells("step-smoke").values():
        contenders = cell["contenders"]
        assert [len(contenders[name]["seconds"]) for name in ("minivae", "minivae-uncaptured")] == [2, 2]
        assert contenders["minivae"]["checked"]
        assert contenders["jax"]["left_out"].startswith("jax")  # is not here, or sees no GPU

    for what, seconds in estimate(machine.counts, gpu_check.card_seconds).items():
        print(f"{seconds:6.1f} s  … {what}")

    status, output = machine.run("all")
    assert (status, steps(output)) == (0, [])
    assert output.count("done before") == len(order)


@pytest.mark.slow
def test_missing_packages_are_named_and_the_rest_runs(tmp_path, gpu_check, monkeypatch):
    """Without nvmath-python steps run uncaptured; without PyTorch, JAX and the sanitizer those steps are left out."""
    machine = Machine(tmp_path, nvmath=False, absent=("torch", "jax"), sanitizer=False, GPU_SMOKE="1")
    machine.has_done(monkeypatch, "likelihoods", "curves", "kernels", "steps")
    status, output = machine.run("bench")
    assert (status, steps(output)) == (0, ["step"]), output
    assert "products by CuPy" in output
    for cell in machine.cells("step-smoke").values():
        left_out = {name: result["left_out"] for name, result in cell["contenders"].items()}
        assert left_out.pop("minivae-uncaptured") == ""
        assert "nvmath-python" in left_out.pop("minivae")
        assert set(left_out) == {"torch", "torch.compile", "jax"}
        assert all(why.startswith(name.partition(".")[0] + " is not here") for name, why in left_out.items())
    status, output = machine.run("sanitize")
    assert status == 0
    assert "left out: compute-sanitizer is not installed here" in output


def test_captured_steps_are_skipped_without_nvmath_and_no_failure(tmp_path):
    machine = Machine(tmp_path, nvmath=False, GPU_SMOKE="1")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "gpu_results", "--gpu-results",
               "correct", "-m", "gpu", "--require-gpu", "-o", "addopts=-ra", "tests/test_gpu_training.py",
               "-k", "ten_thousand or tf32"]  # fmt: skip
    path = os.pathsep.join([machine.environment["PYTHONPATH"], str(ROOT), str(ROOT / "scripts")])
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                            env=machine.environment | {"PYTHONPATH": path})  # fmt: skip
    assert result.returncode == 0, result.stdout
    found = machine.cells("correct")
    assert {name.partition("::")[2]: cell["ok"] for name, cell in found.items()} == {
        "test_ten_thousand_replays": None, "test_tf32_is_off_unless_asked_for": True,
    }  # fmt: skip


def test_a_step_for_which_too_little_time_is_left_is_skipped_and_named(tmp_path, gpu_check):
    machine = Machine(tmp_path, GPU_SECONDS="14")
    status, output = machine.run("all")
    assert status == 3
    assert steps(output) == []
    for step in gpu_check.PLAN:
        assert f"and it needs {step.least:.0f}" in next(x for x in output.splitlines() if x.startswith(step.name))


def test_the_first_steps_fit_the_time_of_a_run(gpu_check):
    until = [step.name for step in gpu_check.PLAN].index("memcheck") + 1
    assert sum(step.expected for step in gpu_check.PLAN[:until]) <= gpu_check.SECONDS
    assert all(step.least <= step.expected for step in gpu_check.PLAN)


def test_the_plan_tells_what_was_counted_from_what_is_assumed(gpu_check, capsys):
    assert gpu_check.card_seconds(1000, 2e12, 10) == pytest.approx(0.01 + 2 + 7)
    step = gpu_check.Step("x", "", (), 0, 5, "correct", (1000, 2e12, 10), processes=2, cells=3)
    assert step.expected == pytest.approx(5 + 9.01 + 6 * (2 + 3 * 5) + 4.1 * 3 * 5)
    gpu_check.show()
    for line, step in zip(capsys.readouterr().out.splitlines(), gpu_check.PLAN, strict=True):
        name, seconds = line.split()[:2]
        assert name == step.name and float(seconds) == round(step.expected)
        assert f"assumed {step.host:5.0f} s" in line


def test_the_plan_has_as_many_processes_and_cells_as_the_steps_start(gpu_check, monkeypatch):
    from minivae import kernels
    from minivae.bench import gpu

    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    race, sanitize = importlib.import_module("bench_gpu_step"), importlib.import_module("gpu_sanitize")
    steps = {step.name: step for step in gpu_check.PLAN}
    assert len(gpu.CONTENDERS) == gpu_check.CONTENDERS
    assert pytest.approx(race.TURNS * race.BLOCK + race.WARM_UP["seconds"]) == gpu_check.RACE
    assert steps["step"].cells == len(race.plan(first=True, smoke=False))
    assert steps["step"].cells + steps["steps"].cells == len(race.plan(first=False, smoke=False))
    assert steps["sanitize"].processes == 1 + len(sanitize.TOOLS) * len(kernels.op_names())
    assert steps["sanitize"].counted[0] == len(sanitize.TOOLS) * steps["memcheck"].counted[0]
    assert all(step.counted[0] or step.cells for step in gpu_check.PLAN)


def test_a_step_that_does_not_stop_is_killed_with_what_it_started(gpu_check, tmp_path):
    child = "import time; time.sleep(600)"
    code = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {child!r}])"
    code += "; print(p.pid, flush=True); p.wait()"
    step = gpu_check.Step("x", "", ("-c", code), 0, 0, "correct")
    status, last = gpu_check.run(step, 3.0)
    assert status == gpu_check.MORE_TO_DO
    for _ in range(100):  # the system ends a killed process in its own time
        if not running(last):
            break
        time.sleep(0.1)
    assert not running(last)


def running(process):
    """Whether a process is there, and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_step_that_fails_is_distinguished_from_one_that_has_more_to_do(gpu_check):
    for code, status in ((0, 0), (3, 3), (77, 77), (1, 1)):
        step = gpu_check.Step(
            "x", "", ("-c", f"print('a'); print('the last'); raise SystemExit({code})"), 0, 0, "correct"
        )
        assert gpu_check.run(step, 60.0) == (status, "the last")


@pytest.mark.parametrize("part", ["all", "correct", "bench", "sanitize", "nonsense"])
def test_the_check_without_a_gpu_fails_and_says_why(part, tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "GPU_RESULTS": str(tmp_path),
                   "NUMBA_CACHE_DIR": os.environ["NUMBA_CACHE_DIR"]}  # fmt: skip
    result = subprocess.run(["bash", "scripts/gpu_check.sh", part], cwd=ROOT, capture_output=True, text=True,
                            env=environment)  # fmt: skip
    said = result.stdout + result.stderr
    if part == "nonsense":
        assert result.returncode == 2
        assert "gpu_check.sh correct" in said
    else:
        assert result.returncode not in (0, 3)
        assert "the cupy backend needs CuPy" in said or "NVIDIA driver" in said or "no GPU answers" in said
    assert not list(tmp_path.iterdir())


# ---- wheels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu_carry(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    module = importlib.import_module("gpu_carry")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    return module


def test_every_package_that_minivae_needs_is_carried_or_expected(gpu_carry):
    import tomllib

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["gpu13"]]
    there = {Requirement(text).name for text in gpu_carry.CARRIED} | set(gpu_carry.EXPECTED)
    assert {Requirement(text).name for text in needed} <= there


def test_missing_wheels_are_unpacked_and_installed_packages_left_alone(gpu_carry, tmp_path, capsys):
    mine = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    for name in ("here_not-1-py3-none-any", "numpy-99-py3-none-any", f"fits_too-1-{mine}-{mine}-linux",
                 "for_another-1-cp27-cp27m-linux"):  # fmt: skip
        with zipfile.ZipFile(tmp_path / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"{name.split('-')[0]}/__init__.py", "")
    assert gpu_carry.unpack() == 0
    assert {path.name for path in (tmp_path / "site").iterdir()} == {"here_not", "fits_too"}
    assert "for_another-1-cp27-cp27m-linux.whl is not for Python" in capsys.readouterr().out


def wheel(folder, name, size=0, needs=()):
    """Write the wheel of a package, version 1."""
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1", *(f"Requires-Dist: {need}" for need in needs)]
        archive.writestr(f"{name}-1.dist-info/METADATA", "\n".join(lines))
        archive.writestr("data", bytes(size))


@pytest.fixture
def downloads(gpu_carry, tmp_path, monkeypatch):
    """What the next download brings; an older wheel lies there."""
    brought = []

    def download(command):
        for arguments in brought:
            wheel(tmp_path, *arguments)
        return subprocess.CompletedProcess(command, 0)

    wheel(tmp_path, "old", 2000)
    monkeypatch.setattr(gpu_carry, "LIMIT", 1500)
    monkeypatch.setattr(gpu_carry.subprocess, "run", download)
    return brought


@pytest.mark.parametrize("size, ok", [(500, True), (2000, False)])
def test_a_load_that_is_too_large_is_refused(gpu_carry, downloads, size, ok):
    downloads.append(("x", size))
    assert (gpu_carry.download() == 0) == ok


def test_a_load_that_needs_what_is_not_carried_is_refused_and_says_what(gpu_carry, downloads):
    there = ["numpy>=1", "Y_y>=1", 'z; python_version < "3"', 'z; extra == "more"']
    downloads += [("x", 0, there), ("y_y", 0)]
    assert gpu_carry.download() == 0
    downloads[0] = ("x", 0, [*there, "z>=2", "y-y>1"])
    assert gpu_carry.download() == "the wheels need what is not carried: x: z>=2; x: y-y>1"
