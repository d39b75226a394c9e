"""hostcuda: runs CUDA sources on the CPU. What CuPy's RawModule is given is compiled by g++ with tests/cuda/host.h.

`RawModule(code=, options=)` has the part of CuPy's that the engine uses, and is stricter: an argument whose type is not
the parameter's is a TypeError, where CUDA would read what happens to be there.

MINIVAE_SANITIZE=1 compiles with AddressSanitizer and UndefinedBehaviorSanitizer; the process must have been started
with libasan preloaded (`make asan`).
"""

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np

HEADER = Path(__file__).resolve().parent / "cuda" / "host.h"
CACHE = Path(__file__).resolve().parent.parent / ".cuda-cache"
SANITIZE = os.environ.get("MINIVAE_SANITIZE") == "1"
# -Bsymbolic: a kernel may bear the name of a function of the C library, such as `advance`
FLAGS = ["-std=c++17", "-shared", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
         "-Wno-unknown-pragmas", "-Wl,-Bsymbolic", "-include", str(HEADER)]  # fmt: skip
SANITIZERS = [
    "-g1",
    "-O1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
]
KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(')
EQUAL = {"I": "i", "Q": "q"}  # an argument is passed in the same way whether signed or not
one_at_a_time = threading.Lock()
BACKWARDS = False  # run blocks and threads in the opposite order
launches: list[str] = []  # the names of the kernels that ran
loaded: set[str] = set()  # the shared objects of the sources that were compiled, or found in the cache


class LaunchError(RuntimeError):
    """The kernel cannot run as it was launched, or its threads wait for each other for ever."""


def compiler():
    """The path of g++; None where there is none."""
    return shutil.which("g++")


def build(code, options, extra=()):
    """The shared object of a CUDA source, from the cache where it was compiled before."""
    flags = [*FLAGS, *(SANITIZERS if SANITIZE else ["-O1", "-g0"]), *(o for o in options if o.startswith("-D")), *extra]
    names = KERNEL.findall(code)
    text = code + '\n#line 1 "exports"\n' + "".join(f"HOST_KERNEL({name})\n" for name in names)
    key = hashlib.sha256("\0".join([text, HEADER.read_text(), *flags]).encode()).hexdigest()[:24]
    shared = CACHE / f"{key}.so"
    if not shared.exists():
        CACHE.mkdir(exist_ok=True)
        part = CACHE / f"{key}.{os.getpid()}"
        command = [compiler(), "-x", "c++", *flags, "-", "-o", part]
        result = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"g++ does not compile it:\n{result.stderr}")
        part.rename(shared)
    return shared, names


class RawModule:
    """A CUDA source as kernels that run on the CPU."""

    def __init__(self, code, options=()):
        with one_at_a_time:
            path, self.names = build(code, options)
        self.library = ctypes.CDLL(str(path))
        loaded.add(str(path))

    def get_function(self, name):
        return Kernel(self.library, name)


class Kernel:
    def __init__(self, library, name):
        self.name = name
        self.launch = getattr(library, f"host_launch_{name}")
        self.launch.restype = ctypes.c_char_p
        describe = getattr(library, f"host_signature_{name}")
        describe.restype = ctypes.c_char_p
        letters = describe().decode()
        half = len(letters) // 2
        self.parameters = [a + b for a, b in zip(letters[:half], letters[half:], strict=True)]

    def __call__(self, grid, block, arguments):
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.name} takes {len(self.parameters)} arguments, and was given {len(arguments)}")
        held = [self._argument(i, x) for i, x in enumerate(arguments)]
        places = (ctypes.c_void_p * len(held))(*(x.ctypes.data for x in held))
        shape = [(ctypes.c_uint * 3)(*(tuple(s) + (1, 1))[:3]) for s in (grid, block)]
        with one_at_a_time:  # a block's memory is static
            wrong = self.launch(places, *shape, ctypes.c_bool(BACKWARDS))
        if wrong:
            raise LaunchError(f"{self.name}, grid {grid}, block {block}: {wrong.decode()}")
        launches.append(self.name)

    def _argument(self, i, x):
        """The bytes that CUDA would copy for argument i, as an array; a type that does not fit is refused."""
        star, letter = self.parameters[i]
        if hasattr(x, "_value"):  # a device array
            given, value = "*" + _letter(x.dtype), np.array(x.data.ptr, np.uint64)
        elif isinstance(x, np.ndarray):  # a struct
            given, value = f"={x.dtype.itemsize // 8}", x
        else:
            value = np.asarray(x)
            given = " " + _letter(value.dtype)
            if star == "*" and given == " q" and value == 0:  # a null pointer
                given = star + EQUAL.get(letter, letter)
        if given != star + EQUAL.get(letter, letter):
            raise TypeError(
                f"{self.name}, argument {i}: the kernel declares {star + letter!r}, and was given {given!r}"
            )
        return value


def _letter(dtype):
    letter = "q" if dtype in (np.int64, np.uint64) else dtype.char
    return EQUAL.get(letter, letter)
