"""machine: describe the machine of the measurements, and choose the cores that contenders share. It imports only the
standard library, so that a contender can be pinned before any library counts its cores.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "mkl", "torch", "jax", "jaxlib", "cupy-cuda12x", "cupy-cuda13x",
            "nvmath-python", "cuda-bindings")  # fmt: skip
VECTORS = ("avx2", "avx512f", "avx512_bf16", "asimd", "sve")  # flags in /proc/cpuinfo
SYSTEM = Path("/sys/devices/system/cpu")


def available() -> list[int]:
    """Return the numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores(threads: int) -> list[int]:
    """Choose so many processors, one of each core first, because two on one core share its arithmetic units."""
    seen: set[str] = set()
    first: list[int] = []
    rest: list[int] = []
    for number in available():
        core = _read(SYSTEM / f"cpu{number}/topology/thread_siblings_list") or str(number)
        (rest if core in seen else first).append(number)
        seen.add(core)
    return (first + rest)[:threads]


def threads() -> int:
    """Return the default number of cores for a benchmark."""
    return min(2, len(available()))


def pin(threads: int) -> bool:
    """Pin this process to so many cores. False if the system cannot (macOS, Windows): there only the number of threads
    is set (`race.COUNTS`)."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, cores(threads))
    return True


def describe() -> dict[str, Any]:
    """Return processor, memory, system and versions, as JSON data."""
    from .. import __version__

    return {
        "cpu": _cpu_name(),
        "processors": len(available()),
        "caches": _caches(),
        "vectors": _vectors(),
        "memory_bytes": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "pinned": hasattr(os, "sched_setaffinity"),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": {"minivae": __version__, "python": platform.python_version()}
        | {name: found for name in PACKAGES if (found := _version(name))},
    }


def gpu() -> dict[str, Any]:
    """Return the GPU that CuPy uses and the versions of CUDA; {"gpu": "none: why"} if there is none."""
    try:
        runtime = import_module("cupy").cuda.runtime
        device = runtime.getDeviceProperties(runtime.getDevice())
        return {
            "gpu": device["name"].decode(),
            "multiprocessors": device["multiProcessorCount"],
            "cuda": {"driver": runtime.driverGetVersion(), "runtime": runtime.runtimeGetVersion()},
        }
    except (ImportError, RuntimeError) as error:
        return {"gpu": f"none: {error}"}


def _cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        try:
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        except OSError:
            pass
    return platform.processor() or platform.machine()


def _vectors() -> list[str]:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("flags", "Features")):
            words = line.split()
            return [name for name in VECTORS if name in words]
    return []


def _caches() -> dict[str, str]:
    """Return the data caches of the first processor: {"L1": "32K", "L2": "1024K", …}."""
    found = {}
    for index in sorted(SYSTEM.glob("cpu0/cache/index*")):
        if _read(index / "type") != "Instruction":
            found[f"L{_read(index / 'level')}"] = _read(index / "size")
    return found


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
