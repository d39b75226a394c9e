"""likelihoods: p(x|z), what the decoder's raw outputs mean. One class for each distribution.

A likelihood is the protocol of `Likelihood`: how many outputs the decoder needs, which data it can explain, the
negative log-likelihood with its gradient (a fused op of `kernels/`), its mean, and how to draw from it. A new one is a
file in `kernels/`, a class here and a row in LIKELIHOODS; tests, gradient checks and benchmarks walk that table.

Reading order: base (the protocol), unit (values in [0, 1]), real (real numbers), counts (classes and counts).

Shapes: R = S·B rows, sample by sample; D features; out (R, width); X (B, D). Nats, every constant kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import Backend
from ..errors import UsageError
from .base import Likelihood
from .counts import Categorical, NegativeBinomial, Poisson
from .real import Gaussian, GaussianFixed, GaussianOptimal, GaussianShared, Laplace
from .unit import Bernoulli, ContinuousBernoulli

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Gaussian",
    "GaussianFixed",
    "GaussianOptimal",
    "GaussianShared",
    "Laplace",
    "Likelihood",
    "NegativeBinomial",
    "Poisson",
    "make",
]

# How each is asked for: name → class. A letter of ARGUMENTS stands for a number of the caller's.
LIKELIHOODS: dict[str, type[Likelihood]] = {
    "bernoulli": Bernoulli,
    "continuous-bernoulli": ContinuousBernoulli,
    "gaussian": Gaussian,
    "gaussian:σ": GaussianFixed,
    "gaussian:shared": GaussianShared,
    "gaussian:optimal": GaussianOptimal,
    "laplace": Laplace,
    "categorical:K": Categorical,
    "poisson": Poisson,
    "negative-binomial": NegativeBinomial,
}
ARGUMENTS: dict[str, Callable[[str], Any]] = {"σ": float, "K": int}


def make(name: str, backend: Backend, features: int) -> Likelihood:
    """The likelihood called `name`: "bernoulli", "gaussian:shared", "gaussian:0.5"."""
    kind, colon, argument = name.partition(":")
    cls: Any
    for form, cls in LIKELIHOODS.items():
        own, _, letter = form.partition(":")
        if letter not in ARGUMENTS:
            if form == name:
                return cls(backend, features)
        elif colon and own == kind:
            try:
                number = ARGUMENTS[letter](argument)
            except ValueError:
                continue
            return cls(backend, features, number)
    raise UsageError(
        f"likelihood={name!r}: expected one of {', '.join(LIKELIHOODS)}, with a number > 0 for σ, as in "
        "'gaussian:0.5', and the number of classes for K, as in 'categorical:10'"
    )
