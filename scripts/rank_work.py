"""Measure the work of a rank: the CPU time that it computes, without the time in which it waits for the others.

    python scripts/rank_work.py [--repeats 3]

MPI waits by spinning, so that on few cores neither wall time nor a process's CPU time says how work falls with the
number of ranks P. Here the CPU time inside every call to MPI is left out. A step is a longer training less a shorter
one, the median of the repeats; importance sampling is the least of them.

    2048, 8192   784-500-20, batches of so many rows, shared out: ms a step of the busiest rank
    importance   ln p(x) of 2,000 rows by 300 samples each
    rows         P = S = 2 with 512 rows a rank, against one process that trains on batches of 512
    one rank     fit(ranks=mv.ranks()) against fit() in one process, in turns
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from mpi import runtime

RANK = """
import contextlib, json, sys, time
import numpy as np
import minivae as mv
from minivae.evaluation.bounds import log_likelihood
what, repeats = sys.argv[1], int(sys.argv[2])
ranks = mv.ranks(threads=1)
waited = 0.0
if ranks.size > 1:
    waiting = ranks.watchdog.waiting

    @contextlib.contextmanager
    def counted():
        global waited
        start = time.thread_time()
        with waiting():
            yield
        waited += time.thread_time() - start

    ranks.watchdog.waiting = counted

def cpu(function):
    global waited
    waited, start = 0.0, time.process_time()
    function()
    return time.process_time() - start - waited

X = (np.random.default_rng(0).random((16384, 784)) < 0.13).astype(np.float32)
vae = mv.VAE(784, 20, (500,), backend="numpy")
batch = int(what) if what.isdecimal() else 2048
steps = 16384 // batch
if what in ("rows", "one rank"):  # so many rows a rank
    steps, batch = 8, 512 * ranks.size
if what == "importance":
    work, steps = lambda: log_likelihood(vae, X[:2000], 300, ranks=ranks), 1
    work()
    best = min(cpu(work) for _ in range(repeats))
else:  # a longer training less a shorter one: the step, without what comes before the first
    def train(epochs, of=ranks):
        vae.fit(X[: steps * batch], epochs, batch, ranks=of, progress=False)

    def step(of=ranks):
        return (cpu(lambda: train(5, of)) - cpu(lambda: train(1, of))) / 4

    train(1)
    if what == "one rank":
        best = steps * np.median([step() / step(None) for _ in range(5 * repeats)])
    else:
        best = np.median([step() for _ in range(repeats)])
found = ranks.all(best / steps)
if ranks.rank == 0:
    print(json.dumps([float(x) for x in found]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    def measure(P: int, what: str) -> float:
        found = runtime().run(P, "-c", RANK, what, given.repeats, limit=600, MINIVAE_THREADS="1")
        if found.returncode:
            sys.exit(found.stderr)
        return 1000 * max(json.loads(found.stdout))

    for what in ("2048", "8192", "importance"):
        work = {P: measure(P, what) for P in (1, 2, 4)}
        shown = ", ".join(f"P = {P}: {ms:.1f} ms ({P * ms / work[1]:.3f})" for P, ms in work.items())
        print(f"{what:12}{shown}; in brackets P × the work of a rank / that of one process", flush=True)
    print(f"rows        {measure(2, 'rows') / measure(1, 'rows'):.3f}: a step of a rank of 2 / of a process of its own")
    print(f"one rank    {measure(1, 'one rank') / 1000:.3f}: fit(ranks=mv.ranks()) / fit(), in turns")


if __name__ == "__main__":
    main()
