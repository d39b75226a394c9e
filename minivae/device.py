"""device: whether there is a GPU that CuPy can use, and what its errors mean."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np

from .errors import UsageError
from .hints import how_to_install

_turn: int | None = None  # of this process among those of its host


def take_turns(turn: int) -> None:
    """Let process number `turn` of this host compute on GPU number `turn`, modulo the number of GPUs."""
    global _turn
    _turn = turn


def cupy() -> Any:
    """CuPy, with a GPU that answers: `import cupy` alone succeeds without one, and the first call fails."""
    try:
        module = import_module("cupy")
    except ImportError as error:
        raise UsageError(
            f"the cupy backend needs CuPy, which cannot be imported ({error}): for CUDA 12, {how_to_install('gpu')}; "
            f"for CUDA 13, {how_to_install('gpu13')}"
        ) from None
    try:
        devices = module.cuda.runtime.getDeviceCount()
        if _turn is not None and devices > 1:
            module.cuda.Device(_turn % devices).use()
    except module.cuda.runtime.CUDARuntimeError as error:
        raise UsageError(_why_no_gpu(module.cuda.runtime, error)) from None
    return module


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


def answers() -> bool:
    """Whether there is a GPU to compute on."""
    try:
        cupy()
    except UsageError:
        return False
    return True


@contextlib.contextmanager
def enough_memory(cupy: Any, shape: Any, dtype: Any) -> Iterator[None]:
    """Turn CuPy's error into one that says how much was asked for, how much there is, and what to do."""
    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError:
        wanted = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
        free, total = cupy.cuda.runtime.memGetInfo()
        raise UsageError(
            f"the GPU has no room for {wanted / 2**20:,.0f} MiB more ({free / 2**20:,.0f} of {total / 2**20:,.0f} "
            "MiB are free): take a smaller batch_size (--batch-size), fewer samples or narrower layers; data "
            "that do not fit stay on the host as a memory-mapped .npy file"
        ) from None


def empty(cupy: Any, shape: Any, dtype: Any) -> Any:
    """An uninitialised array on the device; CuPy aligns it to 512 bytes."""
    with enough_memory(cupy, shape, dtype):
        return cupy.empty(shape, dtype)


def asarray(cupy: Any, x: Any, dtype: Any = None) -> Any:
    """x as an array on the device: converted first and then copied there, unless it is there."""
    if isinstance(x, cupy.ndarray):
        return cupy.asarray(x, dtype)
    x = np.asarray(x, dtype)
    with enough_memory(cupy, x.shape, x.dtype):
        return cupy.asarray(x)
