"""gpu_sanitize: every CUDA kernel under compute-sanitizer's four tools. A cell is one tool and one op.

Run as `gpu_sanitize.py --op OP` it is the program that is watched: that op on its examples, once.
"""

import argparse
import shutil
import subprocess
import sys

from gpu_results import ROOT, Deadline, Results

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SHAPES = [(1, 1, 7), (2, 53, 13), (3, 3, 257), (1, 101, 136), (1, 1, 1009)]


def launch(name):
    """The op's examples on small awkward shapes, aligned and not."""
    sys.path.insert(0, str(ROOT / "tests"))
    import cupy
    import ops
    from test_gpu import run

    cupy.cuda.set_allocator(None)  # CuPy's pool would hide the ends of arrays: each gets memory of its own
    for dtype in ops.DTYPES:
        for case in ops.OPS[name].cases:
            for shape in SHAPES:
                [run(cupy, name, ops.example(name, case, dtype, shape), shift) for shift in (0, 1)]
    cupy.cuda.runtime.deviceSynchronize()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--op")
    options = parser.parse_args()
    if options.op:
        return launch(options.op)
    results, deadline = (
        Results("sanitize", __file__, ROOT / "kernels" / "_op.py"),
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
