"""work: the interface of a contender. `race.py` starts it, `contender.py` runs it, the modules of KINDS implement it.

Each kind of case has a module with three functions and a table:

    prepare(case)             → arrays that every contender is given: parameters, rows, noise
    expected(case, arrays)    → what float64 computes from them, by name
    make(case, arrays)        → the Work of `case["name"]`
    CONTENDERS                name → class, or "module:Class" for one that is imported only when it races

and, if arrays are not to be compared element by element, `disagreement(case, expected, got)`. A case is JSON,
{"kind": "step", "threads": 2, …}: `kind` selects the module, which defines the other keys. A kind that is not in KINDS
is the name of a module, so that you can race a contender of your own.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import UsageError

KINDS = {  # kind of case → the module with its contenders
    "step": "minivae.bench.steps",
    "counts": "minivae.bench.counts",
    "busy": "minivae.bench.busy",
    "epoch": "minivae.bench.epochs",
    "evaluate": "minivae.bench.evaluations",
    "kernel": "minivae.bench.losses",
    "scaling": "minivae.bench.scaling",
    "rate": "minivae.bench.rates",
    "sum": "minivae.bench.sums",
    "gpu-step": "minivae.bench.gpu",
}
TOLERANCE = 2e-5  # relative to an array's largest element, in float32: sums are taken in another order

Arrays = dict[str, np.ndarray]


class Work:
    """The work of one contender. `each` is the number of units that one `run` does."""

    each = 1

    def facts(self) -> dict[str, Any]:
        """Return facts for the report: versions, bytes and operations of a unit."""
        return {}

    def results(self) -> dict[str, Any] | None:
        """Return the results for the given arrays, by name; None if there is nothing to compare."""
        return None

    def before_turn(self) -> None:
        """Run once before a timed turn, so that caches are filled and threads have started."""
        self.run()

    def run(self) -> None:
        """Do one unit of work, or `each` units."""
        raise NotImplementedError

    def finish(self) -> None:
        """Wait until everything that `run` started has finished."""


def module_of(case: dict[str, Any]) -> Any:
    """Return the module with the contenders of a case."""
    return import_module(KINDS.get(case["kind"], case["kind"]))


def contender(table: Mapping[str, str | type[Any]], name: str) -> type[Any]:
    """Return the class of a contender. PyTorch's and JAX's files are imported here, in the process that runs them."""
    found = table[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(f"{__package__}.contenders.{module}"), attribute)
    assert isinstance(found, type)
    return found


def require(package: str) -> Any:
    """Import a contender's library. Raises UsageError if it is not installed."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UsageError(f"{package} is not here ({error}): install the package {package} to have it race") from None


def disagreement(case: dict[str, Any], expected: Arrays, got: Arrays, tolerance: float = TOLERANCE) -> str | None:
    """Say where a contender differs from float64 by more than the tolerance; None if it agrees."""
    for name, right in expected.items():
        if name not in got:
            return f"{name} is missing"
        if got[name].shape != right.shape:
            return f"{name} has the shape {got[name].shape}, not {right.shape}"
        scale = np.abs(right).max()
        error = np.abs(got[name] - right).max() / (scale if scale > 0 else 1.0)
        if not error < tolerance:  # NaN counts as a difference
            return f"{name} differs by {error:.1e} of its largest element"
    return None
