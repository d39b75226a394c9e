"""The loops of the fused likelihoods run in vector lanes: what makes them fast, and what one call, one test for zero or
one inner loop that LLVM does not unroll takes away, ten times over, with every result still right."""

import re

import pytest
from numba import njit, types

from minivae.kernels import (
    bernoulli,
    categorical,
    continuous_bernoulli,
    gaussian,
    gaussian_optimal,
    gaussian_shared,
    laplace,
    negative_binomial,
    poisson,
)

INT, COUNT = types.int64, types.Array(types.int64, 1, "C")
ONE, TABLE = (types.Array(types.float64, n, "C") for n in (1, 2))
LOOPS = {  # kernel → its arguments, V for a vector of the dtype and M for a matrix
    bernoulli._bernoulli: "V M M M V int int",
    categorical._categorical: "V M M M M V int",
    continuous_bernoulli._continuous_bernoulli: "V M M M V int int",
    gaussian._gaussian: "V M count M M V int int",
    gaussian._gaussian_fixed: "V M M M V int real real int",
    gaussian_optimal._gaussian_optimal: "V M double1 count M M V int int",
    gaussian_shared._gaussian_shared: "V M V count M V M V int int",
    laplace._laplace: "V M count M M V int int",
    negative_binomial._negative_binomial: "V M V count table M V M V int int",
    poisson._poisson: "V M count M M V int int",
}


@pytest.mark.parametrize("loop", LOOPS, ids=[getattr(loop, "alone", loop).__name__ for loop in LOOPS])
def test_products_are_of_vectors(loop):
    function = getattr(loop, "alone", loop)
    kinds = {"V": types.Array(types.float32, 1, "C"), "M": types.Array(types.float32, 2, "C")}
    kinds |= {"int": INT, "real": types.float32, "count": COUNT, "table": TABLE, "double1": ONE}
    flags = {name: value for name, value in function.targetoptions.items() if name in ("error_model", "fastmath")}
    anew = njit(**flags)(function.py_func)  # Numba shows no code of what it had in its cache
    anew.compile(tuple(kinds[word] for word in LOOPS[loop].split()))
    code = next(iter(anew.inspect_llvm().values()))
    assert re.search(r"= fmul [a-z ]*<\d+ x (float|double)>", code)
