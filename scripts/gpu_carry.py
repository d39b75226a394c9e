"""gpu_carry: download packages for a GPU machine without a network, as wheels in .wheels/ (ignored by git; copy it).

python scripts/gpu_carry.py carry    download them, for Python 3.12 on Linux x86-64 ($GPU_PYTHON names another version)
python scripts/gpu_carry.py all      there: unpack into .wheels/site those that this python lacks

Only minivae's requirements that do not come with CUDA's packages are downloaded; installed packages are not changed.
"""

import os
import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".wheels"
PYTHON = os.environ.get("GPU_PYTHON", "3.12")
LIMIT = 64 * 2**20  # bytes
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
CARRIED = (
    "nvmath-python>=0.8", "cuda-bindings>=13,<14", "cuda-core>=0.5,<2", "cuda-pathfinder>=1.5.1,<2",
    "safetensors", "threadpoolctl", "msgspec",
    "typer>=0.20,<0.29", "click", "shellingham", "annotated-doc", "typing-extensions",
    "rich", "markdown-it-py", "mdurl", "pygments",
)  # fmt: skip
EXPECTED = ("numpy", "scipy", "numba", "cupy-cuda13x")  # large, and part of such a machine


def download():
    """Download the wheels again → an exit status."""
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.whl"):
        old.unlink()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", PYTHON, "--implementation", "cp"]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    status = subprocess.run([*command, "--dest", str(FOLDER), *CARRIED]).returncode
    if status:
        return status
    if absent := unmet():
        return f"the wheels need what is not carried: {'; '.join(absent)}"
    size = sum(wheel.stat().st_size for wheel in FOLDER.glob("*.whl"))
    print(f"{FOLDER.name}/ holds {len(list(FOLDER.glob('*.whl')))} wheels, {size / 2**20:.1f} MiB")
    return 0 if size <= LIMIT else f"more than {LIMIT / 2**20:.0f} MiB: carry fewer"


def unmet():
    """The requirements of the wheels, as text, that neither the wheels nor such a machine meets."""
    from packaging.metadata import parse_email
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name, parse_wheel_filename

    there = {"python_version": PYTHON, "python_full_version": f"{PYTHON}.0", "sys_platform": "linux", "extra": ""}
    wheels = {parse_wheel_filename(path.name)[:2]: path for path in FOLDER.glob("*.whl")}
    held, found = dict(wheels.keys()), []
    for (name, _), path in wheels.items():
        with zipfile.ZipFile(path) as archive:
            metadata = next(file for file in archive.namelist() if file.endswith(".dist-info/METADATA"))
            needs = parse_email(archive.read(metadata))[0].get("requires_dist", [])
        for need in map(Requirement, needs):
            known = held.get(canonicalize_name(need.name))
            met = need.name in EXPECTED if known is None else need.specifier.contains(known, prereleases=True)
            if not met and (need.marker is None or need.marker.evaluate(there)):
                found.append(f"{name}: {need}")
    return found


def unpack():
    """Unpack the missing packages into .wheels/site, which is last on the path."""
    site = FOLDER / "site"
    for wheel in sorted(FOLDER.glob("*.whl")):
        name, tag = wheel.name.split("-")[0], wheel.name.split("-", 2)[2]
        if not _missing(name):
            continue
        if not _fits(tag):
            print(f"{wheel.name} is not for Python {sys.version_info[0]}.{sys.version_info[1]}: left where it is")
            continue
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        print(f"{name} is not installed here: taken from {FOLDER.name}/")
    return 0


def _missing(name):
    try:
        return version(name) is None
    except PackageNotFoundError:
        return True


def _fits(tag):
    """Whether the python tag of a wheel's name is this python's."""
    mine = sys.version_info[:2]
    abi3 = re.match(r"cp3(\d+)-abi3", tag)
    return tag.startswith(("py3-", "py2.py3-", f"cp{mine[0]}{mine[1]}-")) or bool(abi3 and int(abi3[1]) <= mine[1])


if __name__ == "__main__":
    sys.exit(download() if sys.argv[1:] == ["carry"] else unpack())
