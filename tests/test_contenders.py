"""PyTorch and JAX as contenders: part of the wheel, and imported in the process of that contender alone."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

RACE = """
import sys
from minivae.bench import headline, machine, race
from minivae import bench
race.PAUSE = 0.0
for name, result in race.race(CASE, ["minivae", "torch", "jax"], turns=1, block=0.0).items():
    print(name, result.checked, len(result.seconds), result.left_out)
print(bench.__file__)
print([m for m in sys.modules if m.split(".")[0] in ("torch", "jax") or m.startswith("minivae.bench.contenders")])
"""
CASES = {
    "torch": {"kind": "step", "widths": [12, 7, 3], "batch": 5, "rows": 20, "threads": 1},
    "jax": {"kind": "kernel", "likelihood": "gaussian", "rows": 7, "features": 13, "threads": 1},
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder of a built wheel's files."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder / "files")
    return folder / "files"


def run(folder, code, blocked=()):
    """Its output, with the packages `blocked` as if they were not installed."""
    for name in blocked:
        (folder / "blocked").mkdir(exist_ok=True)
        (folder / "blocked" / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    path = os.pathsep.join([*([str(folder / "blocked")] if blocked else []), str(folder)])
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("package", ["torch", "jax"])
def test_contenders_race_from_a_wheel_and_are_imported_in_their_own_processes(wheel, package):
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    other = {"torch": "jax", "jax": "torch"}[package]
    lines = run(wheel, RACE.replace("CASE", repr(CASES[package])), blocked=[other])
    (wheel / "blocked" / f"{other}.py").unlink()
    for line in lines[:3]:
        name, checked, turns, *left_out = line.split()
        if name == other:
            assert (checked, turns) == ("False", "0")
            assert f"no {other} here" in " ".join(left_out)
        else:
            assert (checked, turns, left_out) == ("True", "1", []), line
    assert Path(lines[3]).is_relative_to(wheel)
    assert lines[4] == "[]"
