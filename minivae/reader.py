"""reader: rows in the data's units → what a pass takes. What a model knows of its data stands here: units and columns.

    data's units ─ checks ─ scale ─ threshold ─ `Batch`: X, what the encoder sees, mask, condition, exposure
    and back: `in_data_units` of `evaluation/passes.py`

Rows may be an array on the host or the device, memory-mapped, of scipy.sparse (`sparse.py`), or `Given` rows.

Shapes: N rows in all, B in a batch, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import wraps
from threading import RLock
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from . import checks
from .backend import Array, Backend
from .buffers import Workspace
from .errors import UsageError
from .inputs import NEEDS_CONDITION, Batch, Condition, Given, Inputs, explained, row_numbers, row_weights
from .likelihoods.base import Likelihood
from .units import Checked, binarize_for, columns_for, scale_for

if TYPE_CHECKING:
    from .layers import MLP

NO_LOCK = nullcontext()
P = ParamSpec("P")
R = TypeVar("R")


def locked(call: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time into a method of a model, or a function whose first argument is one."""

    @wraps(call)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        model: Any = args[0] if args else kwargs.get("vae")
        with getattr(model, "lock", NO_LOCK):  # the call itself refuses what is not a model
            return call(*args, **kwargs)

    return alone


class Reader:
    """The part of a model that reads rows; `model.py` has the mathematics."""

    scale = Checked(scale_for)
    """The map from the data's units to those of encoder and decoder; None: they are the same. `fit` sets it."""
    binarize = Checked(binarize_for)
    """How rows become 0 or 1 after scaling: "none", "threshold", "static" or "dynamic". `fit(binarize=)` sets it.

    Evaluation binarises alike, by the evaluation stream; a single pass, as `encode`, applies "threshold" alone.
    """
    columns = Checked(columns_for)
    """The names of the D columns, for messages and the model's file; None where they have none."""
    likelihood: Likelihood
    encoder: MLP
    inputs: Inputs | None  # None: the encoder sees X itself
    undecided: bool  # whether "auto" has still to choose the likelihood

    def __init__(self, backend: Backend, features: int, inputs: str, missing: bool, condition: Any, schema: Any):
        self.backend, self.workspace = backend, Workspace(backend)
        self.features = checks.integer("features", features)
        self.input_kind = checks.instance_of("inputs", inputs, str, "its name")
        self.missing = checks.boolean("missing", missing)
        self.condition = Condition.of(condition)
        self.lock = RLock()  # held by every public call
        self.schema = schema  # a table's `mv.Columns`
        self.scale, self.binarize, self.columns = None, "none", None if schema is None else schema.names

    # ---- from the data's units to a batch, and back -------------------------------------------------------------

    def given(self, X: Any, condition: Any = None, exposure: Any = None) -> Any:
        """X (N, D), or Z (N, L), with what is given of its rows, to be taken wherever X is: `validation=`, `evaluate` …

        X           also a table of the model's `schema`, which has its condition among its columns
        condition   (N,) or (N, columns) as the model was made with, or one for all rows
        exposure    (N,) > 0, or one: the means of counts are multiplied by it
        """
        if self.schema is not None and self.schema.is_table(X):
            condition = self.schema.condition(X) if condition is None else condition
            X = self.schema.encode(X)
        return X if condition is None and exposure is None else Given.of(self, X, condition, exposure)

    def whole(self, name: str, X: Any) -> Any:
        """X (N, D), checked, to be taken in blocks: itself or, where it is scipy.sparse's, as CSR. `Given` rows too."""
        given = self.given(X)
        X = explained(given)
        if self.condition and X is given:
            raise UsageError(NEEDS_CONDITION)
        if hasattr(X, "tocsr"):
            from .sparse import whole

            X = whole(self, name, X)
        else:
            checks.array(name, X, self.features)
        return Given(X, given.condition, given.log_exposure) if isinstance(given, Given) else X

    def rows_in(self, name: str, X: Any, first: int = 0, look: bool = True) -> Batch:
        """X (B, D) in the data's units, checked → the batch: scaled, thresholded, the backend's, C order.

        first   the number of X's first row, for messages;  look: whether the values are checked
        """
        given, X = (X, X.X) if isinstance(X, Given) else (None, X)
        if isinstance(X, Batch):
            return X
        if hasattr(X, "tocsr"):
            from .sparse import rows_in

            return self.batch(rows_in(self, name, X, first), given)
        checks.array(name, X, self.features)
        if self.scale is not None:
            X = self.scale.apply(self.backend.to_host(X), self.backend.dtype)
        whole = X = self.native(name, X)
        if self.binarize == "threshold":
            out = self.workspace.take(name, X.shape)
            out[...] = X >= 0.5
            X = out
        if self.backend.sparse == "yes" and self.inputs is None:
            from .sparse import with_nonzeros

            X = with_nonzeros(X, self.workspace)
            look = look and not (X.X is whole and X.x_in.values is None)  # all that is not 0 was found to be 1
        if look:
            checks.finite(name, whole, first, self.columns, self.backend.to_host, self.missing)
        return self.batch(X, given)

    def batch(self, X: Any, given: Given | None = None) -> Batch:
        """X (B, D) in the model's units → the batch, with what the encoder sees (`inputs.py`). A batch stays as it is.

        given   the condition and the exposure of the same rows
        """
        beside = (None, None) if given is None else self.beside(given)
        if isinstance(X, Batch):
            return X if given is None else replace(X, condition=beside[0], log_exposure=beside[1])
        if self.inputs is None:
            return Batch(X, X, None, *beside)
        return self.inputs(X, self.backend, self.workspace, *beside)

    def beside(self, given: Given) -> tuple[Array | None, Array | None]:
        """Condition (B, C) and ln of the exposure (B,) as the backend's arrays; None where there is none."""
        condition = None if given.condition is None else self.native("condition", given.condition)
        return condition, None if given.log_exposure is None else self.native("log_exposure", given.log_exposure)

    def filled(self, X: Any) -> Any:
        """X with a value of the likelihood's domain in every missing cell, for checks of the others; X if none may."""
        if not self.missing or self.likelihood.neutral is None:
            return X
        xp = self.backend.xp if self.backend.owns(X) else np
        return xp.where(X == X, X, xp.asarray(self.likelihood.neutral[1]))

    def native(self, name: str, x: Any) -> Array:
        """x as a C-contiguous array of the backend in the model's dtype: itself, or scratch of that name."""
        if self.backend.owns(x) and x.dtype == self.backend.dtype and x.flags.c_contiguous:
            return x
        out = self.workspace.take(name, x.shape)
        self.backend.assign(out, x)
        return out

    def weights_in(self, weights: Any, B: int) -> Array | None:
        """Weights of B rows, checked → as the backend's array (B,) of the model's dtype; None stays None."""
        return None if weights is None else self.native("weights", row_weights("weights", weights, B))

    def numbers_in(self, rows: Any, B: int) -> Array | None:
        """The numbers of B rows, checked → as the backend's array (B,); None stays None."""
        return None if rows is None else self.backend.asarray(row_numbers("rows", rows, B))

    def eps_in(self, eps: Any, B: int, L: int) -> Array:
        """The caller's noise (B, L), or (S, B, L), checked → (S, B, L) as the backend's array of the model's dtype."""
        shape = tuple(getattr(eps, "shape", ()))
        if shape == (B, L):
            eps = eps.reshape(1, B, L)
        elif len(shape) != 3 or shape[0] == 0 or shape[1:] != (B, L):
            raise UsageError(f"eps: expected ({B}, {L}), or (S, {B}, {L}) for S samples; got {shape}")
        return self.native("eps", checks.finite("eps", eps) if isinstance(eps, np.ndarray) else eps)
