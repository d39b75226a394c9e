"""`minivae race`: intervals cover, verdicts follow from them, and what cannot be raced is one clear sentence.

Contenders here bring a clock of their own (CLOCK), so that a race of them gives the same times on every machine.
"""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import test_cli

from minivae.bench import race_code, race_report
from minivae.bench.race_code import Block, Outcome, Settings, Side
from minivae.bench.race_interval import LEAST, bounds, interval, median_of_ratios, ratio_of_medians
from minivae.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
QUICK = Settings(blocks=5, seconds=0.004, keep=True)  # three processes, and not three for each block

CLOCK = """
import time
now = [0.0]
time.perf_counter = lambda: now[0]

def tick(seconds):
    now[0] += seconds
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module into an empty folder, the current one."""
    monkeypatch.chdir(tmp_path)

    def file(name, text):
        (tmp_path / name).write_text(textwrap.dedent(text))

    return file


@pytest.fixture
def clockwork(write):
    """Functions of known duration: 1 ms, 1.05 ms, and one whose duration differs by 20 % from process to process."""
    write(
        "c.py",
        CLOCK
        + """
import os
seed = int(os.environ["PYTHONHASHSEED"])

def one():
    tick(1e-3)
    return 1.0

def more():
    tick(1.05e-3)
    return 1.0

def uneven():
    tick(1e-3 * (0.9 + 0.2 * (seed % 2)))
    return 1.0
""",
    )


def minivae(*arguments):
    return test_cli.minivae("race", *arguments, cwd=Path.cwd())


def ok(*arguments):
    return test_cli.ok("race", *arguments, cwd=Path.cwd())


def mistake(*arguments):
    return test_cli.one_line("race", *arguments, cwd=Path.cwd())


def race(a, b, inputs=None, **settings):
    return race_code.race((Side(a, a, inputs), Side(b, b, inputs)), dataclasses.replace(QUICK, **settings))


# ---- the interval ---------------------------------------------------------------------------------------------------


def simulated(races, blocks, ratio, process, drift, noise, slowed, seed=0):
    """Times (races, blocks) of two contenders on a machine that drifts and has a neighbour that comes and goes.

    process  difference between two processes of one program;  drift  of a random walk over the race
    noise    of a turn, one-sided, a tenth of the turns five times as much;  slowed  by the neighbour, in turns of it
    """
    rng = np.random.default_rng(seed)
    turns, slots = 4, 8 * blocks
    log = np.cumsum(rng.standard_normal((races, slots)) * drift / np.sqrt(slots), axis=1)
    busy = rng.random(races) < 0.3
    for slot in range(slots):
        busy = busy ^ (rng.random(races) < np.where(busy, 0.03, 0.012))
        log[:, slot] += slowed * busy
    log += np.abs(rng.standard_normal(log.shape)) * noise * np.where(rng.random(log.shape) < 0.1, 5, 1)
    log = log.reshape(races, blocks, turns, 2)
    log[:, :, 1::2] = log[:, :, 1::2, ::-1].copy()  # a b b a
    log += process * rng.standard_normal((races, blocks, 1, 2))
    times = np.exp(np.median(log, axis=2))
    return times[..., 0], ratio * times[..., 1]


