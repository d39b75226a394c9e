"""race: contenders that take turns, each in a process of its own: A B C A B C …

A ratio of two times is worth something only if both were taken under the same circumstances. So the contenders run in
one session, block by block in turn, and a ratio is that of their medians: a noisy neighbour meets them all. Each has
its own process, because libraries disturb each other inside one: thread pools spin on for a while after the work (MKL's
for 200 ms, which is why a pause stands between two turns), and set processor flags for everybody.

Before it is timed, every contender shows that it computes the same thing: the loss and all gradients on the same
parameters, data and noise, against float64.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..errors import UsageError

PAUSE = 0.25  # seconds between two turns: longer than any thread pool spins


@dataclass
class Result:
    """What one contender showed: seconds for a unit of work, one number for each of its turns."""

    name: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return median(self.seconds)


class Contender:
    """One contender's process: started at once, spoken to a line of JSON at a time (`contender.py` answers)."""

    def __init__(self, name: str, case: dict[str, Any], environment: dict[str, str] | None = None):
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minivae.bench.contender", json.dumps({**case, "name": name})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer to one question."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait()
            self.errors.seek(0)
            last = (self.errors.read().strip().splitlines() or ["no word"])[-1]
            raise UsageError(f"the contender {self.name} stopped: {last}")
        return json.loads(line)

    def close(self) -> None:
        """Let the process end."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()


def race(
    case: dict[str, Any],
    names: list[str],
    turns: int,
    block: float,
    warm_up: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Result]:
    """Time `names` on one case, in turn.

    case     what is done, as JSON (`contender.py`)
    turns    how often each has its turn; the result holds one time for each
    block    seconds of a turn, at the least one unit of work
    warm_up  units of work before the first turn, {"units": n, "seconds": s}: whichever is reached first
    Raises UsageError where a contender stops, or computes something else than float64 does.
    """
    results = {name: Result(name) for name in names}
    contenders: list[Contender] = []
    try:
        for name in names:
            contender = Contender(name, case)
            contenders.append(contender)
            results[name].facts = contender.ask(do="start")
        _check(contenders, case)
        for contender in contenders:
            say(f"warming up {contender.name}")
            contender.ask(do="warm up", **(warm_up or {"units": 1, "seconds": 0}))
        for turn in range(turns):
            say(f"turn {turn + 1} of {turns}")
            for contender in contenders:
                answer = contender.ask(do="turn", seconds=block, pause=PAUSE)
                results[contender.name].seconds.append(answer["seconds"] / answer["units"])
                results[contender.name].peak_bytes = answer["peak_bytes"]
    finally:
        for contender in contenders:
            contender.close()
    return results


def _check(contenders: list[Contender], case: dict[str, Any]) -> None:
    """Every contender's results against those of the reference kernels in float64."""
    with tempfile.TemporaryDirectory() as folder:
        judge = Contender("float64", case)
        try:
            expected = _results(judge, Path(folder))
        finally:
            judge.close()
        for contender in contenders:
            got = _results(contender, Path(folder))
            for name in expected.keys() & got.keys():
                scale = np.abs(expected[name]).max()
                error = np.abs(got[name] - expected[name]).max() / scale
                if not error < TOLERANCE:
                    raise UsageError(
                        f"{contender.name} does not compute what the others do: {name} differs by {error:.1e}"
                    )


TOLERANCE = 2e-5  # of the largest element, in float32: the order of the sums differs


def _results(contender: Contender, folder: Path) -> dict[str, np.ndarray]:
    path = folder / f"{contender.name}.npz"
    contender.ask(do="check", path=str(path))
    if not path.exists():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)
