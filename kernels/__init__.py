"""minivae.kernels: one op, one file. This page says which ops exist, and loads them.

A file `<op>.py` holds, in this order: the equations and shapes; the `…_reference(xp, …)`, plain array code for NumPy
*and* CuPy, which is the specification and may allocate; the fused Numba kernel; and the launcher of the fused CUDA
kernel in the sibling `<op>.cu`. All take the same arguments after `xp`: outputs first, owned by the caller. The file
ends with `OPS`, a table name → (reference, fused, cuda).

This folder imports nothing from minivae, so that it can be read, and borrowed, alone.
"""

if __name__ != "minivae.kernels":
    raise ImportError(
        f"this folder is the package minivae.kernels, not a top-level {__name__!r}: write `from minivae import kernels`"
    )

from functools import partial
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

# The op files in reading order. A new op is a new file and a name here; tests, gradcheck and bench walk `op_names()`.
FILES = (
    "dense", "latent", "importance",
    "bernoulli", "continuous_bernoulli", "gaussian", "gaussian_shared", "gaussian_optimal", "laplace", "categorical",
    "poisson", "negative_binomial",
    "noise", "sgd", "adagrad", "rmsprop", "adam", "norm", "gather", "logsumexp", "advance",
)  # fmt: skip

# Which kinds of kernel each array module has.
AVAILABLE = {"numpy": ("reference", "fused"), "cupy": ("reference", "fused")}


def limit_threads(threads: int) -> int:
    """Let the fused kernels and products use up to so many cores; how many they will use (`_threads.py`)."""
    return import_module(f"{__name__}._threads").limit(threads)


def most_threads() -> int:
    """How many cores the fused kernels use at the most, now."""
    return import_module(f"{__name__}._threads").most()


def files() -> dict[str, ModuleType]:
    """Import the op files (and with them Numba): file name → module."""
    return {name: import_module(f"{__name__}.{name}") for name in FILES}


def op_names() -> tuple[str, ...]:
    """The names of all ops, in reading order."""
    return tuple(op for module in files().values() for op in module.OPS)


def load(backend: str, kind: str, xp: Any) -> SimpleNamespace:
    """The ops of one array module and kind as attributes: `load("numpy", "fused", np).bernoulli(…)`.

    backend: "numpy" or "cupy"; kind: one of AVAILABLE[backend]; xp: the array module the references are bound to.
    """
    if kind not in AVAILABLE[backend]:
        raise ValueError(f"kernels={kind!r}: {backend} has {' and '.join(AVAILABLE[backend])}")
    table = {}
    for module in files().values():
        for op, (reference, *fused) in module.OPS.items():
            if kind == "reference":
                table[op] = partial(reference, xp)
            elif backend == "numpy":
                table[op] = fused[0]
            else:
                table[op] = fused[1] if len(fused) > 1 else partial(_refuse, op)
    return SimpleNamespace(**table)


def _refuse(op: str, *_: Any) -> None:
    raise NotImplementedError(f"{op} has no CUDA kernel yet: use kernels='reference' (--kernels reference) on the GPU")
