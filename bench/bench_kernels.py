"""Every heavy op: fused against reference, on the same arguments; nanoseconds an element in extra_info."""

import numpy as np
import pytest

from minivae import kernels
from minivae.kernels.dense import ACTIVATIONS, KEEPS_A

OPS = {kind: kernels.load("numpy", kind, np) for kind in ("fused", "reference")}
F = np.float32
ROWS, D, H, L = 128, 784, 500, 20


def _bernoulli(rng):
    logits, X = rng.normal(size=(ROWS, D)).astype(F), (rng.random((ROWS, D)) < 0.2).astype(F)
    return "bernoulli", (np.empty(ROWS, F), np.empty((ROWS, D), F), logits, X, 1 / ROWS), ROWS * D


def _gaussian(rng):
    out, X = rng.normal(size=(ROWS, 2 * D)).astype(F), rng.normal(size=(ROWS, D)).astype(F)
    arguments = (np.empty(ROWS, F), np.empty((ROWS, 2 * D), F), np.zeros(1, np.int64), out, X, 1 / ROWS)
    return "gaussian", arguments, ROWS * D


def _gaussian_fixed(rng):
    mean, X = rng.normal(size=(ROWS, D)).astype(F), rng.normal(size=(ROWS, D)).astype(F)
    return "gaussian_fixed", (np.empty(ROWS, F), np.empty((ROWS, D), F), mean, X, 1 / ROWS, 0.5), ROWS * D


def _latent_forward(rng):
    outputs = (np.empty((1, ROWS, L), F), np.empty((ROWS, L), F), np.empty(ROWS, F), np.empty(L, F))
    inputs = (rng.normal(size=(ROWS, 2 * L)).astype(F), rng.normal(size=(1, ROWS, L)).astype(F))
    return "latent_forward", outputs + inputs, ROWS * L


def _latent_backward(rng):
    dZ, eps = rng.normal(size=(2, 1, ROWS, L)).astype(F)
    sigma, weight = np.ones((ROWS, L), F), np.full(L, 1 / ROWS, F)
    arguments = (np.empty((ROWS, 2 * L), F), dZ, eps, sigma, rng.normal(size=(ROWS, 2 * L)).astype(F), weight)
    return "latent_backward", arguments, ROWS * L


def _binarize(rng):
    X = (rng.random((ROWS, D)) < 0.2).astype(F)  # 0/1 stays 0/1, so that every round does the same
    return "binarize", (X, np.arange(ROWS), 3, 0, 1, 0), ROWS * D


def _normal(rng):
    return "normal", (np.empty((1, ROWS, L), F), np.arange(ROWS), 4, 0, 1, 0), ROWS * L


def _adam(rng):
    P, M, G = rng.normal(size=(3, 800_000)).astype(F)
    return "adam", (P, M, M * M, G, 1e-6, 0.9, 0.999, 1e-8, 0.0, 0.0, 0.1, 0.001), P.size


def _dense(direction, activation):
    def make(rng):
        Y, A, b = rng.random((ROWS, H)).astype(F), rng.normal(size=(ROWS, H)).astype(F), np.zeros(H, F)
        A = A if activation in KEEPS_A else None
        arguments = (Y, A, b, activation) if direction == "forward" else (Y.copy(), b, b.copy(), Y, A, activation)
        return f"dense_{direction}", arguments, ROWS * H

    return make


CASES = {
    "bernoulli": _bernoulli,
    "gaussian": _gaussian,
    "gaussian_fixed": _gaussian_fixed,
    "latent_forward": _latent_forward,
    "latent_backward": _latent_backward,
    "binarize": _binarize,
    "normal": _normal,
    "adam": _adam,
    **{f"dense_{d} {a}": _dense(d, a) for d in ("forward", "backward") for a in ACTIVATIONS},
}


def _copy(arguments):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]


@pytest.mark.parametrize("kind", OPS)
@pytest.mark.parametrize("case", CASES)
def bench_op(benchmark, rng, case, kind):
    op, arguments, elements = CASES[case](rng)
    copies = [_copy(arguments) for _ in OPS]
    for ops, copy in zip(OPS.values(), copies, strict=True):
        getattr(ops, op)(*copy)
    compared = 2 if op == "dense_backward" else len(arguments)  # behind its outputs comes a scratch
    for fused, reference in zip(*(copy[:compared] for copy in copies), strict=True):
        if isinstance(fused, np.ndarray):
            np.testing.assert_allclose(fused, reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())
    benchmark.group = case
    # Fresh arguments for every round: an op that works in place would soon run on zeros and subnormals.
    benchmark.pedantic(getattr(OPS[kind], op), setup=lambda: (_copy(arguments), {}), rounds=100, warmup_rounds=3)
    if benchmark.stats is not None:
        benchmark.extra_info["ns_per_element"] = 1e9 * benchmark.stats["median"] / elements
