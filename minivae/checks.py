"""checks: validate arguments. Each function returns the converted value or raises UsageError."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import UsageError
from .hints import place, way_to_array


def integer(name: str, value: Any, least: int = 1) -> int:
    """An integer ≥ `least`, Python's or NumPy's; bool is not one."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < least:
        raise UsageError(f"{name}={value!r}: expected an integer of at least {least}")
    return int(value)


def finite_float(name: str, value: Any, holds: Callable[[float], bool], expected: str) -> float:
    """A finite number for which `holds(value)` is true; `expected` describes it in the message."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not holds(float(value)):
        raise UsageError(f"{name}={value!r}: expected {expected}")
    return float(value)


def positive(name: str, value: Any, expected: str = "a number > 0") -> float:
    """A finite number > 0."""
    return finite_float(name, value, lambda x: x > 0, expected)


def not_negative(name: str, value: Any, expected: str = "a number ≥ 0") -> float:
    """A finite number ≥ 0."""
    return finite_float(name, value, lambda x: x >= 0, expected)


def boolean(name: str, value: Any) -> bool:
    """True or False, Python's or NumPy's; other truthy values are errors."""
    if not isinstance(value, (bool, np.bool_)):
        raise UsageError(f"{name}={value!r}: expected True or False")
    return bool(value)


def has_method(name: str, value: Any, method: str, expected: str) -> Any:
    """An object (not a class) that has the method."""
    if isinstance(value, type) or not hasattr(value, method):
        raise UsageError(f"{name}={value!r}: expected {expected}")
    return value


def instance_of(name: str, value: Any, kind: type, expected: str) -> Any:
    """An instance of the class `kind`."""
    if not isinstance(value, kind):
        came = f"the class {value.__name__} itself" if isinstance(value, type) else repr(value)
        raise UsageError(f"{name}: expected {expected}; got {came[:80]}")
    return value


def choice(name: str, value: Any, known: tuple[str, ...]) -> str:
    """One of the names `known`."""
    if not isinstance(value, str) or value not in known:  # an array compares with each
        raise UsageError(f"{name}={value!r}: expected one of {', '.join(known)}")
    return value


def array(name: str, X: Any, width: int, what: str = "rows", sparse: bool = False) -> Any:
    """An array (rows, width) of real numbers with at least one row; sparse: scipy.sparse's are arrays too."""
    scipy = hasattr(X, "tocsr")
    if not (hasattr(X, "shape") and hasattr(X, "dtype") and (scipy or hasattr(X, "__getitem__"))) or scipy > sparse:
        raise UsageError(f"{name}: expected an array ({what}, {width}); got {type(X).__name__}{way_to_array(X)}")
    if isinstance(X, np.ma.MaskedArray):
        raise UsageError(f"{name}: a masked array's missing values cannot be told apart; fill them first")
    if len(X.shape) != 2 or X.shape[1] != width or X.shape[0] == 0:
        raise UsageError(f"{name}: expected an array ({what}, {width}) with at least one row; got shape {X.shape}")
    if np.dtype(X.dtype).kind not in "biuf":
        raise UsageError(f"{name}: expected real numbers; got dtype {X.dtype}")
    return X


def exactly(name: str, x: Any, shape: tuple[int | str, ...], dtype: Any) -> None:
    """An array of this dtype and shape, for who steps by hand; a letter as the first length stands for any number."""
    got: Any = getattr(x, "shape", ())
    free = isinstance(shape[0], str)
    if got[free:] != shape[free:] or x.dtype != dtype:
        came = f"{x.dtype} {tuple(got)}" if hasattr(x, "dtype") else type(x).__name__
        raise UsageError(f"{name}: expected {np.dtype(dtype)} ({', '.join(map(str, shape))}); got {came}")


def finite(name: str, x: Any, first: int = 0, columns: Any = None, missing: bool | None = None) -> Any:
    """An array without NaN and infinities, on the host or on a device.

    first, columns   the number of its first row and the names of its columns, for the message
    missing          whether NaN is allowed, for cells that are missing; None: they cannot be missing
    """
    if np.dtype(x.dtype).kind == "f":
        # a sum is one pass over x, and allocates nothing, unlike isfinite; einsum's takes half as long as sum's
        total = np.einsum("i->", x.reshape(-1)) if isinstance(x, np.ndarray) else _on_host(x.sum())
        if not math.isfinite(total):
            _name_the_first(name, _on_host(x), first, columns, missing)
    return x


def _on_host(x: Any) -> np.ndarray:
    return x.get() if hasattr(x, "get") else np.asarray(x)


def _name_the_first(name: str, x: Any, first: int, columns: Any, missing: bool | None) -> None:
    """Raise UsageError where a value of x (…, rows, columns) is not finite, and not only their sum."""
    bad = np.isinf(x) if missing else ~np.isfinite(x)
    if bad.any():
        kind = "infinite" if missing else "NaN or infinite"
        way = ", or let NaN be missing: mv.VAE(missing=True)" if missing is False else ""
        raise UsageError(
            f"{name}: {int(bad.sum())} of {x.size} values are {kind}, the first in {place(bad, first, columns)}: leave "
            f"such rows out, or fill them{way}"
        )
