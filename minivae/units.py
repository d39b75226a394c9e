"""units: what a model knows of its data beside their width: a scale, a binarisation, the names of the columns.

Each is an attribute of the model that may be set; the functions here say what it may be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import checks
from .errors import UsageError

if TYPE_CHECKING:
    from .datasets.scale import Scale
    from .model import Model

BINARIZE = ("none", "threshold", "static", "dynamic")
SCALES = ("none", "minmax", "maxabs", "standard")
BINARIZE_OR_AUTO, SCALE_OR_AUTO = ("auto", *BINARIZE), ("auto", *SCALES)  # what `fit`, commands and estimators take
T = TypeVar("T")


class Checked(Generic[T]):
    """An attribute of a model. What is set is `check(model, value)`, which raises UsageError for what it cannot be."""

    def __init__(self, check: Callable[[Any, Any], T]):
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, model: Any, value: Any) -> None:
        vars(model)[self.name] = self.check(model, value)  # where Python finds it: there is no __get__

    if TYPE_CHECKING:

        def __get__(self, model: Any, owner: type) -> T: ...


def a_scale(value: Any) -> Scale:
    """A scale from the data's units to the model's."""
    return checks.has_method("scale", value, "log_jacobian", "a mv.Scale, as mv.Scale.fit('standard', X) makes one")


def scale_for(model: Model, scale: Scale | None) -> Scale | None:
    """The scale, None for the identity; UsageError for one that this model cannot have."""
    return None if scale is None else _suited(model, a_scale(scale))


def _suited(model: Model, scale: Scale) -> Scale | None:
    if len(scale.shift) != model.features:
        came = f"this one was fitted to {len(scale.shift)}"
        raise UsageError(f"scale: expected one for {model.features} features; {came}")
    if scale.kind == "none":
        return None
    kept = model.likelihood.scales
    if kept and not all(k or (a == 0 and f == 1) for k, a, f in zip(kept, scale.shift, scale.factor, strict=True)):
        raise UsageError(
            "this scale changes counts or classes: expected one that scales the real columns alone, as "
            "fit(scale='standard') makes it"
        )
    if model.likelihood.integer:
        raise UsageError(
            f"likelihood {model.likelihood.name!r} explains integers, and the scaling {scale.kind!r} makes "
            "them others: leave it out (--scale none)"
        )
    return scale


def binarize_for(model: Model, how: str) -> str:
    """`how`; UsageError for one that this model cannot have."""
    if checks.choice("binarize", how, BINARIZE) != "none" and model.missing:
        raise UsageError(f"binarize={how!r} with missing=True: a missing value is neither 0 nor 1; take 'none'")
    return how


def columns_for(model: Model, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names as a tuple; UsageError unless there is one for each feature."""
    listed = None if names is None or isinstance(names, str) or not hasattr(names, "__iter__") else tuple(names)
    if names is not None and (listed is None or len(listed) != model.features or {*map(type, listed)} - {str}):
        raise UsageError(f"columns={names!r}: expected {model.features} names, one for each column")
    return listed
