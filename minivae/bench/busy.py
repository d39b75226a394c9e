"""busy: a training step while other processes are busy: minivae by default and on one thread, PyTorch and JAX.

While the contenders take turns, the busy processes ("neighbours") compute on the contenders' cores (`beside`).

case: as in `steps.py`, and "neighbours", the number of busy processes.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from . import machine, steps
from .work import Arrays, Work, contender

NEIGHBOURS = (0, 1, 2)
# It ends when the process that started it has ended in any way.
NEIGHBOUR = """import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {cores})
while os.getppid() == {parent}:
    sum(range(10**5))
"""

prepare, expected = steps.prepare, steps.expected


def make(case: dict[str, object], arrays: Arrays) -> Work:
    return contender(CONTENDERS, str(case["name"]))(case, arrays)


@contextlib.contextmanager
def beside(neighbours: int, threads: int) -> Iterator[list[int]]:
    """Run so many busy processes on the first `threads` cores, those of the contenders; yields their process ids."""
    script = NEIGHBOUR.format(cores=machine.cores(threads), parent=os.getpid())
    processes = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(neighbours)]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


class OneThread(steps.Ours):
    """minivae on one thread."""

    def build(self) -> None:
        from .. import kernels

        super().build()
        kernels.limit_threads(1)


CONTENDERS: dict[str, str | type[Work]] = {
    "minivae": steps.Ours,
    "minivae-one-thread": OneThread,
    "torch": "pytorch:Step",
    "torch.compile": "pytorch:StepCompile",
    "jax": "jax:Step",
}
