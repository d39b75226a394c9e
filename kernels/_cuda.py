"""_cuda: how a .cu file becomes kernels, and how they are launched.

The text of the .cuh files and of the .cu file, joined, is compiled by CuPy (NVRTC) for one dtype at the first launch:
no #include, because CuPy's cache on disk looks at the source alone. What is launched is sized from the device: grids
stride over what they do not cover, so an array of any length is served by as many blocks as the device holds at once.

A kernel's declaration says what it takes, and is read for that: arrays are checked against it, and numbers converted.
`number` and `row_weight` are the structs of `_numbers.cuh`.
"""

import re
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
def declared(file, name):
    """The types of a kernel's parameters, without const and __restrict__: "real*", "long long", "row_weight" …"""
    (text,) = re.findall(rf"__global__ void {name}\(([^)]*)\)", re.sub("//.*", "", source(file)))
    words = (re.sub(r"\bconst\b|\b__restrict__\b", "", parameter).split() for parameter in text.split(","))
    return tuple(" ".join(of_one[:-1]) for of_one in words)


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


def launch(file, name, shape, *arguments):
    """Run the kernel `name` of `<file>.cu` on CuPy's current stream.

    shape      (grid, block)
    arguments  for its parameters: CuPy arrays, None for a null pointer, and numbers. The first array declared as real*
               gives the dtype that the kernel is compiled for
    TypeError for an array of another dtype than declared, ValueError for one that is not C-contiguous.
    """
    types = declared(file, name)
    real = next((x.dtype for t, x in zip(types, arguments, strict=True) if t == "real*" and x is not None), SINGLE)
    given = tuple(argument(x, t, real) for t, x in zip(types, arguments, strict=True))
    _kernel(cupy(), file, name, real.name)(*shape, given)


SINGLE = np.dtype("float32")
ARRAYS = {
    "float*": "float32", "double*": "float64", "int*": "int32", "long long*": "int64", "counter*": "int64",
    "unsigned*": "uint32", "unsigned char*": "uint8",
}  # fmt: skip
NUMBERS = {"int": np.int32, "unsigned": np.uint32, "long long": np.int64, "counter": np.uint64, "double": np.float64}


def argument(x, declared_type, real):
    """x as CuPy takes it for a parameter of this type. (It would make a Python int 64 bits wide.)"""
    if declared_type.endswith("*"):
        return _array(x, real if declared_type == "real*" else ARRAYS[declared_type])
    if declared_type == "number":  # or a device array of one float64 that will hold it
        in_memory = isinstance(x, cupy().ndarray)
        return np.array((_array(x, "float64").data.ptr, 0) if in_memory else (0, x), _NUMBER)
    if declared_type == "row_weight":  # a number, or a device array (R,) or (S, B)
        of_each = getattr(x, "ndim", 0)
        return np.array((_array(x, real).data.ptr, 0) if of_each else (0, x), _ROW_WEIGHT[real.name])
    return (real.type if declared_type == "real" else NUMBERS[declared_type])(x)


def _array(x, dtype):
    """An array as a pointer: a kernel would read one of another dtype as if it were of this."""
    if x is None:
        return NULL
    if x.dtype != dtype:
        raise TypeError(f"a CUDA kernel for {dtype} was given an array of {x.dtype}")
    if not x.flags.c_contiguous:
        raise ValueError(f"a CUDA kernel was given an array {x.shape} that is not C-contiguous")
    return x


# ---- launchers of many ops ------------------------------------------------------------------------------------------


def optimiser(name):
    """The launcher of an optimiser's kernel, `name` of `<name>.cu`: arguments as its reference.

    Its numbers that are declared as `number`, which change from step to step, may be device arrays of one float64.
    """

    def launch_it(P, *others):
        launch(name, name, flat(P.size, P.dtype), P, *others, P.size)

    return launch_it


def likelihood(file, name):
    """The launcher of a likelihood's kernel, `name` of `<file>.cu`: arguments as its reference."""

    def launch_it(nll_rows, *others):
        X = others[declared(file, name).index("row_weight") - 2]  # which stands before the weight
        R, (B, D) = nll_rows.size, X.shape
        launch(file, name, rows(R, D), nll_rows, *others, R, B, D)

    return launch_it


def empty(n, dtype):
    """A device array (n,) for scratch that the caller did not bring."""
    return cupy().empty(n, dtype)


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
