"""names: what to say of a likelihood's name that is not known."""

from __future__ import annotations

from ..hints import meant
from .base import LIKELIHOODS

SYNONYMS = {  # what other programs call them
    "mse": "gaussian:1", "l2": "gaussian:1", "normal": "gaussian", "l1": "laplace", "mae": "laplace",
    "bce": "bernoulli", "cross-entropy": "bernoulli", "nb": "negative-binomial",
}  # fmt: skip


def unknown(name: str) -> str:
    """Which names there are, and which was probably meant."""
    kind, *rest = name.partition(":")
    known = {form.partition(":")[0] for form in LIKELIHOODS}
    hint = meant(kind, {own: "".join((own, *rest)) for own in known} | SYNONYMS, "{} ")
    return (
        f"likelihood={name!r}: {hint}expected one of {', '.join(LIKELIHOODS)}, with a number > 0 for σ, as "
        "in 'gaussian:0.5', and the number of classes for K, as in 'categorical:10'. One of your own has to be "
        "registered first: mv.register_likelihood, or --plugin FILE.py"
    )
