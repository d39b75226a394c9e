"""user: load your own code, find its inputs, and make a problem of both. `target.py` lists the kinds of code.

Every array to differentiate with respect to is an input. Inputs of integers (labels, indices) are passed through.
Inputs come from an `example_inputs(rng)` on the class or the function or in its module, which returns the arrays (or a
dict by name); or from shapes, filled with normals. Noise is an input, or seeded inside forward. docs/gradients.md has
the full protocol.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from . import frameworks, precision
from .adapter import Adapter
from .import_file import import_file
from .problem import Arrays, NotGiven, Problem, Settings, random_upstream
from .target import Target, call, describe, is_layer, misfit, module_of, recognise, recognise_forward


def load(target: str) -> Any:
    """Return the object named by "path/to/file.py:Name" or "package.module:name". Imports, and so runs, that code."""
    where, _, attribute = target.rpartition(":")
    if not where or not attribute:
        raise UsageError(f"{target!r}: expected path/to/file.py:Name or package.module:name")
    module = load_module(where)
    found: Any = tuple(_member(module, where, name.strip()) for name in attribute.split(","))
    if len(found) == 1:
        found = _with_backward(module, attribute, found[0])
    if not hasattr(found, "example_inputs") and hasattr(module, "example_inputs"):
        return _WithExample(found, module.example_inputs)
    return found


def _member(module: Any, where: str, attribute: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise UsageError(f"{where} has no {attribute!r}: it has {', '.join(public) or 'nothing to call'}")
        found = getattr(found, part)
    return found


def _with_backward(module: Any, name: str, found: Any) -> Any:
    """Return the pair (found, its backward) if `found` is a function whose backward stands beside it, else `found`.

    The backward of `name` or `name_forward` is `name_backward`; that of `forward` is `backward`.
    """
    beside = "backward" if name == "forward" else f"{name.removesuffix('_forward')}_backward"
    backward = getattr(module, beside, None)
    return (found, backward) if inspect.isfunction(found) and inspect.isfunction(backward) else found


def checkable(path: str, forward_only: bool = False) -> list[str]:
    """Return the names of all that can be checked in a file, in its order. Imports, and so runs, it.

    forward_only   also functions without a backward: those of a file of references. (A class that lacks one of the two
                   is always among the names: it may have been misspelt.)
    """
    module = load_module(path)
    example = getattr(module, "example_inputs", None)
    parts = {id(part) for value in vars(module).values() for f in frameworks.loaded() for part in f.parts(value)}
    names = []
    for name, value in vars(module).items():
        if name.startswith("_") or name == "example_inputs" or not _is_own(value, module) or id(value) in parts:
            continue
        of_framework = any(framework.is_target(value) for framework in frameworks.loaded())
        if is_layer(value) or of_framework or isinstance(_with_backward(module, name, value), tuple):
            names.append(name)
        elif inspect.isclass(value):
            names += [name] * any(callable(getattr(value, part, None)) for part in ("forward", "backward"))
        elif callable(value) and not name.endswith("_backward") and name != "backward":
            given = _example(getattr(value, "example_inputs", example))
            names += [name] * (
                forward_only
                or frameworks.of_target(value, given or ()) is not None
                or _is_function(value, given)
                or _may_be_one(value, given)
            )
    if not names:
        raise UsageError(
            f"{path}: nothing to check in it: no class with forward and backward, no function with a NAME_backward "
            "beside it, no function of torch or JAX, and no function of example_inputs that returns (value, gradients)"
        )
    return names


def is_by_hand(code: Any) -> bool:
    """Whether code has a backward of its own; False for functions and modules that torch or JAX differentiates."""
    fn, example = _apart(code)
    given = _example(getattr(fn, "example_inputs", example)) or ()
    framework = None if isinstance(fn, tuple) else frameworks.of_target(fn, given)
    return framework is None or framework.by_hand(fn) or (is_layer(fn) and not framework.is_target(fn))


def _is_own(value: Any, module: Any) -> bool:
    """Whether a value was made in this module: defined in it, or a module of torch's that was built in it."""
    of_framework = any(framework.is_target(value) for framework in frameworks.loaded())
    built = of_framework and not inspect.isclass(value) and not hasattr(value, "__wrapped__")
    return built or getattr(value, "__module__", "") == module.__name__


