"""contender: the other end of `race.py`. `python -m minivae.bench.contender CASE` does one contender's work when asked.

CASE is JSON: {"kind": "step", "name": "torch", "threads": 2, …}; what else it holds is up to the kind.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from importlib import import_module
from typing import Any

KINDS = {"step": "steps"}  # kind of case → the room that knows its contenders


def main(case: dict[str, Any]) -> None:
    """Answer the questions on standard input, a line each, until it is closed."""
    cores = sorted(os.sched_getaffinity(0))[: case["threads"]]
    os.sched_setaffinity(0, cores)  # before any library counts them
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    work = import_module(f"minivae.bench.{KINDS[case['kind']]}").make(case)
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(_answer(work, question)), file=answers, flush=True)


def _answer(work: Any, question: dict[str, Any]) -> dict[str, Any]:
    match question.pop("do"):
        case "start":
            return work.facts()
        case "check":
            work.check(question["path"])
            return {}
        case "warm up":
            return _run(work, question["units"], question["seconds"])
        case "turn":
            time.sleep(question["pause"])
            work.run()  # one to wake up caches and threads
            return _run(work, 1, question["seconds"], least=True)
        case other:
            raise ValueError(other)


def _run(work: Any, units: int, seconds: float, least: bool = False) -> dict[str, Any]:
    """Work for so many units or seconds: whichever is reached first, or (`least`) until both are."""
    enough = all if least else any
    done, start = 0, time.perf_counter()
    while True:
        work.run()
        done += 1
        elapsed = time.perf_counter() - start
        if enough((done >= units, elapsed >= seconds)):
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"units": done, "seconds": elapsed, "peak_bytes": peak}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
