"""Classes that have an order: the block "ordinal:K" of a mixed likelihood."""

from __future__ import annotations

import numpy as np

from ..backend import Array, Backend
from ..buffers import Shape
from ..kernels.ordinal import LOGSTEP_MAX, LOGSTEP_MIN, TABLE_PARTS
from .counts import Classes


class Ordinal(Classes):
    """P(x ≤ k|z) = sigmoid(c_k − η): η from the decoder, K − 1 rising thresholds c_k a feature, learned
    (`kernels/ordinal.py`): cumulative logits, or the proportional-odds model (McCullagh 1980).

    The parameter `likelihood.steps` (K − 1, D) holds c_0 and the logarithms of the steps, 0 at the start; these are
    clamped to [−10, 10], and `clamped` counts how often.
    """

    kind = "ordinal"
    clamps = True
    steps: Array

    def __init__(self, backend: Backend, features: int, classes: int):
        super().__init__(backend, features, classes)
        self.neutral = 1e30, float(classes - 1)  # beyond every threshold
        self.table = backend.zeros((TABLE_PARTS * classes, features), np.float64)

    def parameters(self) -> list[tuple[str, Shape]]:
        return [("steps", (self.classes - 1, self.features))]

    def bind(self, tensors):
        self.steps = tensors["steps"]

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        d_steps, clamped = d_params["steps"], d_params["clamped"]
        self.backend.ops.ordinal(nll_rows, d_out, d_steps, clamped, self.table, out, self.steps, X, weight)

    def probabilities(self, out: Array) -> Array:
        """P(x = k|z), (R, K, D)."""
        xp, K = self.backend.xp, self.classes
        t = self.steps.astype("float64")
        step = xp.exp(xp.clip(t, LOGSTEP_MIN, LOGSTEP_MAX))
        c = step.copy()
        c[0] = t[0]
        for k in range(1, K - 1):
            c[k] += c[k - 1]
        a = c - out.astype("float64")[:, None]
        rho = xp.empty((out.shape[0], K, self.features))
        expit = self.backend.special.expit
        rho[:, 0], rho[:, K - 1] = expit(a[:, 0]), expit(-a[:, K - 2])
        rho[:, 1 : K - 1] = expit(a[:, 1:]) * expit(-a[:, :-1]) * -xp.expm1(-step[1:])
        return rho

    def mean(self, out):
        number = self.backend.xp.arange(self.classes).reshape(-1, 1)
        return (self.probabilities(out) * number).sum(axis=1).astype(out.dtype)

    def draw(self, out, noise):
        rho = self.probabilities(out)
        below, x = rho[:, 0], self.backend.xp.zeros(noise.shape, out.dtype)
        for k in range(1, self.classes):
            x += noise >= below
            below = below + rho[:, k]
        return x