def _example(example: Any) -> list[Any] | None:
    """Return the inputs that an example_inputs makes; None if there is none, or it fails (the check itself says so)."""
    if example is None:
        return None
    try:
        return list(_values(example(np.random.default_rng(0))))
    except (Exception, SystemExit):
        return None


def _is_function(function: Any, given: list[Any] | None) -> bool:
    """Whether a function returns (value, gradients) at its example inputs."""
    if given is None or not inspect.isfunction(function) or misfit(function, given):
        return False
    try:
        result = function(*(np.array(x) for x in given))
        return isinstance(result, (tuple, list)) and len(result) == 2 and np.size(result[0]) == 1
    except (Exception, SystemExit):  # it is some other function
        return False


def _may_be_one(function: Any, given: list[Any] | None) -> bool:
    """Whether a function returns a pair, and cannot be called with its example inputs to see what it is."""
    if not inspect.isfunction(function) or not (given is None or misfit(function, given)):
        return False
    try:
        code = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        return False
    returned = (node.value for node in ast.walk(code) if isinstance(node, ast.Return))
    return any(isinstance(value, ast.Tuple) and len(value.elts) == 2 for value in returned)


def is_unknown(code: Any) -> bool:
    """Whether code is a function of a file that may be of (value, gradients), as far as its example inputs tell."""
    fn, example = _apart(code)
    given = _example(getattr(fn, "example_inputs", example))
    return frameworks.of_target(fn, given or ()) is None and _may_be_one(fn, given)


class _WithExample:
    """A target whose `example_inputs` is a function of its module."""

    def __init__(self, target: Any, example_inputs: Any):
        self.target, self.example_inputs = target, example_inputs


def load_module(where: str) -> Any:
    """Import a file, or a module by its dotted name."""
    return _load_file(Path(where)) if where.endswith(".py") else _load_module(where)


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    name = "_minivae_gradcheck_" + str(path.resolve()).replace(os.sep, "_").replace(".", "_")
    if name in sys.modules:
        return sys.modules[name]
    with _on_path(str(path.resolve().parent)):
        try:
            sys.modules[name] = import_file(path, name)
        except (Exception, SystemExit) as error:
            raise UsageError(f"{path} cannot be imported: {describe(error)}") from error
    return sys.modules[name]


def _load_module(name: str) -> Any:
    with _on_path(str(Path.cwd())):
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit) as error:
            raise UsageError(f"module {name} cannot be imported: {describe(error)}") from error


