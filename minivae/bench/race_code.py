"""race_code: race two callables of anyone's, `a` and `b`: `minivae race`.

A race has blocks. In each, three fresh processes start: `a`, `b`, and `a` once more as the floor. They take turns in
random order, and a block's time of a contender is the median of its turns. Processes are fresh in every block because
two processes of one program differ, by 1 to 2 % for pure Python (the seed of hashes, the layout of memory): an interval
from one pair of processes leaves that out and finds differences that are not there.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ..errors import UsageError
from .race import Contender
from .race_interval import interval, median_of_ratios

TURNS = 4  # of each contender in a block, at most
CHILD = Path(__file__).with_name("race_call.py")
SIMILAR = 1.5  # times as long: up to this, a turn of both has as many calls
SHORT = 1e-6  # seconds: below, the loop that calls is a good part of the time


@dataclass(frozen=True)
class Side:
    """One of the two that race.

    target  path.py:name or module:name
    label   its name in the report
    inputs  path.py:make, a function that returns the arguments; None: there are none
    python  the interpreter
    after   folders for the end of sys.path, behind the packages installed for a revision (`race_call.py`)
    cwd     the folder that it runs in; None: this one
    """

    target: str
    label: str
    inputs: str | None = None
    python: str = sys.executable
    after: tuple[str, ...] = ()
    cwd: str | None = None


@dataclass(frozen=True)
class Settings:
    """How to race.

    blocks     number of blocks
    seconds    timed seconds of a contender in a block
    check      whether results are compared before anything is timed
    tolerance  largest difference allowed, relative to the largest element; None: the root of the dtype's epsilon
    timeout    longest wait for one answer of a contender, in seconds
    keep       keep the processes of the first block
    """

    blocks: int = 12
    seconds: float = 0.08
    check: bool = True
    tolerance: float | None = None
    timeout: float = 60.0
    keep: bool = False


@dataclass
class Block:
    """Seconds of a call: of a, of b, and of a once more."""

    a: float
    b: float
    floor: float


@dataclass
class Outcome:
    """The result of a race: its times, and what follows from them.

    difference, allowed   largest difference of the two results and the tolerance; None if they were not compared
    clock                 how calls were timed
    notes                 sentences for the report
    """

    sides: tuple[Side, Side]
    settings: Settings
    blocks: list[Block] = field(default_factory=list)
    difference: float | None = None
    allowed: float | None = None
    calls: tuple[int, int] = (1, 1)
    clock: str = ""
    notes: list[str] = field(default_factory=list)

    def seconds(self, name: str) -> list[float]:
        return [getattr(block, name) for block in self.blocks]

    @property
    def ratio(self) -> float:
        """b / a."""
        return float(median_of_ratios(np.array(self.seconds("a")), np.array(self.seconds("b"))))

    @property
    def floor_ratio(self) -> float:
        """a / a, of two processes."""
        return float(median_of_ratios(np.array(self.seconds("a")), np.array(self.seconds("floor"))))

    @property
    def interval(self) -> tuple[float, float] | None:
        return interval(self.seconds("a"), self.seconds("b"))

    @property
    def floor(self) -> tuple[float, float] | None:
        """The interval of a / a: what the same race gives for the same code."""
        return interval(self.seconds("a"), self.seconds("floor"))

    @property
    def apart(self) -> float | None:
        """The largest difference from 1 in the floor: a smaller one cannot be told from none here."""
        return max(self.floor[1], 1 / self.floor[0]) - 1 if self.floor else None

    def compared_with(self, limit: float) -> int:
        """Return 1 if b/a lies above the limit, −1 if below, 0 if undecided.

        The whole interval must, and the ratio by more than `apart`.
        """
        if self.interval is None or self.apart is None:
            return 0
        above = self.interval[0] > limit and self.ratio > limit * (1 + self.apart)
        below = self.interval[1] < limit and self.ratio < limit / (1 + self.apart)
        return int(above) - int(below)

    @property
    def verdict(self) -> str:
        return ("undecided", "slower", "faster")[self.compared_with(1.0)]


def race(sides: tuple[Side, Side], settings: Settings, say: Callable[[str], None] = lambda text: None) -> Outcome:
    """Race two callables. Raises UsageError if one cannot be run, or if their results differ."""
    outcome = Outcome(sides, settings)
    counts: Counts = {}
    order = random.Random(0)
    with ExitStack() as kept:
        for number in range(settings.blocks):
            say("starting" if number == 0 else f"block {number + 1} of {settings.blocks}")
            with ExitStack() as fresh:
                if number == 0 or not settings.keep:
                    racing = {"a": sides[0], "b": sides[1], "floor": sides[0]}
                    trio = _start(racing, settings, number, kept if settings.keep else fresh)
                    _first_call(trio, outcome, compare=settings.check and number == 0)
                    if number == 0:
                        counts = _count(trio, outcome)
                    else:
                        _warm_up(trio, counts)
                outcome.blocks.append(_block(trio, counts, _turns(outcome, counts), order))
    return outcome


Trio = dict[str, Contender]
Counts = dict[str, dict[str, int]]  # of each: "n" calls in a sample, "samples" in a turn


def _start(racing: dict[str, Side], settings: Settings, number: int, stack: ExitStack) -> Trio:
    """Start the processes of a block. Hashes have one seed in all of them."""
    trio = {}
    for name, side in racing.items():
        case = {"target": side.target, "inputs": side.inputs, "after": side.after}
        environment = {"PYTHONHASHSEED": str(number), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [side.python, str(CHILD), json.dumps(case)]
        try:
            trio[name] = Contender(side.label, command, environment, settings.timeout, side.cwd)
        except OSError as error:
            raise UsageError(f"{side.python} cannot be started: {error.strerror}") from None
        stack.callback(trio[name].kill)
    return trio


def _first_call(trio: Trio, outcome: Outcome, compare: bool) -> None:
    """Load and call each once; compare inputs and results if `compare`."""
    started = _ask_all(trio, do="start")
    if compare and started["a"]["inputs"] != started["b"]["inputs"]:
        raise UsageError(
            f"{outcome.sides[0].inputs} makes other arguments in each process: seed its random numbers, "
            "or use --no-check"
        )
    with tempfile.TemporaryDirectory(prefix="minivae-race-") as folder:
        folders = {name: Path(folder, name) for name in trio}
        for path in folders.values():
            path.mkdir()
        answers = _ask_all(trio, {name: {"save": str(folders[name]) if compare else None} for name in trio}, do="check")
        if compare:
            results = {name: _rebuild(answer["result"]) for name, answer in answers.items()}
            _agree(results, trio, outcome)
    clocks = [answers[name]["clock"] for name in ("a", "b")]
    if clocks[0] != clocks[1]:
        outcome.notes.append(f"{trio['a'].name} is timed by {clocks[0]}, {trio['b'].name} by {clocks[1]}")
    outcome.clock = clocks[0]


def _ask(contender: Contender, **question: Any) -> dict[str, Any]:
    answer = contender.ask(**question)
    if "error" in answer:
        raise UsageError(answer["error"])
    return answer


def _ask_all(trio: Trio, more: dict[str, dict[str, Any]] | None = None, **question: Any) -> dict[str, dict[str, Any]]:
    """Ask all three at once."""
    for name, contender in trio.items():
        contender.send(**question, **(more or {}).get(name, {}))
    answers = {name: contender.hear() for name, contender in trio.items()}
    failed = [name for name in ("a", "b") if "error" in answers[name]]
    if failed:
        said = answers[failed[0]]["error"]
        if len(failed) == 1 and answers[failed[0]].get("raised"):
            other = trio["b" if failed[0] == "a" else "a"].name
            raise UsageError(f"{said}; {other} did not: the two must do the same work")
        raise UsageError(said)
    if "error" in answers["floor"]:
        raise UsageError(
            f"{answers['floor']['error']} in one process, and not in another: it must do the same each time"
        )
    return answers


def _count(trio: Trio, outcome: Outcome) -> Counts:
    """Choose the number of calls in a sample and of samples in a turn."""
    seconds = outcome.settings.seconds / TURNS
    found = {name: _ask(trio[name], do="calibrate", seconds=seconds) for name in ("a", "b")}
    for name, answer in found.items():
        if answer["seconds"] < SHORT and outcome.clock == "host":
            outcome.notes.append(
                f"a call of {trio[name].name} takes {1e9 * answer['seconds']:.0f} ns, and {answer['n']:,} are timed "
                "together; calling is a part of that, and draws the ratio towards 1"
            )
    counts = {name: {"n": answer["n"], "samples": answer["samples"]} for name, answer in found.items()}
    if 1 / SIMILAR < found["b"]["seconds"] / found["a"]["seconds"] < SIMILAR:  # then both are timed in the same way
        counts["b"] = counts["a"]
    outcome.calls = (counts["a"]["n"], counts["b"]["n"])
    return {**counts, "floor": counts["a"]}


def _warm_up(trio: Trio, counts: Counts) -> None:
    """Let each have an untimed turn, unless a turn is one call: that call has been made."""
    for name, contender in trio.items():
        if counts[name]["n"] * counts[name]["samples"] > 1:
            _ask(contender, do="turn", **counts[name])


def _turns(outcome: Outcome, counts: Counts) -> int:
    """Return the turns of a block: TURNS, or fewer if a call is longer than a turn, as the first block tells."""
    if min(count["n"] * count["samples"] for count in counts.values()) > 1:
        return TURNS
    if not outcome.blocks:
        return 1
    longest = max(outcome.blocks[0].a, outcome.blocks[0].b)
    return min(TURNS, max(1, round(outcome.settings.seconds / longest)))


def _block(trio: Trio, counts: Counts, turns: int, order: random.Random) -> Block:
    """Let the three take turns, each turn in a random order."""
    seconds: dict[str, list[float]] = {name: [] for name in trio}
    for _ in range(turns):
        for name in order.sample(list(trio), len(trio)):
            seconds[name].append(_ask(trio[name], do="turn", **counts[name])["seconds"])
    return Block(**{name: median(values) for name, values in seconds.items()})


# ---- results --------------------------------------------------------------------------------------------------------


def _rebuild(tree: dict[str, Any]) -> Any:
    """Return the value that `race_call.save` wrote."""
    kind, value = tree["kind"], tree["value"]
    match kind:
        case "array":
            data = Path(value["file"]).read_bytes()
            return np.frombuffer(data, np.dtype(value["dtype"])).reshape(value["shape"])
        case "list":
            return [_rebuild(part) for part in value]
        case "dict":
            return {key: _rebuild(part) for key, part in value}
        case "int" | "float" | "complex":
            return {"int": int, "float": float, "complex": complex}[kind](value)
        case "bytes":
            return bytes.fromhex(value)
        case _:
            return value


def _agree(results: dict[str, Any], trio: Trio, outcome: Outcome) -> None:
    """Raise UsageError if the results of a and b differ."""
    tolerance = outcome.settings.tolerance
    a, b = trio["a"].name, trio["b"].name
    why, outcome.difference, outcome.allowed = difference(results["a"], results["b"], tolerance)
    if why is None:
        return
    if difference(results["a"], results["floor"], tolerance)[0] is not None:
        raise UsageError(f"{a} gives another result in each process: seed its random numbers, or use --no-check")
    raise UsageError(f"{a} and {b} give different results: {why}; --tolerance allows more, --no-check leaves this out")


Difference = tuple[str | None, float, float]  # where and how, or None; the largest difference; the tolerance there


def difference(a: Any, b: Any, tolerance: float | None, at: str = "") -> Difference:
    """Compare two results.

    Numbers: relative to the largest element of a; integers, strings and all else must be equal.
    """
    where = f"{at}: " if at else ""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{where}the keys are {', '.join(a)} and {', '.join(b)}", float("inf"), 0.0
        return _worst(difference(a[key], b[key], tolerance, f"{at}[{key}]") for key in a)
    left, right = _array(a), _array(b)
    if left is not None and right is not None:
        return _array_difference(left, right, tolerance, where)
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return f"{where}{len(a)} and {len(b)} items", float("inf"), 0.0
        return _worst(difference(x, y, tolerance, f"{at}[{i}]") for i, (x, y) in enumerate(zip(a, b, strict=True)))
    if type(a) is type(b) and a == b:
        return None, 0.0, 0.0
    return f"{where}{_brief(a)} and {_brief(b)}", float("inf"), 0.0


def _worst(found: Any) -> Difference:
    return max(found, key=lambda one: (one[0] is not None, one[1]), default=(None, 0.0, 0.0))


def _array(value: Any) -> np.ndarray | None:
    """Return a number, a list of numbers or an array as an array; None for anything else."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, (bool, int, float, complex, list)):
        try:
            made = np.asarray(value)
        except ValueError:  # a ragged list
            return None
        return made if made.dtype.kind in "biufc" and (made.size or made.ndim == 1) else None
    return None


