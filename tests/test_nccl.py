"""Ranks on GPUs: gradients that NCCL moves and a kernel adds up have the bits of the sum on the host.

GPUs and NCCL are stand-ins (`standin.py`, `standin_nccl.py`); the CUDA kernels are compiled for the host and run.
"""

import hostcuda
import numpy as np
import pytest
import standin

from minivae import kernels
from minivae.distributed import tree

needs_compiler = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("P", [1, 2, 3, 4, 6, 8, 12])
def test_the_kernel_adds_up_in_the_order_of_the_tree_to_the_bit(monkeypatch, P, dtype):
    standin.install(monkeypatch)
    for n in (1, 64, 1031):
        terms = np.random.default_rng(n).standard_normal((P, n)).astype(dtype)
        expected = tree.add_up(terms.copy()).tobytes()
        for backend, kind in (("numpy", "reference"), ("numpy", "fused"), ("cupy", "fused")):
            out, given = np.full(n, np.nan, dtype), terms.copy()
            on = standin.DeviceArray if backend == "cupy" else np.asarray
            kernels.load(backend, kind, np).add_up(on(out), on(given))
            assert out.tobytes() == expected, (backend, kind, n)
            assert given.tobytes() == terms.tobytes()


def test_more_terms_than_the_kernel_has_levels_are_refused():
    terms = standin.DeviceArray(np.broadcast_to(np.float32(0), (1 << 13, 1)))
    with pytest.raises(ValueError, match="8192 terms can be halved 13 times"):
        kernels.load("cupy", "fused", np).add_up(standin.DeviceArray(np.zeros(1, np.float32)), terms)