MACHINES = {
    "calm": (0.01, 0.01, 0.005, 0.0),
    "drifting": (0.01, 0.3, 0.005, 0.0),
    "with a neighbour": (0.01, 0.03, 0.01, 0.3),
    "overloaded": (0.015, 0.2, 0.02, 0.5),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_interval_of_the_default_race_covers_the_ratio_in_93_to_97_of_100_races(machine):
    a, b = simulated(3000, Settings().blocks, 1.05, *MACHINES[machine])
    low, high = bounds(a, b, resamples=999)
    covered = np.mean((low <= 1.05) & (high >= 1.05))
    assert 0.93 <= covered <= 0.97
    assert np.mean(low > 1) > 0.95  # a slow-down of 5 % is found


def test_drift_widens_the_ratio_of_medians_and_not_the_median_of_ratios():
    a, b = simulated(300, 12, 1.05, *MACHINES["drifting"])
    widths = [np.median(np.subtract(*bounds(a, b, s, 999)[::-1])) for s in (median_of_ratios, ratio_of_medians)]
    assert widths[1] > 1.5 * widths[0]


def test_the_interval_of_five_blocks_is_that_of_their_least_and_largest_ratio():
    a, b = [1.0, 2.0, 4.0, 8.0, 16.0], [1.5, 2.2, 4.4, 9.6, 16.8]
    assert interval(a, b) == pytest.approx((1.05, 1.5))


def test_the_interval_is_the_same_for_the_same_times_and_there_is_none_for_few_blocks():
    a, b = simulated(1, 12, 1.0, *MACHINES["calm"])
    assert interval(a[0], b[0]) == interval(a[0], b[0])
    assert interval(a[0][: LEAST - 1], b[0][: LEAST - 1]) is None


# ---- the verdict ----------------------------------------------------------------------------------------------------


def outcome(b, floor, a=(1.0,) * 5, **more):
    blocks = [Block(*times) for times in zip(a, b, floor, strict=True)]
    return Outcome((Side("a.py:f", "a.py:f"), Side("b.py:f", "b.py:f")), QUICK, blocks, **more)


EVEN = (0.99, 0.995, 1.0, 1.005, 1.01)


@pytest.mark.parametrize(
    "b, floor, verdict",
    [
        ((1.04, 1.05, 1.05, 1.05, 1.06), EVEN, "slower"),
        ((0.94, 0.95, 0.95, 0.95, 0.96), EVEN, "faster"),
        ((0.99, 1.05, 1.05, 1.05, 1.06), EVEN, "undecided"),  # the interval holds 1
        ((1.004, 1.005, 1.005, 1.005, 1.006), EVEN, "undecided"),  # a / a differs by more
        ((1.04, 1.05, 1.05, 1.05, 1.06), (1.04, 1.05, 1.05, 1.05, 1.06), "undecided"),  # so does this
    ],
)
def test_a_verdict_needs_the_whole_interval_and_more_than_the_floor(b, floor, verdict):
    assert outcome(b, floor).verdict == verdict


@pytest.mark.parametrize("limit, said", [(1.02, "exceeded"), (1.05, "undecided"), (1.09, "kept"), (1.045, "undecided")])
def test_the_limit_of_fail_over_is_exceeded_only_by_the_whole_interval(limit, said):
    assert race_report.outcome_of_limit(outcome((1.04, 1.05, 1.05, 1.05, 1.06), EVEN), limit) == said


# ---- races ----------------------------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_the_times_and_the_floor_is_one(clockwork):
    found = race("c.py:one", "c.py:more")
    assert found.ratio == pytest.approx(1.05)
    assert found.interval == pytest.approx((1.05, 1.05))
    assert found.floor == pytest.approx((1.0, 1.0))
    assert found.verdict == "slower"


def test_each_block_has_new_processes_that_take_turns_in_random_order_with_one_seed_of_hashes(write):
    write("t.py", CLOCK + "import os\n" + "".join(f"""
def {name}():
    tick(1.0)
    with open("log", "a") as log:
        log.write(f"{name} {{os.getpid()}} {{os.environ['PYTHONHASHSEED']}}\\n")
    return 1
""" for name in "ab"))  # fmt: skip
    found = race("t.py:a", "t.py:b", seconds=4.0, keep=False)
    calls = [line.split() for line in Path("log").read_text().splitlines()]
    pids = {pid: (name, seed) for name, pid, seed in calls}
    assert len(pids) == 3 * 5
    assert sorted(pids.values()) == sorted(2 * [("a", str(n)) for n in range(5)] + [("b", str(n)) for n in range(5)])
    assert len(found.blocks) == 5
    turns = [pid for _, pid, _ in calls[-3 * race_code.TURNS :]]
    rounds = [tuple(turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert all(len(set(one)) == 3 for one in rounds)
    assert len(set(rounds)) > 1


def test_kept_processes_are_those_of_the_first_block(write):
    write("t.py", "import os\ndef a():\n    open(f'pid-{os.getpid()}', 'w').close()\n    return 1\n")
    race("t.py:a", "t.py:a", keep=True)
    assert len(list(Path().glob("pid-*"))) == 3


def test_a_turn_is_the_median_of_short_samples_so_that_a_pause_of_the_processor_spoils_one(write):
    write("t.py", CLOCK + """
calls = [0]
def f():
    calls[0] += 1
    tick(1e-3 + 10.0 * (calls[0] % 7 == 0))  # every seventh call is interrupted
    return 1
""")  # fmt: skip
    assert race("t.py:f", "t.py:f", seconds=0.2).seconds("a") == pytest.approx([1e-3] * 5)


def test_a_function_under_a_microsecond_is_called_many_times_and_a_note_says_so(write):
    write("t.py", CLOCK + "def f():\n    tick(2e-7)\n    return 1\n")
    found = race("t.py:f", "t.py:f")
    assert found.seconds("a") == pytest.approx([2e-7] * 5)
    assert found.calls[0] > 1000
    assert "takes 200 ns" in found.notes[0]


def test_inputs_are_positional_named_or_one(write):
    write("t.py", """
        def f(x, y=2, *, z=3):
            return x, y, z
        def g(x, y=2, *, z=3):
            return [x, y, z]
        def positional():
            return 1, 5
        def named():
            return {"x": 1, "z": 9}
        def one():
            return [7, 7]
        """)  # fmt: skip
    for make in ("positional", "named", "one"):
        assert race("t.py:f", "t.py:g", inputs=f"t.py:{make}").difference == 0


def test_standard_input_belongs_to_the_race_and_printing_at_import_is_allowed(write):
    write("t.py", "import sys\nprint('hello')\ndef f():\n    return sys.stdin.read()\n")
    assert race("t.py:f", "t.py:f").difference == 0


# ---- devices --------------------------------------------------------------------------------------------------------

DEVICE = (
    CLOCK
    + """
import sys, types

class Event:
    '''A stand-in: the device's clock runs on its own, and is known once it has been waited for.'''
    device, queued = 0.0, 0.0
    def __init__(self, **options):
        assert options in ({}, {"enable_timing": True})
        self.at, self.waited = None, False
    def record(self):
        self.at = Event.queued
    def synchronize(self):
        Event.device, self.waited = self.at, True
    def elapsed_time(self, end):
        assert end.waited
        return 1e3 * (end.at - self.at)

def waited():
    Event.device = Event.queued

class Array:
    is_cuda = True

def make(seconds):
    Event.queued += seconds  # the device is given work
    tick(1e-9)  # and the call returns at once
    return Array()
def one():
    return make(1e-3)
def more():
    return make(1.05e-3)
"""
)
TORCH = (
    DEVICE
    + """
torch = sys.modules["torch"] = types.ModuleType("torch")
torch.cuda = types.SimpleNamespace(Event=Event, synchronize=waited)
Array.__module__ = "torch"
"""
)
CUPY = (
    DEVICE
    + """
cupy = sys.modules["cupy"] = types.ModuleType("cupy")
runtime = types.SimpleNamespace(deviceSynchronize=waited)
cupy.cuda = types.SimpleNamespace(Event=Event, get_elapsed_time=lambda a, b: a.elapsed_time(b), runtime=runtime)
Array.__module__ = "cupy"
"""
)
JAX = (
    CLOCK
    + """
class Array:
    def __init__(self, seconds):
        self.seconds = seconds
    def block_until_ready(self):
        tick(self.seconds)
        return self
def one():
    return {"x": [Array(1e-3)]}
def more():
    return {"x": [Array(1.05e-3)]}
"""
)


@pytest.mark.parametrize("text, clock", [(TORCH, "device events"), (CUPY, "device events"), (JAX, "host, waiting")])
def test_work_that_goes_on_after_the_call_has_returned_is_timed(write, text, clock):
    write("d.py", text)
    found = race("d.py:one", "d.py:more", check=False)
    assert found.clock.startswith(clock)
    assert found.seconds("a") == pytest.approx([1e-3] * 5)
    assert found.ratio == pytest.approx(1.05)


# ---- comparing results ----------------------------------------------------------------------------------------------

ones = np.ones((2, 3))


@pytest.mark.parametrize(
    "a, b, said",
    [
        (ones, ones + 1e-9, None),
        (ones, ones + 1e-6, "differ by 1.0e-06"),
        (ones.astype("f4"), ones + 1e-6, None),
        (ones, np.ones((3, 2)), "shapes (2, 3) and (3, 2)"),
        (ones, ones * np.nan, "NaN or infinities in other places"),
        (ones * np.nan, ones * np.nan, None),
        (ones * np.inf, -ones * np.inf, "NaN or infinities"),
        ([1.0, 2.0], np.array([1.0, 2.0]), None),
        (2, 2.0, None),
        (2, 3, "2 and 3"),
        (np.arange(3), np.array([0, 1, 3]), "2 and 3 at [2]"),
        (1 + 1j, 1 + 1.1j, "differ by"),
        ({"x": [1, "a"]}, {"x": [1, "b"]}, "[x][1]: 'a' and 'b'"),
        ({"x": 1}, {"y": 1}, "the keys are x and y"),
        ([1, "a"], [1, "a", 2], "2 and 3 items"),
        ("a", None, "'a' and None"),
        ([], [], None),
        (np.array(["a"]), np.array(["b"]), "'a' and 'b'"),
    ],
)
def test_results_are_compared_relative_to_the_largest_element_and_exactly_if_they_are_no_floats(a, b, said):
    why, worst, _ = race_code.difference(a, b, None)
    assert (why is None and worst < 1e-5) if said is None else said.replace("'", "") in why.replace("'", "")


def test_a_tolerance_that_is_given_holds():
    assert race_code.difference(ones, ones + 1e-6, 1e-5)[0] is None
    assert race_code.difference(ones.astype("f4"), ones + 1e-6, 1e-8)[0] is not None


def test_results_cross_without_pickle_whatever_they_are_made_of(write):
    write("t.py", """
        import numpy as np
        def f():
            arrays = [np.arange(3, dtype=">i2"), np.float32(0.1), np.array("text"), np.array([], "c16")]
            return {"a": arrays, 2: (1, 2.5, 1j, True, None, "ü", b"\\xff", 10**30, float("nan"))}
        """)  # fmt: skip
    assert "pickle" not in (ROOT / "minivae/bench/race_call.py").read_text().replace("without pickle", "")
    assert race("t.py:f", "t.py:f").difference == 0


# ---- what cannot be raced -------------------------------------------------------------------------------------------

BAD = """
import sys
def needs(x, y=1):
    return x[0]
def nothing():
    pass
def prints():
    print("hello")
    return 1
def prints_below():
    import os
    os.write(1, b"from below\\n")
    return 1
def changes(x):
    x[0] += 1
    return 1
def raises(x):
    raise ValueError("first line\\nsecond")
def generator():
    yield 1
def thing():
    return object()
def stops():
    sys.exit(0)
def dies():
    import os
    os._exit(0)
def spins():
    while True:
        pass
def two():
    return 2
def random():
    import random
    return random.SystemRandom().random()
def one():
    return 1
def inputs():
    return [1, 2]
def no_inputs():
    return None
number = 3
"""


@pytest.mark.parametrize(
    "target, inputs, said",
    [
        ("needs", None, "bad.py:needs needs the arguments x: give --inputs"),
        ("one", "inputs", "bad.py:one does not take the arguments that bad.py:inputs returns: too many positional"),
        ("needs", "no_inputs", "bad.py:no_inputs returns None: expected the arguments"),
        ("nothing", None, "bad.py:nothing returns None: return what it computes"),
        ("prints", None, "bad.py:prints prints 'hello'"),
        ("prints_below", None, "bad.py:prints_below prints 'from below'"),
        ("changes", "inputs", "bad.py:changes changes its inputs"),
        ("generator", None, "returns a generator, which has computed nothing yet"),
        ("thing", None, "returns something of type object, which cannot be compared"),
        ("stops", None, "bad.py:stops raised SystemExit: 0 (bad.py, line 24)"),
        ("dies", None, "bad.py:dies stopped with status 0"),
        ("spins", None, "bad.py:spins gave no answer in 3 s"),
        ("number", None, "is of type int: expected something to call"),
        ("missing", None, "bad.py has no 'missing': it has needs, nothing"),
        ("random", None, "bad.py:random gives another result in each process: seed its random numbers"),
        ("needs", "random", "makes other arguments in each process: seed its random numbers"),
    ],
)
def test_what_cannot_be_raced_is_one_sentence(write, target, inputs, said):
    write("bad.py", BAD)
    timeout = 3.0 if target == "spins" else 60.0
    with pytest.raises(UsageError) as error:
        race(f"bad.py:{target}", f"bad.py:{target}", inputs=inputs and f"bad.py:{inputs}", timeout=timeout)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_one_that_raises_alone_is_named_with_its_line_and_so_is_a_different_result(write):
    write("bad.py", BAD)
    with pytest.raises(UsageError, match=r"ValueError: first line second \(bad.py, line 18\); bad.py:needs did not"):
        race("bad.py:needs", "bad.py:raises", inputs="bad.py:inputs")
    with pytest.raises(UsageError, match=r"bad\.py:one and bad\.py:two give different"):
        race("bad.py:one", "bad.py:two")


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "import nothing",
            "t.py cannot be imported: ModuleNotFoundError: No module named 'nothing' (t.py, line 1)",
        ),
        ("def f(:", "t.py cannot be imported: SyntaxError"),
        ("import sys; sys.exit(0)", "t.py cannot be imported: SystemExit: 0 (t.py, line 1)"),
    ],
)
def test_a_module_that_cannot_be_imported_says_why(write, text, said):
    write("t.py", text)
    with pytest.raises(UsageError) as error:
        race("t.py:f", "t.py:f")
    assert said in str(error.value)


