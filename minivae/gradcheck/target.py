"""target: the one form that every kind of code to be checked is turned into, and the recogniser that does it.

    a layer       class MyLayer: forward(X, W, b) → Y, or a tuple of outputs
                                 backward(dY) → the gradients in the order of forward's inputs; None for one that has
                                 none. dY is a tuple where forward returned one, or one argument for each output
    a pair        two functions: forward(X, W, b) → Y or a tuple; backward(X, W, b, dY) → the gradients. A parameter of
                  backward that has the name of one of forward's receives that input; the rest receive dY, in order
    a function    f(X, W, b) → (value, gradients): a number, and the gradients in the order of the inputs

To support another kind of code, write a function (fn, name, inputs) → Target, or None if `fn` is not of that kind, and
put it into `KINDS`; the first that returns a Target is used. Everything else is the same for every kind.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from . import frameworks
from .problem import NotGiven


def module_of(x: Any) -> Any:
    """Return the array module of x: numpy or cupy; None if x is not an array."""
    module = sys.modules.get(type(x).__module__.split(".")[0])
    return np if isinstance(x, (np.ndarray, np.generic)) else module if hasattr(module, "asnumpy") else None


def to_host(x: Any) -> Any:
    """Return x as a NumPy array if it is one of CuPy, torch or JAX; anything else as it is."""
    if framework := frameworks.of_array(x):
        return framework.to_host(x)
    module = module_of(x)
    return x if module is None or module is np else module.asnumpy(x)


def to_own(x: np.ndarray, like: Any, dtype: str) -> Any:
    """Return the NumPy array x as an array of the module of `like`, its real numbers in this dtype."""
    if framework := frameworks.of_array(like):
        return framework.to_own(x, like, dtype)
    x = x.astype(dtype, copy=False) if x.dtype.kind == "f" else x
    module = module_of(like)
    return x if module is None or module is np else module.asarray(x)


@dataclass
class Target:
    """Code to be checked.

    name            its name in the report
    forward         forward(*inputs) → one output, or a tuple of outputs
    backward        backward(*dY) → the gradients in the order of the inputs, one of them bare if there is one input;
                    None for an input without a gradient. It follows a call of forward. One dY for each output
    parameters      names of the inputs, as many as are known
    differentiable  differentiable(inputs) → whether each is differentiated by; None: those of a real dtype are
    is_value        forward returns one number, and dY is always 1
    example_inputs  example_inputs(rng) → the inputs, or a dict by name; None: there is none
    to_own          to_own(x, like, dtype) → the NumPy array x in the form that the code takes; `like` is the input
                    that was given (for dY: the first that is differentiated by)
    to_host         the reverse: an output, a gradient or an input of the code as a NumPy array
    dtype           the floating-point dtype that the code computes in
    hvp             hvp(inputs, dY, V) → H V for each input, H the second derivatives of ⟨dY, forward⟩; None: not given
    second          second(count) → the Target of the gradients as functions of (count inputs, dY); None: not known
    takes           the function whose signature the inputs have to fit; None: not known
    held            name → array, of what the code holds and is differentiated by; passed after the inputs
    file, line      where its backward is written; "" and 0 if that is unknown
    """

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    parameters: tuple[str, ...] = ()
    differentiable: Callable[[Sequence[Any]], Sequence[bool]] | None = None
    is_value: bool = False
    example_inputs: Callable[..., Any] | None = None
    to_own: Callable[[np.ndarray, Any, str], Any] = to_own
    to_host: Callable[[Any], Any] = to_host
    dtype: str = "float64"
    hvp: Callable[..., Any] | None = None
    second: Callable[[int], Target] | None = None
    takes: Callable[..., Any] | None = None
    held: dict[str, Any] = field(default_factory=dict)
    file: str = ""
    line: int = 0


Kind = Callable[[Any, str, Sequence[Any] | None], Target | None]


def recognise(fn: Any, name: str | None = None, inputs: Sequence[Any] | None = None) -> Target:
    """Turn code of any kind into a Target; UsageError if it is of none.

    inputs   those that it will be given, as they are; None if they are not known yet
    """
    title = str(name or _name(fn))
    for kind in KINDS:
        target = kind(fn, title, inputs)
        if target is not None:
            return target
    built = fn() if inspect.isclass(fn) else fn
    lacks = [part for part in ("forward", "backward") if not callable(getattr(built, part, None))]
    if len(lacks) == 1:
        raise UsageError(f"{title} has no {lacks[0]}: expected forward and backward, or a function")
    raise UsageError(f"{title}: expected forward and backward, or a function; got {type(built).__name__}")


def _name(fn: Any) -> str:
    return getattr(fn[0] if isinstance(fn, tuple) and fn else fn, "__name__", type(fn).__name__)


def recognise_forward(fn: Any, name: str | None = None) -> Target:
    """Turn code into a Target whose forward alone is used: a function f(X) → Y, or a class with forward, will do."""
    title = str(name or _name(fn))
    if isinstance(fn, (Target, tuple)) or is_layer(fn):
        return recognise(fn, title)
    built = instance(fn, title)
    forward = built.forward if callable(getattr(built, "forward", None)) else built
    if not callable(forward):
        raise UsageError(f"{title}: expected a class with forward, or a function; got {type(built).__name__}")
    example = getattr(built, "example_inputs", None)
    return Target(title, _value_of(forward), forward, parameters(forward), example_inputs=example)


def _value_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, or the value alone of one that returns (value, gradients)."""

    def forward(*inputs: Any) -> Any:
        result = function(*inputs)
        pair = isinstance(result, (tuple, list)) and len(result) == 2
        return result[0] if pair and isinstance(result[1], (tuple, list, dict)) else result

    return forward


