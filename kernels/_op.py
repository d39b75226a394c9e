"""_op: what one op is, in one record. Tests, benchmarks, gradient checks and traces walk these records.

An op's arguments stand in the signature of its reference, and `example` makes them: nothing else writes them down.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Op:
    """One op: three implementations with the same arguments, and what is known about it.

    reference  reference(xp, *arguments), for NumPy and CuPy: the specification
    fused      the Numba kernel's launcher; None: the reference is used
    cuda       the CUDA kernel's launcher; None: the reference is used
    example    example(rng, dtype, S, B, D, case) → the arguments, as NumPy arrays and numbers. S samples of B rows of D
               features; ops on flat arrays take n = S·B·D. Outputs are poisoned with NaN
    outputs    names of the arguments that it overwrites
    updated    names of the arguments that it reads and overwrites
    optional   names of the outputs that may be None; then nothing but the first output is written
    scratch    names of the arguments that hold anything afterwards
    double     names of the arguments that are float64 whatever the dtype
    cases      the examples there are: activations, kinds of weights, regimes of the formula's branches
    scale      scale(*arguments): the size of the terms that are summed, for tolerances
    flops      flops(*arguments): floating-point operations, an exp or a log counted as one
    moved      moved(*arguments): bytes that must be read and written; None counts every array once, updated ones twice
    """

    reference: Callable[..., None]
    fused: Callable[..., None] | None
    cuda: Callable[..., None] | None
    example: Callable[..., tuple[Any, ...]]
    outputs: tuple[str, ...]
    updated: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    double: tuple[str, ...] = ()
    cases: tuple[str, ...] = ("",)
    scale: Callable[..., float] = lambda *_: 1.0
    flops: Callable[..., int] | None = None
    moved: Callable[..., int] | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What the op calls its arguments."""
        return tuple(inspect.signature(self.reference).parameters)[1:]  # after xp

    @property
    def written(self) -> tuple[int, ...]:
        """The places of the arguments whose values are results."""
        return tuple(i for i, name in enumerate(self.names) if name in self.outputs or name in self.updated)

    def bytes(self, *arguments: Any) -> int:
        """The bytes that one pass over memory must read and write."""
        if self.moved is not None:
            return int(self.moved(*arguments))
        times = {**dict.fromkeys(self.updated, 2), **dict.fromkeys(self.scratch, 0)}
        return sum(times.get(name, 1) * getattr(x, "nbytes", 0) for name, x in zip(self.names, arguments, strict=True))


def poison(dtype: Any, *shape: int) -> np.ndarray:
    """An array of NaN: an element that is not written shows."""
    return np.full(shape, np.nan, dtype)


def normal(rng: np.random.Generator, dtype: Any, *shape: int) -> np.ndarray:
    """Standard normals of this dtype."""
    return rng.standard_normal(shape, np.dtype(dtype))


def uniform(rng: np.random.Generator, dtype: Any, *shape: int) -> np.ndarray:
    """Uniforms in [0, 1) of this dtype."""
    return rng.random(shape, np.dtype(dtype))


WEIGHTS = ("one weight", "row weights")


def row_weight(rng: np.random.Generator, dtype: Any, S: int, B: int, case: str) -> Any:
    """The weight of the rows in a likelihood's example: a number, or (S, B)."""
    return 0.37 if case == "one weight" else uniform(rng, dtype, S, B)


def parameters(rng: np.random.Generator, dtype: Any, n: int, moments: int) -> list[np.ndarray]:
    """Parameters, so many moments and gradients (n,) for an optimiser's example.

    Some have no gradient, no parameter and moments that are to be flushed to 0.
    """
    arrays = [normal(rng, dtype, n) for _ in range(moments + 2)]
    for i, x in enumerate(arrays):
        x[:: max(1, n // 7)] = 1e-39 if 0 < i <= moments else 0
    return arrays


def counter() -> np.ndarray:
    """A counter that already holds something: ops add to it."""
    return np.full(1, 5)
