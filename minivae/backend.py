"""backend: which array module, which kernels, which dtype. Chosen once; nothing above asks again.

Two independent switches: arrays (NumPy or CuPy) × kernels (reference or fused). A layer holds `backend.xp` and
`backend.ops` and reads the same for all four. Nothing falls back in silence: what is asked for and is not there is an
error that says what to install, and `auto` shows what it chose (`str(backend)`).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from . import kernels as kernel_files
from .errors import UsageError, UsageWarning, how_to_install
from .matmul import cpu as products
from .matmul import gpu as cublas
from .memory import memory

Array = Any  # an array of the backend's module: numpy.ndarray or cupy.ndarray

ALIGNMENT = 64  # bytes: a cache line, and the widest vector load
DTYPES = ("float32", "float64")
MOST_THREADS = 1024


def _see_to_numba() -> None:
    """Raise UsageError where a variable keeps Numba from compiling. It reads them when it is imported."""
    number = os.environ.get("NUMBA_NUM_THREADS", "")
    if re.fullmatch(r" *(-[0-9]+|[-+]?0+) *", number):
        raise UsageError(f"NUMBA_NUM_THREADS={number[:20]}: Numba expects a number of at least 1: set one, or unset it")
    if os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0"):
        raise UsageError("NUMBA_DISABLE_JIT is set, and Numba then compiles nothing, which the kernels need: unset it")


_see_to_numba()


class Backend:
    """The machinery that a model runs on.

    name     "numpy", "cupy" or "auto". "auto" takes $MINIVAE_BACKEND where that is set; else CuPy where a GPU answers
             and has the kernels asked for; else NumPy
    kernels  "fused" (hand-written kernels, one pass over memory) or "reference" (plain array code, the specification)
    dtype    "float32" or "float64"
    gemm     whose matrix products, on the CPU: "numpy" (the BLAS that NumPy has), "mkl" (extra `mkl`) or "auto" (MKL
             where it is installed); None takes $MINIVAE_GEMM where that is set, else "auto". See `gemm.py`

    tf32     whether a GPU may keep 10 bits of each float32 factor of a product, which is faster and coarser

    Attributes: `xp` the array module, `ops` the kernels (`ops.bernoulli(…)`: see `minivae.kernels`), `gemm` the matrix
    product, `special` scipy.special or its CuPy twin, `threads` how many cores are used, `provider` who multiplies
    (None on a GPU), `capture` whether training steps are captured as CUDA graphs (it may be set to False), and the
    switches as `name`, `kernels`, `dtype`.
    The number of threads is this process's, chosen once: see `threads`.
    Raises UsageError for an unknown choice, or one that this machine cannot serve.
    """

    def __init__(
        self,
        name: str = "auto",
        kernels: str = "fused",
        dtype: Any = "float32",
        gemm: str | None = None,
        tf32: bool = False,
    ):
        if kernels not in ("fused", "reference"):
            raise UsageError(f"kernels={kernels!r}: expected 'fused' or 'reference'")
        self.dtype = _dtype(dtype)
        self.kernels, self.tf32 = kernels, bool(tf32)
        self.name = _choose(name, kernels)
        if kernels not in kernel_files.AVAILABLE[self.name]:
            raise UsageError(
                f"backend {self.name!r} has no {kernels} kernels yet: ask for kernels='reference' "
                f"(--kernels reference), or for the numpy backend"
            )
        self.xp = np if self.name == "numpy" else _cupy()
        self.special = import_module("scipy.special" if self.name == "numpy" else "cupyx.scipy.special")
        if self.name == "numpy":
            _warn_of_no_cache()
        self.ops = kernel_files.load(self.name, kernels, self.xp)
        self.provider, self.threads = None, 1
        if self.name == "numpy":
            self.provider = products.choose(gemm)
            self.threads = threads()
        elif gemm not in (None, "auto"):
            raise UsageError(f"gemm={gemm!r} chooses a library for the CPU: leave it out with the {self.name} backend")
        self.gemm: Any = self.provider.gemm if self.provider else cublas.choose(self.xp, tf32)
        self.capture = kernels == "fused" and getattr(self.gemm, "capturable", False)

    def __reduce__(self) -> tuple[Any, ...]:
        gemm = self.provider.name if self.provider else None
        return restored, (self.name, self.kernels, self.dtype.name, gemm, self.tf32)

    def __repr__(self) -> str:
        gemm = f", gemm={self.provider.name!r}" if self.provider else ""
        return f"Backend({self.name!r}, kernels={self.kernels!r}, dtype={self.dtype.name!r}{gemm})"

    def __str__(self) -> str:
        text = f"{self.name}, {self.kernels} kernels, {self.dtype.name}"
        if self.provider:
            text += f", products by {self.provider.name}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        return text

    def empty(self, shape: int | tuple[int, ...], dtype: Any = None) -> Array:
        """An uninitialised C-contiguous array that starts on a cache line."""
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        if self.name != "numpy":
            with self._enough_memory(shape, dtype):
                return self.xp.empty(shape, dtype)  # CuPy aligns to 512 bytes
        size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * dtype.itemsize
        if (
            size > 2**30 and size > memory()
        ):  # an absurd one: where it would fit, Linux gives it and ends the process later
            raise MemoryError(
                f"an array of {size / 2**30:,.0f} GiB was asked for, and there are {memory() / 2**30:,.0f}: take "
                "narrower layers, fewer latent dimensions or samples, or smaller batches"
            )
        raw = np.empty(size + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + size].view(dtype).reshape(shape)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any = None) -> Array:
        """`empty`, filled with 0."""
        out = self.empty(shape, dtype)
        out[...] = 0
        return out

    def owns(self, x: Any) -> bool:
        """Whether x is an array of this backend's module."""
        return isinstance(x, self.xp.ndarray)

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """x as an array of this backend: copied to the device where there is one."""
        if self.name == "numpy" or self.owns(x):
            return self.xp.asarray(x, dtype)
        x = np.asarray(x, dtype)
        with self._enough_memory(x.shape, x.dtype):
            return self.xp.asarray(x)

    @contextlib.contextmanager
    def _enough_memory(self, shape: Any, dtype: Any) -> Iterator[None]:
        """Turn CuPy's error into one that says how much was asked for, how much there is, and what to do."""
        try:
            yield
        except self.xp.cuda.memory.OutOfMemoryError:
            wanted = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
            free, total = self.xp.cuda.runtime.memGetInfo()
            raise UsageError(
                f"the GPU has no room for {wanted / 2**20:,.0f} MiB more ({free / 2**20:,.0f} of {total / 2**20:,.0f} "
                "MiB are free): take a smaller batch_size (--batch-size), fewer samples or narrower layers; data "
                "that do not fit stay on the host as a memory-mapped .npy file"
            ) from None

    def to_host(self, x: Array) -> np.ndarray:
        """x as a NumPy array: the one way back from a device. It waits for the device."""
        return self.xp.asnumpy(x) if self.name != "numpy" and self.owns(x) else np.asarray(x)

    def assign(self, out: Array, x: Any) -> None:
        """out ← x, converted to out's dtype; x may be on the host, or memory-mapped."""
        out[...] = x if self.owns(x) else self.xp.asarray(np.ascontiguousarray(x))

    def gather(self, out: Array, X: Any, rows: Array) -> None:
        """out ← X[rows], converted to out's dtype; X (N, D) on the device, on the host or memory-mapped."""
        if isinstance(X, np.ndarray):
            rows = self.to_host(rows)
            if self.name == "numpy" and X.dtype == out.dtype:
                np.take(X, rows, axis=0, out=out, mode="clip")  # mode="raise" would go through a buffer
            else:
                self.assign(out, X[rows])
        else:
            self.ops.gather(out, X, rows)


