"""Sum a gradient over ranks: in our fixed order and by MPI's own all-reduce, on one host and on a network.

The ranks time themselves, from a barrier to the last rank's end: what is shown is that time, not that of the call.
MINIVAE_TEST_MPI names environments with other MPIs (`tests/mpi.py`). The "hosts" are network namespaces.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from mpi import FOLDERS, Hosts, runtime

SIZES = {"0.8M": 800_000, "10M": 10_000_000}  # numbers of float32: 784-500-20, and a model of 40 MB
RANKS = """
import sys, time
import numpy as np
import minivae as mv
world = mv.ranks(threads=1)
comm, MPI = world.comm, world.MPI
n, P = int(sys.argv[1]), world.size
own = np.random.default_rng(world.rank).standard_normal(n).astype(np.float32)
x, out, part = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n // P, np.float32)

def scattered():
    comm.Reduce_scatter_block(x, part)
    comm.Allgather(part, out)

ways = {
    "ordered": lambda: world.sum(x),
    "library": lambda: comm.Allreduce(MPI.IN_PLACE, x),
    "library, separate": lambda: comm.Allreduce(x, out),
    "library, in two": scattered,
}
right = sum(np.random.default_rng(r).standard_normal(n).astype(np.float32).astype(np.float64) for r in range(P))
while way := comm.bcast(sys.stdin.readline().strip() if world.rank == 0 else None):
    x[...] = own
    comm.Barrier()
    start = time.perf_counter()
    ways[way]()
    seconds = comm.allreduce(time.perf_counter() - start, MPI.MAX)
    got = x if way in ("ordered", "library") else out
    assert np.abs(got - right).max() < 1e-5 * P, way
    if world.rank == 0:
        print(seconds, flush=True)
"""
WAYS = ("ordered", "library", "library, separate", "library, in two")


class Clock:
    """Stands still but for what the ranks say that they took."""

    now = 0.0

    def __call__(self):
        return self.now


clock = Clock()


@contextlib.contextmanager
def asking(start, P, n):
    """→ ask(way): one sum by the ranks, whose time goes to the clock."""
    with start(P, "-c", RANKS, n, stdin=subprocess.PIPE, MINIVAE_THREADS="1") as ranks:

        def ask(way):
            ranks.process.stdin.write(way + "\n")
            ranks.process.stdin.flush()
            answer = ranks.process.stdout.readline()
            assert answer, ranks.process.communicate()[1]
            clock.now += float(answer)

        yield ask


def measure(benchmark, smoke, start, P, size, way):
    n = SIZES[size] if not smoke else 1000
    with asking(start, P, n) as ask:
        benchmark.pedantic(ask, (way,), rounds=3 if smoke else 40 if n < 1e6 else 15, warmup_rounds=3)


@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("P", (2, 4))
@pytest.mark.parametrize("folder", FOLDERS)
def bench_allreduce(benchmark, smoke, folder, P, size, way):
    if smoke and (size != "0.8M" or P != 2 or way == "library, separate"):
        pytest.skip("a smoke run looks at one size")
    mpi = runtime(folder)
    benchmark.group = f"sum of {size} numbers over {P} ranks, {mpi}"
    measure(benchmark, smoke, mpi.started, P, size, way)


@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("P", (2, 4))
@pytest.mark.parametrize("megabits", (None, 1000))
def bench_allreduce_over_tcp(benchmark, smoke, tmp_path, megabits, P, size, way):
    if smoke and (size != "0.8M" or P != 2 or way != "ordered"):
        pytest.skip("a smoke run looks at one size")
    with Hosts(P, runtime(), tmp_path) as hosts:
        if megabits:
            hosts.slow(megabits)
        benchmark.group = f"sum of {size} numbers over {P} hosts, TCP, {megabits or 'no'} Mbit/s limit"
        before = hosts.bytes(0)
        measure(benchmark, smoke, hosts.started, P, size, way)
        assert smoke or hosts.bytes(0) - before > SIZES[size], "the numbers did not cross the network"
