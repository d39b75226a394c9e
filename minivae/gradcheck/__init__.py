"""minivae.gradcheck: a checker for hand-written gradients, as a library. The command line is `minivae gradcheck`.

    from minivae import gradcheck
    report = gradcheck.check(MyLayer, [X, W, b])
    report.ok, report.worst_error, report.hints;  print(report)

A check: `target.recognise` turns code of any kind (a layer, a pair of functions, a function) into a `Target`;
`adapter` calls it with host arrays; `user` finds its inputs and makes a `Problem` of both; `compare.examine` makes a
`Result` of that, and a `Report` of several, which is drawn as text and written as JSON. To support another kind of
code, add a function to `target.KINDS`; another form of output reads a `Report`.

Reading order: target, adapter and user (your code), frameworks (torch's and JAX's), problem (the form of every
check), numeric (measures derivatives), trust and compare (when gradients can be compared, and the comparison),
diagnose and paths (suggest causes of a wrong gradient), behaviour, results, report; seeds and sweep; process and
outcomes (your code in a process of its own). The package imports only `errors` and `console` from minivae, so that it
can be used alone. `ours/` has minivae's own targets, mutants that prove that the checker can fail, and the parity of
backends. docs/gradients.md explains the method.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {"check": "compare", "Report": "report", "Settings": "problem", "Target": "target"}

__all__ = ["Report", "Settings", "Target", "check"]

if TYPE_CHECKING:
    from .compare import check
    from .problem import Settings
    from .report import Report
    from .target import Target


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minivae.gradcheck' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value
