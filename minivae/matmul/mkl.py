"""mkl: Intel's MKL (extra `mkl`), called by the addresses of its routines. Any x86-64 processor runs it.

gemm="auto" takes it on Intel's processors only: on AMD's it multiplied 0.88 times as fast as NumPy's OpenBLAS.

What has to be right, or it is slower, wrong or not repeatable:

    its 32-bit integers and its sequential layer are chosen before any other call, by its own functions;
    it is loaded for itself alone (RTLD_LOCAL), so that NumPy's BLAS and its symbols do not meet;
    MKL_CBWR pins one code branch: with aligned arrays a resumed run is then the same bit for bit.
"""

from __future__ import annotations

import ctypes
import os
import platform
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..hints import how_to_install

CPUINFO = Path("/proc/cpuinfo")

# The numbers of mkl_service.h
_LP64, _SEQUENTIAL, _CBWR_AUTO = 0, 1, 2


def bind() -> tuple[str, Any]:
    """MKL's version, and the callable (out, A, B): out ← A B."""
    from ..kernels import _gemm

    if platform.machine().lower() not in ("x86_64", "amd64"):
        raise UsageError(f"gemm='mkl' is for x86-64 processors, and this is {platform.machine()}: use gemm='numpy'")
    path = library()
    if path is None:
        raise UsageError(f"gemm='mkl' needs Intel's MKL: {how_to_install('mkl')}, or use gemm='numpy'")
    mkl = ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_NOW)
    mkl.MKL_Set_Interface_Layer(_LP64)
    mkl.MKL_Set_Threading_Layer(_SEQUENTIAL)
    mkl.MKL_CBWR_Set(_CBWR_AUTO)
    text = ctypes.create_string_buffer(200)
    mkl.MKL_Get_Version_String(text, len(text))
    version = text.value.decode().split(" for ")[0].strip()
    return version, _gemm.Gemm(mkl.cblas_sgemm, mkl.cblas_dgemm)


def suits() -> bool:
    """Whether MKL is installed, and the processor is one of Intel's."""
    return vendor() == "GenuineIntel" and library() is not None


def vendor() -> str:
    """The maker that an x86 processor names, such as "GenuineIntel" or "AuthenticAMD"; "" where that is unknown."""
    try:
        with open(CPUINFO, encoding="utf-8", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("vendor_id")), "")
    except OSError:  # Windows, where it ends the description
        return platform.processor().rpartition(", ")[2]


def library() -> Path | None:
    """libmkl_rt of the wheel `mkl`, which installs it beside Python's own libraries."""
    try:
        found = [path.locate() for path in files("mkl") or [] if path.name.startswith(("libmkl_rt", "mkl_rt"))]
    except PackageNotFoundError:
        return None
    return Path(str(found[0])).resolve() if found else None
