"""problem: the common form of everything that is checked: minivae's code and yours, a layer and a complete VAE.

    outputs  = forward(inputs)                     arrays in, arrays out
    gradients = backward(inputs, upstream)         runs the forward itself, then the hand-written backward
    f(inputs) = Σ_k ⟨upstream_k, outputs_k⟩        the number that is differentiated

What forward and backward return is copied here, once, for every kind of code: an output may be a view of an input, or a
buffer that the next call overwrites.

`upstream` is a fixed random vector with no entry near 0, so that a backward that ignores it is detected; for a function
that returns a number it is 1. Everything here is NumPy on the host: a problem on a GPU converts inputs and outputs.
The protocol for layers in user code is in `user.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import UsageError

Arrays = list[np.ndarray]
Backward = Callable[[Arrays, Arrays], list[np.ndarray | None]]


class NotGiven(UsageError):
    """Code that cannot be checked, because arguments are missing or because it computes no real numbers."""


@dataclass(frozen=True)
class Settings:
    """Settings of a check.

    tolerance     largest relative error allowed
    max_entries   a tensor with more entries than this is checked along random directions
    directions    number of these directions
    max_kinks     the largest share of entries that may lie on a kink
    seed          of inputs, upstream gradients and directions
    complex_step  whether to try the complex-step derivative
    behaviour     whether to check non-contiguous inputs, one row and float32 too
    worst         number of the worst entries of a tensor to report
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

    name, kernels      its name in the report
    names, inputs      the tensors to differentiate with respect to, float64
    forward, backward  as above; `backward` may return None for a tensor without a gradient
    upstream           an array for each output
    parts              name → function of the inputs that gives a part of f, for diagnoses: "the KL" …
    sizes              name → number, for diagnoses: {"B, the number of rows": 5}
    complex_step       whether forward accepts complex inputs
    complex_tolerance  tolerance of the complex-step derivative; None: the tolerance of the settings
    suspects           returns {known mistake: the gradients that it would give}, for diagnoses
    ops                minivae's table of ops if the problem uses it: mutations replace entries of it
    coarse             dtype → the same backward computed in it, of float64 arrays that it can represent
    only               the dtype that backward runs in, where that is not float64: then forward is the reference's
    one_row            the same problem with one row
    rows_apart         whether a row's outputs depend on that row's inputs alone: then one row must be right too
    reference          forward of other code, which must give the same outputs; reference_name: its name
    second             makes the problem of its second derivatives
    strided            whether inputs may be non-contiguous
    passed             name → what it holds, of the inputs that are passed through and not differentiated by
    file, line         where the backward is written, if that is known
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
    coarse: dict[str, Backward] = field(default_factory=dict)
    only: str = ""
    one_row: Callable[[], Problem] | None = None
    rows_apart: bool = True
    reference: Callable[[Arrays], Arrays] | None = None
    reference_name: str = ""
    second: Callable[[], Problem] | None = None
    strided: bool = False
    passed: dict[str, str] = field(default_factory=dict)
    file: str = ""
    line: int = 0

    def __post_init__(self) -> None:
        self.forward, self.backward = _fresh(self.forward), _fresh(self.backward)
        if self.reference is not None:
            self.reference = _fresh(self.reference)

    @property
    def title(self) -> str:
        return f"{self.name} ({self.kernels})" if self.kernels else self.name


def _fresh(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with every array that it returns copied, so that none is memory of the code's."""
    if hasattr(function, "copies"):
        return function

    def copied(*args: Any) -> list[np.ndarray | None]:
        return [None if y is None else np.array(y) for y in function(*args)]

    copied.copies = True  # type: ignore[attr-defined]
    return copied


def magnitude(outputs: Arrays, upstream: Arrays) -> float:
    """Return the scale of f's round-off: the sum of the absolute values of its terms, since cancelling keeps errors."""
    return sum(float(np.sum(np.abs(u * y))) for u, y in zip(upstream, outputs, strict=True))


def random_upstream(rng: np.random.Generator, outputs: Arrays) -> Arrays:
    """Draw a random vector for each output, with mixed signs and sizes in [0.5, 1.5)."""
    return [np.asarray(rng.choice([-1.0, 1.0], y.shape) * rng.uniform(0.5, 1.5, y.shape)) for y in outputs]


def with_backward(problem: Problem, backward: Callable[[Arrays, Arrays], list[np.ndarray | None]]) -> Problem:
    """Return the problem with another backward, for mutations."""
    return replace(problem, backward=backward)