def _dtype(dtype: Any) -> np.dtype:
    """float32 or float64 in the machine's byte order; UsageError for anything else."""
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):  # NumPy parses "f4,," as Python
        found = None
    if found is None or found not in [np.dtype(name) for name in DTYPES]:
        raise UsageError(f"dtype={dtype!r}: expected {' or '.join(DTYPES)}")
    return found


def resolve(backend: str | Backend, kernels: str | None, dtype: Any) -> Backend:
    """The Backend that `VAE(backend=, kernels=, dtype=)` asks for; a contradiction is an error."""
    if not isinstance(backend, Backend):
        return Backend(backend, "fused" if kernels is None else kernels, "float32" if dtype is None else dtype)
    if kernels is not None and kernels != backend.kernels:
        raise UsageError(f"kernels={kernels!r} contradicts the {backend!r} given: leave one of the two out")
    if dtype is not None and _dtype(dtype) != backend.dtype:
        raise UsageError(f"dtype={dtype!r} contradicts the {backend!r} given: leave one of the two out")
    return backend


def restored(name: str, kernels: str, dtype: str, gemm: str | None, tf32: bool) -> Backend:
    """The Backend that a pickle names, or, where this machine has no such one, the numpy backend, with a warning."""
    try:
        return Backend(name, kernels, dtype, gemm, tf32)
    except UsageError as error:
        instead = Backend("numpy", kernels, dtype)
        warnings.warn(f"{error}. What was pickled with it now runs on {instead}", UsageWarning, stacklevel=2)
        return instead


