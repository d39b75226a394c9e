"""choose: what "auto" means for a likelihood, a scale and a binarisation, in Python and on the command line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks, likelihoods
from ..errors import UsageError
from ..units import BINARIZE_OR_AUTO, SCALE_OR_AUTO
from .rows import FileRows, every, finite_extent

if TYPE_CHECKING:
    from ..distributed.world import World


@dataclass(frozen=True)
class Choice:
    """What is trained with: no value is "auto". `reason` is why the likelihood was taken."""

    likelihood: str
    reason: str
    scale: Any
    binarize: str


def choose(
    X: Any, likelihood: str, scale: Any, binarize: str, picture: bool = False, ranks: World | None = None
) -> Choice:
    """Choose for X (N, D) whichever of likelihood, scale and binarisation is "auto"; the others stay as they are.

    scale     a kind, a `Scale`, or None for none
    picture   whether rows are pictures, in [0, 1], which "auto" does not scale. Scaled rows are a table
    ranks     each looks at a share of the rows, and all choose alike; None: this process looks at all

    X may be rows of scipy.sparse: a table, whose scale keeps zeros.
    """
    sparse = hasattr(X, "tocsr")
    checks.choice("binarize", binarize, BINARIZE_OR_AUTO)
    if isinstance(scale, str):
        checks.choice("scale", scale, SCALE_OR_AUTO)
    kind = scale if isinstance(scale, str) else getattr(scale, "kind", "none")
    picture = picture and not sparse and kind in ("none", "auto")
    reason = "as asked for"
    if likelihood == "auto":
        likelihood, reason = choose_likelihood(X, picture, ranks)
        if likelihood == "bernoulli" and kind == "standard":
            likelihood, reason = "gaussian", "standardised values are real numbers"
    if kind == "auto":
        found = likelihoods.find(likelihood)
        scale = "none" if picture else choose_scale(found[0].domain if found else "", sparse)
    if binarize == "auto":
        binarize = choose_binarize(X, picture, ranks) if likelihood == "bernoulli" else "none"
    return Choice(likelihood, reason, scale, binarize)


def choose_likelihood(X: Any, picture: bool | None = None, ranks: World | None = None) -> tuple[str, str]:
    """Choose the decoder distribution for X (N, D) or (N, h, w) → (name, reason); reads the rows in blocks.

    'bernoulli' if all values are 0 or 1, and for grey pictures in [0, 1] (picture=True, or three dimensions), which
    dynamic binarisation turns into such values; otherwise 'gaussian'. picture=False overrules the dimensions.
    UsageError for other shapes and for NaN or infinities. X may be rows of scipy.sparse, which are no pictures.
    """
    return _choose(X, picture, ranks)[:2]


def choose_binarize(X: Any, picture: bool | None = None, ranks: World | None = None) -> str:
    """'dynamic' for grey pictures that `choose_likelihood` makes Bernoulli, 'none' for 0/1 and for Gaussian data."""
    return _choose(X, picture, ranks)[2]


def choose_scale(domain: str, sparse: bool = False) -> str:
    """The scale that `auto` means for a likelihood of this `domain`: 'standard' for real numbers, else 'none'.

    sparse   whether the rows are scipy.sparse's, whose zeros have to stay: 'maxabs' for real numbers
    """
    if domain != "real":
        return "none"
    return "maxabs" if sparse else "standard"


def _choose(X: Any, picture: bool | None, ranks: World | None) -> tuple[str, str, str]:
    """(likelihood, reason, binarize)."""
    X = X if isinstance(X, FileRows) or hasattr(X, "tocsr") else np.asanyarray(X)
    if math.prod(X.shape) == 0 or X.ndim not in (2, 3):
        raise UsageError(f"expected data (N, D) or (N, h, w) to choose a likelihood for, not shape {X.shape}")
    zeros = False  # whether some are not stored
    if hasattr(X, "tocsr"):
        from ..sparse import canonical_for

        X = canonical_for(ranks, "the data", X, X.shape[-1])
        zeros = X.nnz < math.prod(X.shape)
        X, picture = X.data.reshape(-1, 1) if X.nnz else np.zeros((1, 1), X.dtype), False
    low, high = finite_extent(X, "the data", ranks)
    if zeros:
        low, high = min(low, 0), max(high, 0)
    inside = low >= 0 and high <= 1
    if inside and every(X, lambda block: (block == 0) | (block == 1), ranks):
        return "bernoulli", "every value is 0 or 1", "none"
    if inside and (X.ndim == 3 if picture is None else picture):
        return "bernoulli", "grey pictures in [0, 1]: dynamic binarisation makes this a likelihood", "dynamic"
    kind = "but not known to be pictures" if inside else "not in [0, 1]"
    if not inside and low >= 0 and every(X, lambda block: block % 1 == 0, ranks):
        kind = "all integers: if they are counts, use --likelihood poisson or negative-binomial"
    return "gaussian", f"real values from {low:g} to {high:g}, {kind}", "none"
