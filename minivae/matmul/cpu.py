"""gemm: whose routine multiplies matrices on the CPU: that of NumPy's own BLAS, or Intel's MKL (extra `mkl`).

Either is called by its address, on one thread for each share of a product (`kernels/gemm.py`): the threads are ours.
That spares MKL's own: no thread of it exists that could be lost in a fork, or spin on beside ours. What else has to be
right, or it is slower, wrong or not repeatable:

    its 32-bit integers and its sequential layer are chosen before any other call, by its own functions;
    it is loaded for itself alone (RTLD_LOCAL), so that NumPy's BLAS and its symbols do not meet;
    MKL_CBWR pins one code branch: with aligned arrays a resumed run is then the same bit for bit.

A BLAS of NumPy's that does not show its routines (Accelerate, say) is called through `numpy.dot`, on its own threads.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
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
    """NumPy's BLAS, by the address of its routines where they can be found and our threads can be had."""
    from ..kernels import _pool, gemm

    library = numpy_blas()
    if library is None:
        return Provider("numpy", "NumPy's BLAS", _dot, own_threads=True)
    # An OpenBLAS that was built with OpenMP keeps a limit for each thread, which that of another one does not change.
    alien = not _pool.AVAILABLE or getattr(library, "threading_layer", "") == "openmp"
    version = f"NumPy's {library.internal_api} {library.version}"
    for prefix in () if alien else ("", "scipy_"):
        for suffix in ("", "64_", "_64"):
            names = [f"{prefix}cblas_{kind}gemm{suffix}" for kind in "sd"]
            if not all(hasattr(library.dynlib, symbol) for symbol in names):
                continue
            sgemm, dgemm = (_address(getattr(library.dynlib, symbol)) for symbol in names)
            limited = _OneThread(gemm.Gemm(sgemm, dgemm, bool(suffix)), *_threads_of(library, prefix, suffix))
            return Provider("numpy", version, limited)
    return Provider("numpy", version, _dot, own_threads=True)


def _dot(out: Any, A: Any, B: Any) -> None:
    np.dot(A, B, out=out)


def _threads_of(library: Any, prefix: str, suffix: str) -> tuple[Callable[[], int], Callable[[int], Any]]:
    """The functions that give and set a BLAS's number of threads.

    OpenBLAS's own: threadpoolctl lets one Python thread alone set it, the first that asked, and ignores all others.
    """
    symbols = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
    if not all(hasattr(library.dynlib, symbol) for symbol in symbols):
        return library.get_num_threads, library.set_num_threads
    get, set_ = (_address(getattr(library.dynlib, symbol)) for symbol in symbols)
    return ctypes.PYFUNCTYPE(ctypes.c_int)(get), ctypes.PYFUNCTYPE(None, ctypes.c_int)(set_)


class _OneThread:
    """A product by a BLAS whose own threads rest meanwhile.

    A BLAS has one number of threads for the whole process. The first product that begins sets it to 1 and the last of
    those that run at the same time sets it back, to what it was or to what other code has set meanwhile.
    """

    def __init__(
        self,
        gemm: Callable[[Any, Any, Any], None],
        get_threads: Callable[[], int],
        set_threads: Callable[[int], Any],
    ):
        self.gemm, self.get_threads, self.set_threads = gemm, get_threads, set_threads
        self.lock, self.running, self.before = threading.Lock(), 0, 1
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def __call__(self, out: Any, A: Any, B: Any) -> None:
        with self.lock:
            self.running += 1
            if (threads := self.get_threads()) != 1:
                self.before = threads
                self.set_threads(1)
        try:
            self.gemm(out, A, B)
        finally:
            with self.lock:
                self.running -= 1
                if not self.running:
                    self._restore()

    def _restore(self) -> None:
        if self.before != 1 and self.get_threads() == 1:
            self.set_threads(self.before)
        self.before = 1

    def _after_fork(self) -> None:
        """No other thread is here, that would end a product."""
        self.lock, self.running = threading.Lock(), 0
        self._restore()


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
