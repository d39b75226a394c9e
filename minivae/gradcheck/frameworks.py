"""frameworks: PyTorch's and JAX's code as a Target, so that it is checked like any other code.

    torch    a function of tensors, a torch.autograd.Function, an nn.Module (its parameters are inputs too)
    jax      a function of arrays, jax.custom_vjp, jax.custom_jvp

backward has the framework differentiate the target, which calls the hand-written backward passes inside it. A framework
is looked for among the imported modules only: code of torch has imported torch, so neither torch nor JAX is imported
here. Arrays cross by NumPy: torch's on the CPU share the memory, others are copied.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import CodeType, ModuleType
from typing import Any
from unittest import mock

import numpy as np

from ..errors import UsageError
from .problem import NotGiven

Function = Callable[..., Any]


class Framework:
    """What the checker needs of a framework; `Torch` and `Jax` are the two."""

    name: str

    def __init__(self, module: Any):
        self.module = module

    def is_array(self, x: Any) -> bool:
        raise NotImplementedError

    def dtype(self, x: Any) -> str:
        """Return the name of an array's dtype, as NumPy writes it."""
        return str(x.dtype).rpartition(".")[2]

    def is_real(self, x: Any) -> bool:
        return self.is_array(x) and "float" in self.dtype(x)

    def to_host(self, x: Any) -> np.ndarray:
        """Copy an array to the host; bfloat16, which NumPy lacks, becomes float32."""
        raise NotImplementedError

    def to_own(self, x: np.ndarray, like: Any, dtype: str) -> Any:
        """Make an array from a host array on the device of `like`: real numbers in this dtype, others as they are."""
        raise NotImplementedError

    def is_target(self, fn: Any) -> bool:
        """Whether fn is of this framework's own kinds, for which no other protocol is tried."""
        raise NotImplementedError

    def built(self, fn: Any, name: str) -> Any:
        """Return fn, or an instance of it if it is a class that has to be built."""
        from .target import instance

        return instance(fn, name)

    def by_hand(self, fn: Any) -> bool:
        """Whether fn is of a kind that has a hand-written backward."""
        raise NotImplementedError

    def parts(self, fn: Any) -> list[Any]:
        """Return the functions that fn is made of, which are no targets of their own."""
        return []

    def backward_of(self, fn: Any) -> Any:
        """Return the hand-written backward inside fn, if it has one of its own; else fn."""
        return fn

    def names(self, fn: Any) -> tuple[str, ...]:
        """Return the names of the inputs."""
        from .target import parameters

        return parameters(fn)

    def parameters(self, fn: Any) -> dict[str, Any]:
        """Return the arrays that fn holds and is differentiated by."""
        return {}

    def in_dtype(self, fn: Any, dtype: str) -> Function:
        """Return fn as a function of its inputs and its parameters, all in this dtype."""
        return fn

    def value(self, fn: Function, arrays: list[Any]) -> Any:
        """Call fn so that `gradients` can follow."""
        return fn(*arrays)

    def outputs(self, found: Any) -> list[Any]:
        """Return the arrays of real numbers in what a function returned."""
        raise NotImplementedError

    def gradients(self, fn: Function, arrays: list[Any], upstream: list[Any]) -> list[Any]:
        """Return the gradient of Σ ⟨upstream, outputs⟩ by each of the arrays, itself differentiable."""
        raise NotImplementedError

    @contextmanager
    def poisoned(self) -> Iterator[None]:
        """Fill new uninitialised arrays with NaN, so that a buffer that is not fully written is detected."""
        yield

    def explain(self, error: Exception) -> str:
        """Say what an exception of the framework means, where its own message is not enough; else ""."""
        return ""


def _flat(x: Any) -> Iterator[Any]:
    if isinstance(x, dict):
        x = list(x.values())
    if isinstance(x, (tuple, list)):
        for part in x:
            yield from _flat(part)
    else:
        yield x


