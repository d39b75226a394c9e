"""The one table of tolerances. A test that fails is mended in the code, never here.

kernel   fused against reference, for outputs of order 1: polynomials and libm differ by 1–2 ulp, and a sum over
         D ≤ 1000 terms is added in another order: √D · ε
scipy    a float64 forward against SciPy: both are right to a few ulp of the largest term of the sum
torch    one optimiser step, or a gradient, in float64 against torch: the same formulas in another order
bayes    sum: sums of a few hundred float64 terms of order 1 to 10 against the same in another order; integral: a
         quadrature against another one, which promises no more; place: where a minimum found by descent lies, flat
         as it is there, the value being right to the square of it
normal   fused normals against the reference, in ulps. float64: radius and cosine are each up to 2 off by Numba's code,
         and up to 3 together in 3 of 10,000 draws; on a GPU log is 1 off, the root of it ½, sincospi 2, their product
         ½, by NVIDIA's table. In float32 all that is left is a rounding that may fall the other way
sums     the same terms added in another order, as another processor, BLAS or number of threads does: in units of
         ε · Σ|terms|, never of the sum itself, which may cancel. n roundings at random come to about √n · ε/2, n in a
         row at worst to n · ε/2.
             sum       one sum of up to some thousand products
             sums      a row's: a likelihood, a KL divergence, a density of several dimensions
             model     through every layer of a model, forward or backward
             training  through a few updates, an inverse matrix or a chain of samples, each of which enlarges what came
losses   a training on a GPU beside the CPU's, in ε of each loss: every product is added in another order, and updates
         enlarge what came before, which the bounds allow to double about every tenth time
"""

import numpy as np

KERNEL = {"float32": {"rtol": 3e-6, "atol": 3e-6}, "float64": {"rtol": 5e-15, "atol": 5e-15}}
SCIPY = {"rtol": 1e-13, "atol": 1e-13}
BAYES = {"sum": 1e-12, "integral": 1e-9, "place": 1e-5}
TORCH = {"rtol": 1e-13, "atol": 6e-14}
ROUNDINGS = {"sum": 32, "sums": 512, "model": 4096, "training": 2**22}
LOSSES = {("float64", 100): 2**19, ("float32", 10): 8, ("float32", 100): 2**13}  # (dtype, updates)
NORMAL_ULPS = {"float32": 2, "float64": 4}


def assert_close(actual, expected, dtype, scale=1.0):
    """|actual − expected| within KERNEL[dtype], its absolute part times `scale`, the size of the terms summed."""
    tolerance = KERNEL[np.dtype(dtype).name]
    np.testing.assert_allclose(actual, expected, rtol=tolerance["rtol"], atol=tolerance["atol"] * scale)


def assert_sums(actual, expected, of="sum", summed=None, dtype="float64", err_msg=""):
    """|actual − expected| ≤ ROUNDINGS[of] · ε(dtype) · summed, element by element.

    summed  Σ|terms| of each element, as |A| |B| of a product A B; None: the largest |expected| of all elements
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    if summed is None:
        summed = np.max(np.abs(expected), initial=0.0)
    apart, bound = np.abs(actual - expected), ROUNDINGS[of] * np.finfo(dtype).eps * summed
    worst = np.max(apart - bound, initial=-np.inf)  # NaN where either is NaN
    assert worst <= 0, f"{err_msg} {apart.max():.3g} apart where {of} of {np.max(summed):.3g} in {dtype} allows " + (
        f"{np.max(bound):.3g}:\n{actual}\n{expected}"
    )
