"""trace_steps: what each step of a trace is called, which equation it is, what it leaves, how many operations it takes.

An op that is not in the table is traced all the same: under its own name, with its first argument as its result. (Ops
take their outputs first: `kernels/`.) B rows, L latent dimensions, S samples of each row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Kind:
    """One kind of step.

    what      its formula; {f} stands for the layer's activation
    results   the names of its leading arguments, which it writes; () for the first, called "out"
    flops     of its arguments; None where they have not been counted
    equation  its number in the article; "" for that of the place where it stands
    """

    what: str
    results: tuple[str, ...] = ()
    flops: Callable[..., int] | None = None
    equation: str = ""

    def formula(self, layer: Any) -> str:
        """`what`, with the layer's activation in it."""
        activation = getattr(layer, "activation", "")
        what = self.what
        if activation == "identity":
            what = what.replace("{f}(XW + b)", "XW + b").replace(" ⊙ {f}′", "")
        return what.format(f=activation)


# Operations for each element, forward and backward, beside the bias and its gradient.
_ACTIVATION = {
    "identity": (0, 0),
    "relu": (1, 1),
    "tanh": (1, 3),
    "sigmoid": (1, 3),
    "softplus": (1, 3),
    "silu": (2, 5),
}


def _dense_forward(Y: Any, A: Any, b: Any, activation: str) -> int:
    return Y.size * (1 + _ACTIVATION[activation][0])


def _dense_backward(dA: Any, db: Any, partial: Any, Y: Any, A: Any, activation: str) -> int:
    return dA.size * (1 + _ACTIVATION[activation][1])


STEPS: dict[str, Kind] = {
    "normal": Kind("ε ~ N(0, I)", ("eps",), lambda out, *_: 5 * out.size, "eq. 23"),
    "dense_forward": Kind("Y = {f}(XW + b)", ("Y",), _dense_forward),
    "dense_backward": Kind("dA = dY ⊙ {f}′, db = Σ dA", ("dA", "db"), _dense_backward),
    "latent_forward": Kind(
        "z = μ + σ ⊙ ε, KL",
        ("Z", "sigma", "kl_rows", "kl_dims"),
        lambda Z, sigma, *_: 10 * sigma.size + 2 * Z.size,
        "eq. 16, 23",
    ),
    "latent_backward": Kind(
        "dμ = Σ dz + k μ, dv likewise",
        ("dH",),
        lambda dH, dZ, *_: 4 * dH.size + 3 * dZ.size,
        "eq. 16, 23",
    ),
    "importance_forward": Kind(
        "ln w, softmax, ln mean w",
        ("log_w", "weight", "bound"),
        lambda log_w, weight, bound, nll, Z, *_: 5 * Z.size + 8 * log_w.size,
    ),
    "importance_backward": Kind("dμ = Σ dz, dv = …", ("dH",), lambda dH, dZ, *_: 8 * dZ.size),
    "bernoulli": Kind("−ln q(x|z), d_out", flops=lambda nll, d_out, *_: 13 * d_out.size),
    "gaussian": Kind("−ln q(x|z), d_out", flops=lambda nll, d_out, *_: 8 * d_out.size),
    "gaussian_fixed": Kind("−ln q(x|z), d_out", flops=lambda nll, d_out, *_: 4 * d_out.size),
}


def product(args: tuple[Any, ...], layer: Any) -> Kind:
    """Which matrix product of a dense layer this is, by what it writes; outside a layer it is any product."""
    out = args[0]
    if layer is None:
        return Kind("A B", ("out",), _multiply_adds)
    if out is layer.dW:
        return Kind("dW = Xᵀ dA", ("dW",), _multiply_adds)
    if out is layer.Y:
        return Kind("X W", ("XW",), _multiply_adds)
    return Kind("dX = dA Wᵀ", ("dX",), _multiply_adds)


def _multiply_adds(out: Any, A: Any, B: Any) -> int:
    return 2 * out.size * A.shape[1]


def equation_of(cls: type) -> str:
    """The numbers of the equations that a class names in its docstring: "eq. 17–19"; "" for none."""
    found = re.search(r"\(eq\. (\d[\d–, ]*\d|\d)", cls.__doc__ or "")
    return f"eq. {found[1]}" if found else ""