class Torch(Framework):
    name = "torch"

    def is_array(self, x: Any) -> bool:
        return isinstance(x, self.module.Tensor)

    def to_host(self, x: Any) -> np.ndarray:
        x = x.detach().cpu().resolve_conj().resolve_neg()
        return (x.float() if x.dtype == self.module.bfloat16 else x).numpy()

    def to_own(self, x: np.ndarray, like: Any, dtype: str) -> Any:
        x, device = np.asarray(x), like.device if self.is_array(like) else "cpu"
        own = self.module.from_numpy(x if x.flags.writeable else x.copy())
        return own.to(device, getattr(self.module, dtype)) if own.is_floating_point() else own.to(device)

    def is_target(self, fn: Any) -> bool:
        return isinstance(fn, self.module.nn.Module) or self._custom(fn) is not None or self._is_module_class(fn)

    def _is_module_class(self, fn: Any) -> bool:
        return inspect.isclass(fn) and issubclass(fn, self.module.nn.Module)

    def _custom(self, fn: Any) -> Any:
        """Return the torch.autograd.Function that fn is, or whose `apply` it is; else None."""
        owner = fn if inspect.isclass(fn) else getattr(fn, "__self__", None)
        is_one = inspect.isclass(owner) and issubclass(owner, self.module.autograd.Function)
        return owner if is_one and (fn is owner or getattr(fn, "__name__", "") == "apply") else None

    def by_hand(self, fn: Any) -> bool:
        return self._custom(fn) is not None

    def built(self, fn: Any, name: str) -> Any:
        return fn if self._custom(fn) else super().built(fn, name)

    def backward_of(self, fn: Any) -> Any:
        custom = self._custom(fn)
        return custom.backward if custom else getattr(fn, "forward", fn)

    def names(self, fn: Any) -> tuple[str, ...]:
        from .target import parameters

        if custom := self._custom(fn):
            takes_context = custom.setup_context is self.module.autograd.Function.setup_context
            return parameters(custom.forward)[takes_context:]
        return parameters(getattr(fn, "forward", fn))

    def parameters(self, fn: Any) -> dict[str, Any]:
        if not isinstance(fn, self.module.nn.Module):
            return {}
        return {name: p.detach() for name, p in fn.named_parameters() if p.requires_grad}

    def in_dtype(self, fn: Any, dtype: str) -> Function:
        if custom := self._custom(fn):
            return custom.apply
        if not isinstance(fn, self.module.nn.Module):
            return fn
        names = list(self.parameters(fn))
        module = copy.deepcopy(fn).to(getattr(self.module, dtype))

        def call(*arrays: Any) -> Any:
            given = arrays[: len(arrays) - len(names)]
            with_these = dict(zip(names, arrays[len(given) :], strict=True))
            return self.module.func.functional_call(module, with_these, given)

        return call

    def value(self, fn: Function, arrays: list[Any]) -> Any:
        with self.module.enable_grad():
            return fn(*(x if x.requires_grad else x.requires_grad_() for x in arrays))

    def outputs(self, found: Any) -> list[Any]:
        return [y for y in _flat(found) if self.is_real(y) or (self.is_array(y) and y.is_complex())]

    def gradients(self, fn: Function, arrays: list[Any], upstream: list[Any]) -> list[Any]:
        outputs = self.outputs(self.value(fn, arrays))
        pairs = [(y, u) for y, u in zip(outputs, upstream, strict=True) if y.requires_grad]
        if not pairs:
            raise UsageError(
                "its output is not connected to its inputs: it is detached, computed under no_grad or by NumPy, "
                "so torch has no gradient to check"
            )
        ys, us = zip(*pairs, strict=True)
        again = self.module.is_grad_enabled() and any(u.requires_grad for u in us)
        found = self.module.autograd.grad(ys, arrays, us, create_graph=again, allow_unused=True)
        if all(g is None for g in found):
            raise UsageError(
                "torch finds no path from its output to an input: backward returns None for each, is marked "
                "@once_differentiable, or computes outside of torch's graph"
            )
        return [self.module.zeros_like(x) if g is None else g for x, g in zip(arrays, found, strict=True)]

    @contextmanager
    def poisoned(self) -> Iterator[None]:
        torch = self.module

        def poison(make: Function) -> Function:
            def made(*args: Any, **kwargs: Any) -> Any:
                out = make(*args, **kwargs)
                if out.is_floating_point() and out.device.type != "meta":
                    with torch.no_grad():
                        out.fill_(float("nan"))
                return out

            return made

        with ExitStack() as stack:
            for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
                stack.enter_context(mock.patch.object(owner, name, poison(getattr(owner, name))))
            yield

    def explain(self, error: Exception) -> str:
        text = str(error)
        if "backward through the graph a second time" in text:
            return (
                "a graph was not kept: it is differentiated twice. Either backward() or autograd.grad inside has freed "
                "it (retain_graph=True keeps it), or a tensor in it was computed in an earlier call"
            )
        if "leaf Variable" in text and "in-place" in text:
            return "it changes its input in place: work on a copy"
        if "not compiled with CUDA" in text or "No CUDA GPUs" in text or "NVIDIA driver" in text:
            return "it wants a CUDA device, and torch finds none here"
        return ""


