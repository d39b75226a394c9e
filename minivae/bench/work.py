"""work: what a contender is. `race.py` asks for it, `contender.py` drives it, the rooms below fill it in.

A room is a module with three functions and a table:

    prepare(case)             → arrays that every contender is given: parameters, rows, noise
    expected(case, arrays)    → what float64 computes from them, by name
    make(case, arrays)        → the Work of `case["name"]`
    CONTENDERS                name → class, or "module:Class" for one that is imported only when it is asked for

and, where arrays are not to be compared element by element, `disagreement(case, expected, got)`. A case is JSON,
{"kind": "step", "threads": 2, …}: `kind` says which room, the rest is the room's own. A kind that is not in ROOMS is
the name of a module, so that a contender of yours can race against ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import UsageError

ROOMS = {  # kind of case → who knows its contenders
    "step": "minivae.bench.steps",
    "busy": "minivae.bench.busy",
    "epoch": "minivae.bench.epochs",
    "evaluate": "minivae.bench.evaluations",
    "kernel": "minivae.bench.losses",
    "scaling": "minivae.bench.scaling",
    "rate": "minivae.bench.rates",
    "gpu-step": "minivae.bench.gpu",
}
TOLERANCE = 2e-5  # of an array's largest element, in float32: the order of the sums differs

Arrays = dict[str, np.ndarray]


class Work:
    """One contender at its work. `each` is how many units one `run` does."""

    each = 1

    def facts(self) -> dict[str, Any]:
        """What is worth knowing of it: versions, bytes and operations of a unit."""
        return {}

    def results(self) -> dict[str, Any] | None:
        """What it computes from the arrays that it was given, by name; None where there is nothing to compare."""
        return None

    def wake(self) -> None:
        """What is done before a turn is timed, to wake up caches and threads."""
        self.run()

    def run(self) -> None:
        """One unit of work, or `each` of them."""
        raise NotImplementedError

    def finish(self) -> None:
        """Wait for whatever `run` left under way."""


def room(case: dict[str, Any]) -> Any:
    """The module that knows the contenders of a case."""
    return import_module(ROOMS.get(case["kind"], case["kind"]))


def contender(table: Mapping[str, str | type[Any]], name: str) -> type[Any]:
    """The class of a contender; the file of PyTorch's or JAX's is imported here, in the process that runs it."""
    found = table[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(f"{__package__}.contenders.{module}"), attribute)
    assert isinstance(found, type)
    return found


def require(package: str) -> Any:
    """A contender's library. Raises UsageError where it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UsageError(f"{package} is not here ({error}): install the package {package} to have it race") from None


def disagreement(case: dict[str, Any], expected: Arrays, got: Arrays, tolerance: float = TOLERANCE) -> str | None:
    """In what a contender differs from float64 beyond the tolerance; None where it agrees."""
    for name, right in expected.items():
        if name not in got:
            return f"{name} is missing"
        if got[name].shape != right.shape:
            return f"{name} has the shape {got[name].shape}, not {right.shape}"
        scale = np.abs(right).max()
        error = np.abs(got[name] - right).max() / (scale if scale > 0 else 1.0)
        if not error < tolerance:  # NaN is no agreement
            return f"{name} differs by {error:.1e} of its largest element"
    return None
