"""The environment variables that minivae reads: `minivae info` prints the table, a test compares it with the source."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from functools import cache

from .errors import UsageError, UsageWarning

MOST_THREADS = 1024
BACKENDS, GEMM = ("numpy", "cupy", "auto"), ("numpy", "mkl", "auto")
SPARSE = ("auto", "yes", "no")

# name → what it sets, and what holds where it is not set
READ = {
    "MINIVAE_BACKEND": "numpy, cupy or auto: the backend where none is asked for; unset: auto",
    "MINIVAE_DATA": "the folder that holds mnist/ and fashion-mnist/; unset: the cache folder, with downloads",
    "MINIVAE_GEMM": "numpy, mkl or auto: whose matrix products on the CPU; unset: auto",
    "MINIVAE_MAX_BYTES": "the most bytes of memory that reading a data file may take; unset: half of the memory",
    "MINIVAE_MPI_TIMEOUT": "seconds that a rank waits for the others before it ends; unset: 600",
    "MINIVAE_SAVE_SECONDS": "the least time between two checkpoints of a run; unset: 10",
    "MINIVAE_SPARSE": "yes, no or auto: whether the first layer multiplies by the non-zeros of its rows; unset: auto",
    "MINIVAE_THREADS": "the number of threads; unset: the processors this process may use, or a limit below",
    "MPI_LOCALRANKID": "set by the mpiexec of MPICH and Intel MPI: the number of this process on its host",
    "NO_COLOR": "set to anything: no colour and no bold text",
    "NUMBA_DISABLE_JIT": "other than 0: refused, for the kernels are compiled; unset: 0",
    "NUMBA_NUM_THREADS": "the most threads where MINIVAE_THREADS is not set",
    "OMPI_COMM_WORLD_LOCAL_RANK": "set by Open MPI's mpiexec: the number of this process on its host",
    "OMPI_COMM_WORLD_RANK": "set by Open MPI's mpiexec: the number of this process",
    "OMPI_COMM_WORLD_SIZE": "set by Open MPI's mpiexec: how many processes it has started",
    "OMP_NUM_THREADS": "the most threads where neither MINIVAE_THREADS nor OPENBLAS_NUM_THREADS is set",
    "OPENBLAS_NUM_THREADS": "NumPy's OpenBLAS's threads; the most that minivae uses where MINIVAE_THREADS is not set",
    "PMI_RANK": "set by the mpiexec of MPICH and Intel MPI: the number of this process",
    "PMI_SIZE": "set by the mpiexec of MPICH and Intel MPI: how many processes it has started",
    "SLURM_LOCALID": "set by srun: the number of this process on its host",
    "SLURM_NTASKS": "set by srun: how many processes it has started",
    "SLURM_PROCID": "set by srun: the number of this process",
    "SLURM_STEP_ID": "set by srun: without it, SLURM_NTASKS is a batch script's",
    "TMPDIR": "the folder for the file that ranks of a host share rows by (`docs/distributed.md`); unset: the system's",
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


def check_numba() -> None:
    """Raise UsageError where a variable keeps Numba from compiling. It reads them when it is imported."""
    number = os.environ.get("NUMBA_NUM_THREADS", "")
    if re.fullmatch(r" *(-[0-9]+|[-+]?0+) *", number):
        raise UsageError(f"NUMBA_NUM_THREADS={number[:20]}: Numba expects a number of at least 1: set one, or unset it")
    if os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0"):
        raise UsageError("NUMBA_DISABLE_JIT is set, and Numba then compiles nothing, which the kernels need: unset it")


def launched() -> int:
    """How many processes a launcher (mpiexec, srun) says that it has started; 1 without one."""
    return max(_number(os.environ.get("OMPI_COMM_WORLD_SIZE")) or _number(os.environ.get("PMI_SIZE")) or _step(), 1)


def launched_rank() -> int:
    """The number of this process among those; 0 without a launcher."""
    if launched() == 1:
        return 0
    slurm = os.environ.get("SLURM_PROCID")
    return _number(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or slurm)


def first_of_host() -> bool:
    """Whether this process is the first that the launcher has started on its host, or it has not said."""
    number = os.environ.get("MPI_LOCALRANKID") or os.environ.get("OMPI_COMM_WORLD_LOCAL_RANK")
    number = number or os.environ.get("SLURM_LOCALID")
    return _number(number) == 0


def _step() -> int:
    return _number(os.environ.get("SLURM_NTASKS")) if os.environ.get("SLURM_STEP_ID") else 0


def _number(text: str | None) -> int:
    return int(text) if text and len(text) <= 9 and text.isdecimal() else 0


_asked_threads: int | None = None  # by an option
_sharing = 1  # processes that share this host's processors


def share_processors(processes: int, threads: int | None = None) -> None:
    """Let `threads` divide the processors by so many processes of this host, or say what an option asked for."""
    global _asked_threads, _sharing
    _asked_threads, _sharing = threads, processes


def _processors() -> int:
    """The processors of this process: those that it is pinned to, or its part of the host's."""
    affinity = getattr(os, "sched_getaffinity", None)
    own, everything = len(affinity(0)) if affinity else os.cpu_count() or 1, os.cpu_count() or 1
    return own if own < everything else max(1, own // _sharing)


def threads() -> int:
    """The number of threads that this process may use.

    It is $MINIVAE_THREADS, or else the number of processors that this process may run on, or less where
    $OPENBLAS_NUM_THREADS, or without it $OMP_NUM_THREADS, or $NUMBA_NUM_THREADS says so. NumPy's BLAS is not asked:
    other code may have lowered its number for a while. Raises UsageError where $MINIVAE_THREADS is not an integer
    from 1 to MOST_THREADS.
    """
    text = os.environ.get("MINIVAE_THREADS") if _asked_threads is None else str(_asked_threads)
    if text:
        number = int(text) if len(text) <= 9 and text.isdecimal() else 0
        if not 1 <= number <= MOST_THREADS:
            shown = text if len(text) <= 20 else text[:20] + "…"
            raise UsageError(f"MINIVAE_THREADS={shown!r}: expected an integer from 1 to {MOST_THREADS}")
    else:
        number = _processors()
        asked = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
        for limit in (asked, os.environ.get("NUMBA_NUM_THREADS")):
            if found := re.match(r" *([1-9][0-9]{0,8})", limit or ""):
                number = min(number, int(found[1]))
    return min(number, MOST_THREADS)


@cache
def warn_of_no_cache() -> None:
    """Warn once that compiled kernels are not kept for the next process."""
    warnings.warn(
        "compiled kernels are not kept for the next process: Numba may write neither beside them nor to your cache "
        "folder; set NUMBA_CACHE_DIR to a folder that it may write to",
        UsageWarning,
        stacklevel=4,
    )


def chosen(what: str, asked: str | None, variable: str, value: str | None, known: Iterable[str]) -> tuple[str, str]:
    """One of the names `known`: the one asked for, else the variable's value, else "auto"; and where it is from."""
    name, source = (asked, "") if asked is not None else (value or "auto", f" (from ${variable})" if value else "")
    if name not in known:
        raise UsageError(f"{what}={name!r}{source}: expected one of {', '.join(known)}")
    return name, source


def backend(asked: str) -> str:
    """`Backend(name)`: "numpy", "cupy" or "auto", which takes $MINIVAE_BACKEND where that is set."""
    given = None if asked == "auto" else asked
    return chosen("backend", given, "MINIVAE_BACKEND", os.environ.get("MINIVAE_BACKEND"), BACKENDS)[0]


def gemm(asked: str | None) -> str:
    """`Backend(gemm=)`: "numpy", "mkl" or "auto"; None takes $MINIVAE_GEMM, else "auto"."""
    return chosen("gemm", asked, "MINIVAE_GEMM", os.environ.get("MINIVAE_GEMM"), GEMM)[0]


def sparse(asked: str | None, able: bool) -> str:
    """`Backend(sparse=)`: "auto", "yes" or "no"; None takes $MINIVAE_SPARSE, else "auto".

    able   whether this backend has the products: elsewhere "auto" is "no"
    """
    asked, source = chosen("sparse", asked, "MINIVAE_SPARSE", os.environ.get("MINIVAE_SPARSE"), SPARSE)
    if asked == "yes" and not able:
        raise UsageError(f"sparse='yes'{source}: products by the non-zeros are for the CPU's fused kernels alone")
    return asked if able else "no"