class Jax(Framework):
    name = "jax"

    def is_array(self, x: Any) -> bool:
        return isinstance(x, self.module.Array)

    def to_host(self, x: Any) -> np.ndarray:
        return np.array(x.astype("float32") if self.dtype(x) == "bfloat16" else x)

    def to_own(self, x: np.ndarray, like: Any, dtype: str) -> Any:
        if dtype == "float64" and not self.module.config.jax_enable_x64:
            raise UsageError(
                'JAX computes in float32 here, and a check needs float64: call jax.config.update("jax_enable_x64", '
                "True) before anything else, or set JAX_ENABLE_X64=1"
            )
        own = self.module.numpy.array(x, dtype=dtype if x.dtype.kind == "f" else None)  # a copy: JAX's never change
        return self.module.device_put(own, like.sharding) if self.is_array(like) else own

    def is_target(self, fn: Any) -> bool:
        return isinstance(fn, (self.module.custom_vjp, self.module.custom_jvp))

    def by_hand(self, fn: Any) -> bool:
        return self.is_target(fn)

    def parts(self, fn: Any) -> list[Any]:
        return [getattr(fn, part, None) for part in ("fwd", "bwd", "jvp")] if self.is_target(fn) else []

    def in_dtype(self, fn: Any, dtype: str) -> Function:
        """Return fn compiled once for all calls; as it is where it cannot be compiled (static arguments)."""
        compiled = self.module.jit(lambda *arrays: fn(*arrays))
        fails: list[Exception] = []

        def call(*arrays: Any) -> Any:
            if not fails:
                try:
                    return compiled(*arrays)
                except Exception as error:
                    fails.append(error)
            return fn(*arrays)

        return call

    def backward_of(self, fn: Any) -> Any:
        return getattr(fn, "bwd", None) or getattr(fn, "jvp", None) or fn

    def outputs(self, found: Any) -> list[Any]:
        leaves = [y for y in self.module.tree_util.tree_leaves(found) if hasattr(y, "dtype")]
        return [y for y in leaves if self.module.numpy.issubdtype(y.dtype, self.module.numpy.inexact)]

    def gradients(self, fn: Function, arrays: list[Any], upstream: list[Any]) -> list[Any]:
        _, pull_back = self.module.vjp(lambda *xs: self.outputs(fn(*xs)), *arrays)
        return list(pull_back(upstream))

    def explain(self, error: Exception) -> str:
        if isinstance(error, self.module.errors.ConcretizationTypeError):
            return "it makes Python or NumPy values of its arrays (float(x), if x, np.f(x)), so JAX cannot trace it"
        return ""


