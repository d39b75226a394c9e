"""RMSprop, with momentum or without."""

from __future__ import annotations

from .. import checks
from .base import Optimizer, share


class RMSprop(Optimizer):
    """RMSprop divides it by the root of a moving mean of gradient² (Tieleman & Hinton 2012, `kernels/rmsprop.py`)."""

    def __init__(
        self, lr: float = 1e-2, rho: float = 0.99, eps: float = 1e-8, momentum: float = 0.0, weight_decay: float = 0.0
    ):
        super().__init__(lr, weight_decay)
        self.rho, self.momentum = share("rho", rho), share("momentum", momentum)
        self.eps = checks.positive("eps", eps)
        self.slots = ("squares", "velocity") if momentum else ("squares",)

    def _apply(self, P, G, state, ops, lr):
        squares, velocity = state["squares"], state.get("velocity")
        ops.rmsprop(P, squares, velocity, G, lr, self.rho, self.eps, self.momentum, self.weight_decay)
