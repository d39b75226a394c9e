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
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..errors import UsageError
from . import busy, work

PAUSE = 0.25  # seconds between two turns: longer than any thread pool spins
PATIENCE = 900.0  # seconds that one answer may take
COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "MINIVAE_THREADS")


@dataclass
class Result:
    """What one contender showed: seconds for a unit of work, one number for each of its turns.

    peak_bytes  the most memory it held while it worked; None where the system does not say
    checked     whether it had something to compare with float64, and agreed
    left_out    why it did not race; "" where it did
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    checked: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    left_out: str = ""

    @property
    def median(self) -> float:
        return median(self.seconds)


class Contender:
    """One contender's process: started at once, spoken to a line of JSON at a time (`contender.py` answers)."""

    def __init__(self, name: str, case: dict[str, Any]):
        self.name, self.late = name, False
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "minivae.bench.contender", json.dumps({**case, "name": name})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | _environment(case["threads"]),
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer to one question."""
        self.send(**question)
        return self.hear()

    def send(self, **question: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `hear` says why

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        clock = threading.Timer(PATIENCE, self._give_up)
        clock.start()
        try:
            line = self.process.stdout.readline()
        finally:
            clock.cancel()
        if not line:
            raise UsageError(f"the contender {self.name} {self._last_words()}")
        return json.loads(line)

    def _give_up(self) -> None:
        self.late = True
        self.process.kill()

    def _last_words(self) -> str:
        status = self.process.wait()
        if self.late:
            return f"gave no answer in {PATIENCE:.0f} s"
        if status < 0:
            return f"was killed by signal {-status}: is there enough memory?"
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return f"stopped: {lines[-1]}" if lines else f"stopped with status {status} and no word"

    def close(self) -> None:
        """Let the process end."""
        if self.process.poll() is None:
            assert self.process.stdin is not None
            try:
                self.process.stdin.close()
                self.process.wait(10)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()


def _environment(threads: int) -> dict[str, str]:
    """So many threads for every library, and the same modules that this process finds."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return dict.fromkeys(COUNTS, str(threads)) | {"PYTHONPATH": path}


def race(
    case: dict[str, Any],
    names: list[str],
    turns: int,
    block: float,
    warm_up: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
    strict: bool = True,
) -> dict[str, Result]:
    """Time `names` on one case, in turn.

    case     what is done, as JSON (`work.py`); "threads" is how many cores each contender has
    turns    how often each has its turn; the result holds one time for each
    block    seconds of a turn, at the least one unit of work
    warm_up  units of work before the first turn, {"units": n, "seconds": s}: whichever is reached first
    strict   False: a contender that stops or computes something else is left out, and the others go on
    Raises UsageError where a contender stops, or computes something else than float64 does. One that cannot run here
    is left out, and its result says why.
    """
    results = {name: Result(name) for name in names}
    contenders: list[Contender] = []
    with tempfile.TemporaryDirectory(prefix="minivae-bench-") as folder:
        try:
            say("preparing")
            arrays = work.room(case).prepare(case)
            case = {**case, "problem": str(Path(folder, "problem.npz"))}
            np.savez(case["problem"], **arrays)
            contenders = [Contender(name, case) for name in names]
            for contender in contenders:  # all start at the same time
                contender.send(do="start")
            racing = list(contenders)

            def each(act: Callable[[Contender], None]) -> None:
                """`act` for every contender that still races, in turn."""
                for contender in list(racing):
                    result = results[contender.name]
                    try:
                        act(contender)
                    except UsageError as error:
                        if strict:
                            raise
                        result.left_out, result.seconds = str(error), []
                    if result.left_out:
                        racing.remove(contender)

            def started(contender: Contender) -> None:
                answer = contender.hear()
                results[contender.name].facts = answer.get("facts", {})
                results[contender.name].left_out = answer.get("left_out", "")

            def checked(contender: Contender) -> None:
                results[contender.name].checked = _check(contender, case, expected, Path(folder))

            def warmed_up(contender: Contender) -> None:
                say(f"warming up {contender.name}")
                contender.ask(do="warm up", **(warm_up or {"units": 1, "seconds": 0.0}))

            def timed(contender: Contender) -> None:
                answer = contender.ask(do="turn", seconds=block, pause=PAUSE)
                unit = round(answer["seconds"] / answer["units"], 9)  # as it is kept: its median is of these
                results[contender.name].seconds.append(unit)
                results[contender.name].peak_bytes = answer["peak_bytes"]

            each(started)
            say("checking")
            if expected := work.room(case).expected(case, arrays):
                each(checked)
            each(warmed_up)
            with busy.beside(case.get("neighbours", 0), case["threads"]):
                for turn in range(turns):
                    say(f"turn {turn + 1} of {turns}")
                    each(timed)
        finally:
            for contender in contenders:
                contender.close()
    return results


def _check(contender: Contender, case: dict[str, Any], expected: work.Arrays, folder: Path) -> bool:
    """Compare a contender's results with those of float64. False: it has none. Raises UsageError where they differ."""
    path = folder / f"{contender.name}.npz"
    if not contender.ask(do="check", path=str(path))["checked"]:
        return False
    with np.load(path) as got:
        why = getattr(work.room(case), "disagreement", work.disagreement)(case, expected, dict(got))
    if why:
        raise UsageError(f"{contender.name} does not compute what it should: {why}, against float64")
    return True
