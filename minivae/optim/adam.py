"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from .. import checks
from .base import Optimizer, share


class Adam(Optimizer):
    """Adam steps by moving means, m/√v (Kingma & Ba 2015, `kernels/adam.py`); weight decay is added to the gradient."""

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self, lr: float = 1e-3, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0
    ):
        super().__init__(lr, weight_decay)
        self.beta1, self.beta2 = share("beta1", beta1), share("beta2", beta2)
        self.eps = checks.positive("eps", eps)

    def numbers(self) -> dict[str, Any]:
        decay = self.lr * self.weight_decay if self.decoupled else 0.0
        first, second = 1 - self.beta1**self.steps, 1 - self.beta2**self.steps
        return {"lr": self.lr, "decay": decay, "correction1": first, "correction2": second}

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
