"""How often `minivae race` finds a difference that is there, and one that is not: real races beside a busy process.

    python bench/bench_race.py [--races N] [--neighbours K] [--only KIND] [--smoke]

N races (200) of a pure Python loop against itself, and N against each of the same loop with 5 % and 2 % more rounds, of
the default length. The first may find a difference in 5 of 100, the second must in 95 of 100, the third never the wrong
way. N = 200 takes some two hours; `--only 'the same code'` runs one of the three.
"""

import argparse
import os
import tempfile
from pathlib import Path

from minivae.bench.busy import beside
from minivae.bench.race_code import Settings, Side, race

ROUNDS = {"the same code": 2000, "5 % more work": 2100, "2 % more work": 2040}
LOOP = """
def f():
    total, seen = 0, {{}}
    for i in range({rounds}):
        seen[str(i % 50)] = i
        total += i * i
    return total
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--neighbours", type=int, default=1)
    parser.add_argument("--only", choices=ROUNDS)
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    kinds = [given.only] if given.only else list(ROUNDS)
    races = 1 if given.smoke else given.races
    settings = Settings(blocks=5, seconds=0.004, check=False) if given.smoke else Settings(check=False)
    counts = {name: {"slower": 0, "undecided": 0, "faster": 0} for name in kinds}
    with tempfile.TemporaryDirectory() as folder, beside(given.neighbours, os.cpu_count()):
        sides = {}
        for name, rounds in ROUNDS.items():
            file = Path(folder, f"loop{rounds}.py")
            file.write_text(LOOP.format(rounds=rounds))
            sides[name] = Side(f"{file}:f", name)
        first = sides["the same code"]
        for done in range(1, races + 1):
            for name in kinds:
                counts[name][race((first, sides[name]), settings).verdict] += 1
            told = "; ".join(f"{name}: {', '.join(f'{v} {n}' for v, n in c.items())}" for name, c in counts.items())
            print(f"{done} of {races}, load {os.getloadavg()[0]:.1f}. {told}", flush=True)


if __name__ == "__main__":
    main()
