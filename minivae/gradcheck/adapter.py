"""adapter: call your code with host arrays and return host arrays. An exception in it becomes one clear line.

`user.py` describes the code that can be checked and where its inputs come from.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ..errors import UsageError
from .problem import Arrays


def is_layer(fn: Any) -> bool:
    return hasattr(fn, "forward") and hasattr(fn, "backward")


def module_of(x: Any) -> Any:
    """Return the array module of x: numpy or cupy; None if x is not an array."""
    module = sys.modules.get(type(x).__module__.split(".")[0])
    return np if isinstance(x, (np.ndarray, np.generic)) else module if hasattr(module, "asnumpy") else None


def describe(error: BaseException) -> str:
    """Describe an error in one line: its type, its message and the line of the user's code."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename != __file__ and f.filename[0] != "<"]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError):
        place = f" (line {error.lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


class Adapter:
    """Calls a target with host arrays and returns host arrays, whatever array module its code uses."""

    def __init__(self, title: str, target: Any, modules: list[Any], by_name: bool):
        self.title, self.target, self.modules, self.by_name = title, target, modules, by_name
        self.layer = is_layer(target)
        self.is_value = False  # forward returned a number: the upstream gradient is 1
        self.is_tuple = False

    def forward(self, inputs: Arrays) -> Arrays:
        with _poisoned(), np.errstate(all="ignore"):
            if self.layer:
                given = self._arrays(inputs)
                Y = call(self.title, "forward", self.target.forward, *given)
                self._write_back(inputs, given)
                self.is_tuple = isinstance(Y, (tuple, list))
                outputs = [self._output(y) for y in (Y if self.is_tuple else (Y,))]
                if not outputs:
                    raise UsageError(f"{self.title}: forward returned nothing")
            else:
                value, _ = self._value_and_gradients(inputs)
                outputs = [self._output(value)]
                if outputs[0].size != 1:
                    raise UsageError(
                        f"{self.title}: the value has shape {outputs[0].shape}, and a function returns a number. For "
                        "an array, write a class with forward and backward(dY)"
                    )
                self.is_value = True
                outputs = [outputs[0].reshape(())]
        return outputs

    def backward(self, inputs: Arrays, upstream: Arrays) -> list[np.ndarray | None]:
        with _poisoned(), np.errstate(all="ignore"):
            if not self.layer:
                return self._gradients(self._value_and_gradients(inputs)[1], inputs)
            given = self._arrays(inputs)
            call(self.title, "forward", self.target.forward, *given)
            dYs = [self._like(self.modules[0], u) for u in upstream]
            grads = call(self.title, "backward", self.target.backward, tuple(dYs) if self.is_tuple else dYs[0])
            self._write_back(inputs, given)
            return self._gradients(grads, inputs)

    def _value_and_gradients(self, inputs: Arrays) -> tuple[Any, Any]:
        result = call(self.title, "it", self.target, *self._arrays(inputs))
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise UsageError(
                f"{self.title}: expected (value, gradients) from the function, got {_what(result)}; for a layer, write "
                "a class with forward and backward"
            )
        return result[0], result[1]

    def _gradients(self, grads: Any, inputs: Arrays) -> list[np.ndarray | None]:
        if isinstance(grads, dict):
            grads = list(grads.values())
        if not isinstance(grads, (tuple, list)):
            grads = [grads]
        out = []
        for g in grads:
            g = None if g is None else np.asarray(to_host(g))
            if g is not None and g.dtype.kind not in "fiu":
                raise UsageError(
                    f"{self.title}: backward returned a gradient of dtype {g.dtype}: expected real numbers"
                )
            out.append(g)
        return out

    @staticmethod
    def _write_back(inputs: Arrays, given: list[Any]) -> None:
        """Copy changes made in place on the device back to the host arrays."""
        for x, array in zip(inputs, given, strict=True):
            if array is not x:
                x[...] = to_host(array)

    def _arrays(self, inputs: Arrays) -> list[Any]:
        return [self._like(module, x) for module, x in zip(self.modules, inputs, strict=True)]

    @staticmethod
    def _like(module: Any, x: np.ndarray) -> Any:
        return x if module is np else module.asarray(x)

    def _output(self, y: Any) -> np.ndarray:
        y = np.asarray(to_host(y))
        if y.dtype.kind not in "fc":
            raise UsageError(
                f"{self.title}: an output is {y.dtype}: expected float64; a function with such values has no slope"
            )
        if y.dtype.itemsize < 8:
            raise UsageError(
                f"{self.title}: an output is {y.dtype} for float64 inputs: the code rounds to {y.dtype} inside, which "
                "hides any error below 1e-3. Let it keep its inputs' dtype"
            )
        return y


def to_host(x: Any) -> Any:
    module = module_of(x)
    return x if module is None or module is np else module.asnumpy(x)


def _what(x: Any) -> str:
    return f"an array {x.shape}" if hasattr(x, "shape") else type(x).__name__


def call(title: str, what: str, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except UsageError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(a.shape)) for a in args if hasattr(a, "shape"))
        came = f" for shapes {shapes}" if shapes else ""
        raise UsageError(f"{title}: {what} raised{came}: {describe(error)}") from error


@contextmanager
def _poisoned() -> Iterator[None]:
    """Make np.empty and np.empty_like return NaN, so that a buffer that is not fully written is detected."""
    empty, empty_like = np.empty, np.empty_like

    def fill(out: np.ndarray) -> np.ndarray:
        if out.dtype.kind in "fc":
            out.fill(np.nan)
        return out

    with (
        mock.patch.object(np, "empty", lambda *a, **k: fill(empty(*a, **k))),
        mock.patch.object(np, "empty_like", lambda *a, **k: fill(empty_like(*a, **k))),
    ):
        yield
