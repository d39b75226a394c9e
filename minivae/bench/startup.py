"""startup: measure Python's start, the imports and the first training step, in fresh processes.

Both wall-clock and processor time are measured; other load on the machine hardly changes the second.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UsageError

HERE = Path(__file__).resolve().parents[2]  # the folder that contains this minivae
# `minivae train`, ended after its first step.
TO_THE_FIRST_STEP = """
import os, sys
from minivae import __main__
from minivae.training import progress
progress.Progress.step = lambda *_: os._exit(0)
sys.argv = ["minivae", "train", *sys.argv[1:]]
__main__.main()
sys.exit("no step was made")
"""


@dataclass
class Spent:
    """Seconds: `wall` time, and `cpu` time of all processors."""

    wall: float
    cpu: float


def import_of(module: str) -> Spent:
    """Time `import module`."""
    return _run("-c", f"import {module}")


def help_page() -> Spent:
    """Time `minivae --help`."""
    return _run("-m", "minivae", "--help")


def first_step(folder: Path, cache: Path) -> Spent:
    """Time `minivae train` to the end of its first step: 784-500-20, batch 128, on 1000 rows of 0 and 1.

    folder  for the rows and the run; made here
    cache   Numba's cache: empty, or filled by an earlier call
    """
    rows = folder.resolve() / "rows.npy"
    if not rows.exists():
        np.save(rows, (np.random.default_rng(0).random((1000, 784)) < 0.2).astype(np.float32))
    return _run(
        "-c",
        TO_THE_FIRST_STEP,
        str(rows),
        "--out",
        str(rows.parent / "run"),
        "--force",
        NUMBA_CACHE_DIR=str(cache.resolve()),
    )


def _run(*arguments: str, **environment: str) -> Spent:
    before, start = os.times(), time.perf_counter()
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=HERE,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=600,
    )
    wall, after = time.perf_counter() - start, os.times()
    if result.returncode:
        lines = result.stderr.strip().splitlines() or ["no word"]
        raise UsageError(f"python {' '.join(arguments)[:60]} … stopped: {lines[-1]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(wall, cpu)
