"""Measure the code path of the first training step of the README's example: depth, functions, files and lines.

    python scripts/step_path.py [--list]

It runs the example (Adam, ReLU, Bernoulli, dynamic binarisation) under `sys.setprofile`, from the call of `VAE.fit` to
the end of the first `train_step`. Depth is the number of calls from `fit` to the first matrix product, both counted.
Functions and lines are those of minivae's Python that runs, as `sys.setprofile` sees it; the compiled kernels that it
calls, with those that they name, stand apart. Lines are code: no docstring, comment or blank line.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from numba.core.dispatcher import Dispatcher

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PACKAGE = ROOT / "minivae"
COMPILE = Dispatcher._compile_for_args.__code__


def example() -> str:
    """Return the Python block of the README."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    return block


class Stop(BaseException):
    """Raised by a profile function to end the run."""


def run_example(profile: Callable[[FrameType, str, Any], None]) -> None:
    """Run the example in an empty folder, with `profile` called for every Python call and return.

    Everything is imported first, so that decorators and class bodies are not taken for the example's calls.
    """
    import minivae
    from minivae import kernels

    for name in minivae.__all__:
        getattr(minivae, name)
    kernels.files()
    code = compile(example(), "README.md", "exec")
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.setprofile(profile)
        try:
            exec(code, {"print": lambda *_: None})
        except Stop:
            pass
        finally:
            sys.setprofile(None)
            os.chdir(here)


def own(code: CodeType) -> Path | None:
    """Return the file of a function of minivae, relative to the root (`kernels/` under its own name); else None."""
    path = Path(code.co_filename).resolve()
    return path.relative_to(ROOT) if path.is_relative_to(PACKAGE) or path.is_relative_to(ROOT / "kernels") else None


class Step:
    """The first step of the example, as seen by a profile function: pass it to `run_example`."""

    def __init__(self) -> None:
        from minivae.backend import Backend
        from minivae.vae import VAE

        self.fit, self.step = VAE.fit.__code__, VAE.step.__code__
        backend = Backend("numpy")
        # The ops that are compiled functions themselves; by id, since a code's hash may change when it runs.
        self.ops = {id(op.py_func.__code__): op for op in vars(backend.ops).values() if isinstance(op, Dispatcher)}
        gemm: Any = backend.gemm
        self.gemm = gemm.__code__ if inspect.isfunction(gemm) else type(gemm).__call__.__code__
        self.inside, self.compiling = False, 0
        self.chain: list[str] = []  # from fit to the first matrix product
        self.codes: dict[CodeType, None] = {}  # Python functions, in the order of their first call
        self.roots: list[Any] = []  # the kernels that these may have called
        self.kernels: dict[CodeType, None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if code is COMPILE:  # compiling a kernel belongs to no step
            self.compiling += (event == "call") - (event == "return")
        elif event == "call":
            self.inside = self.inside or code is self.fit
            if self.inside and not self.compiling and own(code):
                self.codes[code] = None
                self.roots += [self.ops[id(code)]] if id(code) in self.ops else kernels_of(frame)
                if code is self.gemm and not self.chain:
                    self.chain = list(reversed([f.f_code.co_qualname for f in callers(frame, self.fit)]))
        elif event == "return" and code is self.step:
            waiting = [kernel for kernel in self.roots if kernel.signatures]  # it has been called
            while waiting:
                function = waiting.pop().py_func
                if own(function.__code__) and function.__code__ not in self.kernels:
                    self.kernels[function.__code__] = None
                    named = [function.__globals__.get(name) for name in function.__code__.co_names]
                    waiting += [kernel for value in named for kernel in compiled(value)]
            raise Stop


def callers(frame: FrameType | None, last: CodeType) -> Iterator[FrameType]:
    """Yield the frame, its caller, … up to that of `last`."""
    while frame is not None:
        yield frame
        if frame.f_code is last:
            return
        frame = frame.f_back


def kernels_of(frame: FrameType) -> list[Any]:
    """Return the compiled functions that the frame's function names, or receives as an argument."""
    code = frame.f_code
    named = [frame.f_globals.get(name) for name in code.co_names]
    handed = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
    return [kernel for value in (*named, *handed) for kernel in compiled(value)]


def compiled(value: Any) -> Iterator[Any]:
    """Yield the value if it is a compiled function, or those that a record of `kernels/` holds."""
    holds = type(value).__module__.startswith("minivae.kernels")
    for held in (value, *(vars(value).values() if holds else ())):
        if isinstance(held, Dispatcher):
            yield held


def lines(code: CodeType) -> int:
    """Count the lines of a function, without its docstring, comments and blank lines."""
    source = Path(code.co_filename).read_text(encoding="utf-8").splitlines()
    for node in ast.walk(ast.parse("\n".join(source))):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            if first == code.co_firstlineno:
                break
    else:
        return 0
    counted = set(range(first, (node.end_lineno or first) + 1))
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
        doc = node.body[0]
        counted -= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return sum(1 for n in counted if source[n - 1].strip() and not source[n - 1].strip().startswith("#"))


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the way of one training step is.")
    parser.add_argument("--list", action="store_true", help="print each function with its lines")
    options = parser.parse_args()
    seen = Step()
    run_example(seen)
    python = [code for code in seen.codes if code not in seen.kernels]  # Numba tells of a kernel's calls too
    depth, ways = len(seen.chain), {"": named(python), "kernels: ": named(seen.kernels)}
    if options.list:
        for table in ways.values():
            for code, count in table.items():
                print(f"{count:5}  {own(code)}:{code.co_firstlineno} {code.co_qualname}")
            print()
    print(f"depth      {depth}: {' → '.join(seen.chain)}")
    for title, table in ways.items():
        print(f"{title}functions  {len(table)}, in {len({code.co_filename for code in table})} files")
        print(f"{title}lines      {sum(table.values())}")


def named(codes: Iterable[CodeType]) -> dict[CodeType, int]:
    """Return the functions with a name of their own, each with its lines."""
    return {code: lines(code) for code in codes if not code.co_name.startswith("<")}


if __name__ == "__main__":
    main()
