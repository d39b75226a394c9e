"""AddressSanitizer sees what a kernel does out of bounds: broken copies fail, the kernel itself does not.
(`make asan` runs all of test_cuda_kernels.py so.)
"""

import subprocess
import sys
from pathlib import Path

import asan
import pytest

ROOT = Path(__file__).resolve().parent.parent
WATCHED = asan.environment()
pytestmark = pytest.mark.skipif(WATCHED is None, reason="g++ with libasan is not here")

RUN = """
import sys
sys.path.insert(0, "tests")
import numpy as np, hostcuda, standin
from minivae.kernels import _cuda

old, new, shift, D = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
code = _cuda.source("bernoulli")
assert old in code
flat = [np.zeros(n + shift, np.float32)[shift:] for n in (3, 3 * D, 3 * D, 3 * D)]
nll, d, logits, X = (standin.DeviceArray(x) for x in flat)
weight = _cuda.argument(1.0, "row_weight", np.dtype("float32"))
kernel = hostcuda.RawModule(code.replace(old, new), _cuda.options("float32")).get_function("bernoulli")
kernel((2,), (32, 2), (nll, d, logits, X, weight, np.int32(3), np.int32(3), np.int32(D)))
print("done", nll._value)
"""


def outcome(old="", new="", shift=0, D=7):
    result = subprocess.run(
        [sys.executable, "-c", RUN, old, new, str(shift), str(D)], cwd=ROOT, env=WATCHED, capture_output=True, text=True
    )
    return result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("shift, D", [(0, 8), (0, 7), (1, 8)])
def test_the_kernel_as_it_is_stays_within_bounds(shift, D):
    fine, text = outcome(shift=shift, D=D)
    assert fine, text
    assert "done" in text


@pytest.mark.parametrize(
    "old, new, D",
    [
        ("j = threadIdx.x; j < D;", "j = threadIdx.x; j <= D;", 7),  # one column too far
        ("for (unsigned r = first_row(); r < R;", "for (unsigned r = first_row(); r <= R;", 7),  # one row too far
        ("const bool wide = D % WIDE == 0 &&", "const bool wide =", 7),  # a vector across the last row's end
        ("(size_t)(r % B) * D", "(size_t)(r % B + 1) * D", 8),  # the wrong row of X
    ],
    ids=["column", "row", "vector", "X"],
)
def test_an_index_out_of_bounds_is_seen(old, new, D):
    fine, text = outcome(old, new, D=D)
    assert not fine
    assert "heap-buffer-overflow" in text or "misaligned address" in text, text


def test_a_misaligned_vector_is_seen():
    fine, text = outcome("&& aligned<WIDE>(d_out, out, X)", "", shift=1, D=8)
    assert not fine
    assert "misaligned address" in text, text
