"""Measure the CPU time that one rank of P computes. The other ranks are imagined, so nothing is waited for.

    python scripts/rank_work.py [--repeats 5] [--ranks 1,2,4,8] [--parts]

On few cores neither wall time nor CPU time says how work falls with P: MPI waits by spinning, and ranks take the caches
from one another. Here one process trains and evaluates as rank 0 of P, and the other ranks say what it says. All P take
turns; a step is a longer training less a shorter one; medians. One thread.

    2048, 8192   784-500-20, batches of so many rows, shared out: ms a step, and P × it over that of P = 1
    importance   ln p(x) of 2,000 rows by 300 samples each
    512 a rank   batches of 512 P rows in P shards, against one process that trains on batches of 512
    one rank     fit(ranks=mv.ranks()) against fit()

--parts shows instead what of a step of 2,048 rows does not fall with P.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ["MINIVAE_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np

import minivae as mv
from minivae.distributed import tree
from minivae.distributed.shards import Shards
from minivae.distributed.world import World
from minivae.evaluation.bounds import log_likelihood


class Imagined(World):
    """Rank 0 of P; every other rank sends what this one sends, and parameters that stay as they were."""

    def __init__(self, P: int):
        super().__init__()
        self.size = P
        self.parts = self.others = np.empty((0, 0), np.float32)

    def _gathered(self, value):
        return [value] * self.size

    def numbers(self, x):
        return np.tile(x, (self.size, 1))

    def scatter(self, x, slices):
        own = x[slices.own]
        if self.parts.shape != (self.size, own.size):
            self.parts = np.empty((self.size, own.size), x.dtype)
        self.parts[...] = own  # as many bytes as come from the others
        own[...] = tree.add_up(self.parts)

    def gather(self, x, slices):
        if self.others.shape != x.shape:
            self.others = x.copy()
        self.others[slices.own] = x[slices.own]
        x[...] = self.others

    def joined(self, part, everywhere=True):
        return part


PARTS = [
    (Shards, "step", "step"),
    (mv.VAE, "step", "passes"),
    (mv.Adam, "update", "update"),
    (Imagined, "scatter", "sum"),
    (Imagined, "gather", "gather"),
    (Shards, "order", "shuffle"),
    (Shards, "exchange", "losses"),
]
X = (np.random.default_rng(0).random((16384, 784)) < 0.13).astype(np.float32)


def cpu(function) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def step(ranks: World | None, batch: int, rows: int) -> float:
    """Seconds of one step."""
    vae = mv.VAE(784, 20, (500,), backend="numpy")

    def train(epochs: int) -> None:
        vae.fit(X[:rows], epochs, batch, ranks=ranks, progress=False, scale="none")

    few, many = cpu(lambda: train(1)), cpu(lambda: train(5))
    return (many - few) / 4 / (rows // batch)


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


def importance(ranks: World | None) -> float:
    """Seconds of ln p(x) of 2,000 rows."""
    vae = mv.VAE(784, 20, (500,), backend="numpy")
    return cpu(lambda: log_likelihood(vae, X[:2000], 300, ranks=ranks))


def in_turns(works: dict, repeats: int) -> dict:
    """name → median seconds of each work, after one turn that warms up."""
    for work in works.values():
        work()
    turns = [{name: work() for name, work in works.items()} for _ in range(repeats)]
    return {name: float(np.median([turn[name] for turn in turns])) for name in works}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ranks", default="1,2,4,8")
    parser.add_argument("--parts", action="store_true")
    given = parser.parse_args()
    if given.parts:
        for P in (int(P) for P in given.ranks.split(",") if P != "1"):
            turns = [parts(P) for _ in range(given.repeats)]
            print(f"P = {P}: " + ", ".join(f"{k} {np.median([t[k] for t in turns]):.2f}" for k in turns[0]), "ms")
        return
    worlds = {int(P): Imagined(int(P)) for P in given.ranks.split(",")}
    jobs = {
        str(batch): {P: (lambda w=w, b=batch: step(w, b, 16384)) for P, w in worlds.items()} for batch in (2048, 8192)
    }
    jobs["importance"] = {P: (lambda w=w: importance(w)) for P, w in worlds.items()}
    for name, works in jobs.items():
        seconds = in_turns(works, given.repeats)
        first = next(iter(seconds.values())) * next(iter(seconds))
        shown = ", ".join(f"P = {P}: {1000 * s:.1f} ms ({P * s / first:.3f})" for P, s in seconds.items())
        print(f"{name:12}{shown}", flush=True)
    works = {P: (lambda w=w, P=P: step(w, 512 * P, 4096 * P)) for P, w in worlds.items() if P <= 4}
    seconds = in_turns(works, given.repeats)
    first = next(iter(seconds.values()))
    print("512 a rank  " + ", ".join(f"P = {P}: {s / first:.3f}" for P, s in seconds.items()), flush=True)
    both = [
        {name: step(w, 512, 4096) for name, w in (("ranks", mv.ranks()), ("none", None))}
        for _ in range(6 * given.repeats)
    ]
    ratios = [turn["ranks"] / turn["none"] for turn in both]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    print(f"one rank    {middle:.3f} (quartiles {low:.3f}, {high:.3f})")


if __name__ == "__main__":
    main()
