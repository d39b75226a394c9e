"""Model how training would go on 8 to 1,024 ranks: the tables of docs/distributed-scale.md.

    python scripts/scale_ranks.py

A step is the slowest rank's rows, the sum of the gradients, and the update of a slice. Times of a row, a check, a draw
of the order and of the update were measured on one core of an AMD EPYC (Zen 3) with 784-500-20, n = 0.8 M parameters;
times of the sum on two cores of it, over links held to 1 Gbit/s. Networks that were not there are given by their data
sheets. Ranks that are late are drawn at random, seeded. Nothing here was measured on more than 4 ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ROW, UPDATE = 28.5e-6, 0.46e-3  # seconds: a row of a step, the update of all parameters
CHECK, ORDER = 0.72e-6, 0.14e-6  # seconds a row: its values are looked at; its place in the epoch's order is drawn
N_PARAMETERS, ROW_BYTES = 0.8e6, 784
ADD, COPY = 0.35e-9, 20e9  # seconds a number of the sum; bytes a second in shared memory
JITTER, PAUSE = 0.02, (1e-4, 0.03)  # of a rank's step: relative spread; a chance of so many seconds more
HOST_LIFE, RESTART = 3 * 365 * 86400.0, 90.0  # seconds between two failures of one host; from one to the next step
RANKS_A_HOST = 8


@dataclass(frozen=True)
class Network:
    """Between hosts: seconds that a message takes at least, and bytes a second of a host."""

    name: str
    latency: float
    speed: float


NETWORKS = [
    Network("1 GbE", 50e-6, 0.118e9),
    Network("10 GbE", 30e-6, 1.18e9),
    Network("100 Gbit/s InfiniBand", 2e-6, 11.5e9),
]
# (ranks, numbers of the sum, measured ms: median), one rank a host, links held to 1 Gbit/s
MEASURED = [(2, 0.8e6, 28.0), (2, 10e6, 378.0), (4, 0.8e6, 45.0), (4, 10e6, 823.0)]


def flat(net: Network, P: int, n: float, a_host: int = RANKS_A_HOST) -> float:
    """Seconds of the sum as it is built: every rank with every other, all ranks of a host on one link."""
    r = min(a_host, P)
    outside = r * 2 * 4 * n * (P - r) / P / net.speed  # of a host; each rank sends its n twice, in P parts
    inside = 2 * 4 * n * r / COPY
    return 2 * (P - 1) * net.latency * (r < P) + outside + inside + n * ADD


def by_hosts(net: Network, P: int, n: float, a_host: int = RANKS_A_HOST) -> float:
    """The same tree, hosts first: inside a host, then between hosts in log₂ exchanges of halves; the same bits."""
    r, hosts = min(a_host, P), max(1, P // a_host)
    levels = int(np.ceil(np.log2(hosts)))
    outside = 2 * 4 * n * (hosts - 1) / hosts / net.speed + 2 * levels * net.latency
    return outside + 2 * 2 * 4 * n * r / COPY + n * ADD * (1 + 1 / r)


def step(net: Network, P: int, rows: float, way, steps: int = 1000) -> tuple[float, float]:
    """Mean seconds of a step with so many rows a rank, and its efficiency against a rank alone with as many rows."""
    rng = np.random.default_rng(P)
    late = 1 + JITTER * rng.standard_normal((steps, P))
    own = rows * ROW * late + (rng.random((steps, P)) < PAUSE[0]) * PAUSE[1]
    seconds = own.max(axis=1).mean() + way(net, P, N_PARAMETERS) + UPDATE / P  # of a slice
    every = HOST_LIFE / max(1, P // RANKS_A_HOST)  # seconds between failures of any host
    seconds *= 1 + (RESTART + 5) / every  # and on average half of ten seconds' work is done again
    return seconds, (rows * ROW + UPDATE) / seconds


def tables() -> str:
    """The three tables, as Markdown."""
    lines = ["| ranks, one a host | numbers | model, ms | measured, ms |", "| ---: | ---: | ---: | ---: |"]
    for P, n, ms in MEASURED:
        lines.append(f"| {P} | {n / 1e6:g} M | {1000 * flat(NETWORKS[0], P, n, 1):.0f} | {ms:.0f} |")
    for rows in (1024, 8192):
        lines += [
            "",
            f"| {rows:,} rows a rank and step | P = 8 | 32 | 128 | 512 | 1,024 |",
            "| --- " + "| ---: " * 5 + "|",
        ]
        for net in NETWORKS:
            for name, way in (("as built", flat), ("hosts first", by_hosts)):
                cells = [step(net, P, rows, way) for P in (8, 32, 128, 512, 1024)]
                shown = " | ".join(f"{1000 * seconds:.0f} ms, {share:.0%}" for seconds, share in cells)
                lines.append(f"| {net.name}, {name} | {shown} |")
    lines += [
        "",
        "| rows | file | epoch: one rank | 64 ranks | 1,024 ranks | order of the rows, a rank | check, of 64 ranks |",
    ]
    lines += ["| ---: " * 7 + "|"]
    for N in (1e6, 1e7, 1e8, 1e9, 1e10):
        cells = [_duration(N * ROW)]
        cells += [_duration(N / P / 8192 * step(NETWORKS[1], P, 8192, by_hosts)[0]) for P in (64, 1024)]
        cells += [f"{_bytes(8 * N)}, {_duration(N * ORDER)}", _duration(N * CHECK / 64)]
        lines.append(f"| 10^{round(np.log10(N))} | {_bytes(N * ROW_BYTES)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for name, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.1f} s"


def _bytes(count: float) -> str:
    for name, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


if __name__ == "__main__":
    print(tables())
