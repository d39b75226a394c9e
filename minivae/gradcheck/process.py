"""process: check code in a process of its own, so that nothing in it can end, block or talk over the checker.

The parent (`run`) starts a child for each file and reads lines of JSON from it; the child (`main`) loads the file, does
the work and writes them. What the code prints goes to standard error. Anything but a result, such as os._exit, a crash
or an endless loop, is a failure of that target, and the remaining ones get a new child. This keeps accidents out; it is
no sandbox against code that attacks the checker.

    parent → child   one job, on standard input
    child → parent   {"targets": [spec, …]}    what a file was found to hold
                     {"start": spec}, then {"step": name} any number of times, then {"done": outcome} or
                     {"failed": message} or {"left_out": message}; at the end {"end": true}
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from .problem import Problem, Settings

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from minivae.gradcheck.process import main; main()"


@dataclass
class Job:
    """What a child is to do.

    mode       "check" → a Result of each target; "sweep" → a Curve; "mutate", "seeds" → an Outcome
    targets    "file.py:Name", "package.module:name", or "file.py" for all that can be checked in it
    settings   fields of `Settings`
    dtype      also check the gradients of a run in it
    hvp        check second derivatives too
    reference  the target whose forward must agree, or a file that has one of each name, or None
    full_names whether a target's name in the report has its file's in front
    """

    mode: str
    targets: list[str]
    settings: dict[str, Any]
    shapes: str | None = None
    dtype: str | None = None
    hvp: bool = False
    reference: str | None = None
    seeds: int = 1
    full_names: bool = False


@dataclass
class Done:
    """What became of one target: an outcome as plain data, or the reason why there is none.

    left_out   why a function of a file was not checked that torch or JAX differentiates, and that needs arguments
    """

    target: str
    outcome: Any = None
    failure: str | None = None
    left_out: str | None = None


# ---- the parent -----------------------------------------------------------------------------------------------------


class Child:
    """A child at its job, started at once. `timeout`: seconds that it may be silent."""

    def __init__(self, job: Job, timeout: float):
        self.job, self.timeout = job, timeout
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # what the code starts ends with it
        )
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(asdict(job)).encode())
            self.process.stdin.close()
        except OSError:
            pass  # it has ended already; `events` says so
        self.lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(b"")

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the child says, and {"lost": why} if it stops before its end."""
        try:
            while True:
                try:
                    line = self.lines.get(timeout=self.timeout)
                except queue.Empty:
                    yield {"lost": self._late()}
                    return
                try:
                    event = json.loads(line) if line else {"lost": self._ending()}
                    assert isinstance(event, dict)
                except (ValueError, AssertionError):
                    event = {"lost": "its process wrote something else than a result"}
                yield event
                if "lost" in event or "end" in event:
                    return
        finally:
            self.close()

    def _late(self) -> str:
        return f"no result within {self.timeout:g} s: an endless loop? --timeout allows more"

    def _ending(self) -> str:
        try:
            status = self.process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            return self._late()
        if status < 0:
            name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
            return f"its process was killed by {name} before there was a result"
        return f"its process ended with exit status {status} before there was a result (os._exit?)"

    def close(self) -> None:
        """End the child and all that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (AttributeError, ProcessLookupError, PermissionError):
            self.process.kill()
        self.process.wait()


def run(child: Child, progress: Callable[[str], None] | None = None) -> list[Done]:
    """Return what became of each target of the child's job, in order; `progress` is called with each name."""
    done: list[Done] = []
    left = list(child.job.targets)
    while True:
        before, at = len(done), left[0]
        for event in child.events():
            if "targets" in event:  # left[0] is a file, and these are what it holds
                left[:1] = event["targets"]
            elif "start" in event:
                at = event["start"]
            elif "step" in event and progress:
                progress(event["step"])
            elif left and event.keys() & {"done", "failed", "left_out", "lost"}:
                failure = f"{at}: {event['lost']}" if "lost" in event else event.get("failed")
                done.append(Done(at, event.get("done"), failure, event.get("left_out")))
                del left[0]
                if progress:
                    progress(at)
        if left and len(done) == before:
            done.append(Done(at, None, f"{at}: its process ended before there was a result"))
            del left[0]
        if not left:
            return done
        child = Child(replace(child.job, targets=left), child.timeout)


