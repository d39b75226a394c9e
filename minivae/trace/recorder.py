"""recorder: one forward and backward pass, step by step, in the order they run. A teacher shows it on the screen, and
the user of a diverging run looks at it first.

The steps are the model's own. A twin of it, with the same parameters, is built on a backend whose matrix product and
kernels write down what they are given and what they leave; then the twin does what every training step does,
`objective_and_grad`. Nothing is computed a second time in another way, and the model itself is not touched.

A step is a call of the backend: a matrix product or an op of `kernels/`; the likelihood is one step, whatever it
calls. Time is that of the second pass, the first having compiled and allocated. Bytes are those of the arrays that a
step reads or writes, each once. FLOPs: two for each multiply-add of a product; elsewhere the operations of the
equation, counted by hand, an elementary function being one.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..backend import Array, Backend
from ..model import Model
from .result import Held, Step, Trace
from .steps import STEPS, Kind, equation_of, flops, product


def trace(vae: Model, X: Any, eps: Any = None, beta: float = 1.0, free_bits: float = 0.0) -> Trace:
    """`VAE.trace`: the steps of `vae.objective_and_grad`, for rows X (B, D) in the model's units."""
    recorder = Recorder(vae.backend)
    twin = recorder.twin(vae)
    with np.errstate(all="ignore"):  # a model that holds NaN is what this is for
        twin.objective_and_grad(X, eps, beta, free_bits)
        recorder.on = True
        terms = twin.objective_and_grad(X, eps, beta, free_bits)
        recorder.on = False
        host = vae.backend.to_host
        given = {"X": host(twin.encoder.layers[0].X), **{name: host(view) for name, view in vae.parameters.items()}}
        return Trace(
            tuple(Held.of(name, array.copy()) for name, array in given.items()),
            tuple(recorder.steps),
            terms,
            str(vae.backend),
        )


class Recorder:
    """Writes down the calls of a backend. `places` says where in the model they come from, innermost last."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.on, self.mirror, self.inside = False, False, False
        self.steps: list[Step] = []
        self.places: list[tuple[str, str, Any]] = [("noise", "", None)]
        self.counted: list[int | None] = []  # FLOPs of the ops that the likelihood has called

    def twin(self, vae: Model) -> Model:
        """A model like `vae`, with its parameters, whose calls are written down."""
        backend = copy.copy(vae.backend)
        backend.gemm = self._watched("gemm", vae.backend.gemm)
        ops = vars(vae.backend.ops).items()
        backend.ops = SimpleNamespace(**{name: self._watched(name, op) for name, op in ops})
        twin = Model(backend=backend, **vae.config())
        twin.buffer.state[...] = vae.buffer.state
        explained = equation_of(type(twin.likelihood))
        for layers, equation in ((twin.encoder.layers, "eq. 15"), (twin.decoder.layers, explained)):
            for layer in layers:
                self._placed(layer, ("forward", "backward"), layer.name, equation, layer)
        self._placed(twin.posterior, ("forward", "backward"), "posterior", "", None)
        self._placed(twin.loss_fn, ("forward",), "objective", equation_of(type(twin.loss_fn)), None)
        self._placed(twin.loss_fn, ("backward_posterior",), "posterior", equation_of(type(twin.loss_fn)), None)
        method = "fitted_nll_and_grad" if twin.likelihood.closed_form else "nll_and_grad"
        setattr(twin.likelihood, method, self._likelihood(twin, method, explained))
        backward = twin.backward

        def watched_backward() -> None:
            self.mirror = True
            backward()
            self.mirror = False

        twin.backward = watched_backward  # type: ignore[method-assign]
        return twin

    def _placed(self, owner: Any, methods: tuple[str, ...], place: str, equation: str, layer: Any) -> None:
        """Calls from these methods of `owner` are at `place`."""
        for name in methods:
            setattr(owner, name, self._inside(getattr(owner, name), place, equation, layer))

    def _inside(self, call: Callable[..., Any], place: str, equation: str, layer: Any) -> Callable[..., Any]:
        def method(*args: Any, **more: Any) -> Any:
            self.places.append((place, equation, layer))
            try:
                return call(*args, **more)
            finally:
                self.places.pop()

        return method

    def _watched(self, op: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """An op, or the product, that writes itself down."""

        def watched(*args: Any) -> None:
            place, equation, layer = self.places[-1]
            kind = product(args, layer) if op == "gemm" else STEPS.get(op, Kind(op))
            if not self.on:
                call(*args)
                return
            counted = flops(op, args)
            if self.inside:  # the likelihood is the step
                call(*args)
                self.counted.append(counted)
            else:
                results = dict(zip(kind.results, args, strict=False)) if kind.results else {"out": args[0]}
                seconds = self._timed(lambda: call(*args))
                self._write(place, kind.formula(layer), kind.equation or equation, args, counted, seconds, results)

        return watched

    def _likelihood(self, twin: Model, method: str, equation: str) -> Callable[..., Any]:
        inner, name = getattr(twin.likelihood, method), twin.likelihood.name
        learned = [parameter for parameter, _ in twin.likelihood.parameters()]

        def nll_and_grad(
            nll: Array, d_out: Array, d_params: dict[str, Array], out: Array, X: Array, w: Any, *mask: Any
        ) -> None:
            self.inside, self.counted = True, []
            seconds = self._timed(lambda: inner(nll, d_out, d_params, out, X, w, *mask))
            self.inside = False
            if self.on:
                known = [count for count in self.counted if count is not None]
                total = sum(known) if known and len(known) == len(self.counted) else None
                results = {"nll": nll, "d_out": d_out, **{f"d_{k}": d_params[k] for k in learned}}
                moved = (nll, d_out, *(d_params[k] for k in learned), out, X, w)
                self._write(name, "−ln p(x|z), d_out", equation, moved, total, seconds, results)

        return nll_and_grad

    def _timed(self, call: Callable[[], Any]) -> float:
        self._wait()
        start = time.perf_counter()
        call()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.backend.name != "numpy":
            self.backend.xp.cuda.get_current_stream().synchronize()

    def _write(
        self,
        place: str,
        what: str,
        equation: str,
        moved: tuple[Any, ...],
        flops: int | None,
        seconds: float,
        results: dict[str, Array],
    ) -> None:
        size = sum(x.size * x.dtype.itemsize for x in moved if self.backend.owns(x))
        host = {name: self.backend.to_host(x).copy() for name, x in results.items()}
        held = tuple(Held.of(f"{place}.{name}", x) for name, x in host.items())
        self.steps.append(Step(place, what, equation, self.mirror, int(size), flops, seconds, held))
