"""Race the training step on a GPU: minivae with and without a CUDA graph, PyTorch, torch.compile and JAX.

    python bench/bench_gpu_step.py [--first] [--seconds 420] [--smoke]  → bench/results/gpu-step.json

Each cell is a race of `minivae/bench/gpu.py`: every contender has a process of its own, and is checked against float64
before it is timed. --first: 784-500-20 at 128 and 8192 without TF32, and no more. --smoke: tiny.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from gpu_results import MORE_TO_DO, Deadline, Results

from minivae.bench import gpu, machine, race

MODELS = ([784, 500, 20], [784, 200, 200, 50], [4096, 2048, 64])
BATCHES = (128, 8192, 1024, 65536)
TURNS, BLOCK, WARM_UP = 7, 0.3, {"units": 200, "seconds": 2.0}
NEEDED = 60.0  # seconds that a race takes where torch.compile compiles for half a minute


def plan(first, smoke):
    """The cases, most valuable first."""
    if smoke:
        return [{"widths": [16, 8, 3], "batch": 4, "tf32": False, "rows": 32}]
    return [
        {"widths": widths, "batch": batch, "tf32": tf32}
        for tf32 in (False, True)[: 1 if first else 2]
        for widths in MODELS[: 1 if first else None]
        for batch in BATCHES[: 2 if first else None]
    ]


def told(result):
    return result.left_out or f"{1e6 * result.median:.1f} µs"


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    from minivae.backend import Backend

    Backend("cupy")  # the UsageError of a machine without a GPU
    deadline, needed = Deadline(options.seconds), 0.0 if options.smoke else NEEDED
    results = Results("step-smoke" if options.smoke else "step", __file__)
    turns, block, warm_up = (2, 0.0, None) if options.smoke else (TURNS, BLOCK, WARM_UP)
    status = 0
    for case in plan(options.first, options.smoke):
        cell = f"{'-'.join(map(str, case['widths']))}, batch {case['batch']}, TF32 {'on' if case['tf32'] else 'off'}"
        if results.done(cell):
            continue
        if deadline.passed(needed):
            print(f"out of time before {cell}: run it again to go on")
            return MORE_TO_DO
        race.PATIENCE = max(1.0, deadline.left())
        case = {"kind": "gpu-step", **case, "threads": len(machine.available())}
        found = race.race(case, list(gpu.CONTENDERS), turns, block, warm_up, strict=False)
        ours = found["minivae-uncaptured"].left_out
        results.add(cell, case=case, ok=not ours, contenders={name: asdict(result) for name, result in found.items()})
        print(cell, *(f"{name} {told(result)}" for name, result in found.items()), sep="\n  ", flush=True)
        status = 1 if ours else status
    return status


if __name__ == "__main__":
    sys.exit(main())
