"""gpu_results: write bench/results/gpu-<name>.json after every cell, and stop when the time is used up.

A cell is one test or one measurement. As a pytest plugin (`-p gpu_results --gpu-results NAME`) each test is a cell, and
a test that passed is not run again while the sources are the same.
"""

import os
import time
from pathlib import Path

import pytest

from minivae.bench.results import Cells, fingerprint

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path(os.environ.get("GPU_RESULTS") or ROOT / "bench" / "results")
SOURCES = ("kernels/*.py", "kernels/*.cu", "kernels/*.cuh", "minivae/**/*.py")
MORE_TO_DO, LEFT_OUT = 3, 77  # exit statuses: out of time; this machine lacks what it needs


class Results(Cells):
    """The cells of one name. more: files that they depend on, beside SOURCES."""

    def __init__(self, name, *more):
        paths = {path for pattern in SOURCES for path in ROOT.glob(pattern)} | {Path(path).resolve() for path in more}
        super().__init__(FOLDER / f"gpu-{name}.json", fingerprint(paths))


class Deadline:
    """The time that is left: a run stops before a cell that would begin too late, and a later run continues."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()

    def passed(self, needed=0.0):
        """Whether less than `needed` seconds are left."""
        return self.left() <= needed


# ---- the pytest plugin ----------------------------------------------------------------------------------------------


def pytest_addoption(parser):
    parser.addoption("--gpu-results", metavar="NAME", help="write each test's outcome to bench/results/gpu-NAME.json")
    parser.addoption("--seconds", type=float, default=420.0, help="stop before a test that would begin later")


def pytest_configure(config):
    name = config.getoption("--gpu-results")
    if name:
        config.gpu_results = Results(name, *(ROOT / "tests").glob("test_gpu*.py"))
        config.gpu_deadline = Deadline(config.getoption("--seconds"))


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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    results = getattr(item.config, "gpu_results", None)
    if results and (call.when == "call" or not report.passed):
        ok = None if report.skipped else report.passed  # what was skipped is looked at again
        why = "" if call.excinfo is None else str(call.excinfo.value)[:2000]
        results.add(item.nodeid, ok=ok, seconds=round(call.duration, 3), **({"why": why} if why else {}))


def pytest_sessionfinish(session, exitstatus):
    """Set the exit status: MORE_TO_DO if out of time, success if there is nothing left to run."""
    if getattr(session.config, "gpu_results", None) is None or session.testsfailed:
        return
    if session.shouldstop:
        session.exitstatus = MORE_TO_DO
    elif exitstatus == 5:
        session.exitstatus = 0
