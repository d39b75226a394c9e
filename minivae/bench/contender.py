"""contender: the process that `race.py` starts. `python -m minivae.bench.contender CASE` runs one contender's work.

CASE is JSON: {"kind": "step", "name": "torch", "threads": 2, "problem": "….npz", …}; other keys depend on the kind.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import UsageError
from . import machine


def main(case: dict[str, Any]) -> None:
    """Answer each line of standard input until it is closed."""
    machine.pin(case["threads"])  # before any library counts the cores
    answers, sys.stdout = sys.stdout, sys.stderr  # so that a library's output is not taken for an answer
    work: Any = None
    for line in sys.stdin:
        question = json.loads(line)
        if question["do"] == "start":
            try:
                work = _make(case)
                answer = {"facts": work.facts()}
            except UsageError as error:
                answer = {"left_out": str(error)}
        else:
            answer = _answer(work, question)
        print(json.dumps(answer), file=answers, flush=True)


def _make(case: dict[str, Any]) -> Any:
    import numpy as np

    from .work import module_of

    with np.load(case["problem"]) as arrays:
        return module_of(case).make(case, dict(arrays))


def _answer(work: Any, question: dict[str, Any]) -> dict[str, Any]:
    match question["do"]:
        case "check":
            return {"checked": _save(work.results(), question["path"])}
        case "warm up":
            reset_peak()
            return _run(work, question["units"], question["seconds"], any)
        case "turn":
            time.sleep(question["pause"])
            work.before_turn()
            work.finish()
            return _run(work, 1, question["seconds"], all)
        case other:
            raise ValueError(other)


def _save(results: dict[str, Any] | None, path: str) -> bool:
    import numpy as np

    if results is None:
        return False
    arrays: Any = {name: np.asarray(value, np.float64) for name, value in results.items()}
    np.savez(path, **arrays)
    return True


def _run(work: Any, units: int, seconds: float, enough: Any) -> dict[str, Any]:
    """Run until `enough` (any, all) of the two limits, units and seconds, are reached."""
    done, start = 0, time.perf_counter()
    while True:
        work.run()
        done += work.each
        if enough((done >= units, time.perf_counter() - start >= seconds)):
            break
    work.finish()
    return {"units": done, "seconds": time.perf_counter() - start, "peak_bytes": peak()}


def peak() -> int | None:
    """Return this process's peak memory since `reset_peak`, in bytes; None if the system does not report it.

    This is Linux's VmHWM, because getrusage's figure starts at that of the parent process.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def reset_peak() -> None:
    """Reset the peak, to leave out building and checking. Where that is impossible, the peak is since the start."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