# ---- the command ----------------------------------------------------------------------------------------------------

NEW_PROCESSES = ("--blocks", "5", "--seconds", "0.004")
LEAN = (*NEW_PROCESSES, "--keep")


@pytest.mark.parametrize(
    "arguments, status",
    [
        (("c.py:one", "c.py:more"), 0),
        (("c.py:one", "c.py:more", "--fail-over", "1.02"), 1),
        (("c.py:one", "c.py:more", "--fail-over", "1.1", "--strict"), 0),
        (("c.py:one", "c.py:uneven"), 0),
        (("c.py:one", "c.py:uneven", "--fail-over", "1.05"), 0),
        (("c.py:one", "c.py:uneven", "--fail-over", "1.05", "--strict"), 3),
        (("c.py:one", "c.py:one", "--strict"), 3),
    ],
)
def test_the_exit_status_follows_from_the_interval(clockwork, arguments, status):
    uneven = "uneven" in arguments[1]  # from process to process
    done = minivae(*arguments, *(NEW_PROCESSES if uneven else LEAN))
    assert done.returncode == status, done.stderr
    undecided = uneven or arguments[1] == arguments[0]
    assert ("undecided" in done.stderr) == undecided
    assert "c.py:one" in done.stdout


def test_json_has_the_keys_that_its_page_lists(clockwork):
    held = json.loads(ok("c.py:one", "c.py:more", *LEAN, "--json", "--fail-over", "1.2"))
    page = (ROOT / "docs/race.md").read_text().partition("## JSON")[2]
    listed = re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE)
    assert set(listed) == set(keys(held))
    assert held["ratio"] == pytest.approx(1.05)
    assert held["contenders"]["b"]["seconds"] == pytest.approx(1.05e-3)
    assert held["fail_over"] == {"limit": 1.2, "outcome": "kept"}