def _array_difference(a: np.ndarray, b: np.ndarray, tolerance: float | None, where: str) -> Difference:
    if a.shape != b.shape:
        return f"{where}shapes {a.shape} and {b.shape}", float("inf"), 0.0
    if a.dtype.kind not in "biufc" or not {a.dtype.kind, b.dtype.kind} & set("fc"):
        if np.array_equal(a, b):
            return None, 0.0, 0.0
        place = tuple(int(i[0]) for i in np.nonzero(a != b)) if a.ndim else ()
        return f"{where}{a[place]} and {b[place]}" + f" at {list(place)}" * bool(place), float("inf"), 0.0
    allowed = tolerance
    if allowed is None:
        allowed = max(float(np.sqrt(np.finfo(x.dtype).eps)) for x in (a, b) if x.dtype.kind in "fc")
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    a, b = a.astype(wide), b.astype(wide)
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True):
        return f"{where}NaN or infinities in other places", float("inf"), allowed
    if not finite.any():
        return None, 0.0, allowed
    scale = float(np.abs(a[finite]).max()) or 1.0
    error = float(np.abs(a[finite] - b[finite]).max()) / scale
    if error > allowed:
        return f"{where}they differ by {error:.1e} of the largest element, and {allowed:.1e} is allowed", error, allowed
    return None, error, allowed


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape}"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, (list, dict)) else repr(value)[:40]
