"""A training step of 784-500-20 beside no, one and two busy processes on the same two cores: a race (`busy.py`).

    python bench/bench_busy.py [--smoke]

`best / ours` is the time of the fastest of PyTorch, JAX and minivae on one thread, over that of minivae with its
defaults, with its 95 % interval over the turns. Beside busy processes it must be at least 1/1.2: "fails" where the
whole interval lies below, "undecided" where it holds 1/1.2.
"""

import argparse

from minivae.bench.busy import CONTENDERS, NEIGHBOURS
from minivae.bench.machine import threads
from minivae.bench.race import race
from minivae.bench.race_interval import interval, ratio_of_medians

LEAST = 1 / 1.2  # of best / ours
WARM_UP = {"units": 1000, "seconds": 3.0}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    pace = (1, 0.0, None) if smoke else (11, 1.0, WARM_UP)
    for neighbours in (1,) if smoke else NEIGHBOURS:
        for batch in (20,) if smoke else (20, 128, 512):
            case = {"kind": "busy", "widths": [784, 500, 20], "batch": batch, "neighbours": neighbours}
            found = race({**case, "rows": 2 * batch, "threads": threads()}, list(CONTENDERS), *pace, strict=False)
            times = {name: result.median for name, result in found.items() if result.seconds}
            told = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in times.items())
            print(f"batch {batch}, {neighbours} busy: {told}; best / ours {against_best(found, times)}", flush=True)


def against_best(found, times):
    """The ratio best / ours in words, with its interval and what that says of LEAST."""
    others = [name for name in times if name != "minivae"]
    if not others or "minivae" not in times:
        return "unknown"
    best = min(others, key=times.get)
    ends = interval(found["minivae"].seconds, found[best].seconds, ratio_of_medians)
    said = f"{times[best] / times['minivae']:.2f}"
    if ends is None:
        return said
    low, high = ends
    return f"{said} ({low:.2f}–{high:.2f}) {'holds' if low >= LEAST else 'fails' if high < LEAST else 'undecided'}"


if __name__ == "__main__":
    main()
