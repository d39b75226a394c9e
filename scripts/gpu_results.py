"""gpu_results: what a GPU gave, kept in bench/results/gpu-<name>.json after every cell, and not run again.

A cell is one test or one measurement. Cells count as done as long as the sources they came from are the same. As a
pytest plugin (`-p gpu_results --gpu-results NAME`) each test is a cell, and what passed is not run again.
"""

import hashlib
import json
import os
import platform
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "bench" / "results"
SOURCES = ("kernels/*.py", "kernels/*.cu", "kernels/*.cuh", "minivae/**/*.py")
PACKAGES = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "nvmath-python", "numba", "torch", "jax")


class Results:
    """The file of one name. more: files beside SOURCES that its cells come from."""

    def __init__(self, name, *more):
        self.path = FOLDER / f"gpu-{name}.json"
        self.sources = fingerprint(*more)
        self.cells = {}
        if self.path.exists():
            held = json.loads(self.path.read_text())
            self.cells = {k: cell for k, cell in held["cells"].items() if cell["sources"] == self.sources}

    def done(self, cell):
        return cell in self.cells and self.cells[cell].get("ok", True)

    def add(self, cell, **values):
        """Keep a cell, and write the file whole or not at all."""
        self.cells[cell] = {**values, "sources": self.sources}
        FOLDER.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"machine": machine(), "cells": self.cells}, indent=1, ensure_ascii=False) + "\n")
        os.replace(part, self.path)


def fingerprint(*more):
    """A hash of the sources."""
    digest = hashlib.sha256()
    paths = {path for pattern in SOURCES for path in ROOT.glob(pattern)} | {Path(path).resolve() for path in more}
    for path in sorted(paths):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def machine():
    """What it ran on; a date, and no host's name."""
    facts = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version()}
    try:
        runtime = import_module("cupy").cuda.runtime
        device = runtime.getDeviceProperties(runtime.getDevice())
        facts |= {"gpu": device["name"].decode(), "processors": device["multiProcessorCount"]}
        facts |= {"driver CUDA": runtime.driverGetVersion(), "CuPy's CUDA": runtime.runtimeGetVersion()}
    except (ImportError, RuntimeError) as error:
        facts["gpu"] = f"none: {error}"
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


class Deadline:
    """Whether there is time for another cell: a run stops by itself, and another one goes on."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def passed(self):
        return time.monotonic() > self.end


# ---- the pytest plugin ----------------------------------------------------------------------------------------------


def pytest_addoption(parser):
    parser.addoption("--gpu-results", metavar="NAME", help="write each test's outcome to bench/results/gpu-NAME.json")
    parser.addoption("--gpu-seconds", type=float, default=420.0, help="stop before a test that would begin later")


def pytest_configure(config):
    name = config.getoption("--gpu-results")
    if name:
        config.gpu_results = Results(name, ROOT / "tests" / "test_gpu.py", ROOT / "tests" / "test_cuda_kernels.py")
        config.gpu_deadline = Deadline(config.getoption("--gpu-seconds"))


def pytest_collection_modifyitems(config, items):
    results = getattr(config, "gpu_results", None)
    if results:
        done = [item for item in items if results.done(item.nodeid)]
        config.hook.pytest_deselected(items=done)
        items[:] = [item for item in items if not results.done(item.nodeid)]


def pytest_runtest_protocol(item):
    deadline = getattr(item.config, "gpu_deadline", None)
    if deadline and deadline.passed():
        item.session.shouldstop = "out of time: run it again to go on"


def pytest_runtest_makereport(item, call):
    results = getattr(item.config, "gpu_results", None)
    if results and (call.when == "call" or call.excinfo):
        results.add(item.nodeid, ok=call.excinfo is None, seconds=round(call.duration, 3),
                    error="" if call.excinfo is None else str(call.excinfo.value)[:2000])  # fmt: skip
