"""layers: Dense and MLP. Backward stands directly under forward, its statements in reverse order.

Shapes: B rows, n_in → n_out. W is (n_in, n_out), so Y = X W + b.
"""

from __future__ import annotations

import math
from itertools import pairwise

from . import checks
from .backend import Array, Backend
from .buffers import ParameterBuffer, Shape, Workspace
from .errors import UsageError
from .kernels.dense import ACTIVATIONS, KEEPS_A, scratch
from .noise import Noise


class Dense:
    """Y = f(X W + b).

    name        prefix of its tensors: `name.W`, `name.b`
    activation  f: identity, relu, tanh, sigmoid, softplus or silu (formulas in `kernels/dense.py`)
    """

    def __init__(self, backend: Backend, workspace: Workspace, name: str, n_in: int, n_out: int, activation: str):
        self.gemm, self.ops = backend.gemm, backend.ops
        self.workspace, self.name = workspace, name
        self.n_in, self.n_out, self.activation = n_in, n_out, activation

    def parameters(self) -> list[tuple[str, Shape]]:
        return [(f"{self.name}.W", (self.n_in, self.n_out)), (f"{self.name}.b", (self.n_out,))]

    def bind(self, buffer: ParameterBuffer) -> None:
        """Take the views of W, b and their gradients."""
        W, b = f"{self.name}.W", f"{self.name}.b"
        self.W, self.b = buffer.views[W], buffer.views[b]
        self.dW, self.db = buffer.grads[W], buffer.grads[b]

    def forward(self, X: Array) -> Array:
        """X (B, n_in) → Y (B, n_out): A = X W + b, Y = f(A). X, and A where f needs it, stay for the backward.

        X may be a batch by its non-zeros, which multiplies by itself (`matmul/sparse.py`).
        """
        shape = (X.shape[0], self.n_out)
        self.X = X
        self.Y = self.workspace.take(f"{self.name}.Y", shape)
        self.A = self.workspace.take(f"{self.name}.A", shape) if self.activation in KEEPS_A else None
        getattr(X, "gemm", self.gemm)(self.Y, X, self.W)
        self.ops.dense_forward(self.Y, self.A, self.b, self.activation)
        return self.Y

    def backward(self, dY: Array, need_dX: bool = True, need_dW: bool = True) -> Array | None:
        """dY (B, n_out), which becomes dA → dX (B, n_in): dA = dY ⊙ f′(A), db = Σ_rows dA, dW = Xᵀ dA, dX = dA Wᵀ.

        Overwrites dW and db. `need_dX=False` saves a product where nothing is below; `need_dW=False` saves one where
        no parameter is to move, and leaves dW and db alone.
        """
        dA = dY
        db = self.db if need_dW else self.workspace.take("dense.db", (self.n_out,))
        partial = self.workspace.take("dense.partial", (scratch(*dA.shape),))
        self.ops.dense_backward(dA, db, partial, self.Y, self.A, self.activation)
        if need_dW:
            getattr(self.X, "gemm", self.gemm)(self.dW, self.X.T, dA)
        if not need_dX:
            return None
        dX = self.workspace.take(f"{self.name}.dX", self.X.shape)
        self.gemm(dX, dA, self.W.T)
        return dX


class MLP:
    """Dense layers in a row: `activation` after each but the last, which is linear.

    widths   n_in, the hidden widths, n_out; (n_in, n_out) is a linear map
    """

    def __init__(self, backend: Backend, workspace: Workspace, name: str, widths: list[int], activation: str):
        checks.choice("activation", activation, ACTIVATIONS)
        last, self.dtype = len(widths) - 2, backend.dtype
        self.layers = [
            Dense(backend, workspace, f"{name}.{i}", n_in, n_out, activation if i < last else "identity")
            for i, (n_in, n_out) in enumerate(pairwise(widths))
        ]

    def parameters(self) -> list[tuple[str, Shape]]:
        return [spec for layer in self.layers for spec in layer.parameters()]

    def bind(self, buffer: ParameterBuffer) -> None:
        for layer in self.layers:
            layer.bind(buffer)

    def forward(self, X: Array) -> Array:
        """X (B, n_in) → Y (B, n_out): a view of the workspace, which the next call overwrites."""
        checks.exactly("X", X, ("B", self.layers[0].n_in), self.dtype)
        for layer in self.layers:
            X = layer.forward(X)
        return X

    def backward(self, dY: Array | None, need_dX: bool = True, need_dW: bool = True) -> Array | None:
        """dY (B, n_out), which is overwritten → dX (B, n_in), a view that the next call overwrites."""
        checks.exactly("dY", dY, self.layers[-1].Y.shape, self.dtype)
        for layer in reversed(self.layers):
            dY = layer.backward(dY, need_dX or layer is not self.layers[0], need_dW)
        return dY


def initialise(buffer: ParameterBuffer, noise: Noise, init: str) -> None:
    """Fill every `….W` from the init stream; everything else starts at 0.

    init   "glorot": uniform in ±√(6/(n_in + n_out)) (Glorot & Bengio 2010); "he": normal, σ² = 2/n_in (He et al.
           2015); "normal:s": normal, σ = s
    """
    kind, std = _parse_init(init)
    for number, (name, W) in enumerate(buffer.views.items()):
        if name.endswith(".W"):
            n_in, n_out = W.shape
            draw = noise.uniform if kind == "glorot" else noise.normal
            draw(W.reshape(1, n_in, n_out), "init", noise.rows(0, n_in), pass_=number)
            if kind == "glorot":
                W -= 0.5
            W *= {"glorot": 2 * math.sqrt(6 / (n_in + n_out)), "he": math.sqrt(2 / n_in), "normal": std}[kind]


def _parse_init(init: str) -> tuple[str, float]:
    kind, _, std = init.partition(":")
    try:
        if (kind in ("glorot", "he") and not std) or (kind == "normal" and 0 <= float(std) < math.inf):
            return kind, float(std or 0)
    except ValueError:
        pass
    raise UsageError(f"init={init!r}: expected 'glorot', 'he' or 'normal:s' with a number s ≥ 0, such as 'normal:0.01'")
