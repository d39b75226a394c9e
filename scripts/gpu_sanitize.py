"""gpu_sanitize: run every CUDA kernel under compute-sanitizer. A cell is one tool and one op, or memcheck and all ops.

python scripts/gpu_sanitize.py [--together] [--seconds 420]         → bench/results/gpu-sanitize.json

`gpu_sanitize.py --launch OP …` is the program under test: it runs those ops on their examples, once.
"""

import argparse
import os
import shutil
import subprocess
import sys

from gpu_results import LEFT_OUT, MORE_TO_DO, ROOT, Deadline, Results

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SHAPES = [(1, 1, 7), (2, 53, 13), (3, 3, 257), (1, 101, 136), (1, 1, 1009)]
SMOKE = bool(os.environ.get("GPU_SMOKE"))  # for a sanitizer and a device that are stand-ins
if SMOKE:
    TOOLS, SHAPES = TOOLS[:2], SHAPES[1:2]
FOUND = 9  # exit status of compute-sanitizer if it found an error


def launch(names):
    """Run the ops' examples on small awkward shapes, aligned and not."""
    sys.path.insert(0, str(ROOT / "tests"))
    import cupy
    import ops
    from test_gpu import run

    cupy.cuda.set_allocator(None)  # CuPy's pool would hide the ends of arrays: each gets memory of its own
    for name in names:
        for dtype in ops.DTYPES:
            for case in ops.OPS[name].cases:
                for shape in SHAPES:
                    [run(cupy, name, ops.example(name, case, dtype, shape), shift) for shift in (0, 1)]
    cupy.cuda.runtime.deviceSynchronize()


def watch(sanitizer, tool, ops, seconds):
    """Run ops under a tool → (no error found, the sanitizer's output); None if there was no time."""
    command = [sanitizer, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, __file__, "--launch", *ops]
    try:
        watched = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, seconds))
    except subprocess.TimeoutExpired:
        return None
    return watched.returncode == 0, (watched.stdout + watched.stderr)[-4000:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--together", action="store_true", help="memcheck over all ops in one process, and no more")
    parser.add_argument("--launch", nargs="+", metavar="OP")
    options = parser.parse_args()
    if options.launch:
        return launch(options.launch)
    results = Results("sanitize", __file__)
    deadline = Deadline(options.seconds)
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("compute-sanitizer is not installed here: no kernel was checked")
        return LEFT_OUT
    from minivae import kernels

    ops = kernels.op_names()
    cells = {"memcheck, all ops": ("memcheck", ops)}
    if not options.together:
        cells |= {f"{tool} {op}": (tool, [op]) for tool in TOOLS for op in ops[: 1 if SMOKE else None]}
    for cell, (tool, watched) in cells.items():
        if results.done(cell):
            continue
        found = None if deadline.passed() else watch(sanitizer, tool, watched, deadline.left())
        if found is None:
            print(f"out of time before {cell}: run it again to go on")
            return MORE_TO_DO
        ok, log = found
        if "Device not supported" in log:
            print("compute-sanitizer does not support this device here: no kernel was checked")
            return LEFT_OUT
        results.add(cell, ok=ok, **({} if ok else {"log": log}))
        print(cell, "clean" if ok else f"FOUND SOMETHING:\n{log}", flush=True)
    return 0 if all(results.cells[cell]["ok"] for cell in cells) else 1


if __name__ == "__main__":
    sys.exit(main())
