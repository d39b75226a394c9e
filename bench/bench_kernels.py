"""Every op, fused against reference, on the same arguments.

extra_info: the bytes that one pass over memory moves, GB/s, and what share that is of a copy of as many bytes on all
threads (over 1 is possible: a copy writes as much as it reads); floating-point operations, an exp or a log counted as
one, GFLOP/s, and their share of a matrix product's.
"""

from functools import cache

import numpy as np
import pytest

import minivae as mv
from minivae import kernels
from minivae.bench import machine
from minivae.bench.race import race

OPS = kernels.ops()
KINDS = {kind: mv.Backend("numpy", kind).ops for kind in ("fused", "reference")}
PICTURES, HIDDEN, LATENT, PARAMETERS = (1, 128, 784), (1, 128, 500), (1, 128, 20), (1, 1, 800_000)  # S, B, D
SHAPES = {
    **dict.fromkeys(("dense_forward", "dense_backward"), HIDDEN),
    **dict.fromkeys(("latent_forward", "latent_backward", "normal"), LATENT),
    **dict.fromkeys(("importance_forward", "importance_backward"), (5, 128, 20)),
    **dict.fromkeys(("sgd", "adagrad", "rmsprop", "adam", "clip_norm"), PARAMETERS),
    "log_sum_exp": (1, 1024, 128),
    "advance": (1, 128, 5),
}


def _copies(arguments):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name, case", [(name, case) for name, op in OPS.items() for case in op.cases])
def bench_op(benchmark, smoke, name, case, kind):
    op = OPS[name]
    example = op.example(np.random.default_rng(0), "float32", *SHAPES.get(name, PICTURES), case)
    both = {kind: _copies(example) for kind in KINDS}
    for each, arguments in both.items():
        getattr(KINDS[each], name)(*arguments)
    for i in op.written:
        fused, reference = both["fused"][i], both["reference"][i]
        if fused is not None:
            np.testing.assert_allclose(fused, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())
    benchmark.group = f"{name} {case}".strip()
    # Fresh arguments for every round: an op that works in place would soon run on zeros and subnormals.
    run, fresh = getattr(KINDS[kind], name), lambda: (_copies(example), {})
    benchmark.pedantic(run, setup=fresh, rounds=100, warmup_rounds=3)
    if benchmark.stats is not None:
        _rates(benchmark, op.bytes(*example), op.flops(*example) if op.flops else 0)


def _rates(benchmark, nbytes, flops):
    """Bytes and operations a second, and their share of what this machine can do."""
    seconds, (copy, gemm) = benchmark.stats["median"], _machine(1 << (nbytes - 1).bit_length())
    rates = {"GB/s": nbytes / seconds / 1e9, "GFLOP/s": flops / seconds / 1e9}
    shares = {"of_copy": rates["GB/s"] / copy, "of_gemm": rates["GFLOP/s"] / gemm}
    benchmark.extra_info |= {"bytes": nbytes, "flops": flops, **rates, **shares}


@cache
def _machine(nbytes):
    """(GB/s of a copy that moves so many bytes, GFLOP/s of a matrix product)."""
    found = race(
        {"kind": "rate", "bytes": nbytes, "size": 1024, "threads": machine.threads()}, ["copy", "gemm"], 3, 0.1
    )
    copy, gemm = found["copy"], found["gemm"]
    return copy.facts["bytes"] / copy.median / 1e9, gemm.facts["flops"] / gemm.median / 1e9
