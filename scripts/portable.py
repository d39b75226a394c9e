"""Run the tests with other processors, BLAS kernels, numbers of threads, thread pools and versions: `make portable`.

    python scripts/portable.py [NAME …] [--list] [-- arguments for pytest]

It prints one line a setting: the versions and kernels in use, so that a variable without effect is noticed, and
pytest's last line. A setting that this processor or system cannot run is named and left out. Status 1 if a test failed.

`lowest` and `newest` make environments of their own in .portable/: the lowest versions that pyproject.toml promises,
each bound exact, and the newest that the index has. What pytest prints is in .portable/NAME.log as it comes.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".portable"

# Prints the libraries that a process under the setting uses.
PROBE = """
import numpy, scipy, numba
from threadpoolctl import threadpool_info
import minivae as mv
numpy.dot(numpy.ones((2, 2)), numpy.ones((2, 2)))
blas = [one.get("architecture") for one in threadpool_info() if "numpy" in one["filepath"]] or ["another BLAS"]
threads, cpu = mv.Backend("numpy").threads, numba.config.CPU_NAME or "this processor"
numpy, scipy, numba = numpy.__version__, scipy.__version__, numba.__version__
print(f"NumPy {numpy} ({blas[0]}), SciPy {scipy}, Numba {numba} ({cpu}), {threads} thread(s)")
"""


@dataclass
class Setting:
    """An environment for the tests; `shows`: text that the probe's line must contain if the setting took effect."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    shows: str = ""
    versions: str = ""


def _openblas(kernel: str, shows: str = "") -> Setting:
    return Setting(f"OpenBLAS {kernel}", {"OPENBLAS_CORETYPE": kernel, "MINIVAE_GEMM": "numpy"}, shows or f"({kernel})")


SETTINGS = [
    Setting("as it is"),
    _openblas("Haswell"),
    _openblas("Zen", "(Haswell)"),  # OpenBLAS has no other kernels for it
    *map(_openblas, ("Sandybridge", "Nehalem", "SkylakeX")),
    Setting("Numba generic", {"NUMBA_CPU_NAME": "generic"}, "(generic)"),
    Setting("1 thread", {"MINIVAE_THREADS": "1"}, "1 thread(s)"),
    Setting("2 threads", {"MINIVAE_THREADS": "2"}, "2 thread(s)"),
    Setting("without OpenMP", {"NUMBA_THREADING_LAYER": "workqueue"}),
    Setting("lowest", versions="lowest"),
    Setting("newest", versions="newest"),
]


def requirements(lowest: bool) -> list[str]:
    """Return the packages that the tests need, at their lower bounds or as in pyproject.toml.

    Of a package that two extras name, the higher bound is the lowest version that both allow.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    texts, found, bounds = project["dependencies"] + extras["test"], [], {}
    for text in texts:
        wanted = Requirement(text)
        if wanted.name == "minivae":
            texts.extend(one for extra in sorted(wanted.extras) for one in extras[extra])
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        bound = next((one.version for one in wanted.specifier if one.operator in (">=", "==")), None)
        if lowest and bound:
            bounds[wanted.name] = max(Version(bound), bounds.get(wanted.name, Version("0")))
        else:
            found.append(f"{wanted.name}{wanted.specifier}")
    return [f"{name}=={version}" for name, version in bounds.items()] + found


def python_with(versions: str) -> Path:
    """Return the python of an environment with those versions; it is installed if pyproject.toml has changed."""
    folder = FOLDER / versions
    python, wanted = folder / "bin" / "python", "\n".join(requirements(versions == "lowest"))
    stamp = folder / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--prefer-binary"]
        subprocess.run([*install, *wanted.splitlines()], check=True)
        subprocess.run([*install, "--no-deps", "--config-settings", "editable_mode=compat", "-e", ROOT], check=True)
        stamp.write_text(wanted)
    return python


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="the settings to run; none: all")
    parser.add_argument("--list", action="store_true", help="print the settings and stop")
    ours, theirs = (sys.argv[1:], []) if "--" not in sys.argv else _parted(sys.argv[1:])
    options = parser.parse_args(ours)
    known = {setting.name: setting for setting in SETTINGS}
    if options.list:
        print("\n".join(known))
        return 0
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"{unknown[0]!r}: expected some of {', '.join(map(repr, known))}")
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores", flush=True)
    failed = [name for name in options.names or known if not passes(known[name], theirs)]
    return 1 if failed else 0


def _parted(arguments: list[str]) -> tuple[list[str], list[str]]:
    cut = arguments.index("--")
    return arguments[:cut], arguments[cut + 1 :]


def passes(setting: Setting, arguments: list[str]) -> bool:
    """Run the tests under the setting and print its line → whether all passed."""
    try:
        python = python_with(setting.versions) if setting.versions else Path(sys.executable)
    except subprocess.CalledProcessError as error:
        print(f"{setting.name:<20}  cannot be installed: status {error.returncode}", flush=True)
        return False
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | setting.environment
    probe = subprocess.run([python, "-c", PROBE], cwd=ROOT, env=environment, capture_output=True, text=True)
    if probe.returncode:
        print(f"{setting.name:<20}  minivae does not start: {probe.stderr.strip().splitlines()[-1]}", flush=True)
        return False
    seen = probe.stdout.strip()
    if setting.shows not in seen:
        print(f"{setting.name:<20}  not on this processor: {seen}", flush=True)
        return True
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "logical", "--maxprocesses", "8"]
    FOLDER.mkdir(exist_ok=True)
    log = FOLDER / f"{setting.name}.log"  # shows how far a run came that was ended
    with open(log, "w") as file:
        command += ["--dist", "worksteal", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
    lines = log.read_text().strip().splitlines() or ["no word"]
    print(f"{setting.name:<20}  {lines[-1].strip('= ')}  [{seen}]", flush=True)
    for line in lines if done.returncode else []:
        if re.match(r"(FAILED|ERROR) ", line):
            print(f"    {line}", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
