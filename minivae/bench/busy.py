"""busy: the training step beside other busy processes: ours as it comes, ours on one thread, PyTorch and JAX.

The neighbours compute without end on the contenders' cores for as long as the contenders take turns (`beside`).

case: as in `steps.py`, and "neighbours", how many there are.
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
# It ends with the process that started it, however that ends.
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
    """Inside, so many busy processes run on the first `threads` cores, those of the contenders: their numbers."""
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