def keys(held, prefix=""):
    """The names of all values: contenders.a and .b as one, the blocks as one."""
    for name, value in held.items():
        name = "A" if prefix == "contenders." and name in "ab" else name
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0]
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_dashboards_get_their_formats(clockwork, tmp_path):
    ok("c.py:one", "c.py:more", *LEAN, "--format", "smaller-is-better", "-o", tmp_path / "s.json")
    a, b, ratio = json.loads((tmp_path / "s.json").read_text())
    assert (a["name"], a["unit"], b["unit"]) == ("c.py:one", "ns", "ns")
    assert b["value"] == pytest.approx(1.05e6)
    assert (ratio["unit"], ratio["range"]) == ("ratio", "1.050–1.050")
    found = outcome((1.04, 1.05, 1.05, 1.05, 1.06), EVEN)
    bmf = json.loads(race_report.bencher(found, None))
    assert bmf["a.py:f"] == {"latency": {"value": 1e9}}
    assert bmf["b.py:f / a.py:f"]["ratio"] == pytest.approx({"value": 1.05, "lower_value": 1.04, "upper_value": 1.06})
    rows = race_report.markdown(found, 1.02).splitlines()
    assert {row.count("|") for row in rows[:5]} == {6}
    assert "| `b.py:f` | 1.05 s | 1.050 | 1.040–1.060 | **slower** |" in rows
    assert rows[-1] == "`--fail-over 1.02`: exceeded."


