"""Every CUDA kernel as a fraction of the copy bandwidth measured on the same card: bytes that must move over time.

    python bench/bench_gpu_kernels.py [--likelihoods] [--seconds 420] [--smoke]    → bench/results/gpu-kernels.json

Ops, their examples and the bytes that one pass must move come from their records (`kernels/_op.py`). Arrays are larger
than the cache, and launches are queued behind each other between two device events. --smoke: tiny arrays.
"""

import argparse
import statistics
import sys
from importlib import import_module
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from gpu_results import MORE_TO_DO, Deadline, Results

F = np.float32
ROUNDS, LAUNCHES = 7, 20
LIKELIHOODS = ("bernoulli", "gaussian", "gaussian_fixed")


def events(cupy, launch, launches=LAUNCHES, rounds=ROUNDS):
    """Seconds of one launch by device events: the median over rounds, and the rounds."""
    launch()
    times = []
    for _ in range(rounds):
        start, stop = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        for _ in range(launches):
            launch()
        stop.record()
        stop.synchronize()
        times.append(cupy.cuda.get_elapsed_time(start, stop) / 1e3 / launches)
    return statistics.median(times), times


def copy_bandwidth(cupy, size):
    """Bytes read and written a second by the better of a device-to-device copy and an elementwise one."""
    source, target = cupy.zeros(size, F), cupy.empty(size, F)
    source += cupy.arange(size, dtype=F) % 251

    def memcpy():
        target.data.copy_from_device_async(source.data, source.nbytes, cupy.cuda.get_current_stream())

    def kernel():
        cupy.add(source, F(1), out=target)

    return max(2 * source.nbytes / events(cupy, launch)[0] for launch in (memcpy, kernel))


def cases(ops, names=None):
    """Yield (op, case) of every op that has a CUDA kernel, or of those named: the likelihoods first."""
    order = sorted(ops, key=lambda name: "nll_rows" not in ops[name].outputs)
    yield from ((name, case) for name in order if ops[name].cuda and name in (names or ops) for case in ops[name].cases)


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--likelihoods", action="store_true", help="these alone")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    from minivae import kernels
    from minivae.backend import Backend

    backend, deadline = Backend("cupy"), Deadline(options.seconds)
    cupy = import_module("cupy")
    rows, features, latents, parameters = (64, 16, 4, 1000) if options.smoke else (16384, 784, 64, 2**24)
    shapes = dict.fromkeys(("latent_forward", "latent_backward"), (1, rows, latents))
    shapes |= dict.fromkeys(("importance_forward", "importance_backward"), (5, rows // 5, latents))
    shapes |= dict.fromkeys(LIKELIHOODS, (1, 4 * rows, features))  # 65536 × 784: their bar is stated at this size
    ops = kernels.ops()
    shapes |= {name: (1, 1, parameters) for name, op in ops.items() if "P" in op.updated or name == "clip_norm"}
    results = Results("kernels-smoke" if options.smoke else "kernels", __file__)
    bandwidth = copy_bandwidth(cupy, 1000 if options.smoke else 2**28)
    print(f"copy: {bandwidth / 1e9:,.0f} GB/s, bytes read and written")
    for op, case in cases(ops, LIKELIHOODS if options.likelihoods else None):
        name, shape = f"{op} {case}".strip(), shapes.get(op, (1, rows, features))
        if results.done(name):
            continue
        if deadline.passed():
            print(f"out of time before {name}: run it again to go on")
            return MORE_TO_DO
        example = ops[op].example(np.random.default_rng(0), "float32", *shape, case)
        given = [cupy.asarray(x) if isinstance(x, np.ndarray) else x for x in example]
        moved = ops[op].bytes(*example)
        seconds, times = events(cupy, lambda op=op, given=given: getattr(backend.ops, op)(*given))
        share = moved / seconds / bandwidth
        results.add(name, shape=shape, us=seconds * 1e6, rounds_us=[t * 1e6 for t in times], bytes=moved,
                    copy_bytes_per_second=bandwidth, share_of_copy=share)  # fmt: skip
        print(f"{name:26} {seconds * 1e6:10.1f} µs {moved / seconds / 1e9:8,.0f} GB/s {share:6.1%} of copy", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