class Work:
    """A job, split into one for each file or module, so that none shares a process with another's code.

    The first child starts at once: the caller imports meanwhile what it needs for the outcome.
    """

    def __init__(self, job: Job, timeout: float):
        groups: dict[str, list[str]] = {}
        for spec in job.targets:
            groups.setdefault(spec if spec.endswith(".py") else spec.rpartition(":")[0], []).append(spec)
        self.jobs = [replace(job, targets=specs) for specs in groups.values()]
        self.timeout = timeout
        self.first = Child(self.jobs[0], timeout) if self.jobs else None

    def run(self, progress: Callable[[str], None] | None = None) -> list[Done]:
        """Do the job; return what became of each target."""
        done: list[Done] = []
        for job in self.jobs:
            child = self.first if self.first is not None and not done else Child(job, self.timeout)
            done += run(child, progress)
        return done

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: Any) -> None:
        if self.first is not None:
            self.first.close()


# ---- the child ------------------------------------------------------------------------------------------------------


def main() -> None:
    """Do the job on standard input. Standard output is the parent's: what the code prints goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = Job(**json.load(sys.stdin))
    sys.stdin = open(os.devnull)  # noqa: SIM115 - as long as the process

    at = ""

    def say(**event: Any) -> None:
        nonlocal at
        at = event.get("start", at)
        channel.write(json.dumps(event, default=float) + "\n")

    try:
        _work(job, say)
    except Exception as error:  # a fault of the checker's
        say(failed=f"{at}: {type(error).__name__}: {error}")
        traceback.print_exc()
    except BaseException as error:
        say(failed=f"{at}: it raised {type(error).__name__}")
    for stream in (sys.stdout, sys.stderr):  # before the end is told: the parent then ends this process
        stream.flush()
    say(end=True)
    os._exit(0)  # not waiting for threads that the code has started


def _work(job: Job, say: Callable[..., None]) -> None:
    from . import user
    from .problem import NotGiven

    for spec in job.targets:
        specs = [spec]
        if spec.endswith(".py"):
            say(start=spec)
            try:
                named = job.reference if job.reference and job.reference.endswith(".py") else spec
                specs = [f"{spec}:{name}" for name in user.checkable(named, forward_only=named is not spec)]
            except UsageError as error:
                say(failed=str(error))
                continue
            say(targets=specs)
        for one in specs:
            say(start=one)
            try:
                say(done=_one(job, one, say))
            except UsageError as error:
                unsure = False
                if spec.endswith(".py") and not job.reference:  # it is one among others
                    code = user.load(one)
                    unsure = (isinstance(error, NotGiven) and not user.is_by_hand(code)) or user.is_unknown(code)
                say(**{"left_out" if unsure else "failed": str(error)})


def _one(job: Job, spec: str, say: Callable[..., None]) -> Any:
    """Load a target and do what the mode asks for; return the outcome as plain data."""
    from . import user
    from .problem import Settings

    settings = Settings(**job.settings)
    label = spec.rpartition(":")[2]
    code, reference = user.load(spec), None
    if job.reference:
        reference = user.load(f"{job.reference}:{label}" if job.reference.endswith(".py") else job.reference)
    shapes = None if job.shapes is None else user.parse_shapes(job.shapes)
    name = spec if job.full_names else label

    def problem(here: Settings) -> Problem:
        return user.problem_of(code, None, name, here, shapes, job.dtype, reference, job.hvp)

    if job.mode == "sweep":
        from . import sweep

        return asdict(sweep.run(problem(settings), settings))
    if job.mode == "mutate":
        from .ours import mutations

        return asdict(mutations.run([problem(settings)], settings))
    if job.mode == "seeds":
        from . import seeds

        return asdict(seeds.run(lambda here: [problem(here)], settings, job.seeds, lambda name: say(step=name)))
    from .compare import examine

    return asdict(examine(problem(settings), settings))
