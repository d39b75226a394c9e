"""figures: the results of a run of `minivae bench` in one JSON file: every time measured, the machine and the date."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from ..errors import UsageError
from . import machine, results, scaling
from .race import Result
from .race_interval import interval, ratio_of_medians

SCHEMA = 1  # increases when a field changes its meaning or is removed

OURS = ("minivae", "minivae-mkl")
PEERS = ("torch", "torch.compile", "jax")  # "best peer" in a ratio is the fastest of these
FLOORS = ("floor", "floor-mkl")
LIBRARY = ("mpi", "mpi-in-two")  # the sums over ranks by MPI's own algorithms
COUNTS = ("minivae-dense", "torch-csr", "torch-bag")  # other ways of a step on sparse rows


@dataclass(frozen=True)
class Cell:
    """One race: its case, contenders and durations (`race.race`)."""

    case: dict[str, Any]
    names: list[str]
    turns: int
    block: float
    warm_up: dict[str, Any]

    @property
    def key(self) -> str:
        return json.dumps([self.case, self.names, self.turns, self.block, self.warm_up], sort_keys=True)


@dataclass
class Measured:
    """A cell that has been run."""

    cell: Cell
    results: dict[str, Result]

    def median(self, name: str) -> float | None:
        """Return the seconds for a unit; None if the contender did not race."""
        result = self.results.get(name)
        return result.median if result is not None and result.seconds else None


@dataclass
class Figures:
    """The results of a run of `minivae bench` so far."""

    quick: bool
    date: str
    machine: dict[str, Any]
    cells: list[Measured] = field(default_factory=list)
    complete: bool = False

    def of(self, kind: str) -> list[Measured]:
        """Return the races of one kind."""
        return [measured for measured in self.cells if measured.cell.case["kind"] == kind]

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for `from_json` to read."""
        return {
            "schema": SCHEMA,
            "kind": "bench",
            "date": self.date,
            "quick": self.quick,
            "complete": self.complete,
            "machine": self.machine,
            "cells": [
                {
                    **asdict(measured.cell),
                    "ratios": {name: round(value, 4) for name, value in ratios(measured).items()},
                    "intervals": {
                        name: found and [round(end, 4) for end in found] for name, found in intervals(measured).items()
                    },
                    "results": [_plain(result) for result in measured.results.values()],
                }
                for measured in self.cells
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figures:
        cells = []
        for found in data["cells"]:
            cell = Cell(**{name: found[name] for name in ("case", "names", "turns", "block", "warm_up")})
            raced = [Result(**{k: v for k, v in one.items() if k != "median"}) for one in found["results"]]
            cells.append(Measured(cell, {result.name: result for result in raced}))
        return cls(data["quick"], data["date"], data["machine"], cells, data["complete"])

    def write(self, path: Path) -> None:
        results.write(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Figures:
        """Read a file that `minivae bench` wrote; UsageError for any other."""
        try:
            data = json.loads(path.read_text())
            if data["kind"] != "bench" or data["schema"] != SCHEMA:
                raise ValueError(f"schema {data['schema']}")
            return cls.from_json(data)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: not the figures of a `minivae bench` ({error!r})") from None


def begin(quick: bool) -> Figures:
    return Figures(quick, datetime.now(UTC).isoformat(timespec="seconds"), machine.describe())


def remaining(figures: Figures, cells: list[Cell]) -> list[Cell]:
    """Return the cells of a plan that have not been run yet. UsageError if the figures are of others."""
    keys = {cell.key for cell in cells}
    if figures.quick or any(measured.cell.key not in keys for measured in figures.cells):
        raise UsageError("the file holds figures of other races than these: begin another (--out, --force)")
    now = machine.describe()
    for name in ("cpu", "processors", "versions"):
        if figures.machine[name] != now[name]:
            raise UsageError(f"the file was measured with {name} {figures.machine[name]}, and now it is {now[name]}")
    done = {measured.cell.key for measured in figures.cells}
    return [cell for cell in cells if cell.key not in done]


def pairs(measured: Measured) -> dict[str, tuple[str, str]]:
    """Return {ratio's name: (contender above, contender below)}: "best peer / minivae", "minivae / floor" …"""
    median = measured.median
    peers = [name for name in PEERS if median(name)]
    best = min(peers, key=lambda name: median(name) or 0.0, default="")
    found: dict[str, tuple[str, str]] = {}
    for ours, floor in zip(OURS, FLOORS, strict=True):
        found |= {f"best peer / {ours}": (best, ours), f"{ours} / {floor}": (ours, floor)}
    found |= {f"{other} / {OURS[0]}": (other, OURS[0]) for other in ("reference", *PEERS, *LIBRARY, *COUNTS)}
    return {name: pair for name, pair in found.items() if median(pair[0]) and median(pair[1])}


def ratios(measured: Measured) -> dict[str, float]:
    """Return the ratios of contenders' medians by name."""
    of = measured.results
    return {name: of[above].median / of[below].median for name, (above, below) in pairs(measured).items()}


def intervals(measured: Measured) -> dict[str, tuple[float, float] | None]:
    """Return the 95 % interval of each ratio, over turns; None if there were too few turns."""
    of = measured.results
    return {
        name: interval(of[below].seconds, of[above].seconds, ratio_of_medians)
        for name, (above, below) in pairs(measured).items()
    }


def mean_ratio(cells: list[Measured], name: str) -> float | None:
    """Return the geometric mean of a ratio over cells; None if a cell lacks it."""
    found = [ratios(cell).get(name) for cell in cells]
    return geometric_mean(r for r in found if r) if found and all(found) else None


def mean_interval(cells: list[Measured], name: str) -> tuple[float, float] | None:
    """Return the interval of the geometric mean; None if a cell has none. Races are independent: squares add."""
    found = [intervals(cell).get(name) for cell in cells]
    mean = mean_ratio(cells, name)
    if mean is None or not all(found):
        return None
    below, above = (
        math.sqrt(
            sum(math.log(ends[side] / ratios(cell)[name]) ** 2 for cell, ends in zip(cells, found, strict=True) if ends)
        )
        / len(cells)
        for side in (0, 1)
    )
    return mean * math.exp(-below), mean * math.exp(above)


def title(case: dict[str, Any]) -> str:
    """Describe a case in a few words."""
    widths = "-".join(map(str, case.get("widths", ())))
    match case["kind"]:
        case "step":
            return f"a training step of {widths}, batch {case['batch']}"
        case "counts":
            return f"a step on counts, {case['likelihood']}, {case['columns']:,} columns, batch {case['batch']}"
        case "epoch":
            return f"an epoch of {case['rows']:,} rows, batch {case['batch']}"
        case "evaluate":
            return f"ln p(x) of {case['rows']} rows, K = {case['samples']}, {widths}"
        case "kernel":
            return f"loss and gradient, {case['likelihood']}, {case['rows']} × {case['features']}"
        case "scaling":
            return f"the step against {scaling.WHAT[case['axis']]}"
        case "sum":
            return f"a sum of {case['numbers'] / 1e6:g} M numbers over {case['ranks']} ranks"
        case "rate":
            return "the machine's rates"
        case other:
            return other


def _plain(result: Result) -> dict[str, Any]:
    return asdict(result) | ({"median": round(result.median, 10)} if result.seconds else {})
