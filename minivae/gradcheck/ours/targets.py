"""targets: list everything in minivae that has a gradient, from the tables of layers, likelihoods and objectives.

    ops.dense.<activation>       kernels/dense.py: bias + activation, and its gradient
    ops.latent                   kernels/latent.py: reparameterisation + KL, and its gradient
    ops.importance               kernels/importance.py: the importance-weighted bound, and its gradient
    layers.dense.<activation>    Dense, with its matrix products;  layers.mlp.<activation>
    layers.sparse.…              Dense on rows by their non-zeros, which the reference kernels take dense
    latent.…                     the Gaussian posterior with β and free bits
    likelihoods.<name>.…         every class in LIKELIHOODS, through its protocol (and so every likelihood op)
    likelihoods.mixed.<kind>.…   blocks of a mixed likelihood that are none of LIKELIHOODS, and all blocks together
    vae.<likelihood>.<activation>.S1|S3   complete models: each likelihood × samples, and those of EVERY_WAY ×
                                 activation, with β, free bits and depth
    vae.<likelihood>.iwae        … with every other objective of OBJECTIVES
    vae.<likelihood>.sparse      … of 0 and 1, and of counts, on rows of scipy.sparse

A name on the command line selects every target that contains its parts in sequence: "dense", "likelihoods.bernoulli",
"relu". Sizes are small and all different (B 5, D 7, H 6, L 4, S 3), so that a wrong factor shows its origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import likelihoods
from ...backend import Backend
from ...errors import UsageError
from ...kernels._sparse import BLOCK as SPARSE_ROWS
from ...kernels.dense import ACTIVATIONS, BLOCK_ROWS
from ...objectives import OBJECTIVES
from ..problem import Arrays, Problem
from .builds import (
    B,
    Build,
    D,
    H,
    S,
    dense,
    dense_op,
    importance_op,
    latent_op,
    likelihood,
    mlp,
    posterior,
    sparse_dense,
    vae,
)
from .mistakes import OF_OPS, of_op

SIGMA, CLASSES = "3", "9"  # for "gaussian:σ" and "categorical:K"; names without a dot
EVERY_WAY = ("bernoulli", "gaussian", f"gaussian:{SIGMA}")  # likelihoods whose models are checked with every option
MIXED = {
    "positive": "mixed:positive=0-6",
    "ordinal": f"mixed:ordinal:{CLASSES}=0-6",
    "all": "mixed:real=0;positive=4;count=2;poisson=3;binary=1;categorical:16=5;ordinal:4=6",
}
OF_ZEROS = ("bernoulli", "poisson", "negative-binomial")  # likelihoods of rows that are mostly 0
STRIPS = 18  # units whose sums are in registers, in strips that overlap
COMPLEX_TOLERANCE = 1e-12

# Op files whose ops nothing is differentiated through: integers and noise, updates of parameters, and sums over ranks.
NOT_DIFFERENTIATED = frozenset(
    {"noise", "sgd", "adagrad", "rmsprop", "adam", "norm", "gather", "scatter", "logsumexp", "advance", "add_up"}
)


@dataclass(frozen=True)
class Target:
    """A name and the function that builds its problem: build(backend, rng, rows)."""

    name: str
    build: Build


def likelihood_names() -> list[str]:
    """Return a name for each row of LIKELIHOODS, such as "gaussian:3" for "gaussian:σ"."""
    return [name.replace("σ", SIGMA).replace("K", CLASSES) for name in likelihoods.LIKELIHOODS]


def walk() -> list[Target]:
    """Return every target, in reading order."""
    found = []
    for activation in ACTIVATIONS:
        found.append(Target(f"ops.dense.{activation}", dense_op(activation)))
        found.append(Target(f"ops.dense.{activation}.blocks", dense_op(activation, rows=BLOCK_ROWS + 3)))
    found.append(Target("ops.latent", latent_op))
    found.append(Target("ops.importance", importance_op))
    for activation in ACTIVATIONS:
        found.append(Target(f"layers.dense.{activation}", dense(activation)))
    for activation in ACTIVATIONS:
        found.append(Target(f"layers.mlp.{activation}", mlp(activation)))
    found.append(Target("layers.sparse.narrow", sparse_dense(D, H)))
    found.append(Target("layers.sparse.ones", sparse_dense(D, STRIPS, ones=True)))
    found.append(Target("layers.sparse.blocks", sparse_dense(D, STRIPS, rows=SPARSE_ROWS + 3)))
    found.append(Target("latent.beta", posterior(beta=0.3, free_bits=0.0)))
    found.append(Target("latent.free_bits", posterior(beta=1.0, free_bits=0.6)))
    for name, cls in zip(likelihood_names(), likelihoods.LIKELIHOODS.values(), strict=True):
        found.append(Target(f"likelihoods.{name}.mean", likelihood(name, weights="mean")))
        found.append(Target(f"likelihoods.{name}.rows", likelihood(name, weights="rows")))
        found.append(Target(f"likelihoods.{name}.far", likelihood(name, weights="rows", spread=12.0)))
        if cls.neutral is not None:
            found.append(Target(f"likelihoods.{name}.missing", likelihood(name, weights="rows", missing=True)))
        if cls.closed_form:
            found.append(Target(f"likelihoods.{name}.kept", likelihood(name, weights="rows", in_training=False)))
    for kind, blocks in MIXED.items():
        found.append(Target(f"likelihoods.mixed.{kind}.rows", likelihood(blocks, weights="rows")))
        found.append(Target(f"likelihoods.mixed.{kind}.far", likelihood(blocks, weights="rows", spread=12.0)))
        found.append(Target(f"likelihoods.mixed.{kind}.missing", likelihood(blocks, weights="rows", missing=True)))
    for objective in OBJECTIVES:
        found.append(Target(f"vae.mixed.{objective}", vae(MIXED["all"], "tanh", S, objective=objective)))
    for name in OF_ZEROS:
        found.append(Target(f"vae.{name}.sparse", vae(name, "tanh", S, sparse=True)))
    for name in likelihood_names():
        for activation in ACTIVATIONS if name in EVERY_WAY else ("tanh",):
            for samples in (1, S):
                found.append(Target(f"vae.{name}.{activation}.S{samples}", vae(name, activation, samples)))
        if name not in EVERY_WAY:
            continue
        found.append(Target(f"vae.{name}.beta", vae(name, "tanh", S, beta=0.3)))
        found.append(Target(f"vae.{name}.free_bits", vae(name, "tanh", S, free_bits=0.6)))
        found.append(Target(f"vae.{name}.deep", vae(name, "silu", 1, hidden=(H, 3))))
        found.append(Target(f"vae.{name}.linear", vae(name, "identity", 1, hidden=())))
        for objective in OBJECTIVES:
            if objective != "elbo":
                found.append(Target(f"vae.{name}.{objective}", vae(name, "tanh", S, objective=objective)))
                found.append(Target(f"vae.{name}.{objective}.beta", vae(name, "relu", S, 0.3, objective=objective)))
    return found


def select(names: list[str]) -> list[Target]:
    """Return the targets that the names select, in reading order; no names select all."""
    every = walk()
    chosen = set()
    for name in names:
        hits = [target.name for target in every if _selects(name, target.name)]
        if not hits:
            heads = sorted({target.name.split(".")[0] for target in every})
            raise UsageError(
                f"no target {name!r}: expected one of {', '.join(heads)}, a part of a target's name such as "
                "'likelihoods.bernoulli' (--list shows all), or your own code as path/to/file.py:Name or module:name"
            )
        chosen.update(hits)
    return [target for target in every if not names or target.name in chosen]


def knows(name: str) -> bool:
    """Whether a name selects any target of minivae."""
    return any(_selects(name, target.name) for target in walk())


def _selects(name: str, target: str) -> bool:
    return f".{name}." in f".{target}."


def build(target: Target, kernels: str, seed: int, backend: str = "numpy") -> Problem:
    """Build the problem of a target in float64, with the same problem in float32 and with one row."""

    def make(dtype: str, rows: int) -> Problem:
        problem = target.build(Backend(backend, kernels, dtype), np.random.default_rng(seed), rows)
        problem.name, problem.kernels = target.name, kernels
        return problem

    problem = make("float64", B)
    problem.complex_tolerance = COMPLEX_TOLERANCE
    single = make("float32", B)

    def in_float32(inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
        return single.backward(*([x.astype(np.float32) for x in xs] for xs in (inputs, upstream)))

    problem.coarse = {"float32": in_float32}
    problem.one_row = lambda: make("float64", 1)
    problem.suspects = lambda: _suspects(target, seed)
    return problem


def _suspects(target: Target, seed: int) -> dict[str, list[np.ndarray | None]]:
    """Return {known mistake: the gradients of this target with it}, computed with the reference kernels."""
    problem = target.build(Backend("numpy", "reference", "float64"), np.random.default_rng(seed), B)
    backwards = {name: of_op(problem, op, mistake) for name, (op, mistake) in OF_OPS.items() if "noise" not in name}
    return {name: backward(problem.inputs, problem.upstream) for name, backward in backwards.items() if backward}
