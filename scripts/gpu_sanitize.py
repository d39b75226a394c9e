"""gpu_sanitize: every CUDA kernel under compute-sanitizer's four tools. A cell is one tool and one op.

Run as `gpu_sanitize.py --op OP` it is the program that is watched: that op's cases of tests/test_cuda_kernels.py, once.
"""

import argparse
import shutil
import subprocess
import sys

from gpu_results import ROOT, Deadline, Results

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SHAPES = [(1, 1, 7), (2, 53, 13), (3, 3, 257), (1, 101, 136)]
LENGTHS = [1, 1009]


def launch(op):
    """The op's cases on small awkward shapes, aligned and not."""
    sys.path.insert(0, str(ROOT / "tests"))
    import cupy
    import numpy as np
    from test_cuda_kernels import BY_LENGTH, BY_SHAPE, WHERE
    from test_gpu import run

    cupy.cuda.set_allocator(None)  # CuPy's pool would hide the ends of arrays: each gets memory of its own
    for dtype in ("float32", "float64"):
        for table, sizes in ((BY_SHAPE, SHAPES), (BY_LENGTH, [(n,) for n in LENGTHS])):
            for make, *which in table.values():
                for size in sizes:
                    name, outputs, others, *_ = make(*which, np.random.default_rng(0), dtype, *size)
                    if name == op:
                        [run(cupy, op, [*outputs, *others], shift) for shift in (0, 1)]
        if op in ("bits", "uniform", "normal"):
            run(cupy, op, [np.zeros((3, 5, 13), "uint32" if op == "bits" else dtype), *WHERE])
        if op == "binarize":
            run(cupy, op, [np.full((5, 13), 0.5, dtype), *WHERE])
    cupy.cuda.runtime.deviceSynchronize()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--op")
    options = parser.parse_args()
    if options.op:
        return launch(options.op)
    results, deadline = (
        Results("sanitize", __file__, ROOT / "tests" / "test_cuda_kernels.py"),
        Deadline(options.seconds),
    )
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        results.add("compute-sanitizer", ok=True, note="not installed: nothing was sanitized")
        print("compute-sanitizer is not installed here: nothing was sanitized")
        return 0
    from minivae import kernels

    for tool in TOOLS:
        for op in kernels.op_names():
            cell = f"{tool} {op}"
            if results.done(cell):
                continue
            if deadline.passed():
                print("out of time: run it again to go on")
                return 3
            command = [sanitizer, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "--op", op]
            watched = subprocess.run(command, capture_output=True, text=True)
            ok = watched.returncode == 0
            results.add(cell, ok=ok, log="" if ok else (watched.stdout + watched.stderr)[-4000:])
            print(cell, "clean" if ok else "FOUND SOMETHING", flush=True)
    return 0 if all(cell["ok"] for cell in results.cells.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