# ---- whose code it is -----------------------------------------------------------------------------------------------


def loaded() -> list[Framework]:
    """Return the frameworks that are imported already."""
    return [kind(sys.modules[kind.name]) for kind in (Torch, Jax) if hasattr(sys.modules.get(kind.name), "__version__")]


def of_array(x: Any) -> Framework | None:
    """Return the framework whose array x is."""
    return next((framework for framework in loaded() if framework.is_array(x)), None)


def dtype_of(x: Any) -> str:
    """Return the name of the dtype of a framework's array; "" for anything else."""
    framework = of_array(x)
    return framework.dtype(x) if framework else ""


def of_target(fn: Any, given: Sequence[Any] = ()) -> Framework | None:
    """Return the framework that a target belongs to: by its kind, by its arrays, or by what its code calls."""
    frameworks = loaded()
    for framework in frameworks:
        if framework.is_target(fn) or any(framework.is_array(x) for x in _flat(given)):
            return framework
    wrapped = inspect.isroutine(fn) or isinstance(fn, functools.partial) or hasattr(fn, "__wrapped__")
    code = [fn] if wrapped else [vars(type(fn)).get("forward"), vars(type(fn)).get("__call__")]
    used = set().union(*(_packages(part) for part in code if part is not None)) if frameworks else set()
    return next((framework for framework in frameworks if framework.name in used), None)


def _top(name: Any) -> str:
    top = str(name or "").partition(".")[0]
    return "jax" if top == "jaxlib" else top


def _packages(fn: Any, seen: set[int] | None = None) -> set[str]:
    """Return the top-level packages whose objects the code of a function names, its helpers' included."""
    seen = set() if seen is None else seen
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = inspect.unwrap(getattr(fn, "__func__", fn))
    found = {_top(getattr(fn, "__module__", "")), _top(type(fn).__module__)}
    code = getattr(fn, "__code__", None)
    if code is None or id(code) in seen:
        return found
    seen.add(id(code))
    known = dict(fn.__globals__)
    known.update(inspect.getclosurevars(fn).nonlocals)
    for name in _names_in(code):
        x = known.get(name)
        if isinstance(x, ModuleType):
            found.add(_top(x.__name__))
        elif inspect.isfunction(x):
            found |= _packages(x, seen)
        elif x is not None:
            kinds = x.__mro__ if inspect.isclass(x) else type(x).__mro__
            found |= {_top(kind.__module__) for kind in kinds} | {_top(getattr(x, "__module__", ""))}
    return found


def _names_in(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names) | set(code.co_freevars) | set().union(*map(_names_in, inner))


# ---- as a Target ----------------------------------------------------------------------------------------------------