def is_layer(fn: Any) -> bool:
    return callable(getattr(fn, "forward", None)) and callable(getattr(fn, "backward", None))


def _target(fn: Any, name: str, inputs: Sequence[Any] | None) -> Target | None:
    return fn if isinstance(fn, Target) else None


def _pair(fn: Any, name: str, inputs: Sequence[Any] | None) -> Target | None:
    if not (isinstance(fn, tuple) and len(fn) == 2 and all(callable(f) for f in fn)):
        return None
    pair = _Pair(name, *fn)
    file, line = where(fn[1])
    example = getattr(fn[0], "example_inputs", None)
    return Target(name, pair.forward, pair.backward, pair.parameters, example_inputs=example, file=file, line=line)


def _layer(fn: Any, name: str, inputs: Sequence[Any] | None) -> Target | None:
    if not is_layer(fn):
        return None
    built = instance(fn, name)
    layer = _Layer(built)
    file, line = where(built.backward)
    return Target(
        name,
        layer.forward,
        layer.backward,
        parameters(built.forward),
        example_inputs=getattr(built, "example_inputs", None),
        file=file,
        line=line,
        hvp=layer.hvp if callable(getattr(built, "hvp", None)) else None,
    )


def _function(fn: Any, name: str, inputs: Sequence[Any] | None) -> Target | None:
    built = instance(fn, name) if not hasattr(fn, "forward") and not hasattr(fn, "backward") else None
    if not callable(built):
        return None
    function = _Function(name, built)
    by_hand = getattr(built, "__globals__", {}).get(f"{getattr(built, '__name__', '')}_hvp")
    file, line = where(built)
    return Target(
        name,
        function.forward,
        function.backward,
        parameters(built),
        is_value=True,
        example_inputs=getattr(built, "example_inputs", None),
        file=file,
        line=line,
        hvp=None if by_hand is None else lambda inputs, dY, V: by_hand(*inputs, *V),
    )


KINDS: list[Kind] = [_target, _pair, frameworks.kind, _layer, _function]


class _Layer:
    def __init__(self, layer: Any):
        self.layer = layer
        self.is_tuple = False
        names = parameters(layer.backward)
        self.spread = len(names) if len(names) > 1 else 0  # backward(ds, dc): one argument for each output

    def forward(self, *inputs: Any) -> Any:
        Y = self.layer.forward(*inputs)
        self.is_tuple = isinstance(Y, (tuple, list))
        return Y

    def backward(self, *dY: Any) -> Any:
        if self.is_tuple and self.spread == len(dY):
            return self.layer.backward(*dY)
        return self.layer.backward(dY if self.is_tuple else dY[0])

    def hvp(self, inputs: Sequence[Any], dY: Sequence[Any], V: Sequence[Any]) -> Any:
        return self.layer.hvp(tuple(dY) if self.is_tuple else dY[0], *V)


