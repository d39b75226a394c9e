"""steps: the name, formula and equation of each step of a trace, and the arrays that it writes.

An op that is not in the table is traced too: under its own name, with its first argument as its result, because ops
take their outputs first (`kernels/`). B rows, L latent dimensions, S samples of each row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..kernels import ops


@dataclass(frozen=True)
class Kind:
    """One kind of step.

    what      the formula; {f} stands for the layer's activation
    results   names of the leading arguments, which the step writes; () means the first one, named "out"
    equation  its number in the article; "" means the equation of the part of the model that makes the call
    """

    what: str
    results: tuple[str, ...] = ()
    equation: str = ""

    def formula(self, layer: Any) -> str:
        """Return `what` with the layer's activation filled in."""
        activation = getattr(layer, "activation", "")
        what = self.what
        if activation == "identity":
            what = what.replace("{f}(XW + b)", "XW + b").replace(" ⊙ {f}′", "")
        return what.format(f=activation)


STEPS: dict[str, Kind] = {
    "normal": Kind("ε ~ N(0, I)", ("eps",), equation="eq. 23"),
    "dense_forward": Kind("Y = {f}(XW + b)", ("Y",)),
    "dense_backward": Kind("dA = dY ⊙ {f}′, db = Σ dA", ("dA", "db")),
    "latent_forward": Kind("z = μ + σ ⊙ ε, KL", ("Z", "sigma", "kl_rows", "kl_dims"), equation="eq. 16, 23"),
    "latent_backward": Kind("dμ = Σ dz + k μ, dv likewise", ("dH",), equation="eq. 16, 23"),
    "importance_forward": Kind("ln w, softmax, ln mean w", ("log_w", "weight", "bound")),
    "importance_backward": Kind("dμ = Σ dz, dv = …", ("dH",)),
}


def product(args: tuple[Any, ...], layer: Any) -> Kind:
    """Identify a dense layer's matmul by the array that it writes; without a layer it is a plain product."""
    out, A, _ = args
    how = ", non-zeros of X alone" if hasattr(A, "times") else ""
    if layer is None:
        return Kind("A B", ("out",))
    if out is layer.dW:
        return Kind(f"dW = Xᵀ dA{how}", ("dW",))
    if out is layer.Y:
        return Kind(f"X W{how}", ("XW",))
    return Kind("dX = dA Wᵀ", ("dX",))


def flops(op: str, args: tuple[Any, ...]) -> int | None:
    """Return the floating-point operations of a matmul, or of an op (`Op.flops`); None if they are not counted."""
    if op == "gemm":
        out, A, _ = args
        return 2 * A.size * out.shape[1]
    count = ops()[op].flops
    return None if count is None else count(*args)


def equation_of(cls: type) -> str:
    """Return the numbers of the equations that a class's docstring names: "eq. 17–19"; "" for none."""
    found = re.search(r"\(eq\. (\d[\d–, ]*\d|\d)", cls.__doc__ or "")
    return f"eq. {found[1]}" if found else ""
