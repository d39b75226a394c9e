"""recorder: record one forward and backward pass, step by step, in the order of execution. Use it to teach, and to
find the first NaN of a run that diverges.

The recorder copies the model, with the same parameters, onto a backend whose matmul and ops record their arguments and
results. The copy then runs `objective_and_grad`, as every training step does. So the steps are the model's own: nothing
is computed a second time in another way, and the model itself does not change.

A step is one call of the backend: a matmul or an op of `kernels/`. The likelihood counts as one step, however many ops
it calls. Times are those of the second pass: the first one compiles and allocates. Bytes are the sizes of the arrays
that a step reads or writes, each once. FLOPs: two for each multiply-add of a matmul; otherwise the operations of the
equation, counted by hand, an elementary function as one.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..backend import Array, Backend
from ..inputs import rows_in
from ..model import Model
from .result import Held, Step, Trace
from .steps import STEPS, Kind, equation_of, flops, product


def trace(vae: Model, X: Any, eps: Any = None, beta: float = 1.0, free_bits: float = 0.0) -> Trace:
    """Record the steps of `vae.objective_and_grad` for rows X (B, D) in the data's units: `VAE.trace`."""
    batch = rows_in(vae, "X", X)
    recorder = Recorder(vae.backend)
    watched = recorder.watched_copy(vae)
    if hasattr(batch.x_in, "gemm"):
        batch.x_in.gemm = recorder._watched("gemm", batch.x_in.gemm)
    with np.errstate(all="ignore"):  # the parameters may hold NaN: a trace is how to find it
        watched.objective_and_grad(batch, eps, beta, free_bits)
        recorder.on = True
        terms = watched.objective_and_grad(batch, eps, beta, free_bits)
        recorder.on = False
        host = vae.backend.to_host
        seen = "X" if vae.inputs is None else "x_in"
        first = watched.encoder.layers[0].X
        given = {
            seen: first.toarray() if hasattr(first, "times") else host(first),
            **{name: host(view) for name, view in vae.parameters.items()},
        }
        return Trace(
            tuple(Held.of(name, array.copy()) for name, array in given.items()),
            tuple(recorder.steps),
            terms,
            str(vae.backend),
        )


class Recorder:
    """Records the calls of a backend. `places` is the stack of parts of the model that made them, innermost last."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.on, self.mirror, self.inside = False, False, False
        self.steps: list[Step] = []
        self.places: list[tuple[str, str, Any]] = [("noise", "", None)]
        self.counted: list[int | None] = []  # FLOPs of the ops that the likelihood has called

    def watched_copy(self, vae: Model) -> Model:
        """Copy `vae`, with its parameters, onto a backend whose calls are recorded."""
        backend = copy.copy(vae.backend)
        backend.gemm = self._watched("gemm", vae.backend.gemm)
        ops = vars(vae.backend.ops).items()
        backend.ops = SimpleNamespace(**{name: self._watched(name, op) for name, op in ops})
        model = Model(backend=backend, **vae.config())
        model.buffer.state[...] = vae.buffer.state
        explained = equation_of(type(model.likelihood))
        for layers, equation in ((model.encoder.layers, "eq. 15"), (model.decoder.layers, explained)):
            for layer in layers:
                self._placed(layer, ("forward", "backward"), layer.name, equation, layer)
        self._placed(model.posterior, ("forward", "backward"), "posterior", "", None)
        self._placed(model.loss_fn, ("forward",), "objective", equation_of(type(model.loss_fn)), None)
        self._placed(model.loss_fn, ("backward_posterior",), "posterior", equation_of(type(model.loss_fn)), None)
        over = model.likelihood.over
        watched = lambda mask, fitted=False: self._likelihood(model, over(mask, fitted), explained)  # noqa: E731
        model.likelihood.over = watched  # type: ignore[method-assign]
        backward = model.backward

        def watched_backward() -> None:
            self.mirror = True
            backward()
            self.mirror = False

        model.backward = watched_backward  # type: ignore[method-assign]
        return model

    def _placed(self, owner: Any, methods: tuple[str, ...], place: str, equation: str, layer: Any) -> None:
        """Label the backend's calls made inside these methods of `owner` with `place`."""
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
        """Wrap an op, or the matmul, so that its calls are recorded."""

        def watched(*args: Any) -> None:
            place, equation, layer = self.places[-1]
            kind = product(args, layer) if op == "gemm" else STEPS.get(op, Kind(op))
            if not self.on:
                call(*args)
                return
            counted = flops(op, args)
            if self.inside:  # part of the likelihood, which is recorded as one step
                call(*args)
                self.counted.append(counted)
            else:
                results = dict(zip(kind.results, args, strict=False)) if kind.results else {"out": args[0]}
                seconds = self._timed(lambda: call(*args))
                self._write(place, kind.formula(layer), kind.equation or equation, args, counted, seconds, results)

        return watched

    def _likelihood(self, model: Model, inner: Callable[..., None], equation: str) -> Callable[..., Any]:
        name = model.likelihood.name
        learned = [parameter for parameter, _ in model.likelihood.parameters()]

        def nll_and_grad(
            nll: Array, d_out: Array | None, d_params: dict[str, Array], out: Array, X: Array, w: Any
        ) -> None:
            self.inside, self.counted = True, []
            seconds = self._timed(lambda: inner(nll, d_out, d_params, out, X, w))
            self.inside = False
            if self.on:
                known = [count for count in self.counted if count is not None]
                total = sum(known) if known and len(known) == len(self.counted) else None
                results = {"nll": nll}
                if d_out is not None:
                    results |= {"d_out": d_out, **{f"d_{k}": d_params[k] for k in learned}}
                what = "−ln p(x|z), d_out" if d_out is not None else "−ln p(x|z)"
                self._write(name, what, equation, (*results.values(), out, X, w), total, seconds, results)

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
        size = sum(x.nbytes for x in moved if self.backend.owns(x) or hasattr(x, "times"))
        host = {name: self.backend.to_host(x).copy() for name, x in results.items()}
        held = tuple(Held.of(f"{place}.{name}", x) for name, x in host.items())
        self.steps.append(Step(place, what, equation, self.mirror, int(size), flops, seconds, held))
