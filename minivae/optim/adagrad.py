"""Adagrad."""

from __future__ import annotations

from .. import checks
from .base import Optimizer


class Adagrad(Optimizer):
    """Adagrad divides a step by the root of Σ gradient² so far (Duchi et al. 2011, `kernels/adagrad.py`)."""

    slots = ("squares",)

    def __init__(self, lr: float = 1e-2, eps: float = 1e-10, weight_decay: float = 0.0):
        super().__init__(lr, weight_decay)
        self.eps = checks.positive("eps", eps)

    def _apply(self, P, G, state, ops, lr):
        ops.adagrad(P, state["squares"], G, lr, self.eps, self.weight_decay)
