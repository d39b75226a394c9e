"""likelihoods: p(x|z), what the decoder's raw outputs mean. One class for each distribution.

A likelihood is the protocol of `Likelihood`: how many outputs the decoder needs, which data it can explain, the
negative log-likelihood with its gradient (a fused op of `kernels/`), its mean, and how to draw from it. A new one is a
file in `kernels/` and a class here; tests, gradient checks and benchmarks walk the table of them, LIKELIHOODS.

Reading order: base (the protocol), unit (values in [0, 1]), real (real numbers), counts (classes and counts).

Shapes: R = S·B rows, sample by sample; D features; out (R, width); X (B, D). Nats, every constant kept.
"""

from __future__ import annotations

from typing import Any

from ..backend import Backend
from ..errors import UsageError
from ..hints import meant
from .base import ARGUMENTS, LIKELIHOODS, Likelihood

# Each class gives itself its row of LIKELIHOODS, in this order.
from . import unit, real, counts  # noqa: F401  # isort: skip
from .mixed import Mixed, spec_of  # isort: skip
from .registered import OPS, register_likelihood, unregister_likelihood  # isort: skip

__all__ = ["LIKELIHOODS", "Likelihood", "make", "register_likelihood", "unregister_likelihood"]

SYNONYMS = {  # what other programs call them
    "mse": "gaussian:1", "l2": "gaussian:1", "normal": "gaussian", "l1": "laplace", "mae": "laplace",
    "bce": "bernoulli", "cross-entropy": "bernoulli", "nb": "negative-binomial",
}  # fmt: skip


def _find(name: str) -> tuple[Any, tuple[Any, ...]] | None:
    """The class that a name means, and its arguments behind the features; None for an unknown name."""
    kind, colon, argument = name.partition(":")
    if kind == "mixed":
        return Mixed, (argument,)
    for form, cls in LIKELIHOODS.items():
        own, _, letter = form.partition(":")
        if letter not in ARGUMENTS:
            if form == name:
                return cls, ()
        elif colon and own == kind:
            try:
                return cls, (ARGUMENTS[letter](argument),)
            except ValueError:
                continue
    return None


def name_of(given: Any) -> Any:
    """The name of a likelihood: itself, or of the mixed one that a `mv.Columns` describes."""
    return spec_of(given.blocks()) if hasattr(given, "blocks") else given


def is_known(name: str) -> bool:
    """Whether `name` is one of minivae's likelihoods, or a registered one."""
    return _find(name) is not None


def domain(name: str) -> str:
    """Where the values of the likelihood called `name` live, as `Likelihood.domain`; "" for an unknown name."""
    found = _find(name)
    return found[0].domain if found else ""


def make(name: str, backend: Backend, features: int) -> Likelihood:
    """The likelihood called `name`: "bernoulli", "gaussian:shared", "gaussian:0.5"."""
    found = _find(name)
    if found is None:
        kind, *rest = name.partition(":")
        known = {form.partition(":")[0] for form in LIKELIHOODS}
        hint = meant(kind, {own: "".join((own, *rest)) for own in known} | SYNONYMS, "{} ")
        raise UsageError(
            f"likelihood={name!r}: {hint}expected one of {', '.join(LIKELIHOODS)}, with a number > 0 for σ, as "
            "in 'gaussian:0.5', and the number of classes for K, as in 'categorical:10'. One of your own has to be "
            "registered first: mv.register_likelihood, or --plugin FILE.py"
        )
    if name in OPS and not hasattr(backend.ops, OPS[name]):
        raise UsageError(f"likelihood {name!r} was registered after this Backend was made: make a new one")
    cls, arguments = found
    return cls(backend, features, *arguments)
