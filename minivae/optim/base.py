"""What all optimisers share: the step count, the moments, and whose they are."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

from .. import checks
from ..backend import Array, Backend
from ..errors import UsageError


class Updates(Protocol):
    """What a training step needs of an optimiser."""

    def update(self, P: Array, G: Array, backend: Backend, *, part: slice = ...) -> None: ...


class Optimizer:
    """What all share: `lr` may be changed between steps; `state` and `steps` are what a checkpoint keeps.

    lr            learning rate, > 0
    weight_decay  λ ≥ 0, added to the gradient as λ P (AdamW: taken from P itself, lr × λ)
    """

    slots: tuple[str, ...] = ()  # names of the state arrays
    _apply: Callable[..., None]  # (P, G, state, ops, **numbers()): the update of some or all parameters, each by itself

    def __init__(self, lr: float, weight_decay: float):
        self.lr = checks.positive("lr", lr)
        self.weight_decay = checks.not_negative("weight_decay", weight_decay)
        self._serves: Any = None  # a weak reference to the parameters whose moments it holds
        self.steps = 0
        self.state: dict[str, Array] = {}

    def numbers(self) -> dict[str, Any]:
        """What changes between steps, at step number `steps`, by name."""
        return {"lr": self.lr}

    def update(self, P: Array, G: Array, backend: Backend, numbers: Any = None, *, part: slice = slice(None)) -> None:
        """One step: P (n,) changed in place, from the gradient G (n,).

        numbers   `numbers()` of the step in device memory, for a captured step, which counts no steps; else None
        part      of the n: what this rank updates, while others update the rest (`distributed/slices.py`)
        """
        if self._serves is None:
            self._serves = weakref.ref(P)
            if self.state:
                self._adopt(P, backend)
        elif self._serves() is not P:
            raise UsageError("this optimizer holds the moments of another model: make a new one for each model")
        self.state = self.state or {name: backend.zeros(P.shape) for name in self.slots}
        if numbers is None:
            self.steps += 1
            numbers = self.numbers()
        held = {name: moments[part] for name, moments in self.state.items()}
        self._apply(P[part], G[part], held, backend.ops, **numbers)

    def _adopt(self, P: Array, backend: Backend) -> None:
        """Bring moments that a pickle held to the backend, where they belong to parameters of this shape."""
        for name, moments in self.state.items():
            if moments.shape != P.shape:
                raise UsageError(
                    f"this optimizer holds moments of {moments.size} parameters, and the model has {P.size}: make a "
                    "new one for each model"
                )
            self.state[name] = backend.asarray(moments, P.dtype)

    def __getstate__(self) -> dict[str, Any]:
        """For `pickle` and `copy`: all of it, moments on the host. A copy serves the model that it updates first."""
        held = {name: getattr(moments, "get", moments.copy)() for name, moments in self.state.items()}  # CuPy's `get`
        return {**vars(self), "_serves": None, "state": held}


def share(name: str, value: Any) -> float:
    """A number in [0, 1)."""
    return checks.finite_float(name, value, lambda x: 0 <= x < 1, "a number in [0, 1)")