@contextmanager
def _on_path(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


# ---- inputs ---------------------------------------------------------------------------------------------------------


def parse_shapes(text: str) -> list[tuple[int, ...]]:
    """ "5x3,4,scalar" → [(5, 3), (4,), ()]."""
    try:
        parts = [part.strip() for part in text.split(",")]
        shapes = [() if part in ("scalar", "()") else tuple(int(n) for n in part.split("x")) for part in parts]
        if all(n > 0 for shape in shapes for n in shape):
            return shapes
    except ValueError:
        pass
    raise UsageError(f"--shapes {text!r}: expected shapes with x inside and commas between, as in 5x3,3x4,4,scalar")


def problem_of(
    fn: Any,
    inputs: Sequence[Any] | dict[str, Any] | None,
    name: str | None,
    settings: Settings,
    shapes: list[tuple[int, ...]] | None = None,
    dtype: str | None = None,
    reference: Any = None,
    hvp: bool = False,
) -> Problem:
    """Build the problem of a target at these inputs; see `check` and the top of this file.

    dtype       also check the gradients of a run in float32, bfloat16 or float16; None: those of the inputs' own dtype.
                Code that runs in no float64 needs a reference, whose differences it is compared with
    hvp         check second derivatives too
    reference   a layer, a pair or a function whose forward must give the same outputs; its inputs are used, if it has
                any
    """
    fn, example = _apart(fn)
    reference, its_example = _apart(reference)
    model: Target | None = None if reference is None else recognise_forward(reference)
    rng = np.random.default_rng(settings.seed)
    if inputs is None and shapes is not None:
        inputs = [rng.normal(size=shape) for shape in shapes]
    target = recognise(fn, name, None if inputs is None else list(_values(inputs)))
    title = target.name
    example = (model.example_inputs if model else None) or its_example or target.example_inputs or example
    if inputs is None and example is not None:
        inputs = call(title, "example_inputs", example, rng)
        if inputs is None:
            raise UsageError(f"{title}: example_inputs returned None: expected the inputs")
    if inputs is None:
        raise NotGiven(f"{title}: no inputs: give --shapes 5x3,3x4,4, or write example_inputs(rng) to return them")
    given = list(_values(inputs))
    if target.is_value:  # a function whose code names no framework may be given arrays of one
        target = recognise(fn, name, given)
    if target.takes is not None and (why := misfit(target.takes, given)):
        raise NotGiven(
            f"{title} cannot take the {len(given)} input{'s' * (len(given) != 1)} given: {why}. Name it alone with its "
            f"own --shapes, or give it inputs in the file: {title}.example_inputs = lambda rng: …"
        )
    known = tuple(inputs) if isinstance(inputs, dict) else target.parameters[: len(given)]
    names = (*known, *(f"input {i}" for i in range(len(known), len(given))), *target.held)
    given += target.held.values()
    if dtype not in (None, *precision.EPSILON):
        raise UsageError(f"dtype {dtype}: expected {', '.join(precision.EPSILON)}")
    adapter = Adapter(target, names, given)
    dtypes = {frameworks.dtype_of(given[i]) for i in adapter.moving} - {"", "float64"}
    dtype = dtype or (dtypes.pop() if len(dtypes) == 1 else None)
    coarse = Adapter(replace(target, dtype=dtype), names, given) if dtype not in (None, "float64") else None
    theirs = None
    if model is not None:
        theirs = Adapter(replace(model, name=f"{model.name} (the reference)"), names, _for(reference, given))
    if not adapter.arrays:
        what = ", ".join(f"{n} holds {_kind(x)}" for n, x in zip(names, given, strict=True))
        raise NotGiven(f"{title}: no inputs of floating point, so nothing to differentiate by{': ' * bool(what)}{what}")
    forward, backward, only = adapter.forward, adapter.backward, ""
    try:
        outputs = forward([x.copy() for x in adapter.arrays])
    except UsageError as error:
        if coarse is None or dtype is None or isinstance(error, NotGiven):
            raise
        if theirs is None:
            raise UsageError(
                f"{error} (if it runs in {dtype} only: give --reference, code that computes the same in float64)"
            ) from error
        forward, backward, only = theirs.forward, coarse.backward, dtype
        outputs = forward([x.copy() for x in adapter.arrays])
    upstream = random_upstream(np.random.default_rng([settings.seed, 7]), outputs)
    if target.is_value:
        upstream = [np.array(1.0)]
    moving = adapter.moving_names
    problem = Problem(title, moving, adapter.arrays, forward, backward, upstream, strided=not only)
    problem.file, problem.line = target.file, target.line
    problem.only = only
    if model is not None and theirs is not None:
        problem.reference, problem.reference_name = coarse.forward if coarse and only else theirs.forward, model.name
    problem.passed = {names[i]: _kind(x) for i, x in adapter.fixed.items()}
    problem.complex_step = settings.complex_step and all(module_of(x) in (np, None) for x in given)
    problem.sizes = _sizes(moving, adapter.arrays)
    if coarse is not None and dtype is not None and not only:
        problem.coarse = {dtype: coarse.backward}
    if hvp:
        problem.second = _second(problem, adapter)
    if adapter.arrays[0].ndim > 1 and adapter.arrays[0].shape[0] > 1:
        problem.one_row = lambda: _one_row(problem, adapter, len(adapter.arrays[0]))
    return problem


def _second(problem: Problem, adapter: Adapter) -> Callable[[], Problem]:
    """Return what makes the problem of the second derivatives, of ⟨V, gradients⟩ for random V.

    By hand: hvp gives H V, which is the derivative by the inputs, since H is symmetric. A framework's: the gradients
    are differentiated by the inputs and by dY.
    """
    title, target, rng = problem.name, adapter.target, np.random.default_rng([7, len(problem.names)])
    if problem.only or (target.hvp is None and target.second is None):
        raise UsageError(
            f"{title}: no second derivatives: write hvp(dY, *V) → H V for each input in the class (NAME_hvp(*inputs, "
            "*V) beside a function), or give a function of torch or JAX"
        )
    by_hand, upstream = target.hvp is not None, [u.copy() for u in problem.upstream]

    def gradients(inputs: Arrays) -> Arrays:
        found = problem.backward(inputs, [u.copy() for u in upstream])
        return [np.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True)]

    def make() -> Problem:
        if by_hand:
            names, inputs, forward = problem.names, problem.inputs, gradients
        else:
            assert target.second is not None
            names = (*adapter.names, *(f"dY {j}" if len(upstream) > 1 else "dY" for j in range(len(upstream))))
            own = [target.to_own(u, adapter.given[adapter.moving[0]], target.dtype) for u in upstream]
            other = Adapter(target.second(len(adapter.given)), names, [*adapter.given, *own])
            names, inputs, forward = other.moving_names, other.arrays, other.forward
        V = random_upstream(rng, forward([x.copy() for x in inputs]))
        backward = (lambda xs, v: adapter.hvp(xs, upstream, v)) if by_hand else other.backward
        second = Problem(title, tuple(f"H V by {name}" for name in names), inputs, forward, backward, V)
        second.file, second.line = problem.file, problem.line
        return second

    return make


