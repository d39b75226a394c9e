"""Every op, fused against reference, on the same arguments.

extra_info: the bytes that one pass over memory moves, GB/s, and what share that is of a copy of as many bytes on all
threads (over 1 is possible: a copy writes as much as it reads); floating-point operations, an exp or a log counted as
one, GFLOP/s, and their share of a matrix product's.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

import minivae as mv
from minivae import kernels
from minivae.bench import machine
from minivae.bench.race import race
from minivae.kernels.dense import ACTIVATIONS, KEEPS_A, scratch
from minivae.kernels.negative_binomial import TABLE_ROWS

OPS = {kind: mv.Backend("numpy", kind).ops for kind in ("fused", "reference")}
F = np.float32
ROWS, D, H, L = 128, 784, 500, 20
N = 800_000  # parameters


@dataclass
class Case:
    """One op on arguments: which of them it reads, and which it writes (those are compared).

    flops  an element of the largest array that it writes
    """

    op: str
    arguments: tuple[Any, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    flops: int

    @property
    def bytes(self):
        return sum(self.arguments[i].nbytes for i in self.reads + self.writes if self.arguments[i] is not None)

    @property
    def elements(self):
        return max(self.arguments[i].size for i in self.writes if self.arguments[i] is not None)


def _normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, F)


def _binary(*shape):
    return (np.random.default_rng(1).random(shape) < 0.2).astype(F)


def _empty(*shape):
    return np.zeros(shape, F)


def _bernoulli():
    arguments = (_empty(ROWS), _empty(ROWS, D), _normal(ROWS, D), _binary(ROWS, D), 1 / ROWS)
    return Case("bernoulli", arguments, (2, 3), (0, 1), 12)


def _gaussian():
    out, X = _normal(ROWS, 2 * D), _normal(ROWS, D)
    arguments = (_empty(ROWS), _empty(ROWS, 2 * D), np.zeros(1, np.int64), out, X, 1 / ROWS)
    return Case("gaussian", arguments, (3, 4), (0, 1, 2), 8)


def _gaussian_fixed():
    arguments = (_empty(ROWS), _empty(ROWS, D), _normal(ROWS, D), _normal(ROWS, D)[::-1].copy(), 1 / ROWS, 0.5)
    return Case("gaussian_fixed", arguments, (2, 3), (0, 1), 5)


def _counts(*shape):
    return np.random.default_rng(4).poisson(3.0, shape).astype(F)


def _gaussian_shared():
    tensors = (_empty(1), np.zeros(1, np.int64), _normal(ROWS, D), _empty(1), _normal(ROWS, D)[::-1].copy())
    return Case("gaussian_shared", (_empty(ROWS), _empty(ROWS, D), *tensors, 1 / ROWS), (4, 5, 6), (0, 1, 2, 3), 5)


def _gaussian_optimal():
    tensors = (np.zeros(1), np.zeros(1, np.int64), _normal(ROWS, D), _normal(ROWS, D)[::-1].copy())
    return Case("gaussian_optimal", (_empty(ROWS), _empty(ROWS, D), *tensors, 1 / ROWS), (4, 5), (0, 1, 2, 3), 5)


def _laplace():
    out, X = _normal(ROWS, 2 * D), _normal(ROWS, D)
    arguments = (_empty(ROWS), _empty(ROWS, 2 * D), np.zeros(1, np.int64), out, X, 1 / ROWS)
    return Case("laplace", arguments, (3, 4), (0, 1, 2), 5)


def _continuous_bernoulli():
    X = np.random.default_rng(5).random((ROWS, D), F)
    arguments = (_empty(ROWS), _empty(ROWS, D), _normal(ROWS, D), X, 1 / ROWS)
    return Case("continuous_bernoulli", arguments, (2, 3), (0, 1), 55)


def _categorical():
    K = 5
    scratch, logits, X = _empty(2, D), _normal(ROWS, K * D), _counts(ROWS, D) % K
    arguments = (_empty(ROWS), _empty(ROWS, K * D), scratch, logits, X, 1 / ROWS)
    return Case("categorical", arguments, (3, 4), (0, 1), 8)


def _poisson():
    arguments = (_empty(ROWS), _empty(ROWS, D), np.zeros(1, np.int64), _normal(ROWS, D), _counts(ROWS, D), 1 / ROWS)
    return Case("poisson", arguments, (3, 4), (0, 1, 2), 35)


def _negative_binomial():
    outputs = (_empty(ROWS), _empty(ROWS, D), _empty(D), np.zeros(1, np.int64), np.zeros((TABLE_ROWS, D)))
    arguments = (*outputs, _normal(ROWS, D), _normal(D), _counts(ROWS, D), 1 / ROWS)
    return Case("negative_binomial", arguments, (5, 6, 7), (0, 1, 2, 3), 120)


def _latent_forward():
    outputs = (_empty(1, ROWS, L), _empty(ROWS, L), _empty(ROWS), _empty(L))
    return Case("latent_forward", (*outputs, _normal(ROWS, 2 * L), _normal(1, ROWS, L)), (4, 5), (0, 1, 2, 3), 12)


def _latent_backward():
    dZ, eps = _normal(2, 1, ROWS, L)
    arguments = (_empty(ROWS, 2 * L), dZ, eps, np.ones((ROWS, L), F), _normal(ROWS, 2 * L), np.full(L, 1 / ROWS, F))
    return Case("latent_backward", arguments, (1, 2, 3, 4, 5), (0,), 6)


def _binarize():
    # 0/1 stays 0/1, so that every round does the same
    return Case("binarize", (_binary(ROWS, D), np.arange(ROWS), 3, 0, 1, 0), (0,), (0,), 27)


def _random(op, dtype, flops):
    return lambda: Case(op, (np.zeros((1, ROWS, D), dtype), np.arange(ROWS), 4, 0, 1, 0), (), (0,), flops)


def _importance(direction):
    def make():
        S, B = 5, ROWS
        Z, eps, dZ = (_normal(S, B, L) for _ in range(3))
        nll, H, weight = _normal(S, B), _normal(B, 2 * L), np.full((S, B), 1 / (S * B), F)
        if direction == "forward":
            outputs = (_empty(S, B), _empty(S, B), _empty(B))
            return Case("importance_forward", (*outputs, nll, Z, eps, H, 1.0), (3, 4, 5, 6), (0, 1, 2), 5)
        arguments = (_empty(B, 2 * L), dZ, eps, np.ones((B, L), F), Z, weight, 1.0)
        return Case("importance_backward", arguments, (1, 2, 3, 4, 5), (0,), 7)

    return make


def _adam():
    P, M, G = _normal(3, N)
    return Case("adam", (P, M, M * M, G, 1e-6, 0.9, 0.999, 1e-8, 0.0, 0.0, 0.1, 0.001), (0, 1, 2, 3), (0, 1, 2), 15)


def _sgd():
    P, V, G = _normal(3, N)
    return Case("sgd", (P, V, G, 1e-3, 0.9, False, 0.0), (0, 1, 2), (0, 1), 6)


def _adagrad():
    P, A, G = _normal(3, N)
    return Case("adagrad", (P, A * A, G, 1e-3, 1e-10, 0.0), (0, 1, 2), (0, 1), 8)


def _rmsprop():
    P, A, G = _normal(3, N)
    return Case("rmsprop", (P, A * A, None, G, 1e-3, 0.99, 1e-8, 0.0, 0.0), (0, 1, 3), (0, 1), 9)


def _clip_norm():
    return Case("clip_norm", (_normal(N), np.zeros(1), 1.0), (0, 0), (0, 1), 3)


def _gather():
    X, rows = _normal(10 * ROWS, D), np.random.default_rng(2).permutation(10 * ROWS)[:ROWS]
    return Case("gather", (_empty(ROWS, D), X, rows), (0, 2), (0,), 1)  # of X it reads as much as it writes


def _log_sum_exp():
    log_w = _normal(1024, ROWS)
    return Case("log_sum_exp", (_empty(ROWS), np.ones(ROWS, F), np.ones(ROWS, F), log_w), (3,), (0, 1, 2), 5)


def _advance():
    table, order, cursor = np.random.default_rng(3).random((16, 5)), np.arange(10 * ROWS), np.zeros(2, np.int64)
    return Case("advance", (np.zeros(5), np.zeros(ROWS, np.int64), cursor, table, order), (2,), (0, 1, 2), 1)


def _dense(direction, activation):
    def make():
        A = _normal(ROWS, H) if activation in KEEPS_A else None
        kept = (1,) if A is not None else ()
        if direction == "forward":
            return Case("dense_forward", (_normal(ROWS, H), A, _empty(H), activation), (0, 2), (0, *kept), 4)
        arguments = (_normal(ROWS, H), _empty(H), _empty(scratch(ROWS, H)), np.abs(_normal(ROWS, H)), A, activation)
        return Case("dense_backward", arguments, (0, 3, *(4 for _ in kept)), (0, 1), 4)

    return make


CASES = {
    "bernoulli": _bernoulli,
    "gaussian": _gaussian,
    "gaussian_fixed": _gaussian_fixed,
    "gaussian_shared": _gaussian_shared,
    "gaussian_optimal": _gaussian_optimal,
    "laplace": _laplace,
    "continuous_bernoulli": _continuous_bernoulli,
    "categorical": _categorical,
    "poisson": _poisson,
    "negative_binomial": _negative_binomial,
    "latent_forward": _latent_forward,
    "latent_backward": _latent_backward,
    "bits": _random("bits", np.uint32, 26),
    "uniform": _random("uniform", F, 27),
    "normal": _random("normal", F, 31),
    "binarize": _binarize,
    "sgd": _sgd,
    "adagrad": _adagrad,
    "rmsprop": _rmsprop,
    "adam": _adam,
    "clip_norm": _clip_norm,
    "gather": _gather,
    "log_sum_exp": _log_sum_exp,
    "advance": _advance,
    "importance_forward": _importance("forward"),
    "importance_backward": _importance("backward"),
    **{f"dense_{d} {a}": _dense(d, a) for d in ("forward", "backward") for a in ACTIVATIONS},
}


def bench_every_op_has_a_case():
    assert {make().op for make in CASES.values()} == set(kernels.op_names())


def _copies(arguments):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("name", CASES)
def bench_op(benchmark, smoke, name, kind):
    case = CASES[name]()
    both = {kind: _copies(case.arguments) for kind in OPS}
    for each, arguments in both.items():
        getattr(OPS[each], case.op)(*arguments)
    for i in case.writes:
        fused, reference = both["fused"][i], both["reference"][i]
        if fused is not None:
            np.testing.assert_allclose(fused, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())
    benchmark.group = name
    # Fresh arguments for every round: an op that works in place would soon run on zeros and subnormals.
    run, fresh = getattr(OPS[kind], case.op), lambda: (_copies(case.arguments), {})
    benchmark.pedantic(run, setup=fresh, rounds=100, warmup_rounds=3)
    if benchmark.stats is not None:
        _rates(benchmark, case.bytes, case.flops * case.elements)


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
