"""backend: which array module, which kernels, which dtype. Chosen once; nothing above asks again.

Two independent switches: arrays (NumPy or CuPy) × kernels (reference or fused). A layer holds `backend.xp` and
`backend.ops` and reads the same for all four. Nothing falls back in silence: what is asked for and is not there is an
error that says what to install, and `auto` shows what it chose (`str(backend)`).
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import numpy as np

from . import device, environment, memory
from . import kernels as kernel_files
from .errors import UsageError, UsageWarning
from .matmul import cpu as products
from .matmul import gpu as cublas

Array = Any  # an array of the backend's module: numpy.ndarray or cupy.ndarray

DTYPES = ("float32", "float64")


environment.check_numba()  # before Numba is imported


class Backend:
    """A backend does what a model asks for: products, kernels, arrays, on the CPU or on a GPU.

    name     "numpy", "cupy" or "auto". "auto" takes $MINIVAE_BACKEND where that is set; else CuPy where a GPU answers;
             else NumPy
    kernels  "fused" (hand-written kernels, one pass over memory) or "reference" (plain array code, the specification)
    dtype    "float32" or "float64"
    gemm     whose matrix products, on the CPU: "numpy" (the BLAS that NumPy has), "mkl" (extra `mkl`) or "auto" (MKL
             on Intel's processors, where it is installed); None takes $MINIVAE_GEMM, or else "auto". See `matmul/`
    tf32     whether a GPU may keep 10 bits of each float32 factor of a product, which is faster and coarser
    sparse   whether an encoder's first layer multiplies by the non-zeros of its rows: "yes", "no", or "auto", where it
             pays; None takes $MINIVAE_SPARSE where that is set, else "auto". See `matmul/sparse.py`

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
        sparse: str | None = None,
    ):
        if kernels not in ("fused", "reference"):
            raise UsageError(f"kernels={kernels!r}: expected 'fused' or 'reference'")
        self.dtype = _dtype(dtype)
        self.kernels, self.tf32 = kernels, bool(tf32)
        self.name = environment.backend(name)
        if self.name == "auto":
            self.name = "cupy" if device.answers() else "numpy"
        self.xp: Any = np if self.name == "numpy" else device.cupy()
        self.provider = products.choose(gemm) if self.name == "numpy" else None
        if self.provider is None and gemm not in (None, "auto"):
            raise UsageError(f"gemm={gemm!r} chooses a library for the CPU: leave it out with the cupy backend")
        if self.provider and not kernel_files.kept_on_disk():
            environment.warn_of_no_cache()
        self.gemm: Any = self.provider.gemm if self.provider else cublas.choose(self.xp, tf32)
        self.threads = threads() if self.provider else 1
        self.ops = kernel_files.load(self.name, kernels, self.xp)
        self.sparse = environment.sparse(sparse, self.name == "numpy" and kernels == "fused")
        self.capture = kernels == "fused" and getattr(self.gemm, "capturable", False)

    @cached_property
    def special(self) -> Any:
        """scipy.special or its CuPy twin; a training step does without them."""
        return import_module("scipy.special" if self.name == "numpy" else "cupyx.scipy.special")

    def __reduce__(self) -> tuple[Any, ...]:
        gemm = self.provider.name if self.provider else None
        return restored, (self.name, self.kernels, self.dtype.name, gemm, self.tf32, self.sparse)

    def __repr__(self) -> str:
        gemm = f", gemm={self.provider.name!r}" if self.provider else ""
        return f"Backend({self.name!r}, kernels={self.kernels!r}, dtype={self.dtype.name!r}{gemm})"

    def __str__(self) -> str:
        text = f"{self.name}, {self.kernels} kernels, {self.dtype.name}"
        if self.provider:
            text += f", products by {self.provider.name}, {self.threads} thread{'s' if self.threads > 1 else ''}"
        return text

    def empty(self, shape: int | tuple[int, ...], dtype: Any = None) -> Array:
        """An uninitialised C-contiguous array that starts on a cache line, and one of a MiB or more on a huge page."""
        dtype = np.dtype(self.dtype if dtype is None else dtype)
        return memory.empty(shape, dtype) if self.name == "numpy" else device.empty(self.xp, shape, dtype)

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
        return np.asarray(x, dtype) if self.name == "numpy" else device.asarray(self.xp, x, dtype)

    def to_host(self, x: Array) -> np.ndarray:
        """x as a NumPy array: the one way back from a device. It waits for the device."""
        return self.xp.asnumpy(x) if self.name != "numpy" and self.owns(x) else np.asarray(x)

    def assign(self, out: Array, x: Any) -> None:
        """out ← x, converted to out's dtype; x may be on the host, or memory-mapped."""
        out[...] = x if self.owns(x) else self.xp.asarray(np.ascontiguousarray(x))

    def gather(self, out: Array, X: Any, rows: Array) -> None:
        """out ← X[rows], converted to out's dtype; X (N, D) on the device, on the host or memory-mapped."""
        if not isinstance(X, np.ndarray):
            self.ops.gather(out, X, rows)
        elif self.name == "numpy" and X.dtype == out.dtype:
            np.take(X, rows, axis=0, out=out, mode="clip")  # mode="raise" would go through a buffer
        else:
            self.assign(out, X[self.to_host(rows)])


def _dtype(dtype: Any) -> np.dtype:
    """float32 or float64 in the machine's byte order; UsageError for anything else."""
    with suppress(TypeError, ValueError, SyntaxError):  # NumPy parses "f4,," as Python
        if np.dtype(dtype) in map(np.dtype, DTYPES):
            return np.dtype(dtype)
    raise UsageError(f"dtype={dtype!r}: expected {' or '.join(DTYPES)}")


def resolve(backend: str | Backend, kernels: str | None, dtype: Any) -> Backend:
    """The Backend that `VAE(backend=, kernels=, dtype=)` asks for; a contradiction is an error."""
    if not isinstance(backend, Backend):
        return Backend(backend, "fused" if kernels is None else kernels, "float32" if dtype is None else dtype)
    if kernels is not None and kernels != backend.kernels:
        raise UsageError(f"kernels={kernels!r} contradicts the {backend!r} given: leave one of the two out")
    if dtype is not None and _dtype(dtype) != backend.dtype:
        raise UsageError(f"dtype={dtype!r} contradicts the {backend!r} given: leave one of the two out")
    return backend


def restored(name: str, kernels: str, dtype: str, gemm: str | None, tf32: bool, sparse: str | None = None) -> Backend:
    """The Backend that a pickle names, or, where this machine has no such one, the numpy backend, with a warning."""
    try:
        return Backend(name, kernels, dtype, gemm, tf32, sparse)
    except UsageError as error:
        instead = Backend("numpy", kernels, dtype)
        warnings.warn(f"{error}. What was pickled with it now runs on {instead}", UsageWarning, stacklevel=2)
        return instead


@cache
def threads() -> int:
    """The number of threads that kernels and products of this process use: chosen at the first call, then the same."""
    return kernel_files.limit_threads(environment.threads())