def _for(code: Any, given: list[Any]) -> list[Any]:
    """Return the inputs as other code takes them: as they are if it belongs to their framework, else NumPy's."""
    if frameworks.of_target(code) is not None:
        return given
    return [framework.to_host(x) if (framework := frameworks.of_array(x)) else x for x in given]


def _apart(fn: Any) -> tuple[Any, Any]:
    return (fn.target, fn.example_inputs) if isinstance(fn, _WithExample) else (fn, None)


def _values(inputs: Any) -> Iterable[Any]:
    """Return the inputs in order: of a dict, of a list or tuple, or a single one."""
    if isinstance(inputs, dict):
        return inputs.values()
    return inputs if isinstance(inputs, (list, tuple)) else [inputs]


def _kind(x: Any) -> str:
    """Say what an input holds that is not differentiated by: "integers (int64)"."""
    dtype = getattr(x, "dtype", None)
    kind = {"i": "integers", "u": "integers", "b": "booleans", "f": "constants"}.get(getattr(dtype, "kind", ""), "")
    return f"{kind} ({dtype})" if kind else f"a {type(x).__name__}"


def _sizes(names: tuple[str, ...], arrays: Arrays) -> dict[str, int]:
    sizes: dict[int, list[str]] = {}
    for name, x in zip(names, arrays, strict=True):
        for axis, n in enumerate(x.shape):
            sizes.setdefault(n, []).append(f"{name}.shape[{axis}]")
    for name, x in zip(names, arrays, strict=True):
        sizes.setdefault(x.size, []).append(f"{name}.size")
    return {" = ".join(where): n for n, where in sizes.items() if n > 1}


def _one_row(problem: Problem, adapter: Adapter, rows: int) -> Problem:
    """Take the first row of every input with as many rows as the first; of the first input alone if that fails."""
    every = [k for k, x in enumerate(problem.inputs) if x.ndim > 0 and len(x) == rows]
    for which, here in ((every, adapter.first_row(rows)), ([0], adapter)):
        inputs = [x[:1].copy() if k in which else x for k, x in enumerate(problem.inputs)]
        one = replace(problem, inputs=inputs, forward=here.forward, backward=here.backward, one_row=None, second=None)
        one.complex_step, one.reference = False, None
        try:
            outputs = one.forward([x.copy() for x in inputs])
        except UsageError:
            continue
        one.upstream = [u[:1] if u.ndim > 0 and len(u) == rows else u for u in problem.upstream]
        for u, y in zip(one.upstream, outputs, strict=True):
            if u.shape != y.shape and u.size == y.size:
                raise UsageError(
                    f"the output has shape {y.shape} where {u.shape} is expected: an axis is squeezed away"
                )
        if all(u.shape == y.shape for u, y in zip(one.upstream, outputs, strict=True)):
            full = problem.forward([x.copy() for x in problem.inputs])
            one.rows_apart = all(
                y.ndim > 0 and y.shape == f[:1].shape and np.allclose(y, f[:1])
                for y, f in zip(outputs, full, strict=True)
            )
            return one
    raise UsageError("no axis found that is the rows'")
