"""race: time contenders in turns, each in its own process: A B C A B C …

A ratio of two times is meaningful only if both were measured under the same conditions. So the contenders take turns in
one session, and a ratio is that of their medians: other load on the machine affects all of them. Each has its own
process, because libraries in one process disturb each other: thread pools spin for a while after the work (MKL's for
200 ms, hence the pause between two turns) and set processor flags for the process.

Before it is timed, every contender is checked against float64: the loss and all gradients, on the same parameters, data
and noise.
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
PATIENCE = 900.0  # longest wait for one answer, in seconds
COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "MINIVAE_THREADS")


@dataclass
class Result:
    """The result of one contender: seconds for a unit of work, one number for each of its turns.

    peak_bytes  its peak memory while it worked; None if the system does not report it
    checked     whether it was compared with float64, and agreed
    left_out    why it did not race; "" if it did
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
    """One contender's process, started at once; questions and answers are lines of JSON.

    command      the process; `contender.py` answers in one of the engine's races, `race_call.py` in one of any code
    environment  variables that differ from this process's
    patience     the longest wait for an answer, in seconds; None: PATIENCE
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        patience: float | None = None,
        cwd: str | None = None,
    ):
        self.name, self.late, self.patience = name, False, patience or PATIENCE
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | environment,
            cwd=cwd,
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """Send one question and return the answer."""
        self.send(**question)
        return self.hear()

    def send(self, **question: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `hear` reports why

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        clock = threading.Timer(self.patience, self._give_up)
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
            return f"gave no answer in {self.patience:g} s"
        if status < 0:
            return f"was killed by signal {-status}: is there enough memory?"
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return f"stopped: {lines[-1]}" if lines else f"stopped with status {status} and no word"

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Let the process end."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def _command(name: str, case: dict[str, Any]) -> list[str]:
    return [sys.executable, "-P", "-m", "minivae.bench.contender", json.dumps({**case, "name": name})]


def _environment(threads: int) -> dict[str, str]:
    """Return the environment that sets so many threads for every library, and this process's import path."""
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

    case     the work, as JSON (`work.py`); "threads" is the number of cores of each contender
    turns    number of turns of each contender; the result holds one time for each
    block    seconds of a turn; a turn is at least one unit of work
    warm_up  units of work before the first turn, {"units": n, "seconds": s}: whichever is reached first
    strict   False: a contender that stops or disagrees with float64 is left out, and the others go on
    Raises UsageError if a contender stops or disagrees with float64. One that cannot run here is left out, and its
    result says why.
    """
    results = {name: Result(name) for name in names}
    contenders: list[Contender] = []
    with tempfile.TemporaryDirectory(prefix="minivae-bench-") as folder:
        try:
            say("preparing")
            arrays = work.module_of(case).prepare(case)
            case = {**case, "problem": str(Path(folder, "problem.npz"))}
            np.savez(case["problem"], **arrays)
            contenders = [Contender(name, _command(name, case), _environment(case["threads"])) for name in names]
            for contender in contenders:  # they start concurrently
                contender.send(do="start")
            racing = list(contenders)

            def each(act: Callable[[Contender], None]) -> None:
                """Call `act` for every contender that still races, in turn."""
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
                unit = round(answer["seconds"] / answer["units"], 9)  # rounded as in the file, so that medians agree
                results[contender.name].seconds.append(unit)
                results[contender.name].peak_bytes = answer["peak_bytes"]

            each(started)
            say("checking")
            if expected := work.module_of(case).expected(case, arrays):
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
    """Compare a contender's results with those of float64; False if it has none. Raises UsageError if they differ."""
    path = folder / f"{contender.name}.npz"
    if not contender.ask(do="check", path=str(path))["checked"]:
        return False
    with np.load(path) as got:
        why = getattr(work.module_of(case), "disagreement", work.disagreement)(case, expected, dict(got))
    if why:
        raise UsageError(f"{contender.name} disagrees with float64: {why}")
    return True
