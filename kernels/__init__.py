"""minivae.kernels: one op, one file. This page says which ops exist, and loads them.

A file `<op>.py` holds, in this order: the equations and shapes; the `…_reference(xp, …)`, plain array code for NumPy
*and* CuPy, which is the specification and may allocate; the fused Numba kernel; and the launcher of the fused CUDA
kernel in the sibling `<op>.cu`. All take the same arguments after `xp`: outputs first, owned by the caller. The file
ends with `OPS`, a table name → `Op` (`_op.py`): the three, an example of their arguments, and what is known of them.
Tests, gradient checks, benchmarks and traces walk that table and write down no arguments of their own.

Reading order: dense, latent, bernoulli and the other likelihoods, importance, noise, adam and the other optimisers.

This folder imports nothing from minivae, so that it can be read, and borrowed, alone.
"""

if __name__ != "minivae.kernels":
    raise ImportError(
        f"this folder is the package minivae.kernels, not a top-level {__name__!r}: write `from minivae import kernels`"
    )

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType, SimpleNamespace
from typing import Any

from ._op import Op

# The op files: those whose names begin with _ hold what they share.
FILES = tuple(sorted(found.name for found in iter_modules(__path__) if not found.name.startswith("_")))


def limit_threads(threads: int) -> int:
    """Let the fused kernels and products use up to so many cores; how many they will use (`_threads.py`)."""
    return import_module(f"{__name__}._threads").limit(threads)


def kept_on_disk() -> bool:
    """Whether compiled kernels are kept for the next process (`_cache.py`)."""
    return import_module(f"{__name__}._cache").CACHE


def files() -> dict[str, ModuleType]:
    """Import the op files (and with them Numba): file name → module."""
    return {name: import_module(f"{__name__}.{name}") for name in FILES}


_registered: dict[str, Op] = {}  # ops of files outside this folder


def register(name: str, op: Op) -> None:
    """Add an op of another file, or replace one; ValueError for a name of this folder's."""
    if name not in _registered and name in ops():
        raise ValueError(f"there is an op {name!r} already")
    _registered[name] = op


def unregister(name: str) -> None:
    """Forget an op that `register` added."""
    del _registered[name]


def ops() -> dict[str, Op]:
    """Name → op; registered ones last."""
    return {name: op for module in files().values() for name, op in module.OPS.items()} | _registered


def op_names() -> tuple[str, ...]:
    """The names of all ops."""
    return tuple(ops())


def load(backend: str, kind: str, xp: Any) -> SimpleNamespace:
    """The ops of one array module and kind as attributes: `load("numpy", "fused", np).bernoulli(…)`.

    backend: "numpy" or "cupy"; kind: "reference" or "fused"; xp: the array module the references are bound to.
    """
    if kind not in ("reference", "fused"):
        raise ValueError(f"kernels={kind!r}: expected 'reference' or 'fused'")
    table = {}
    for name, op in ops().items():
        reference = partial(op.reference, xp)
        fused = op.fused if backend == "numpy" else op.cuda
        table[name] = reference if kind == "reference" else fused or _instead(name, backend, reference)
    return SimpleNamespace(**table)


def _instead(name: str, backend: str, reference: Callable[..., None]) -> Callable[..., None]:
    """The reference in the place of a kernel that an op does not have. The first call says so."""
    kernel = "Numba" if backend == "numpy" else "CUDA"
    notices = [f"the op {name!r} has no {kernel} kernel: its reference runs instead, more slowly"]

    def call(*arguments: Any) -> None:
        if notices:
            warnings.warn(notices.pop(), stacklevel=2)
        reference(*arguments)

    return call
