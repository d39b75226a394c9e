"""minivae.gradcheck: a checker for hand-written gradients, as a library. The command line is `minivae gradcheck`.

    from minivae import gradcheck
    report = gradcheck.check(MyLayer, [X, W, b])
    report.ok, report.worst_error, report.hints;  print(report)

Reading order: problem (the form of every check), numeric (measures derivatives), trust and compare (when gradients can
be compared, and the comparison), diagnose (suggests causes of a wrong gradient), behaviour, results, report; user and
adapter (your code); seeds and sweep. The package imports only `errors` and `console` from minivae, so that it can be
used alone. `ours/` has minivae's own targets, mutants that prove that the checker can fail, and the parity of backends.
docs/gradients.md explains the method.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {"check": "compare", "Report": "report", "Settings": "problem"}

__all__ = ["Report", "Settings", "check"]

if TYPE_CHECKING:
    from .compare import check
    from .problem import Settings
    from .report import Report


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minivae.gradcheck' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
