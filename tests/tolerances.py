"""The one table of tolerances. A test that fails is mended in the code, never here.

kernel   fused against reference, for outputs of order 1: polynomials and libm differ by 1–2 ulp, and a sum over
         D ≤ 1000 terms is added in another order: √D · ε
scipy    a float64 forward against SciPy: both are right to a few ulp of the largest term of the sum
torch    one optimiser step, or a gradient, in float64 against torch: the same formulas in another order
bayes    sum: sums of a few hundred float64 terms of order 1 to 10 against the same in another order; integral: a
         quadrature against another one, which promises no more; place: where a minimum found by descent lies, flat
         as it is there, the value being right to the square of it
normal   a GPU's normals against the reference, in ulps. float64: log is 1 ulp off there, the root of it ½, sincospi
         2, their product ½, by NVIDIA's table; in float32 all that is left is a rounding that may fall the other way
"""

import numpy as np

KERNEL = {"float32": {"rtol": 3e-6, "atol": 3e-6}, "float64": {"rtol": 5e-15, "atol": 5e-15}}
SCIPY = {"rtol": 1e-13, "atol": 1e-13}
BAYES = {"sum": 1e-12, "integral": 1e-9, "place": 1e-5}
TORCH = {"rtol": 1e-13, "atol": 6e-14}
NORMAL_ULPS = {"float32": 2, "float64": 4}


def assert_close(actual, expected, dtype, scale=1.0):
    """|actual − expected| within KERNEL[dtype], its absolute part times `scale`, the size of the terms summed."""
    tolerance = KERNEL[np.dtype(dtype).name]
    np.testing.assert_allclose(actual, expected, rtol=tolerance["rtol"], atol=tolerance["atol"] * scale)
