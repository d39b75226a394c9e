"""_specialise: one loop, compiled for each of several functions that it calls.

A function that calls a compiled one through its closure is compiled anew in every process: Numba's cache on disk tells
closures apart by their cells, and a cell that holds a compiled function never looks the same. A copy of the loop whose
*globals* hold that function has no cells. It bears the file and line of that function, so that the cache also notices
when that file changes, and the name of its module: the cache loads a loop into the module that it was compiled in.
"""

from types import FunctionType
from typing import Any


def specialised(loop: Any, owner: Any, name: str, **points: Any) -> Any:
    """A copy of `loop` that calls these compiled functions by the names given here, and stands where `owner` does."""
    at = owner.__code__
    code = loop.__code__.replace(co_name=name, co_filename=at.co_filename, co_firstlineno=at.co_firstlineno)
    copy = FunctionType(code, {**loop.__globals__, **points}, name)
    copy.__qualname__, copy.__module__ = f"{owner.__module__}.{name}", owner.__module__
    return copy
