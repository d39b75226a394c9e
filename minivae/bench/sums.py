"""sums: a gradient summed over ranks, in the fixed order of `distributed/tree.py` and by MPI's own all-reduce.

case: {"ranks": P, "numbers": n, "each": sums of a unit, "threads": …}. A contender is P processes under mpiexec, on as
many cores together as the case has threads. They sleep while the others have their turn.

    minivae      World.sum: Alltoall of slices, whose owner adds them up in order, and Allgather
    mpi          Allreduce, in place
    mpi-in-two   Reduce_scatter_block and Allgather: the same bytes, in the library's order
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..hints import how_to_install
from .work import Arrays, Work

CHECK = -1  # an order to the ranks: sum their own numbers, and hand them to rank 0
NAP = 5e-4  # seconds between two looks for an order


def missing() -> str:
    """Why sums over ranks cannot race here; "" if they can."""
    if importlib.util.find_spec("mpi4py") is None:
        return f"sums over ranks are left out, for mpi4py is not here: {how_to_install('mpi')}"
    return "" if _mpiexec() else "sums over ranks are left out: there is no mpiexec"


def _mpiexec() -> str | None:
    """The mpiexec beside this Python, which belongs to the MPI that is installed there, or else that of the PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def prepare(case: dict[str, Any]) -> Arrays:
    return {}


def numbers_of(rank: int, case: dict[str, Any]) -> np.ndarray:
    """The numbers (n,) float32 that a rank adds to the sum."""
    return np.random.default_rng(rank).standard_normal(case["numbers"], np.float32)


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """Add up in float64."""
    return {"sum": np.stack([numbers_of(rank, case) for rank in range(case["ranks"])]).sum(axis=0, dtype=np.float64)}


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return CONTENDERS[case["name"]](case)


class Sums(Work):
    """P ranks that add up by one of the WAYS."""

    def __init__(self, case: dict[str, Any]):
        if why := missing():
            raise UsageError(why)
        self.case, self.each = case, case["each"]
        self.said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        command = [str(_mpiexec()), "-n", str(case["ranks"]), sys.executable, "-P", "-m", __name__, json.dumps(case)]
        self.ranks = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True
        )
        self.about = self._hear()

    def facts(self) -> dict[str, Any]:
        return {"bytes": 4 * self.case["numbers"], "mpi": self.about}

    def results(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "sum.npy")
            self._ask(f"{CHECK} {path}")
            return {"sum": np.load(path)}

    def run(self) -> None:
        self._ask(str(self.each))

    def _ask(self, order: str) -> None:
        assert self.ranks.stdin is not None
        self.ranks.stdin.write(order + "\n")
        self.ranks.stdin.flush()
        self._hear()

    def _hear(self) -> str:
        assert self.ranks.stdout is not None
        if answer := self.ranks.stdout.readline().strip():
            return answer
        status = self.ranks.wait()
        self.said.seek(0)
        last = self.said.read().strip().splitlines()[-1:]
        raise UsageError(f"mpiexec ended with status {status}{': ' if last else ''}{''.join(last)}")


CONTENDERS = {"minivae": Sums, "mpi": Sums, "mpi-in-two": Sums}


# ---------------------------------------------------------------------------------------------------------------------
# A rank


def _ways(world: Any, x: np.ndarray) -> dict[str, Callable[[], None]]:
    """x ← its sum over ranks, by each contender."""
    part = np.empty(x.size // world.size, x.dtype)

    def in_two() -> None:
        world.comm.Reduce_scatter_block(x, part)
        world.comm.Allgather(part, x)

    return {
        "minivae": lambda: world.sum(x),
        "mpi": lambda: world.comm.Allreduce(world.MPI.IN_PLACE, x),
        "mpi-in-two": in_two,
    }


def serve(case: dict[str, Any]) -> None:
    """Follow the orders that rank 0 reads, until they end."""
    from ..distributed import mpi

    world: Any = mpi.ranks(threads=1)
    x, path = np.zeros(case["numbers"], np.float32), ""  # sums of 0 stay finite
    add_up = _ways(world, x)[case["name"]]
    if world.rank == 0:
        about = world.MPI.Get_library_version().strip("\0\n ").splitlines()[0]
        print(" ".join(about.split())[:60], flush=True)
    while True:
        order = np.zeros(1, np.int64)
        if world.rank == 0:
            count, _, path = sys.stdin.readline().strip().partition(" ")
            order[0] = int(count or 0)
        request = world.comm.Ibcast(order)
        while not request.Test():
            time.sleep(NAP)
        if order[0] == 0:
            return
        if order[0] == CHECK:
            x[...] = numbers_of(world.rank, case)
        for _ in range(abs(order[0])):
            add_up()
        if world.rank == 0:
            if order[0] == CHECK:
                np.save(path, x)
            print("done", flush=True)
        if order[0] == CHECK:
            x[...] = 0


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
