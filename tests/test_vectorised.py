"""The loops of the fused kernels run in vector lanes: what makes them fast, and what one call, one test for zero or
one inner loop that LLVM does not unroll takes away, ten times over, with every result still right."""

import dis
import re

import numba
import ops
import pytest
from numba import njit

from minivae import kernels
from minivae.kernels import _threads

# Loops that copy, count, or write to scattered places; importance sums over a few latent dimensions; the negative
# binomial and the ordinal likelihood prepare their features once for all rows, and the latter looks each class up.
SCALAR = {
    "gather._gather", "advance.fused", "importance._backward", "negative_binomial._features",
    "ordinal._features", "ordinal._ordinal", "ordinal._steps", "scatter._scatter",
}  # fmt: skip
FAST = ("adam", "bernoulli", "latent")  # each loop is compiled anew, which takes seconds; the others are slow tests
if tuple(map(int, numba.__version__.split(".")[:2])) < (0, 62):  # its LLVM, 15, gives up on five arrays in a loop
    SCALAR |= {"latent.backward"}


def loops(module):
    """name → (function, the types that it was compiled for) of every loop that an op file's launchers run.

    Other tests of this process may have had it compiled for arrays with strides, which are not of vectors: left out.
    """
    named = dict(vars(module))
    for activation in getattr(module, "ACTIVATIONS", ()):
        named |= {loop.__name__: loop for loop in module.loops(activation)}
    found = {}
    for name, value in named.items():
        function = getattr(value, "loop", value)  # of a launcher
        compiled = hasattr(function, "py_func") and function.__module__ == module.__name__
        if compiled and any(step.opname == "FOR_ITER" for step in dis.get_instructions(function.py_func)):
            found[name] = function
    compiled = [value for value in vars(module).values() if hasattr(value, "py_func")]
    called = {name for function in compiled for name in function.py_func.__code__.co_names}
    called |= {name for function in found.values() for name in function.py_func.__code__.co_names}
    result = {}
    for name, function in found.items():
        contiguous = [types for types in function.signatures if all(getattr(t, "layout", "C") == "C" for t in types)]
        if name not in called and contiguous:  # none: a part of loops that Numba had in its cache
            result[name] = function, contiguous
    return result


@pytest.fixture
def one_thread():
    before = _threads.most()
    kernels.limit_threads(1)
    yield
    kernels.limit_threads(before)


@pytest.mark.parametrize(
    "file", [file if file in FAST else pytest.param(file, marks=pytest.mark.slow) for file in kernels.FILES]
)
def test_products_are_of_vectors(one_thread, file):
    module = kernels.files()[file]
    for op, record in module.OPS.items():
        for case in record.cases:
            record.fused(*ops.example(op, case, "float32", (2, 3, 37)))
    for name, (function, signatures) in loops(module).items():
        vectors = any(products_of_vectors(function, signature) for signature in signatures)
        assert vectors or f"{file}.{name}" in SCALAR, name


def products_of_vectors(function, signature):
    """Whether the code for these types multiplies or adds vectors."""
    flags = {key: value for key, value in function.targetoptions.items() if key in ("error_model", "fastmath")}
    anew = njit(**flags)(function.py_func)  # Numba shows no code of what it had in its cache
    anew.compile(signature)
    code = next(iter(anew.inspect_llvm().values()))
    return bool(re.search(r"= f(mul|add|sub) [a-z ]*<\d+ x (float|double)>", code))
