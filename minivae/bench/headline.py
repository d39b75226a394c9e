"""headline: the races that `minivae bench` runs, their order and their durations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from . import problems, scaling, sums
from .figures import FLOORS, OURS, PEERS, Cell, Figures, Measured, title
from .race import race

MODEL, BATCHES = [784, 500, 20], (20, 128, 512, 4096)
EVALUATED = [784, 200, 200, 50]
LIKELIHOODS, LOSS_ROWS = ("bernoulli", "gaussian"), (128, 8192)
COUNTS = {"columns": 20_000, "density": 0.03, "hidden": 128, "latent": 10, "batch": 128}
SUMS = {800_000: 20, 10_000_000: 2}  # numbers, and sums of them in a unit of work
ALL_PEERS = ("torch", "torch-default", "torch.compile", "jax")

# kind → turns, seconds of a turn, warm-up. In the last ones a turn is one unit.
ONE = {"units": 1, "seconds": 0.0}
PACE: dict[str, tuple[int, float, dict[str, Any]]] = {
    "rate": (7, 0.2, ONE),
    "step": (9, 0.4, {"units": 2000, "seconds": 8.0}),
    "counts": (9, 0.4, {"units": 50, "seconds": 2.0}),
    "kernel": (9, 0.2, {"units": 1000, "seconds": 0.5}),
    "sum": (9, 0.3, {"units": 3, "seconds": 1.0}),
    "scaling": (3, 0.2, {"units": 100, "seconds": 0.3}),
    "epoch": (7, 0.0, ONE),
    "evaluate": (7, 0.0, ONE),
}
QUICK_PACE = (3, 0.05, {"units": 100, "seconds": 0.3})
QUICK_SIZES: dict[str, dict[str, Any]] = {
    "counts": {"columns": 2000},
    "step": {"rows": 8192},
    "epoch": {"rows": 6000},
    "evaluate": {"rows": 20, "samples": 500},
}


def plan(quick: bool, peers: bool, threads: int) -> list[Cell]:
    """Return the races: short ones if `quick`, otherwise those for publication."""
    others = list(ALL_PEERS) if peers else []
    eager = [name for name in others if name in ("torch", "torch-default")]
    data = problems.source(MODEL[0])
    cells: list[Cell] = []

    def add(kind: str, names: list[str], **sizes: Any) -> None:
        case = {"kind": kind, **sizes, **(QUICK_SIZES.get(kind, {}) if quick else {}), "threads": threads}
        cells.append(Cell(case, names, *(QUICK_PACE if quick else PACE[kind])))

    add("rate", ["copy", "gemm", "gemm-mkl"], bytes=2**28, size=1024)
    for batch in BATCHES:
        add("step", [*OURS, *others, *FLOORS], widths=MODEL, batch=batch, data=data)
    for likelihood in ("poisson", "negative-binomial"):
        names = ["minivae", "minivae-dense", *(["torch", "torch-csr", "torch-bag"] if peers else [])]
        add("counts", names, likelihood=likelihood, **COUNTS)
    for likelihood in LIKELIHOODS:
        for rows in LOSS_ROWS:
            names = ["minivae", "reference", *(name for name in others if name in PEERS), "floor"]
            add("kernel", names, likelihood=likelihood, rows=rows, features=MODEL[0])
    add("epoch", [*OURS, *eager], widths=MODEL, batch=128, rows=60_000, data=data)
    add("evaluate", [*OURS, *eager[:1], *FLOORS], widths=EVALUATED, samples=5000, rows=100, data=data)
    for ranks in () if sums.missing() else (2,) if quick else (2, 4):
        for numbers, each in list(SUMS.items())[: 1 if quick else 2]:
            add("sum", list(sums.CONTENDERS), ranks=ranks, numbers=numbers, each=each)
    if not quick:
        for axis, values in scaling.AXES.items():
            add("scaling", [str(value) for value in values], axis=axis)
    return cells


def run(figures: Figures, cells: list[Cell], say: Callable[[str], None], done: Callable[[Measured], None]) -> None:
    """Run the cells; `say` receives progress messages, `done` is called after each cell."""
    for number, cell in enumerate(cells, 1):
        tell = partial(_tell, say, f"{number} of {len(cells)}, {title(cell.case)}")
        results = race(cell.case, cell.names, cell.turns, cell.block, cell.warm_up, tell)
        figures.cells.append(Measured(cell, results))
        figures.complete = number == len(cells)
        done(figures.cells[-1])


def _tell(say: Callable[[str], None], what: str, text: str) -> None:
    say(f"{what}: {text}")
