"""SGD, with heavy-ball momentum or Nesterov's."""

from __future__ import annotations

from ..errors import UsageError
from .base import Optimizer, share


class SGD(Optimizer):
    """SGD steps against the gradient, with heavy-ball momentum or Nesterov's (`kernels/sgd.py`)."""

    def __init__(self, lr: float = 1e-2, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0):
        super().__init__(lr, weight_decay)
        self.momentum = share("momentum", momentum)
        if nesterov and not momentum:
            raise UsageError(f"nesterov={nesterov!r}: expected False, or a momentum > 0 to look ahead with")
        self.nesterov = bool(nesterov)
        self.slots = ("velocity",) if momentum else ()

    def _apply(self, P, G, state, ops, lr):
        ops.sgd(P, state.get("velocity"), G, lr, self.momentum, self.nesterov, self.weight_decay)
