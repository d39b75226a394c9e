"""problem: the one form that everything takes before it is checked. Ours and the user's, a layer and a whole VAE.

    outputs  = forward(inputs)                     arrays in, arrays out
    gradients = backward(inputs, upstream)         runs the forward itself, then the hand-written backward
    f(inputs) = Σ_k ⟨upstream_k, outputs_k⟩        the number that is differentiated

`upstream` is a fixed random vector with no entry near 0 or 1, so that a backward that forgets it is found; where the
function is a number already it is 1. Everything here is NumPy on the host: a problem on a GPU converts at its door.
This is not a layer protocol: that one, for user code, is in `user.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Settings:
    """How a check is made.

    tolerance     largest relative error allowed
    max_entries   a tensor with more entries than this is checked along random directions
    directions    how many
    max_kinks     the largest share of entries that may lie on a kink
    seed          of inputs, upstream gradients and directions
    complex_step  whether to try it
    behaviour     whether to try non-contiguous and one-row inputs, float32 … beside the numbers
    worst         how many of the worst entries of a tensor are kept
    """

    tolerance: float = 1e-7
    max_entries: int = 256
    directions: int = 16
    max_kinks: float = 0.1
    seed: int = 0
    complex_step: bool = True
    behaviour: bool = True
    worst: int = 5


@dataclass
class Problem:
    """A function with its hand-written gradient, at one point.

    name, kernels      what the report calls it
    names, inputs      the tensors it is differentiated by, float64
    forward, backward  as above; `backward` may return None for a tensor that has no gradient
    upstream           an array for each output
    parts              name → function of the inputs that gives a part of f, for diagnoses: "the KL" …
    sizes              name → number, for diagnoses: {"B, the number of rows": 5}
    complex_step       whether forward may be tried with complex inputs
    complex_tolerance  what is allowed where complex-step applies; None: the settings' tolerance
    suspects           gives mistake → the gradients it would lead to, where classic mistakes are known: for diagnoses
    ops                the table of ops that it runs on, where it is ours: mutations replace entries of it
    single             the same problem computing in float32
    one_row            the same problem with one row
    rows_apart         whether a row's outputs depend on that row's inputs alone: then one row must be right as well
    strided            whether inputs may be non-contiguous
    """

    name: str
    names: tuple[str, ...]
    inputs: Arrays
    forward: Callable[[Arrays], Arrays]
    backward: Callable[[Arrays, Arrays], list[np.ndarray | None]]
    upstream: Arrays
    kernels: str = ""
    parts: dict[str, Callable[[Arrays], float]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    complex_step: bool = False
    complex_tolerance: float | None = None
    suspects: Callable[[], dict[str, list[np.ndarray | None]]] | None = None
    ops: Any = None
    single: Problem | None = None
    one_row: Callable[[], Problem] | None = None
    rows_apart: bool = True
    strided: bool = False

    @property
    def title(self) -> str:
        return f"{self.name} ({self.kernels})" if self.kernels else self.name


def magnitude(outputs: Arrays, upstream: Arrays) -> float:
    """|f| as round-off sees it: the sum of the terms' absolute values, for terms that cancel leave their errors."""
    return sum(float(np.sum(np.abs(u * y))) for u, y in zip(upstream, outputs, strict=True))


def random_upstream(rng: np.random.Generator, outputs: Arrays) -> Arrays:
    """A random vector for each output: signs mixed, sizes in [0.5, 1.5)."""
    return [rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape) for y in outputs]


def with_backward(problem: Problem, backward: Callable[[Arrays, Arrays], list[np.ndarray | None]]) -> Problem:
    """The problem with another backward, for mutations."""
    return replace(problem, backward=backward)
