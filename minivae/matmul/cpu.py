"""gemm: whose routine multiplies matrices on the CPU: that of NumPy's own BLAS, or Intel's MKL (extra `mkl`).

Either is called by its address, on one thread for each share of a product (`kernels/gemm.py`): the threads are ours.
That spares MKL's own: no thread of it exists that could be lost in a fork, or spin on beside ours. What else has to be
right, or it is slower, wrong or not repeatable:

    its 32-bit integers and its sequential layer are chosen before any other call, by its own functions;
    it is loaded for itself alone (RTLD_LOCAL), so that NumPy's BLAS and its symbols do not meet;
    MKL_CBWR pins one code branch: with aligned arrays a resumed run is then the same bit for bit.

NumPy's BLAS is called in a private copy, whose number of threads no other code changes. A BLAS that cannot be copied
(another than OpenBLAS; a system other than Linux) is called through `numpy.dot`, on its own threads.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, how_to_install

PROVIDERS = ("numpy", "mkl", "auto")

# The numbers of mkl_service.h
_LP64, _SEQUENTIAL, _CBWR_AUTO = 0, 1, 2


class Provider:
    """A callable (out, A, B): out ← A B. `name` is as it was asked for, `version` the library's own word for itself."""

    def __init__(self, name: str, version: str, gemm: Callable[[Any, Any, Any], None], own_threads: bool = False):
        self.name, self.version, self.own_threads = name, version, own_threads
        self.gemm = gemm


def choose(name: str | None) -> Provider:
    """The provider called `name`; None: $MINIVAE_GEMM, or "auto": MKL where it is installed and shareable."""
    source = ""
    if name is None:
        name = os.environ.get("MINIVAE_GEMM") or "auto"
        source = " (from $MINIVAE_GEMM)" if os.environ.get("MINIVAE_GEMM") else ""
    if name not in PROVIDERS:
        raise UsageError(f"gemm={name!r}{source}: expected one of {', '.join(PROVIDERS)}")
    if name == "auto":
        from ..kernels import _pool

        name = "mkl" if _mkl_library() is not None and _pool.AVAILABLE else "numpy"
    return _mkl() if name == "mkl" else _numpy()


_found: dict[str, Provider] = {}  # a library is bound once


def _numpy() -> Provider:
    if "numpy" not in _found:
        _found["numpy"] = _bind_numpy()
    return _found["numpy"]


def _mkl() -> Provider:
    if "mkl" not in _found:
        _found["mkl"] = _bind_mkl()
    return _found["mkl"]


def _bind_numpy() -> Provider:
    """NumPy's BLAS by the addresses of its routines in a private copy of it, or by `numpy.dot` where there is none."""
    from ..kernels import _pool, gemm

    library = numpy_blas()
    if library is None:
        return Provider("numpy", "NumPy's BLAS", _dot, own_threads=True)
    version = f"NumPy's {library.internal_api} {library.version}"
    copy = _private_copy(library) if _pool.AVAILABLE else None
    for prefix in ("", "scipy_"):
        for suffix in ("", "64_", "_64"):
            names = [f"{prefix}{name}{suffix}" for name in ("openblas_set_num_threads", "cblas_sgemm", "cblas_dgemm")]
            if copy is not None and all(hasattr(copy, symbol) for symbol in names):
                set_threads, sgemm, dgemm = (getattr(copy, symbol) for symbol in names)
                set_threads(1)
                return Provider("numpy", version, gemm.Gemm(_address(sgemm), _address(dgemm), bool(suffix)))
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


def _bind_mkl() -> Provider:
    from ..kernels import gemm

    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise UsageError(f"gemm='mkl' is for x86-64 processors, and this is {platform.machine()}: use gemm='numpy'")
    path = _mkl_library()
    if path is None:
        raise UsageError(f"gemm='mkl' needs Intel's MKL: {how_to_install('mkl')}, or use gemm='numpy'")
    mkl = ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_NOW)
    mkl.MKL_Set_Interface_Layer(_LP64)
    mkl.MKL_Set_Threading_Layer(_SEQUENTIAL)
    mkl.MKL_CBWR_Set(_CBWR_AUTO)
    text = ctypes.create_string_buffer(200)
    mkl.MKL_Get_Version_String(text, len(text))
    version = text.value.decode().split(" for ")[0].strip()
    return Provider("mkl", version, gemm.Gemm(_address(mkl.cblas_sgemm), _address(mkl.cblas_dgemm), wide=False))


def _mkl_library() -> Path | None:
    """libmkl_rt of the wheel `mkl`, which installs it beside Python's own libraries."""
    try:
        found = [path.locate() for path in files("mkl") or [] if path.name.startswith(("libmkl_rt", "mkl_rt"))]
    except PackageNotFoundError:
        return None
    return Path(str(found[0])).resolve() if found else None


def _address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0