@pytest.mark.parametrize(
    "seconds, said",
    [(61.23e-6, "61.2 µs"), (1.0, "1.00 s"), (0.25, "250 ms"), (17e-9, "17.0 ns")],
)
def test_a_duration_has_three_digits_and_its_unit(seconds, said):
    assert race_report.duration(seconds) == said


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("c.py:one",), "give A and B, or A with two --revision"),
        (("c.py:one",) * 3, "a race is between two"),
        (("c.py:one", "c.py:one", "--blocks", "4"), "--blocks 4: expected at least 5"),
        (("c.py:one", "c.py:one", "--fail-over", "-1"), "--fail-over -1: expected a ratio above 0"),
        (("c.py:one", "c.py:one", "--tolerance", "nan"), "--tolerance nan"),
        (("c.py:one", "c.py:one", "--seconds", "0"), "--seconds 0"),
        (("c.py:one", "c.py:one", "--format", "csv"), "--format csv: expected smaller-is-better, bencher, markdown"),
        (("c.py:one", "c.py:one", "--format", "bencher", "--json"), "one at a time"),
        (("c.py:one", "c.py:one", "-o", "x.json"), "-o goes with --json or --format"),
        (("c.py:one", "c.py:one", "--json", "-o", "c.py"), "c.py exists: choose another name"),
        (("c.py:one", "c.py:one", "--json", "-o", "no/x.json"), "in a folder that exists"),
        (("c.py:one", "--python", "python3"), "--python is given once: expected two"),
        (("c.py:one", "--python", "no-python", "--python", "no-python"), "--python no-python: no such program"),
        (("c.py:one", "--python", "true", "--python", "true"), "--python true: expected a Python of 3.8 or later"),
        (("c.py:one", "--revision", "a", "--revision", "b", "--python", "x"), "one at a time"),
        (("c.py:one", "--revision", "a", "--revision", "b"), "this folder is in no git repository"),
    ],
)
def test_wrong_options_are_one_line(clockwork, arguments, said):
    assert said in mistake(*arguments)


