"""Contenders for the tests of the harness: each shows one thing that a contender may do."""

import os
import signal
import time

import numpy as np

from minivae.bench import steps
from minivae.bench.work import Work, disagreement  # noqa: F401
from minivae.errors import UsageError


def prepare(case):
    return steps.prepare(case) if "widths" in case else {"X": np.arange(3.0)}


def expected(case, arrays):
    return steps.expected(case, arrays) if "widths" in case else {"sum": np.array(3.0)}


def make(case, arrays):
    if "widths" in case:
        return Mutant(case, arrays)
    return {
        "absent": Absent, "dies": Dies, "killed": Killed, "silent": Silent, "hungry": Hungry, "clockwork": Clockwork,
    }.get(case["name"], Plain)(case, arrays)  # fmt: skip


class Mutant(steps.Ours):
    """minivae's step with the mistake that its name says."""

    def results(self):
        right = {name: np.array(value) for name, value in super().results().items()}
        match self.name:
            case "loss":
                right["loss"] *= 1.001
            case "gradient":
                right["decoder.0.b"] *= 1.001
            case "missing":
                del right["encoder.1.W"]
        return right

    def __init__(self, case, arrays):
        self.name = case["name"]
        super().__init__(case, arrays)


class Plain(Work):
    """Adds up what it was given, and writes its name into a log with every unit."""

    def __init__(self, case, arrays):
        self.case, self.X = case, arrays["X"]

    def facts(self):
        seen = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        return {"cores": seen, "threads": os.environ["OPENBLAS_NUM_THREADS"]}

    def results(self):
        return {"sum": self.X.sum()}

    def run(self):
        if "log" in self.case:
            with open(self.case["log"], "a") as file:
                file.write(self.case["name"] + "\n")


class Absent(Plain):
    def __init__(self, case, arrays):
        raise UsageError("its library is not here")


class Dies(Plain):
    def run(self):
        raise ZeroDivisionError("of no use\nand the last line")


class Killed(Plain):
    def run(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Silent(Plain):
    def run(self):
        time.sleep(60)


class Hungry(Plain):
    """Holds 300 MB while it is built and 100 MB while it runs."""

    def __init__(self, case, arrays):
        super().__init__(case, arrays)
        np.ones(300 * 2**20, np.uint8).sum()

    def run(self):
        np.ones(100 * 2**20, np.uint8).sum()


class Clockwork(Plain):
    """Ten units in 2 s, another 2 s until all is done, 30 s of warming up: by a clock of its own, which it moves on."""

    each = 10

    def __init__(self, case, arrays):
        super().__init__(case, arrays)
        self.now = 0.0
        time.perf_counter = lambda: self.now

    def before_turn(self):
        self.now += 30

    def run(self):
        self.now += 2

    def finish(self):
        self.now += 2
