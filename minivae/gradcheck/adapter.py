"""adapter: call a target with host arrays and return host arrays. An exception in it becomes one clear line.

`target.py` describes the code that can be checked, `user.py` where its inputs come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any
from unittest import mock

import numpy as np

from ..errors import UsageError
from . import frameworks
from .problem import Arrays
from .target import Target, call


class Adapter:
    """Calls a target with host arrays, one for each input that is differentiated by, and returns host arrays.

    given   all inputs, as they were given. Those that are not differentiated by (integers: labels, indices) are `fixed`
    """

    def __init__(self, target: Target, names: Sequence[str], given: Sequence[Any]):
        self.target, self.title = target, target.name
        self.given = list(given)
        self.names = tuple(names)
        flags = None if target.differentiable is None else target.differentiable(given)
        arrays: Arrays = []
        self.moving: list[int] = []
        self.fixed: dict[int, Any] = {}
        for i, (name, x) in enumerate(zip(names, given, strict=True)):
            host = self._host_input(name, x)
            if host is not None and host.dtype.kind == "f" and (flags is None or flags[i]):
                self.moving.append(i)
                arrays.append(self._checked(name, host))
            else:
                self.fixed[i] = x if host is None else np.array(host)
        self.arrays = arrays

    @property
    def moving_names(self) -> tuple[str, ...]:
        return tuple(self.names[i] for i in self.moving)

    def _host_input(self, name: str, x: Any) -> np.ndarray | None:
        """Return an input as a host array; None if it is an object that is none, such as a string."""
        if x is None or isinstance(x, (str, bytes, int)):
            return None
        host = self._array(x, f"input {name}")
        if host.dtype.kind not in "fiub":
            kind = "a complex number" if host.dtype.kind == "c" else f"dtype {host.dtype}"
            raise UsageError(f"{self.title}: input {name} holds {kind}: expected real numbers, or integers to pass on")
        return host

    def _checked(self, name: str, x: np.ndarray) -> np.ndarray:
        if x.size == 0:
            raise UsageError(f"{self.title}: input {name} has shape {x.shape}: it has no entries")
        if not np.isfinite(x).all():
            raise UsageError(f"{self.title}: input {name} is not finite everywhere")
        return x.astype(np.float64)

    # ---- the two calls ----------------------------------------------------------------------------------------------

    def forward(self, inputs: Arrays) -> Arrays:
        with _poisoned(), np.errstate(all="ignore"):
            Y, _ = self._run(inputs)
            outputs = [self._output(y) for y in (Y if isinstance(Y, (tuple, list)) else (Y,))]
        if not outputs:
            raise UsageError(f"{self.title}: forward returned nothing")
        if self.target.is_value:
            if outputs[0].size != 1:
                raise UsageError(
                    f"{self.title}: the value has shape {outputs[0].shape}, and a function returns a number. For "
                    "an array, write a class with forward and backward(dY)"
                )
            outputs = [outputs[0].reshape(())]
        return outputs

    def backward(self, inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
        with _poisoned(), np.errstate(all="ignore"):
            _, given = self._run(inputs)
            dYs = [self._own(u, self.given[self.moving[0]]) for u in upstream]
            grads = call(self.title, "backward", self.target.backward, *dYs)
            self._write_back(inputs, given)
            for u, dY in zip(upstream, dYs, strict=True):
                if dY is not u:
                    u[...] = self.target.to_host(dY)
            return self._gradients(grads)

    def hvp(self, inputs: Arrays, upstream: Arrays, V: Arrays) -> list[np.ndarray | None]:
        """Call the hand-written product of the second derivatives and V, after forward."""
        with _poisoned(), np.errstate(all="ignore"):
            _, given = self._run(inputs)
            dYs = [self._own(u, self.given[self.moving[0]]) for u in upstream]
            Vs = [self._own(v, self.given[i]) for i, v in zip(self.moving, V, strict=True)]
            return self._gradients(call(self.title, "hvp", self.target.hvp, given, dYs, Vs))

    def _run(self, inputs: Arrays) -> tuple[Any, list[Any]]:
        """Call forward; return what it returned, and the inputs as the code received them."""
        given: list[Any] = [None] * len(self.given)
        for i, x in zip(self.moving, inputs, strict=True):
            given[i] = self._own(x, self.given[i])
        for i, x in self.fixed.items():
            given[i] = self._own(x.copy(), self.given[i]) if isinstance(x, np.ndarray) else x
        Y = call(self.title, "it" if self.target.is_value else "forward", self.target.forward, *given)
        self._write_back(inputs, given)
        for i, x in self.fixed.items():
            if isinstance(x, np.ndarray) and not np.array_equal(x, self._array(given[i], self.names[i])):
                raise UsageError(f"{self.title}: forward changes its input {self.names[i]} in place: work on a copy")
        return Y, given

    def _own(self, x: np.ndarray, like: Any) -> Any:
        return self.target.to_own(x, like, self.target.dtype)

    def first_row(self, rows: int) -> Adapter:
        """Return this adapter with the first row only of every fixed input (labels) that has so many rows."""
        one = copy(self)
        one.fixed = {
            i: x[:1] if isinstance(x, np.ndarray) and x.ndim > 0 and len(x) == rows else x
            for i, x in self.fixed.items()
        }
        return one

    # ---- what comes back --------------------------------------------------------------------------------------------

    def _array(self, x: Any, what: str) -> np.ndarray:
        try:
            array = np.asarray(self.target.to_host(x))
        except (Exception, SystemExit) as error:
            message = " ".join(str(error).split())
            raise UsageError(
                f"{self.title}: {what} cannot be made an array: {type(error).__name__}: {message}"
            ) from None
        return array

    def _gradients(self, grads: Any) -> list[np.ndarray | None]:
        """Return a gradient for each input that is differentiated by. Those of the others may be left out."""
        if grads is None:
            raise UsageError(f"{self.title}: backward returned None: expected the gradients of {self._expected()}")
        if isinstance(grads, dict):
            grads = list(grads.values())
        if not isinstance(grads, (tuple, list)):
            grads = [grads]
        if len(grads) == len(self.given) != len(self.moving):
            grads = [grads[i] for i in self.moving]
        if len(grads) != len(self.moving):
            raise UsageError(
                f"{self.title}: backward returned {len(grads)} gradient{'s' * (len(grads) != 1)} for the "
                f"{self._expected()}: one each, in that order, None where there is none"
            )
        out: list[np.ndarray | None] = []
        for name, g in zip(self.moving_names, grads, strict=True):
            if g is None:
                out.append(None)
                continue
            g = self._array(g, f"the gradient of {name}")
            if g.dtype.kind not in "fiu":
                raise UsageError(
                    f"{self.title}: backward returned a gradient of dtype {g.dtype}: expected real numbers"
                )
            out.append(g)
        if all(g is None for g in out):
            raise UsageError(f"{self.title}: backward returned None for every input, so there is nothing to compare")
        return out

    def _expected(self) -> str:
        return f"{len(self.names)} inputs {', '.join(self.names)}" if len(self.names) > 1 else f"input {self.names[0]}"

    def _write_back(self, inputs: Arrays, given: list[Any]) -> None:
        """Copy changes made in place on the device back to the host arrays."""
        for i, x in zip(self.moving, inputs, strict=True):
            if given[i] is not x:
                x[...] = self.target.to_host(given[i])

    def _output(self, y: Any) -> np.ndarray:
        if y is None:
            raise UsageError(f"{self.title}: forward returned None: its return is missing")
        y = self._array(y, "an output")
        if y.dtype.kind not in "fc":
            raise UsageError(
                f"{self.title}: an output is {y.dtype}: expected float64; a function with such values has no slope"
            )
        if y.dtype.itemsize < 8 and self.target.dtype == "float64":
            raise UsageError(
                f"{self.title}: an output is {y.dtype} for float64 inputs: the code rounds to {y.dtype} inside, which "
                "hides any error below 1e-3. Let it keep its inputs' dtype"
            )
        return y


@contextmanager
def _poisoned() -> Iterator[None]:
    """Make new uninitialised arrays, torch's too, hold NaN, so that a buffer that is not fully written is detected."""
    empty, empty_like = np.empty, np.empty_like

    def fill(out: np.ndarray) -> np.ndarray:
        if out.dtype.kind in "fc":
            out.fill(np.nan)
        return out

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(np, "empty", lambda *a, **k: fill(empty(*a, **k))))
        stack.enter_context(mock.patch.object(np, "empty_like", lambda *a, **k: fill(empty_like(*a, **k))))
        for framework in frameworks.loaded():
            stack.enter_context(framework.poisoned())
        yield
