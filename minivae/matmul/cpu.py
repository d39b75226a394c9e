"""cpu: whose routine multiplies matrices on the CPU: that of NumPy's own BLAS, or Intel's MKL (`mkl.py`).

Either is called by its address, on one thread for each share of a product (`kernels/_gemm.py`): the threads are
minivae's. That spares a BLAS's own: no thread of it exists that could be lost in a fork, or spin on beside ours.

NumPy's BLAS is called in a private copy, whose number of threads no other code changes. A BLAS that cannot be copied
(another than OpenBLAS; a system other than Linux) is called through `numpy.dot`, on its own threads.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from .. import environment
from . import mkl


class Provider:
    """A callable (out, A, B): out ← A B. `name` is as it was asked for, `version` the library's own word for itself."""

    def __init__(self, name: str, version: str, gemm: Callable[[Any, Any, Any], None], own_threads: bool = False):
        self.name, self.version, self.own_threads = name, version, own_threads
        self.gemm = gemm


def choose(name: str | None) -> Provider:
    """The provider called `name`; None: $MINIVAE_GEMM, or "auto": MKL on Intel's processors, if installed."""
    name = environment.gemm(name)
    if name == "auto":
        from ..kernels import _pool

        name = "mkl" if _pool.AVAILABLE and mkl.suits() else "numpy"
    return _mkl() if name == "mkl" else _numpy()


@cache
def _mkl() -> Provider:
    return Provider("mkl", *mkl.bind())


@cache
def _numpy() -> Provider:
    """NumPy's BLAS by the addresses of its routines in a private copy of it, or by `numpy.dot` where there is none."""
    from ..kernels import _gemm, _pool

    library = numpy_blas()
    version = f"NumPy's {library.internal_api} {library.version}" if library else "NumPy's BLAS"
    copy = _private_copy(library) if library and _pool.AVAILABLE else None
    for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
        names = [f"{prefix}{name}{suffix}" for name in ("openblas_set_num_threads", "cblas_sgemm", "cblas_dgemm")]
        if all(hasattr(copy, symbol) for symbol in names):
            set_threads, sgemm, dgemm = (getattr(copy, symbol) for symbol in names)
            set_threads(1)
            return Provider("numpy", version, _gemm.Gemm(sgemm, dgemm))
    return Provider("numpy", version, _dot, own_threads=True)


def _dot(out: Any, A: Any, B: Any) -> None:
    np.dot(A, B, out=out)


def _private_copy(library: Any) -> ctypes.CDLL | None:
    """A second OpenBLAS in this process, with settings of its own; None where there can be none.

    OpenBLAS has one number of threads for all who call it, any code may change it in the middle of a product, and the
    bits of a product depend on it. No other code finds the copy. It is loaded from memory (25 MB, some 20 ms).
    """
    if library.internal_api != "openblas" or library.threading_layer == "openmp" or not hasattr(os, "memfd_create"):
        return None
    memory = os.memfd_create("minivae-openblas")
    try:
        with open(memory, "wb", closefd=False) as target, open(library.filepath, "rb") as source:
            shutil.copyfileobj(source, target, 1 << 20)
        return ctypes.CDLL(f"/proc/self/fd/{memory}", mode=os.RTLD_LOCAL | os.RTLD_NOW)
    except OSError:
        return None
    finally:
        os.close(memory)


def numpy_blas() -> Any:
    """threadpoolctl's handle of the BLAS that NumPy has loaded, or None where it knows none."""
    from threadpoolctl import ThreadpoolController

    np.dot(np.ones((1, 1)), np.ones((1, 1)))  # some load it on first use
    libraries = [found for found in ThreadpoolController().lib_controllers if found.user_api == "blas"]
    own = [found for found in libraries if "numpy" in found.filepath]
    return (own or libraries or [None])[0]