@cache
def _warn_of_no_cache() -> None:
    if not kernel_files.kept_on_disk():
        warnings.warn(
            "compiled kernels are not kept for the next process: Numba may write neither beside them nor to your cache "
            "folder; set NUMBA_CACHE_DIR to a folder that it may write to",
            UsageWarning,
            stacklevel=4,
        )


@cache
def threads() -> int:
    """The number of threads that kernels and products of this process use: chosen at the first call, then the same.

    It is $MINIVAE_THREADS, or else the number of processors that this process may run on, or less where
    $OPENBLAS_NUM_THREADS, or without it $OMP_NUM_THREADS, or $NUMBA_NUM_THREADS says so. NumPy's BLAS is not asked:
    other code may have lowered its number for a while. Raises UsageError where $MINIVAE_THREADS is not an integer
    from 1 to MOST_THREADS.
    """
    text = os.environ.get("MINIVAE_THREADS")
    if text:
        number = int(text) if len(text) <= 9 and text.isdecimal() else 0
        if not 1 <= number <= MOST_THREADS:
            shown = text if len(text) <= 20 else text[:20] + "…"
            raise UsageError(f"MINIVAE_THREADS={shown!r}: expected an integer from 1 to {MOST_THREADS}")
    else:
        affinity = getattr(os, "sched_getaffinity", None)
        number = len(affinity(0)) if affinity else os.cpu_count() or 1
        asked = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
        for limit in (asked, os.environ.get("NUMBA_NUM_THREADS")):
            if found := re.match(r" *([1-9][0-9]{0,8})", limit or ""):
                number = min(number, int(found[1]))
    return kernel_files.limit_threads(min(number, MOST_THREADS))


def _choose(name: str, kernels: str) -> str:
    source = ""
    if name == "auto" and os.environ.get("MINIVAE_BACKEND"):
        name, source = os.environ["MINIVAE_BACKEND"], " (from $MINIVAE_BACKEND)"
    if name == "auto":
        return "cupy" if kernels in kernel_files.AVAILABLE["cupy"] and _gpu_answers() else "numpy"
    if name not in kernel_files.AVAILABLE:
        raise UsageError(f"backend={name!r}{source}: expected 'numpy', 'cupy' or 'auto'")
    return name


def _cupy() -> Any:
    """CuPy, with a GPU that answers: `import cupy` alone succeeds without one, and the first call fails."""
    try:
        cupy = import_module("cupy")
    except ImportError as error:
        raise UsageError(
            f"the cupy backend needs CuPy, which cannot be imported ({error}): for CUDA 12, {how_to_install('gpu')}; "
            f"for CUDA 13, {how_to_install('gpu13')}"
        ) from None
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise UsageError(_why_no_gpu(cupy.cuda.runtime, error)) from None
    return cupy


def _why_no_gpu(runtime: Any, error: Exception) -> str:
    driver, built = (version // 1000 for version in (runtime.driverGetVersion(), runtime.runtimeGetVersion()))
    if driver == 0:
        why, advice = "there is no NVIDIA driver", "install NVIDIA's driver and see that `nvidia-smi` lists the GPU"
    elif driver < built:
        why = f"the NVIDIA driver serves CUDA {driver}, and this CuPy is built for CUDA {built}"
        advice = f"update the driver, or install the CuPy of its own CUDA (cupy-cuda{driver}x)"
    else:
        why, advice = f"no GPU answers ({error})", "see what `nvidia-smi` says"
    return f"CuPy is installed, but {why}: {advice}, or use the numpy backend"


def _gpu_answers() -> bool:
    try:
        _cupy()
    except UsageError:
        return False
    return True
