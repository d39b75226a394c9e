"""The loops of the fused kernels run in vector lanes: what makes them fast, and what one call, one test for zero or
one inner loop that LLVM does not unroll takes away, ten times over, with every result still right."""

import inspect
import re

import ops
import pytest
from numba import njit, types

from minivae import kernels
from minivae.kernels import _threads

# Loops that copy or count, or that gather the words of a row; importance sums over a few latent dimensions, and the
# negative binomial prepares its features once for all rows.
SCALAR = {
    "noise._bits", "noise._uniforms", "noise._binarize", "gather._gather", "advance.fused", "importance.backward",
    "negative_binomial._features",
}  # fmt: skip


def loops(module):
    """name → the compiled function of every loop in an op file, on one thread."""
    found = {}
    for name, value in vars(module).items():
        function = getattr(value, "kernel", value)
        if getattr(function, "__module__", "") == module.__name__ and hasattr(function, "py_func"):
            found[f"{module.__name__.rpartition('.')[2]}.{name}"] = function
    return found


def signatures(module, loop):
    """The last types that a loop was compiled for; of a shared one, those that its launcher was."""
    for shared in vars(module).values():
        if getattr(shared, "kernel", None) is loop:
            return [(*shared.launch.signatures[-1][3], types.int64, types.int64)]
    return loop.signatures[-1:]


@pytest.fixture
def one_thread():
    before = _threads.most()
    kernels.limit_threads(1)
    yield
    kernels.limit_threads(before)


@pytest.mark.parametrize("file", kernels.FILES)
def test_products_are_of_vectors(one_thread, file):
    module = kernels.files()[file]
    for op, record in module.OPS.items():
        for case in record.cases:
            record.fused(*ops.example(op, case, "float32", (2, 3, 37)))
    for name, loop in loops(module).items():
        flags = {key: value for key, value in loop.targetoptions.items() if key in ("error_model", "fastmath")}
        anew = njit(**flags)(loop.py_func)  # Numba shows no code of what it had in its cache
        has_loop = "for " in inspect.getsource(loop.py_func)
        for signature in (
            signatures(module, loop) if has_loop else ()
        ):  # none: another loop calls it, and that one was in the cache
            anew.compile(signature)
            code = next(iter(anew.inspect_llvm().values()))
            vectors = re.search(r"= f(mul|add|sub) [a-z ]*<\d+ x (float|double)>", code)
            assert vectors or name in SCALAR, name
