"""optim: SGD, Adagrad, RMSprop, Adam, AdamW, each one fused pass over the flat buffers.

An optimiser owns its hyperparameters, its step count and its state: flat arrays laid out as the parameters are. The
update rules are in `kernels/sgd.py`, `kernels/adam.py` …; names and defaults are torch.optim's.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

from . import checks
from .backend import Array, Backend
from .errors import UsageError


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
        if not self.state:
            self.state = {name: backend.zeros(P.shape) for name in self.slots}
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
        held = {
            name: moments.get() if hasattr(moments, "get") else moments.copy() for name, moments in self.state.items()
        }
        return {**vars(self), "_serves": None, "state": held}


class SGD(Optimizer):
    """SGD steps against the gradient, with heavy-ball momentum or Nesterov's (`kernels/sgd.py`)."""

    def __init__(self, lr: float = 1e-2, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0):
        super().__init__(lr, weight_decay)
        self.momentum = _share("momentum", momentum)
        if nesterov and not momentum:
            raise UsageError(f"nesterov={nesterov!r}: expected False, or a momentum > 0 to look ahead with")
        self.nesterov = bool(nesterov)
        self.slots = ("velocity",) if momentum else ()

    def _apply(self, P, G, state, ops, lr):
        ops.sgd(P, state.get("velocity"), G, lr, self.momentum, self.nesterov, self.weight_decay)


class Adagrad(Optimizer):
    """Adagrad divides a step by the root of Σ gradient² so far (Duchi et al. 2011, `kernels/adagrad.py`)."""

    slots = ("squares",)

    def __init__(self, lr: float = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0):
        super().__init__(lr, weight_decay)
        self.eps = checks.positive("eps", eps)

    def _apply(self, P, G, state, ops, lr):
        ops.adagrad(P, state["squares"], G, lr, self.eps, self.weight_decay)


class RMSprop(Optimizer):
    """RMSprop divides it by the root of a moving mean of gradient² (Tieleman & Hinton 2012, `kernels/rmsprop.py`)."""

    def __init__(
        self, lr: float = 1e-2, rho: float = 0.99, eps: float = 1e-8, momentum: float = 0.0, weight_decay: float = 0.0
    ):
        super().__init__(lr, weight_decay)
        self.rho, self.momentum = _share("rho", rho), _share("momentum", momentum)
        self.eps = checks.positive("eps", eps)
        self.slots = ("squares", "velocity") if momentum else ("squares",)

    def _apply(self, P, G, state, ops, lr):
        squares, velocity = state["squares"], state.get("velocity")
        ops.rmsprop(P, squares, velocity, G, lr, self.rho, self.eps, self.momentum, self.weight_decay)


class Adam(Optimizer):
    """Adam steps by moving means, m/√v (Kingma & Ba 2015, `kernels/adam.py`); weight decay is added to the gradient."""

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0
    ):
        super().__init__(lr, weight_decay)
        self.beta1, self.beta2 = _share("beta1", beta1), _share("beta2", beta2)
        self.eps = checks.positive("eps", eps)

    def numbers(self) -> dict[str, Any]:
        return {
            "lr": self.lr,
            "decay": self.lr * self.weight_decay if self.decoupled else 0.0,
            "correction1": 1 - self.beta1**self.steps,
            "correction2": 1 - self.beta2**self.steps,
        }

    def _apply(self, P, G, state, ops, lr, decay, correction1, correction2):
        l2 = 0.0 if self.decoupled else self.weight_decay
        ops.adam(
            P, state["m"], state["v"], G, lr, self.beta1, self.beta2, self.eps, l2, decay, correction1, correction2
        )


class AdamW(Adam):
    """AdamW is Adam whose weight decay shrinks the parameters themselves (Loshchilov & Hutter 2019)."""

    decoupled = True

    def __init__(
        self, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 1e-2
    ):
        super().__init__(lr, beta1, beta2, eps, weight_decay)


def _share(name: str, value: Any) -> float:
    return checks.finite_float(name, value, lambda x: 0 <= x < 1, "a number in [0, 1)")
