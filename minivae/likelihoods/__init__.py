"""likelihoods: p(x|z), what the decoder's raw outputs mean. One class for each distribution.

A likelihood is the protocol of `Likelihood`: how many outputs the decoder needs, which data it can explain, the
negative log-likelihood with its gradient (a fused op of `kernels/`), its mean, and how to draw from it. A new one is a
file in `kernels/` and a class here; tests, gradient checks and benchmarks walk the table of them, LIKELIHOODS.

Reading order: base (the protocol), unit (values in [0, 1]), real (real numbers), counts (classes and counts).

Shapes: R = S·B rows, sample by sample; D features; out (R, width); X (B, D). Nats, every constant kept.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from .. import kernels
from ..backend import Backend
from ..errors import UsageError
from .base import ARGUMENTS, LIKELIHOODS, Likelihood

# Each class gives itself its row of LIKELIHOODS, in this order.
from . import unit, real, counts  # noqa: F401  # isort: skip
from .mixed import Mixed, spec_of  # isort: skip

__all__ = ["LIKELIHOODS", "Likelihood", "make", "register_likelihood"]

SYNONYMS = {  # what other programs call them
    "mse": "gaussian:1", "l2": "gaussian:1", "normal": "gaussian", "l1": "laplace", "mae": "laplace",
    "bce": "bernoulli", "cross-entropy": "bernoulli", "nb": "negative-binomial",
}  # fmt: skip
_registered: dict[str, str] = {}  # the names of users' likelihoods → those of their ops


def register_likelihood(name: str, cls: type[Likelihood], op: kernels.Op) -> None:
    """Add a likelihood of your own: `mv.VAE(likelihood=name)`, `--likelihood name`, gradcheck and traces then know it.

    name   lower-case letters, digits and hyphens, such as "student-t"; cls.name is the same
    cls    a `minivae.likelihoods.Likelihood`; it calls `self.backend.ops.<name>`, with _ for each hyphen
    op     a `minivae.kernels.Op`; without a CUDA kernel (None) a GPU runs its reference, and says so once
    A model's file holds the name alone: register it, or give its file to --plugin, before loading one. Registering a
    name again replaces it. Raises UsageError for a name of minivae's own.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"likelihood {name!r}: expected lower-case letters, digits and hyphens, such as 'student-t'")
    op_name = name.replace("-", "_")
    if name not in _registered and (name in LIKELIHOODS or op_name in kernels.op_names()):
        raise UsageError(f"likelihood {name!r}: minivae has one of that name; choose another")
    if not (isinstance(cls, type) and issubclass(cls, Likelihood)):
        raise UsageError(f"likelihood {name!r}: expected a subclass of minivae.likelihoods.Likelihood, and got {cls!r}")
    if getattr(cls, "name", None) != name:
        raise UsageError(f"likelihood {name!r}: expected {cls.__name__}.name to be the same name")
    if not isinstance(op, kernels.Op):
        raise UsageError(f"likelihood {name!r}: expected a minivae.kernels.Op, and got {op!r}")
    kernels.register(op_name, op)
    cls.forward_only = vars(cls).get("forward_only", False)  # of its own nll_and_grad, whatever class it builds on
    LIKELIHOODS[name], _registered[name] = cls, op_name


def unregister_likelihood(name: str) -> None:
    """Forget a likelihood that `register_likelihood` added."""
    kernels.unregister(_registered.pop(name))
    del LIKELIHOODS[name]


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


def _meant(name: str) -> str:
    """The question whether another name was meant; "" where none is close."""
    kind, colon, argument = name.lower().partition(":")
    known = [form.partition(":")[0] for form in LIKELIHOODS]
    close = difflib.get_close_matches(kind, [*known, *SYNONYMS], n=1)
    return f"did you mean {SYNONYMS.get(close[0], close[0] + colon + argument)!r}? " if close else ""


def make(name: str, backend: Backend, features: int) -> Likelihood:
    """The likelihood called `name`: "bernoulli", "gaussian:shared", "gaussian:0.5"."""
    found = _find(name)
    if found is None:
        raise UsageError(
            f"likelihood={name!r}: {_meant(name)}expected one of {', '.join(LIKELIHOODS)}, with a number > 0 for σ, as "
            "in 'gaussian:0.5', and the number of classes for K, as in 'categorical:10'. One of your own has to be "
            "registered first: mv.register_likelihood, or --plugin FILE.py"
        )
    if name in _registered and not hasattr(backend.ops, _registered[name]):
        raise UsageError(f"likelihood {name!r} was registered after this Backend was made: make a new one")
    cls, arguments = found
    return cls(backend, features, *arguments)
