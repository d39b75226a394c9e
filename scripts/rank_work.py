"""Measure the CPU time that one rank of P computes. The other ranks are imagined, so nothing is waited for.

    python scripts/rank_work.py [--jobs 2048,8192,importance,shards,alone] [--ranks 1,2,4,8] [--repeats 7] [--parts]

On few cores neither wall time nor CPU time says how work falls with P: MPI waits by spinning, and ranks take the caches
from one another. Here one process trains and evaluates as rank 0 of P, and the other ranks say what it says. All P take
turns; a step is a longer training less a shorter one. Ratios are medians of those of a turn, with 95 % intervals by a
bootstrap over turns. One thread.

    2048, 8192   784-500-20, batches of so many rows, shared out: ms a step, and P × it over that of P = 1
    importance   ln p(x) of 2,000 rows by 300 samples each
    shards       batches of 512 P rows in P shards, against one process that trains on batches of 512
    alone        fit(ranks=mv.ranks()) against fit(), in one process

"work" leaves out the copies that stand for the bytes which MPI moves; "all" has them. --parts shows instead what of a
step of 2,048 rows does not fall with P.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["MINIVAE_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

import minivae as mv
from minivae.bench.race_interval import interval
from minivae.distributed.shards import Shards
from minivae.distributed.world import World
from minivae.evaluation.bounds import log_likelihood
from minivae.kernels.add_up import fused as add_up


class Imagined(World):
    """Rank 0 of P; every other rank sends what this one sends, and parameters that stay as they were.

    moved   seconds of the copies that stand for MPI's: of a gradient's parts, and of parameters
    """

    def __init__(self, P: int):
        super().__init__()
        self.size, self.moved = P, 0.0
        self.parts = self.others = np.empty((0, 0), np.float32)

    def _gathered(self, value):
        return [value] * self.size

    def numbers(self, x):
        out = np.empty((self.size, x.size))
        out[...] = x
        return out

    def scatter(self, x, slices):
        own = x[slices.own]
        if self.parts.shape != (self.size, own.size):
            self.parts = np.empty((self.size, own.size), x.dtype)
        self.move(self.parts, own)
        add_up(own, self.parts)

    def gather(self, x, slices):
        if self.others.shape != x.shape:
            self.others = x.copy()
        theirs = slice(slices.own.stop, None)  # MPI leaves a rank's own slice, the first here, where it is
        self.move(x[theirs], self.others[theirs])

    def move(self, to, what):
        start = time.process_time()
        to[...] = what
        self.moved += time.process_time() - start

    def joined(self, part, everywhere=True):
        return part


PARTS = [
    (Shards, "step", "step"),
    (mv.VAE, "step", "passes"),
    (mv.Adam, "update", "update"),
    (Imagined, "scatter", "sum"),
    (Imagined, "gather", "gather"),
    (Imagined, "move", "of these the copies that stand for MPI's"),
    (Shards, "order", "shuffle"),
    (Shards, "exchange", "losses"),
]
X = (np.random.default_rng(0).random((16384, 784)) < 0.13).astype(np.float32)


def cpu(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def step(ranks: World | None, batch: int, rows: int) -> tuple[float, float]:
    """Seconds of one step: the work, and all."""
    vae = mv.VAE(784, 20, (500,), backend="numpy")

    def train(epochs: int) -> np.ndarray:
        before = getattr(ranks, "moved", 0.0)
        seconds = cpu(lambda: vae.fit(X[:rows], epochs, batch, ranks=ranks, progress=False, scale="none"))
        return np.array([seconds - getattr(ranks, "moved", 0.0) + before, seconds])

    few, many = train(1), train(5)
    return tuple((many - few) / 4 / (rows // batch))


def parts(P: int) -> dict[str, float]:
    """Milliseconds of a step of 2,048 rows by name: the whole, the passes over the rank's rows, and what is left."""
    spent: dict[str, float] = {}

    def timed(owner: type, method: str, name: str) -> None:
        call = getattr(owner, method)

        def wrapped(*given, **named):
            start = time.process_time()
            try:
                return call(*given, **named)
            finally:
                spent[name] = spent.get(name, 0.0) + time.process_time() - start

        setattr(owner, method, wrapped)

    kept = [(owner, method, getattr(owner, method)) for owner, method, _ in PARTS]
    world, vae = Imagined(P), mv.VAE(784, 20, (500,), backend="numpy")
    try:
        for part in PARTS:
            timed(*part)
        vae.fit(X, 1, 2048, ranks=world, progress=False, scale="none")
        spent.clear()
        vae.fit(X, 4, 2048, ranks=world, progress=False, scale="none")
    finally:
        for owner, method, call in kept:
            setattr(owner, method, call)
    return {name: 1000 * seconds / (4 * len(X) // 2048) for name, seconds in spent.items()}


def importance(ranks: World | None) -> tuple[float, float]:
    """Seconds of ln p(x) of 2,000 rows."""
    vae = mv.VAE(784, 20, (500,), backend="numpy")
    return 2 * (cpu(lambda: log_likelihood(vae, X[:2000], 300, ranks=ranks)),)


def show(name: str, works: dict, parts: dict, repeats: int) -> None:
    """Print each work's median, and `parts` × its time over that of the first: the median of turns, its interval."""
    for work in works.values():
        work()
    turns = [{key: work() for key, work in works.items()} for _ in range(repeats)]
    first = next(iter(works))
    for key in works:
        told = []
        for k, what in enumerate(("work", "all")):
            one, own = ([turn[of][k] for turn in turns] for of in (first, key))
            own = [parts[key] * seconds for seconds in own]
            ends = interval(one, own)
            held = "" if ends is None else f" [{ends[0]:.3f}, {ends[1]:.3f}]"
            ratio = np.median(np.array(own) / one)
            told.append(f"{what} {1000 * np.median(own) / parts[key]:8.2f} ms, ratio {ratio:.3f}{held}")
        print(f"{name:12}{key:12}{'; '.join(told[: 1 if key == first else 2])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", default="2048,8192,importance,shards,alone")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--ranks", default="1,2,4,8")
    parser.add_argument("--parts", action="store_true")
    given = parser.parse_args()
    ranks = [int(P) for P in given.ranks.split(",")]
    if given.parts:
        for P in (P for P in ranks if P > 1):
            turns = [parts(P) for _ in range(given.repeats)]
            print(f"P = {P}: " + ", ".join(f"{k} {np.median([t[k] for t in turns]):.2f}" for k in turns[0]), "ms")
        return
    worlds = {f"P = {P}": Imagined(P) for P in ranks}
    own = {name: world.size for name, world in worlds.items()}
    for job in given.jobs.split(","):
        if job in ("2048", "8192"):
            show(job, {P: (lambda w=w, b=int(job): step(w, b, 16384)) for P, w in worlds.items()}, own, given.repeats)
        elif job == "importance":
            show(job, {P: (lambda w=w: importance(w)) for P, w in worlds.items()}, own, given.repeats)
        elif job == "shards":
            works = {P: (lambda w=w: step(w, 512 * w.size, 4096 * w.size)) for P, w in worlds.items() if w.size <= 4}
            show(job, works, dict.fromkeys(works, 1), 3 * given.repeats)
        elif job == "alone":
            works = {"fit()": lambda: step(None, 512, 4096), "with ranks": lambda: step(mv.ranks(), 512, 4096)}
            show(job, works, dict.fromkeys(works, 1), 6 * given.repeats)
        else:
            parser.error(f"--jobs {job}: expected some of 2048, 8192, importance, shards, alone")


if __name__ == "__main__":
    main()
