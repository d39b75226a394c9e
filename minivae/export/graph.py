"""graph: encoder and decoder as lists of ONNX operators, between rows in the data's units and what is computed of them.

    encoder   x (B, D) → mean, logvar (B, L)                      scale and threshold inside
    decoder   z (B, L) → x_mean (B, D) and the parameters of p(x|z), by likelihood:

    bernoulli, continuous-bernoulli   logits (B, D)               of the scaled x, where there is a scale
    gaussian, gaussian:…              logvar (B, D) or (1, D)     in the data's units, clamped
    laplace                           logscale (B, D)             in the data's units, clamped
    categorical:K                     logits (B, K, D)
    poisson                           lograte (B, D)              clamped
    negative-binomial                 logmean (B, D), logtheta (1, D)   clamped

One description for all readers: `onnx.py` writes it to a file, `explorer/` gives the decoder's to its page.

Legend: B rows, D features, L latent dimensions, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from ..kernels import continuous_bernoulli as cb
from ..kernels.gaussian import LOGVAR_MAX, LOGVAR_MIN
from ..kernels.laplace import LOGSCALE_MAX, LOGSCALE_MIN
from ..kernels.negative_binomial import LOGTHETA_MAX, LOGTHETA_MIN
from ..kernels.poisson import LOGRATE_MAX
from ..layers import MLP
from ..likelihoods import real, unit
from ..likelihoods.counts import Categorical, NegativeBinomial, Poisson
from ..model import Model

ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus"}
BATCH = "batch"  # the size of the first axis, which the reader chooses


@dataclass(frozen=True)
class Node:
    """output ← op(inputs), an operator of ONNX ≥ 13; inputs are names."""

    op: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Graph:
    """Nodes in the order in which they are computed; constants, inputs and outputs by name."""

    def __init__(self, part: str, model: Model):
        self.part, self.model, self.dtype = part, model, np.dtype(model.backend.dtype)
        self.nodes: list[Node] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs: dict[str, tuple[Any, ...]] = {}
        self.outputs: dict[str, tuple[Any, ...]] = {}

    def constant(self, value: Any, name: str | None = None, dtype: Any = None) -> str:
        """Keep a value, in the model's dtype unless given."""
        name = name or f"constant.{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(value, dtype or self.dtype)
        return name

    def add(self, op: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node → the name of its output. An input that is not a name becomes a constant; a list: integers."""
        names = [
            x if isinstance(x, str) else self.constant(x, dtype=np.int64 if isinstance(x, list) else None)
            for x in inputs
        ]
        node = Node(op, tuple(names), f"{op.lower()}.{len(self.nodes)}", attributes)
        self.nodes.append(node)
        return node.output

    def columns(self, x: str, start: int, stop: int) -> str:
        """x[:, start:stop]"""
        return self.add("Slice", x, [start], [stop], [1])

    def give(self, name: str, value: str, shape: tuple[Any, ...]) -> None:
        """Make a value the output of that name."""
        self.nodes.append(Node("Identity", (value,), name, {}))
        self.outputs[name] = shape

    def mlp(self, mlp: MLP, x: str) -> str:
        """The layers' W, b and activations."""
        to_host = self.model.backend.to_host
        for layer in mlp.layers:
            product = self.add("MatMul", x, self.constant(to_host(layer.W), f"{layer.name}.W"))
            x = self.add("Add", product, self.constant(to_host(layer.b), f"{layer.name}.b"))
            if layer.activation == "silu":
                x = self.add("Mul", x, self.add("Sigmoid", x))
            elif layer.activation != "identity":
                x = self.add(ACTIVATIONS[layer.activation], x)
        return x

    def affine(self, x: str, *steps: tuple[str, np.ndarray]) -> str:
        """Scaling, in float64 as `Scale` does it, lest x − shift lose what a column holds."""
        x = self.add("Cast", x, to=np.float64)
        for op, value in steps:
            x = self.add(op, x, self.constant(value, dtype=np.float64))
        return self.add("Cast", x, to=self.dtype)


def check_inputs(vae: Model) -> None:
    """Raise UsageError for a model whose encoder sees something else than X: no export writes that map."""
    if vae.inputs is not None:
        raise UsageError(
            "this model's encoder sees a transform of the rows (inputs, missing cells or a condition), which other "
            "programs are not given yet: export a model that is made without them"
        )


def encoder(vae: Model) -> Graph:
    """x (B, D), in the data's units → mean, logvar (B, L): what `vae.encode` computes."""
    check_inputs(vae)
    graph, D, L = Graph("encoder", vae), vae.features, vae.latent_dim
    graph.inputs["x"] = (BATCH, D)
    x = "x"
    if vae.scale is not None:
        x = graph.affine(x, ("Sub", vae.scale.shift), ("Div", vae.scale.factor))
    if vae.binarize == "threshold":
        x = graph.add("Cast", graph.add("GreaterOrEqual", x, 0.5), to=graph.dtype)
    H = graph.mlp(vae.encoder, x)
    graph.give("mean", graph.columns(H, 0, L), (BATCH, L))
    graph.give("logvar", graph.columns(H, L, 2 * L), (BATCH, L))
    return graph


def decoder(vae: Model) -> Graph:
    """z (B, L) → x_mean (B, D), in the data's units, and the parameters of p(x|z): what `vae.decode` computes."""
    if vae.condition:
        check_inputs(vae)
    head = HEADS.get(type(vae.likelihood))
    if head is None:
        raise UsageError(
            f"likelihood {vae.likelihood.name!r} is not one of minivae's own, and only those have a decoder that other "
            "programs can run: export the encoder"
        )
    graph = Graph("decoder", vae)
    graph.inputs["z"] = (BATCH, vae.latent_dim)
    mean = head(graph, vae.likelihood, graph.mlp(vae.decoder, "z"))
    if vae.scale is not None:
        mean = graph.affine(mean, ("Mul", vae.scale.factor), ("Add", vae.scale.shift))
    graph.give("x_mean", mean, (BATCH, vae.features))
    return graph


# ---- the parameters of p(x|z): each adds its outputs, and returns E[x|z] in the model's units ------------------------


def _log_units(graph: Graph) -> np.ndarray:
    """(1, D): ln factor, which a log-scale of scaled data lacks."""
    scale, D = graph.model.scale, graph.model.features
    return np.zeros((1, D)) if scale is None else np.log(scale.factor)[None]


def _bernoulli(graph: Graph, likelihood: Any, out: str) -> str:
    graph.give("logits", out, (BATCH, likelihood.features))
    return graph.add("Sigmoid", out)


def _continuous_bernoulli(graph: Graph, likelihood: Any, out: str) -> str:
    """The formula of `kernels/continuous_bernoulli.py`; 1 − e^{−a} serves, for a ≥ NEAR where it is used."""
    graph.give("logits", out, (BATCH, likelihood.features))
    a = graph.add("Abs", out)
    near, far = graph.add("Min", a, cb.NEAR), graph.add("Max", a, cb.NEAR)
    square = graph.add("Mul", near, near)
    g = graph.add("Mul", square, cb.SERIES[-1])
    for c in cb.SERIES[-2:0:-1]:
        g = graph.add("Mul", graph.add("Add", g, c), square)
    g = graph.add("Add", graph.add("Mul", graph.add("Add", g, cb.SERIES[0]), near), 0.5)
    t = graph.add("Sub", 1.0, graph.add("Exp", graph.add("Neg", far)))
    tail = graph.add("Div", graph.add("Sub", far, t), graph.add("Mul", far, t))
    mean = graph.add("Where", graph.add("Less", a, cb.NEAR), g, tail)
    return graph.add("Where", graph.add("Less", out, 0.0), graph.add("Sub", 1.0, mean), mean)


def _gaussian(graph: Graph, likelihood: Any, out: str) -> str:
    D = likelihood.features
    logvar = graph.add("Clip", graph.columns(out, D, 2 * D), LOGVAR_MIN, LOGVAR_MAX)
    graph.give("logvar", graph.add("Add", logvar, 2 * _log_units(graph)), (BATCH, D))
    return graph.columns(out, 0, D)


def _one_logvar(graph: Graph, logvar: float, out: str) -> str:
    D = graph.model.features
    graph.give("logvar", graph.constant(logvar + 2 * _log_units(graph)), (1, D))
    return out


def _gaussian_fixed(graph: Graph, likelihood: Any, out: str) -> str:
    return _one_logvar(graph, 2 * float(np.log(likelihood.sigma)), out)


def _gaussian_shared(graph: Graph, likelihood: Any, out: str) -> str:
    logvar = float(graph.model.backend.to_host(likelihood.logvar)[0])
    return _one_logvar(graph, float(np.clip(logvar, LOGVAR_MIN, LOGVAR_MAX)), out)


def _laplace(graph: Graph, likelihood: Any, out: str) -> str:
    D = likelihood.features
    logscale = graph.add("Clip", graph.columns(out, D, 2 * D), LOGSCALE_MIN, LOGSCALE_MAX)
    graph.give("logscale", graph.add("Add", logscale, _log_units(graph)), (BATCH, D))
    return graph.columns(out, 0, D)


def _categorical(graph: Graph, likelihood: Any, out: str) -> str:
    K, D = likelihood.classes, likelihood.features
    logits = graph.add("Reshape", out, [-1, K, D])
    graph.give("logits", logits, (BATCH, K, D))
    number = np.arange(K, dtype=np.float64).reshape(K, 1)
    weighted = graph.add("Mul", graph.add("Softmax", logits, axis=1), number)
    return graph.add("ReduceSum", weighted, [1], keepdims=0)


def _poisson(graph: Graph, likelihood: Any, out: str) -> str:
    return graph.add("Exp", _at_most(graph, "lograte", out))


def _negative_binomial(graph: Graph, likelihood: Any, out: str) -> str:
    logtheta = np.clip(graph.model.backend.to_host(likelihood.logtheta), LOGTHETA_MIN, LOGTHETA_MAX)
    graph.give("logtheta", graph.constant(logtheta[None]), (1, likelihood.features))
    return graph.add("Exp", _at_most(graph, "logmean", out))


def _at_most(graph: Graph, name: str, out: str) -> str:
    clamped = graph.add("Min", out, LOGRATE_MAX)
    graph.give(name, clamped, (BATCH, graph.model.features))
    return clamped


HEADS: dict[type, Callable[[Graph, Any, str], str]] = {
    unit.Bernoulli: _bernoulli,
    unit.ContinuousBernoulli: _continuous_bernoulli,
    real.Gaussian: _gaussian,
    real.GaussianFixed: _gaussian_fixed,
    real.GaussianShared: _gaussian_shared,
    real.GaussianOptimal: _gaussian_shared,
    real.Laplace: _laplace,
    Categorical: _categorical,
    Poisson: _poisson,
    NegativeBinomial: _negative_binomial,
}
