"""_cuda: how a .cu file becomes kernels, and how they are launched.

The text of the .cuh files and of the .cu file, joined, is compiled by CuPy (NVRTC) for one dtype at the first launch:
no #include, because CuPy's cache on disk looks at the source alone. What is launched is sized from the device: grids
stride over what they do not cover, so an array of any length is served by as many blocks as the device holds at once.

Arguments are CuPy arrays, and plain numbers in the types that the kernels declare: `int` for a Python int, `double` for
a float, and NumPy's own for the rest. `number` and `row_weight` are the structs of `_numbers.cuh`.
"""

from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent
HEADERS = ("_numbers.cuh", "_vectors.cuh", "_sums.cuh", "_likelihood.cuh")
REAL = {"float32": "float", "float64": "double"}
THREADS = 256  # of a block
WARP = 32

NULL = np.uint64(0)  # a pointer to nothing
_NUMBER = np.dtype([("at", np.uint64), ("value", np.float64)])
_ROW_WEIGHT = {name: np.dtype([("at", np.uint64), ("value", name)], align=True) for name in REAL}


# ---- compiling ------------------------------------------------------------------------------------------------------


@cache
def source(file):
    """The whole text that is compiled for `<file>.cu`; #line keeps the compiler's messages to the point."""
    parts = [*HEADERS, f"{file}.cu"]
    return "".join(f'#line 1 "{part}"\n{(FOLDER / part).read_text(encoding="utf-8")}' for part in parts)


def options(dtype_name):
    """What the compiler is told, for "float32" or "float64"."""
    return (f"-Dreal={REAL[dtype_name]}", "--std=c++17")


@cache
def _kernel(module, file, name, dtype_name):
    return _compiled(module, file, dtype_name).get_function(name)


@cache
def _compiled(module, file, dtype_name):
    return module.RawModule(code=source(file), options=options(dtype_name))


# ---- launching ------------------------------------------------------------------------------------------------------


def cupy():
    """CuPy, which whoever holds a device array has loaded."""
    return import_module("cupy")


def launch(file, name, dtype, shape, *arguments):
    """Run the kernel `name` of `<file>.cu` on CuPy's current stream; shape: (grid, block)."""
    kernel = _kernel(cupy(), file, name, np.dtype(dtype).name)
    kernel(*shape, tuple(_argument(x, cupy().ndarray) for x in arguments))


def _argument(x, device_array):
    """An argument as the kernel declares it. (CuPy would make a Python int 64 bits wide.)"""
    if isinstance(x, device_array):
        if not x.flags.c_contiguous:
            raise ValueError(f"a CUDA kernel was given an array {x.shape} that is not C-contiguous")
        return x
    if x is None:
        return NULL
    if isinstance(x, (bool, int)):
        return np.int32(x)  # OverflowError where it does not fit: no kernel counts further
    return np.float64(x) if isinstance(x, float) else x


def check(dtype, *arrays):
    """Every array (or None) is of this dtype: a kernel would read others as if they were."""
    for x in arrays:
        if x is not None and x.dtype != dtype:
            raise TypeError(f"a CUDA kernel for {np.dtype(dtype).name} was given an array of {x.dtype}")


def empty(n, dtype):
    """A device array (n,) for scratch that the caller did not bring."""
    return cupy().empty(n, dtype)


def number(x):
    """A number, or a device array of one float64 that will hold it, as the kernels' `number`."""
    if isinstance(x, cupy().ndarray):
        check("float64", x)
        return np.array((x.data.ptr, 0), _NUMBER)
    return np.array((0, x), _NUMBER)


def row_weight(weight, dtype):
    """A number, or a device array (R,) or (S, B), as the kernels' `row_weight`."""
    if getattr(weight, "ndim", 0):
        check(dtype, weight)
        return np.array((weight.data.ptr, 0), _ROW_WEIGHT[np.dtype(dtype).name])
    return np.array((0, weight), _ROW_WEIGHT[np.dtype(dtype).name])


def begin(file, nll_rows, d_out, d_own, clamped, table, out, own, X, weight, *sizes):
    """The first launch of a likelihood with a tensor of its own: `<file>_features`, which fills its table.

    d_own, own   the tensor (…, D) and its gradient;  sizes: what the kernel takes beside D
    Returns clamped, None where no gradient is written, and the weight as the kernels take them, and R, B, D.
    """
    check(X.dtype, nll_rows, d_out, d_own, out, own)
    check("float64", table)
    check("int64", clamped)
    clamped, (B, D) = None if d_out is None else clamped, X.shape
    launch(file, f"{file}_features", X.dtype, flat(D), table, clamped, own, *sizes, D)
    return clamped, row_weight(weight, X.dtype), out.shape[0], B, D


# ---- the shape of a launch ------------------------------------------------------------------------------------------


@cache
def _device(module, id_):
    attributes = module.cuda.Device(id_).attributes
    return attributes["MultiProcessorCount"], attributes["MaxThreadsPerMultiProcessor"]


def blocks_at_once():
    """How many blocks of THREADS the current device holds."""
    processors, threads = _device(cupy(), cupy().cuda.runtime.getDevice())
    return processors * (threads // THREADS)


def flat(n, dtype=None):
    """For `each`: n elements, 16 bytes of `dtype` a thread; without dtype one a thread."""
    each = 1 if dtype is None else 16 // np.dtype(dtype).itemsize
    return (max(1, min(_up(int(n), each * THREADS), blocks_at_once())),), (THREADS,)


def rows(R, D):
    """For `along`: R rows of D columns. A warp a row; a block a row where there are too few rows to fill the device."""
    most, by_warp = blocks_at_once(), THREADS // WARP
    if most * by_warp <= R or D <= WARP * 4:
        return (min(_up(R, by_warp), most),), (WARP, by_warp)
    return (min(R, most),), (THREADS, 1)


def warps(R):
    """For kernels that give each row to a warp, whatever the row's length."""
    by_warp = THREADS // WARP
    return (min(_up(R, by_warp), blocks_at_once()),), (WARP, by_warp)


def strips(H, parts, dtype):
    """For `column_sums`: H columns, 16 bytes a thread where H allows it; the rows in so many parts."""
    wide = 16 // np.dtype(dtype).itemsize
    columns = WARP * wide if H % wide == 0 else WARP
    return (min(_up(H, columns), blocks_at_once()), parts), (WARP, THREADS // WARP)


def columns(H):
    """For kernels with a thread for each of H columns, the rows shared out inside the block."""
    return (min(_up(H, WARP), blocks_at_once()),), (WARP, THREADS // WARP)


def _up(n, size):
    return max(1, -(-n // size))