def test_two_interpreters_race(clockwork):
    text = ok("c.py:one", *LEAN, "--python", sys.executable, "--python", sys.executable)
    assert f"c.py:one on {sys.executable} / c.py:one on {sys.executable}: 1.000 (1.000–1.000)" in text


# ---- revisions ------------------------------------------------------------------------------------------------------

BACKEND = '''
"""A build backend in the project itself, so that nothing is fetched: a wheel of work.py."""
import zipfile

def build_wheel(folder, settings=None, metadata=None):
    if "broken" in open("work.py").read():
        raise RuntimeError("this revision is broken")
    name = "work-1.0-py3-none-any.whl"
    files = {
        "work.py": open("work.py").read() + "\\nbuilt = True\\n",
        "work-1.0.dist-info/METADATA": "Metadata-Version: 2.1\\nName: work\\nVersion: 1.0\\n",
        "work-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: t\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{name},,\\n" for name in [*files, "work-1.0.dist-info/RECORD"])
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        for path, text in [*files.items(), ("work-1.0.dist-info/RECORD", record)]:
            wheel.writestr(path, text)
    return name
'''


def git(*arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(write):
    """Three commits: 1 ms, 1.05 ms, and one that does not build. `raced.py` is in no commit."""
    git("init", "--quiet", "--initial-branch", "main")
    write("backend.py", BACKEND)
    write("pyproject.toml", '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n')
    for tag, seconds in (("fast", 1e-3), ("slow", 1.05e-3), ("bad", "broken")):
        write("work.py", CLOCK + f"def f():\n    tick({seconds})\n    return built\n")
        git("add", ".")
        git("commit", "--quiet", "-m", tag)
        git("tag", tag)
    write("raced.py", "import work\n\ndef f(x):\n    return work.f()\n\ndef make():\n    return 1\n")


needs_tools = pytest.mark.skipif(not (find_spec("pip") and shutil.which("git")), reason="needs git and pip")


@needs_tools
def test_two_revisions_race_each_as_it_was_built(repository):
    text = ok("raced.py:f", "--inputs", "raced.py:make", "--revision", "fast", "--revision", "slow", *LEAN)
    assert "raced.py:f at slow / raced.py:f at fast: 1.050 (1.050–1.050)  slower" in text
    assert len(git("worktree", "list").splitlines()) == 1


@needs_tools
@pytest.mark.parametrize("revision, said", [
    ("bad", "--revision bad does not build: RuntimeError: this revision is broken"),
    ("none", "--revision none: this repository has no such revision"),
    ("--all", "--revision --all: this repository has no such revision"),
])  # fmt: skip
def test_a_revision_that_cannot_race_is_one_line_and_leaves_no_worktree(repository, revision, said):
    assert said in mistake("raced.py:f", "--revision", "fast", f"--revision={revision}", *LEAN)
    assert len(git("worktree", "list").splitlines()) == 1


@needs_tools
def test_a_project_with_nothing_to_build_is_imported_from_its_checkout(write):
    git("init", "--quiet", "--initial-branch", "main")
    for tag, seconds in (("fast", 1e-3), ("slow", 1.05e-3)):
        write("work.py", CLOCK + f"def f():\n    tick({seconds})\n    return 1\n")
        git("add", ".")
        git("commit", "--quiet", "-m", tag)
        git("tag", tag)
    text = ok("work.py:f", "--revision", "fast", "--revision", "slow", *LEAN)
    assert "work.py:f at slow / work.py:f at fast: 1.050 (1.050–1.050)  slower" in text


@needs_tools
def test_changes_that_no_revision_holds_are_refused(repository):
    Path("work.py").write_text("broken = 1\n")
    said = mistake("raced.py:f", "--revision", "fast", "--revision", "slow")
    assert "work.py changed since the last commit, and no revision holds that: commit or stash it first" in said