class Autograd:
    """A target that a framework differentiates, as forward and backward of that framework's arrays.

    A function that returns a number and a tuple of gradients, as one written for NumPy does, has written its gradients
    by hand: those are checked.
    """

    def __init__(self, framework: Framework, fn: Any, name: str):
        self.framework, self.fn, self.name = framework, fn, name
        self.flags: list[bool] = []
        self.arguments: list[Any] = []
        self.by_hand: list[Any] | None = None
        self._functions: dict[str, Function] = {}

    def differentiable(self, given: Sequence[Any]) -> list[bool]:
        """Return which arguments are differentiated by: real arrays, or those that require a gradient if any does."""
        real = [self.framework.is_real(x) or (isinstance(x, np.ndarray) and x.dtype.kind == "f") for x in given]
        marked = [bool(getattr(x, "requires_grad", False)) for x in given]
        own = len(given) - len(self.framework.parameters(self.fn))
        self.flags = [m or i >= own for i, m in enumerate(marked)] if any(marked) else real
        return self.flags

    def forward(self, *arguments: Any) -> list[Any]:
        """Return the outputs that are real numbers."""
        self.arguments = list(arguments)
        with self._guarded():
            found = self.framework.value(self._call(), self._arrays())
            outputs = self.framework.outputs(found)
        is_pair = isinstance(found, (tuple, list)) and len(found) == 2 and isinstance(found[1], (tuple, list))
        self.by_hand = list(found[1]) if is_pair and math.prod(getattr(found[0], "shape", ())) == 1 else None
        if self.by_hand is not None:
            outputs = [found[0]]
        if not outputs:
            raise NotGiven(f"{self.name}: it returned no array of real numbers, so there is nothing to differentiate")
        return outputs

    def backward(self, *upstream: Any) -> list[Any]:
        """Return the gradient by each argument; None for those that are not differentiated by."""
        if self.by_hand is not None:
            found = iter([None if g is None else upstream[0] * g for g in self.by_hand])
        else:
            with self._guarded():
                found = iter(self.framework.gradients(self._call(), self._arrays(), list(upstream)))
        return [next(found) if flag else None for flag in self.flags]

    def second(self, count: int) -> Any:
        """Return the Target of the gradients, a function of the `count` arguments and dY."""
        from .target import Target

        layer = _Gradients(self, count)
        name = f"the gradient of {self.name}"
        return Target(
            name, layer.forward, layer.backward, differentiable=layer.differentiable, to_own=self.framework.to_own
        )

    def _arrays(self) -> list[Any]:
        return [x for x, flag in zip(self.arguments, self.flags, strict=True) if flag]

    def _call(self) -> Function:
        """Return the target as a function of the arrays that it is differentiated by."""
        arguments, flags, dtype = self.arguments, self.flags, self.framework.dtype(self._arrays()[0])
        if dtype not in self._functions:
            self._functions[dtype] = self.framework.in_dtype(self.fn, dtype)
        function = self._functions[dtype]

        def call(*arrays: Any) -> Any:
            given = iter(arrays)
            return function(*(next(given) if flag else x for x, flag in zip(arguments, flags, strict=True)))

        return call

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Replace a framework's message by a clearer one."""
        try:
            yield
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error
        except Exception as error:
            if text := self.framework.explain(error):
                raise UsageError(f"{self.name}: {text}") from error
            raise


class _Gradients(Autograd):
    """The gradients of a target as outputs, of its `count` arguments and of dY, to be differentiated once more."""

    def __init__(self, first: Autograd, count: int):
        super().__init__(first.framework, first.fn, f"the gradient of {first.name}")
        self.first, self.count = first, count

    def differentiable(self, given: Sequence[Any]) -> list[bool]:
        self.flags = [*self.first.differentiable(given[: self.count]), *(True for _ in given[self.count :])]
        return self.flags

    def _call(self) -> Function:
        self.first.arguments = self.arguments[: self.count]
        function, inputs = self.first._call(), sum(self.flags[: self.count])
        return lambda *xs: self.framework.gradients(function, list(xs[:inputs]), list(xs[inputs:]))


def kind(fn: Any, name: str, inputs: Sequence[Any] | None = None) -> Any:
    """Return the Target of code that torch or JAX differentiates; None if it is not such code."""
    from .target import Target, is_layer, where

    framework = of_target(fn, inputs or ())
    if framework is None or not callable(fn) or (is_layer(fn) and not framework.is_target(fn)):
        return None
    fn = framework.built(fn, name)
    layer = Autograd(framework, fn, name)
    held = framework.parameters(fn)
    file, line = where(framework.backward_of(fn))
    return Target(
        name,
        layer.forward,
        layer.backward,
        framework.names(fn),
        layer.differentiable,
        example_inputs=getattr(fn, "example_inputs", None),
        to_own=framework.to_own,
        file=file,
        line=line,
        second=layer.second,
        takes=None if framework.by_hand(fn) else getattr(fn, "forward", fn),
        held=held,
    )
