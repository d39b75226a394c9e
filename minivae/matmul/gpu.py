"""cublas: out ← A B on a device, the one thing that minivae has no kernel for.

CuPy's own cuBLAS calls refuse a stream that is being captured (cupy issue 6290). So products go to cuBLASLt, on a
handle and a workspace of our own, where nvmath-python binds it: a plan for each shape, made once. Without nvmath-python
CuPy multiplies, and training steps run uncaptured.

TF32, which keeps 10 bits of each factor, is off unless asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

WORKSPACE = 2**25  # bytes that cuBLASLt may use: what NVIDIA advises for Hopper
ALIGNMENT = 256  # bytes: more alignment than this is of no use to it
R_32F, R_64F = 0, 1  # cudaDataType
COMPUTE_32F, COMPUTE_32F_FAST_TF32, COMPUTE_64F = 68, 77, 70  # cublasComputeType_t


def choose(cupy: Any, tf32: bool) -> Any:
    """What multiplies on this device: a function of (out, A, B), with `capturable` and a sentence `about` itself."""
    try:
        lt = import_module("nvmath.bindings.cublasLt")
        return CublasLt(cupy, lt, tf32)
    except ImportError as error:
        return CuPyDot(cupy, tf32, str(error))


class CuPyDot:
    """cupy.dot."""

    capturable = False

    def __init__(self, cupy: Any, tf32: bool, reason: str):
        self.cupy, self.linalg = cupy, cupy._core._routines_linalg
        self.compute_type = self.linalg.COMPUTE_TYPE_TF32 if tf32 else self.linalg.COMPUTE_TYPE_FP32
        self.about = f"uncaptured steps, products by CuPy: nvmath-python binds no cuBLASLt here ({reason})"

    def __call__(self, out: Any, A: Any, B: Any) -> None:
        self.linalg.set_compute_type(np.float32, self.compute_type)  # CuPy keeps it for the whole process
        self.cupy.dot(A, B, out=out)


class CublasLt:
    """cublasLtMatmul. A and B are C-contiguous, or transposed views of such; out is C-contiguous.

    cuBLAS counts by columns: what is (m, n) by rows here is (n, m) by columns there, so it is given outᵀ = Bᵀ Aᵀ.
    """

    capturable = True
    about = "captured steps: products by cuBLASLt through nvmath-python"

    def __init__(self, cupy: Any, lt: Any, tf32: bool):
        self.cupy, self.lt, self.tf32 = cupy, lt, tf32
        self.handle = lt.create()
        self.workspace = cupy.empty(WORKSPACE, np.uint8)
        self.plans: dict[Any, Any] = {}

    def __call__(self, out: Any, A: Any, B: Any) -> None:
        pointers = (out.data.ptr, A.data.ptr, B.data.ptr)
        layouts = (_rows_follow(A), _rows_follow(B))
        key = (A.shape, B.shape, out.dtype, layouts, tuple(map(_alignment, pointers)))
        if key not in self.plans:
            self.plans[key] = self._plan(*key)
        operation, a, b, c, one, zero, algorithm = self.plans[key]
        self.lt.matmul(
            self.handle, operation, one.ctypes.data, pointers[2], b, pointers[1], a, zero.ctypes.data, pointers[0], c,
            pointers[0], c, algorithm.ctypes.data, self.workspace.data.ptr, WORKSPACE,
            self.cupy.cuda.get_current_stream().ptr,
        )  # fmt: skip

    def _plan(self, A: Any, B: Any, dtype: Any, by_rows: Any, alignments: Any) -> Any:
        lt, (m, k), n = self.lt, A, B[1]
        single = dtype == np.float32
        kind = R_32F if single else R_64F
        compute = (COMPUTE_32F_FAST_TF32 if self.tf32 else COMPUTE_32F) if single else COMPUTE_64F
        operation = lt.matmul_desc_create(compute, kind)
        of, attribute = lt.matmul_desc_set_attribute, lt.MatmulDescAttribute
        _set(of, operation, attribute.TRANSA, np.int32(not by_rows[1]))
        _set(of, operation, attribute.TRANSB, np.int32(not by_rows[0]))
        a = lt.matrix_layout_create(kind, *((k, m, k) if by_rows[0] else (m, k, m)))
        b = lt.matrix_layout_create(kind, *((n, k, n) if by_rows[1] else (k, n, k)))
        c = lt.matrix_layout_create(kind, n, m, n)

        wish = lt.matmul_preference_create()
        of, attribute = lt.matmul_preference_set_attribute, lt.MatmulPreferenceAttribute
        _set(of, wish, attribute.MAX_WORKSPACE_BYTES, np.uint64(WORKSPACE))
        its_out, its_A, its_B = map(np.uint32, alignments)
        _set(of, wish, attribute.MIN_ALIGNMENT_A_BYTES, its_B)
        _set(of, wish, attribute.MIN_ALIGNMENT_B_BYTES, its_A)
        _set(of, wish, attribute.MIN_ALIGNMENT_C_BYTES, its_out)
        _set(of, wish, attribute.MIN_ALIGNMENT_D_BYTES, its_out)
        found, count = np.zeros(1, lt.matmul_heuristic_result_dtype), np.zeros(1, np.int32)
        lt.matmul_algo_get_heuristic(
            self.handle, operation, b, a, c, c, wish, 1, found.ctypes.data, count.ctypes.data
        )  # fmt: skip
        lt.matmul_preference_destroy(wish)
        if not count[0]:
            raise RuntimeError(f"cuBLASLt has no algorithm for {A} × {B} in {dtype}")
        return operation, a, b, c, np.ones(1, dtype), np.zeros(1, dtype), found["algo"].copy()


def _rows_follow(X: Any) -> bool:
    """Whether X lies in memory row by row; else it is the transposed view of such an array."""
    if not (X.flags.c_contiguous or X.flags.f_contiguous):
        raise ValueError(f"a product was given {X.shape}, neither C-contiguous nor the transpose of such an array")
    return bool(X.flags.c_contiguous)


def _alignment(pointer: int) -> int:
    return min(ALIGNMENT, pointer & -pointer)


def _set(function: Any, handle: int, attribute: Any, value: Any) -> None:
    held = np.array(value)
    function(handle, int(attribute), held.ctypes.data, held.nbytes)
