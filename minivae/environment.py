"""The environment variables that minivae reads: `minivae info` prints the table, a test compares it with the source."""

from __future__ import annotations

import os

# name → what it sets, and what holds where it is not set
READ = {
    "MINIVAE_BACKEND": "numpy, cupy or auto: the backend where none is asked for; unset: auto",
    "MINIVAE_DATA": "the folder that holds mnist/ and fashion-mnist/; unset: the cache folder, with downloads",
    "MINIVAE_GEMM": "numpy, mkl or auto: whose matrix products on the CPU; unset: auto",
    "MINIVAE_MAX_BYTES": "the most bytes of memory that reading a data file may take; unset: half of the memory",
    "MINIVAE_SAVE_SECONDS": "the least time between two checkpoints of a run; unset: 10",
    "MINIVAE_THREADS": "the number of threads; unset: the processors this process may use, or a limit below",
    "NO_COLOR": "set to anything: no colour and no bold text",
    "NUMBA_DISABLE_JIT": "other than 0: refused, for the kernels are compiled; unset: 0",
    "NUMBA_NUM_THREADS": "the most threads where MINIVAE_THREADS is not set",
    "OMP_NUM_THREADS": "the most threads where neither MINIVAE_THREADS nor OPENBLAS_NUM_THREADS is set",
    "OPENBLAS_NUM_THREADS": "NumPy's OpenBLAS's threads; the most that minivae uses where MINIVAE_THREADS is not set",
    "XDG_CACHE_HOME": "the folder for downloads is minivae/ in it; unset: ~/.cache",
}

# Read by the libraries below, and of use here.
READ_BY_LIBRARIES = {
    "CUPY_CACHE_DIR": "CuPy's folder for compiled CUDA kernels; unset: ~/.cupy/kernel_cache",
    "NUMBA_CACHE_DIR": "Numba's folder for compiled kernels; unset: __pycache__ beside each kernel",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "whether JAX takes a GPU's memory in advance; unset: not in `minivae bench`",
}


def variables() -> dict[str, dict[str, str | None]]:
    """Each variable's value (None where it is not set) and meaning."""
    table = READ | READ_BY_LIBRARIES
    return {name: {"value": os.environ.get(name), "meaning": table[name]} for name in sorted(table)}
