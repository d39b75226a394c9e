"""likelihoods: p(x|z), what the decoder's raw outputs mean. One class for each distribution.

A likelihood is the protocol of `Likelihood`: how many outputs the decoder needs, which data it can explain, the
negative log-likelihood with its gradient (a fused op of `kernels/`), its mean, and how to draw from it. A new one is a
file in `kernels/` and a class here; tests, gradient checks and benchmarks walk the table of them, LIKELIHOODS.

Reading order: base (the protocol), bernoulli and its like (values in [0, 1]), real (real numbers), counts (classes and
counts).

Shapes: R = S·B rows, sample by sample; D features; out (R, width); X (B, D). Nats, every constant kept.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ..backend import Backend
from ..errors import UsageError
from .base import ARGUMENTS, LIKELIHOODS, Likelihood

# Each class gives itself its row of LIKELIHOODS, in this order.
from . import unit, real, counts  # noqa: F401  # isort: skip
from .mixed import Mixed, spec_of  # isort: skip
from .names import unknown  # isort: skip
from .registered import OPS, register_likelihood, unregister_likelihood  # isort: skip

__all__ = ["LIKELIHOODS", "Likelihood", "find", "make", "name_of", "register_likelihood", "unregister_likelihood"]


def name_of(given: Any) -> Any:
    """The name of a likelihood: itself, or of the mixed one that a `mv.Columns` describes."""
    return spec_of(given.blocks()) if hasattr(given, "blocks") else given


def find(name: str) -> tuple[Any, tuple[Any, ...]] | None:
    """The class that a name means, and its arguments behind the features; None for an unknown name."""
    kind, _, argument = name.partition(":")
    if kind == "mixed":
        return Mixed, (argument,)
    for letter, number in ARGUMENTS.items():
        if cls := LIKELIHOODS.get(f"{kind}:{letter}"):
            with suppress(ValueError):
                return cls, (number(argument),)
    return (LIKELIHOODS[name], ()) if name in LIKELIHOODS and argument not in ARGUMENTS else None


def make(name: str, backend: Backend, features: int) -> Likelihood:
    """The likelihood called `name`: "bernoulli", "gaussian:shared", "gaussian:0.5"."""
    found = find(name)
    if found is None:
        raise UsageError(unknown(name))
    if name in OPS and not hasattr(backend.ops, OPS[name]):
        raise UsageError(f"likelihood {name!r} was registered after this Backend was made: make a new one")
    cls, arguments = found
    return cls(backend, features, *arguments)
