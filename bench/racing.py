"""racing: the races of `minivae.bench`, shown by pytest-benchmark.

Contenders run in processes of their own, in turn; what pytest-benchmark then times is a replay, by a clock that goes on
by what each turn took. So its tables and files hold the figures of the race: one round is one turn.
"""

from importlib.util import find_spec

import pytest

from minivae.bench import machine
from minivae.bench.race import race
from minivae.errors import how_to_install

THREADS = min(2, len(machine.available()))
PEERS = {"torch": "torch", "torch-default": "torch", "torch.compile": "torch", "jax": "jax"}  # contender → package


class Clock:
    """A timer that only `replay` moves."""

    __name__ = "turns of a race"

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


clock = Clock()
raced = pytest.mark.benchmark(timer=clock)


class Races:
    """Races, each run when its first contender is asked for.

    In a smoke run: one turn, no warm-up, and but for one race of each file (`seen`) the first contender alone.
    """

    def __init__(self, smoke):
        self.smoke, self.asked, self.results = smoke, None, {}

    def result(self, case, names, contender, turns=7, block=0.3, warm_up=None, seen=True):
        """What the contender showed; the test is skipped where it did not race."""
        if contender in PEERS and find_spec(PEERS[contender]) is None:
            pytest.skip(f"{PEERS[contender]} is not installed: {how_to_install('peers')}")
        wanted = [n for n in names if n not in PEERS or find_spec(PEERS[n])][: None if seen or not self.smoke else 1]
        if contender not in wanted:
            pytest.skip("seen in another race of this smoke run")
        if self.asked != (case, wanted):
            turns, block, warm_up = (1, 0.0, None) if self.smoke else (turns, block, warm_up)
            self.results = race({**case, "threads": THREADS}, wanted, turns, block, warm_up)
            self.asked = case, wanted
        result = self.results[contender]
        if result.left_out:
            pytest.skip(result.left_out)
        return result

    def ratio(self, over, under):
        """How often one median holds another in the last race; None where one of them did not race."""
        over, under = self.results.get(over), self.results.get(under)
        return over.median / under.median if over and under and over.seconds and under.seconds else None


def replay(benchmark, result):
    """Show pytest-benchmark the turns of a contender, and keep what else it showed."""
    turns = iter(result.seconds)

    def turn():
        clock.now += next(turns)

    benchmark.pedantic(turn, rounds=len(result.seconds))
    if benchmark.stats is not None:
        benchmark.extra_info |= {"peak_bytes": result.peak_bytes, "checked": result.checked, **result.facts}