class _Pair:
    def __init__(self, name: str, forward: Callable[..., Any], backward: Callable[..., Any]):
        self.name, self.function, self.gradient = name, forward, backward
        self.parameters = parameters(forward)
        self.takes = parameters(backward)
        self.upstream = [p for p in self.takes if p not in self.parameters]
        self.is_tuple = False
        self.inputs: tuple[Any, ...] = ()

    def forward(self, *inputs: Any) -> Any:
        self.inputs = inputs
        Y = self.function(*inputs)
        self.is_tuple = isinstance(Y, (tuple, list))
        return Y

    def backward(self, *dY: Any) -> Any:
        given: tuple[Any, ...] = dY if len(self.upstream) == len(dY) else (dY if self.is_tuple else dY[0],)
        if len(given) != len(self.upstream):
            raise UsageError(
                f"{self.name}: backward({', '.join(self.takes)}) has to take dY, and any of forward's inputs "
                f"{', '.join(self.parameters)} by the same name"
            )
        named = {
            **dict(zip(self.parameters, self.inputs, strict=False)),
            **dict(zip(self.upstream, given, strict=True)),
        }
        return self.gradient(*[named[p] for p in self.takes])


class _Function:
    def __init__(self, name: str, function: Callable[..., Any]):
        self.name, self.function = name, function
        self.gradients: Any = None

    def forward(self, *inputs: Any) -> Any:
        result = self.function(*inputs)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise UsageError(
                f"{self.name}: expected (value, gradients) from the function, got {_what(result)}; for a layer, write "
                "a class with forward and backward"
            )
        value, self.gradients = result
        return value

    def backward(self, *dY: Any) -> Any:
        return self.gradients


# ---- what is known of code ------------------------------------------------------------------------------------------


def instance(fn: Any, name: str) -> Any:
    """Return fn, or an instance of it if it is a class, built without arguments."""
    return call(name, "the class", fn) if inspect.isclass(fn) else fn


def parameters(function: Any) -> tuple[str, ...]:
    """Return the names of the positional parameters; () if they cannot be known."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def misfit(function: Any, inputs: Sequence[Any]) -> str:
    """Say why a function cannot be called with these inputs: "missing a required argument: 'w'"; "" if it can be."""
    try:
        inspect.signature(function).bind(*inputs)
    except TypeError as error:
        return str(error)
    except ValueError:  # it has no signature
        pass
    return ""


def where(function: Any) -> tuple[str, int]:
    """Return the file and the line in which a function is defined; "" and 0 if that is unknown."""
    try:
        function = inspect.unwrap(function if inspect.isroutine(function) else function.__call__)
        return inspect.getsourcefile(function) or "", inspect.getsourcelines(function)[1]
    except (TypeError, OSError, AttributeError):
        return "", 0


def _what(x: Any) -> str:
    return f"an array {x.shape}" if hasattr(x, "shape") else type(x).__name__


def describe(error: BaseException) -> str:
    """Describe an error in one line: its type, its message and the line of the user's code."""
    here = Path(__file__).parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename[0] != "<"]
    frames = [f for f in frames if Path(f.filename).parent not in (here, Path(importlib.__file__).parent)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    message = " ".join(str(error).split())
    if isinstance(error, SyntaxError):
        place, message = f" (line {error.lineno})", error.msg
    if isinstance(error, SystemExit):
        return f"it called sys.exit({error.code!r}){place}"
    return f"{type(error).__name__}{': ' * bool(message)}{message}{place}"


def call(title: str, what: str, function: Any, *args: Any) -> Any:
    """Call the user's code: whatever it raises, sys.exit too, becomes a UsageError of one line."""
    try:
        return function(*args)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        if what == "the class":
            raise NotGiven(
                f"{title}: cannot be built without arguments: {describe(error)}. Build one in the file, and name that"
            ) from error
        shapes = ", ".join(str(tuple(a.shape)) for a in args if hasattr(a, "shape"))
        came = f" for shapes {shapes}" if shapes else ""
        raise UsageError(f"{title}: {what} raised{came}: {describe(error)}") from error
