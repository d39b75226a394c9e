"""user: turn your own code into a problem: a layer or a function, from an import path or a file, NumPy or CuPy.

    a layer       class MyLayer: forward(X, W, b) → Y, or a tuple of outputs
                                 backward(dY) → the gradients in the order of forward's inputs; None for one that has
                                 none. dY is a tuple where forward returned one
    a function    f(X, W, b) → (value, gradients): a number, and the gradients in the order of the inputs

Every array to differentiate with respect to is an input; anything else belongs to the code. Inputs come from an
`example_inputs(rng)` on the class or the function or in its module, which returns the arrays (or a dict by name); or
from shapes, filled with normals. Noise is an input, or seeded inside forward. docs/gradients.md has the full protocol.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from .adapter import Adapter, call, describe, is_layer, module_of, to_host
from .problem import Arrays, Problem, Settings, random_upstream


def load(target: str) -> Any:
    """Return the object named by "path/to/file.py:Name" or "package.module:name". Imports, and so runs, that code."""
    where, _, attribute = target.rpartition(":")
    if not where or not attribute:
        raise UsageError(f"{target!r}: expected path/to/file.py:Name or package.module:name")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
            raise UsageError(f"{where} has no {attribute!r}: it has {', '.join(public) or 'nothing to call'}")
        found = getattr(found, part)
    if not hasattr(found, "example_inputs") and hasattr(module, "example_inputs"):
        return _WithExample(found, module.example_inputs)
    return found


class _WithExample:
    """A target whose `example_inputs` is a function of its module."""

    def __init__(self, target: Any, example_inputs: Any):
        self.target, self.example_inputs = target, example_inputs


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"_minivae_gradcheck_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _on_path(str(path.resolve().parent)):
        sys.modules[spec.name] = module  # dataclasses and pickle look their module up there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[spec.name]
            raise UsageError(f"{path} cannot be imported: {describe(error)}") from error
    return module


def _load_module(name: str) -> Any:
    with _on_path(str(Path.cwd())):
        try:
            return importlib.import_module(name)
        except Exception as error:
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
    """ "5x3,3x4,4" → [(5, 3), (3, 4), (4,)]."""
    try:
        shapes = [tuple(int(n) for n in part.strip().split("x")) for part in text.split(",")]
        if all(n > 0 for shape in shapes for n in shape):
            return shapes
    except ValueError:
        pass
    raise UsageError(f"--shapes {text!r}: expected shapes with x inside and commas between, as in 5x3,3x4,4")


def _instance(fn: Any, title: str) -> Any:
    if not inspect.isclass(fn):
        return fn
    try:
        return fn()
    except Exception as error:
        raise UsageError(f"{title}: cannot be built without arguments: {describe(error)}") from error


def _parameter_names(entry: Any, count: int) -> tuple[str, ...]:
    try:
        parameters = list(inspect.signature(entry).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:count]
    return tuple(names + [f"input {i}" for i in range(len(names), count)])


def problem_of(
    fn: Any,
    inputs: Sequence[Any] | dict[str, Any] | None,
    name: str | None,
    settings: Settings,
    shapes: list[tuple[int, ...]] | None = None,
    float32: bool = False,
) -> Problem:
    """Build the problem of a layer or a function at these inputs; see `check` and the top of this file."""
    example = None
    if isinstance(fn, _WithExample):
        fn, example = fn.target, fn.example_inputs
    title = str(name or getattr(fn, "__name__", type(fn).__name__))
    target = _instance(fn, title)
    if not is_layer(target) and not callable(target):
        raise UsageError(f"{title}: expected forward and backward, or a function; got {type(target).__name__}")
    example = getattr(target, "example_inputs", example)
    rng = np.random.default_rng(settings.seed)
    if inputs is None and shapes is not None:
        inputs = [rng.normal(size=shape) for shape in shapes]
    elif inputs is None and example is not None:
        inputs = call(title, "example_inputs", example, rng)
    elif inputs is None:
        raise UsageError(f"{title}: no inputs: give --shapes 5x3,3x4,4, or write example_inputs(rng) to return them")
    entry = target.forward if is_layer(target) else target
    if isinstance(inputs, dict):
        names, given = tuple(inputs), list(inputs.values())
    else:
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        names = _parameter_names(entry, len(given))
    arrays = [_checked(title, n, x) for n, x in zip(names, given, strict=True)]
    if not arrays:
        raise UsageError(f"{title}: no inputs, so nothing to differentiate by")
    adapter = Adapter(title, target, [module_of(x) or np for x in given], isinstance(inputs, dict))
    outputs = adapter.forward(arrays)
    upstream = random_upstream(np.random.default_rng([settings.seed, 7]), outputs)
    if adapter.is_value:
        upstream = [np.array(1.0)]
    problem = Problem(title, names, arrays, adapter.forward, adapter.backward, upstream, strided=True)
    problem.complex_step = settings.complex_step and all(module is np for module in adapter.modules)
    problem.sizes = _sizes(names, arrays)
    if float32:
        problem.single = problem
    if arrays[0].ndim > 1 and arrays[0].shape[0] > 1:
        problem.one_row = lambda: _one_row(problem, len(arrays[0]))
    return problem


def _checked(title: str, name: str, x: Any) -> np.ndarray:
    x = np.asarray(to_host(x))
    if x.dtype.kind != "f":
        kind = "integers" if x.dtype.kind in "iu" else x.dtype.name
        raise UsageError(
            f"{title}: input {name} holds {kind} ({x.dtype}), which have no derivatives. Make it float64; keep labels "
            "and indices in the code, not among the inputs"
        )
    if x.size == 0:
        raise UsageError(f"{title}: input {name} has shape {x.shape}: it has no entries")
    if not np.isfinite(x).all():
        raise UsageError(f"{title}: input {name} is not finite everywhere")
    return x.astype(np.float64)


def _sizes(names: tuple[str, ...], arrays: Arrays) -> dict[str, int]:
    sizes: dict[int, list[str]] = {}
    for name, x in zip(names, arrays, strict=True):
        for axis, n in enumerate(x.shape):
            sizes.setdefault(n, []).append(f"{name}.shape[{axis}]")
    for name, x in zip(names, arrays, strict=True):
        sizes.setdefault(x.size, []).append(f"{name}.size")
    return {" = ".join(where): n for n, where in sizes.items() if n > 1}


def _one_row(problem: Problem, rows: int) -> Problem:
    """Take the first row of every input with as many rows as the first; of the first input alone if that fails."""
    attempts: list[list[int]] = [[k for k, x in enumerate(problem.inputs) if x.ndim > 0 and len(x) == rows], [0]]
    for which in attempts:
        inputs = [x[:1].copy() if k in which else x for k, x in enumerate(problem.inputs)]
        try:
            outputs = problem.forward(inputs)
        except UsageError:
            continue
        upstream = [u[:1] if u.ndim > 0 and len(u) == rows else u for u in problem.upstream]
        for u, y in zip(upstream, outputs, strict=True):
            if u.shape != y.shape and u.size == y.size:
                raise UsageError(
                    f"the output has shape {y.shape} where {u.shape} is expected: an axis is squeezed away"
                )
        if all(u.shape == y.shape for u, y in zip(upstream, outputs, strict=True)):
            full = problem.forward(problem.inputs)
            apart = [
                y.ndim > 0 and y.shape == f[:1].shape and np.allclose(y, f[:1])
                for y, f in zip(outputs, full, strict=True)
            ]
            one = Problem(problem.name, problem.names, inputs, problem.forward, problem.backward, upstream)
            one.rows_apart = all(apart)
            return one
    raise UsageError("no axis found that is the rows'")
