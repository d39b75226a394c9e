"""Every CUDA kernel as a fraction of the copy bandwidth measured on the same card: bytes that must move over time.

    python bench/bench_gpu_kernels.py [--likelihoods] [--seconds 420] [--smoke]    → bench/results/gpu-kernels.json

A launch reads each input once and writes each output once; that many bytes are counted. Arrays are several times the
cache, and launches are queued behind each other between two device events. --smoke: tiny arrays, to see that it runs.
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


def cases(cupy, rng, R, D, n):
    """name → (op, arguments, bytes moved). R rows of D features, n parameters."""

    def normal(*shape):
        return cupy.asarray(rng.standard_normal(shape, dtype=F))

    def empty(*shape):
        return cupy.empty(shape, F)

    X = cupy.asarray((rng.random((R, D), dtype=F) < 0.2).astype(F))
    rows, item, L = cupy.arange(R), 4, 64
    wide, wider, grey = normal(R, D), normal(R, 2 * D), cupy.asarray(rng.integers(0, 256, (R, D), np.uint8))
    yield "bernoulli", "bernoulli", (empty(R), empty(R, D), wide, X, 1 / R), 3 * R * D * item
    counter = cupy.zeros(1, np.int64)
    yield "gaussian", "gaussian", (empty(R), empty(R, 2 * D), counter, wider, X, 1 / R), 5 * R * D * item
    yield "gaussian_fixed", "gaussian_fixed", (empty(R), empty(R, D), wide, X, 1 / R, 0.5), 3 * R * D * item
    for f in ("identity", "relu", "tanh", "softplus"):
        yield f"dense_forward {f}", "dense_forward", (wide.copy(), None, normal(D), f), 2 * R * D * item
        moved = (1 if f == "identity" else 3) * R * D * item
        partial = empty(128 * D)
        yield f"dense_backward {f}", "dense_backward", (wide.copy(), empty(D), partial, X, None, f), moved
    H, eps = normal(R, 2 * L), normal(1, R, L)
    outputs = (empty(1, R, L), empty(R, L), empty(R), empty(L))
    yield "latent_forward", "latent_forward", (*outputs, H, eps), 7 * R * L * item  # H is read by rows and by columns
    mirror = (empty(R, 2 * L), normal(1, R, L), eps, cupy.exp(0.5 * H[:, L:]).copy(), H, normal(L))
    yield "latent_backward", "latent_backward", mirror, 7 * R * L * item
    yield "uniform", "uniform", (empty(1, R, D), rows, 4, 0, 1, 7), R * D * item
    yield "normal", "normal", (empty(1, R, D), rows, 4, 0, 1, 7), R * D * item
    yield "binarize", "binarize", (X.copy(), rows, 3, 0, 1, 7), 2 * R * D * item
    shuffled = cupy.asarray(rng.permutation(R))
    yield "gather uint8", "gather", (empty(R, D), grey, shuffled), R * D * (item + 1)
    yield "gather float32", "gather", (empty(R, D), wide, shuffled), 2 * R * D * item
    P, G, M, V = normal(n), normal(n), normal(n), cupy.abs(normal(n))
    yield "adam", "adam", (P, M, V, G, 1e-6, 0.9, 0.999, 1e-8, 0.0, 0.0, 0.1, 0.001), 7 * n * item
    yield "sgd momentum", "sgd", (P, M, G, 1e-6, 0.9, False, 0.0), 5 * n * item
    yield "rmsprop", "rmsprop", (P, V, None, G, 1e-6, 0.99, 1e-8, 0.0, 0.0), 5 * n * item
    yield "adagrad", "adagrad", (P, V, G, 1e-6, 1e-10, 0.0), 5 * n * item
    yield "clip_norm", "clip_norm", (G, cupy.zeros(128), 1e9), n * item


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--likelihoods", action="store_true", help="these alone")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    from minivae.backend import Backend

    backend, deadline = Backend("cupy"), Deadline(options.seconds)
    cupy = import_module("cupy")
    R, D, n = (64, 16, 1000) if options.smoke else (65536, 784, 2**26)
    results = Results("kernels-smoke" if options.smoke else "kernels", __file__)
    bandwidth = copy_bandwidth(cupy, 1000 if options.smoke else 2**28)
    print(f"copy: {bandwidth / 1e9:,.0f} GB/s, bytes read and written")
    for name, op, given, moved in cases(cupy, np.random.default_rng(0), R, D, n):
        if options.likelihoods and op not in LIKELIHOODS:
            break  # they come first
        if results.done(name):
            continue
        if deadline.passed():
            print(f"out of time before {name}: run it again to go on")
            return MORE_TO_DO
        seconds, times = events(cupy, lambda op=op, given=given: getattr(backend.ops, op)(*given))
        share = moved / seconds / bandwidth
        results.add(name, rows=R, features=D, parameters=n, us=seconds * 1e6, rounds_us=[t * 1e6 for t in times],
                    bytes=moved, copy_bytes_per_second=bandwidth, share_of_copy=share)  # fmt: skip
        print(f"{name:26} {seconds * 1e6:10.1f} µs {moved / seconds / 1e9:8,.0f} GB/s {share:6.1%} of copy", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
