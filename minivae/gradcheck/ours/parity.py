"""parity: compare every op, on every backend and dtype, with the float64 NumPy reference, in ulps.

Layers, likelihoods and models run once on the float64 reference while their ops are recorded; an op that none of them
calls runs on its own example (`Op.example`). Every recorded call is then replayed. Arguments are rounded to float32
first, so that all dtypes receive the same numbers. The arrays that the call changed are compared.

An ulp is the spacing of the dtype at max(|reference|, the tensor's largest / 16), so that a small entry of a sum that
cancels is compared at the size of its terms. A missing backend is reported as such; an op that no call uses is a
failure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ... import kernels as kernel_files
from ...backend import DTYPES, Backend
from ...console import plain, table
from ...errors import UsageError
from ..results import SCHEMA
from . import targets

# Ulps allowed. Elementwise ops round some ten times, and 1 − y² loses digits where tanh saturates; sums over rows and
# features add up as many again, in another order.
ALLOWED = 64.0
SHARE = 16.0
EXAMPLE = (2, 17, 59)  # S, B, D of an op's own example


@dataclass
class Call:
    """One recorded call, with its arguments before the call."""

    op: str
    args: tuple[Any, ...]


@dataclass
class Row:
    """One op on one backend and dtype: the largest distance over `calls` calls, or why it was not run."""

    op: str
    backend: str
    kernels: str
    dtype: str
    calls: int
    ulps: float | None
    verdict: str
    note: str = ""


@dataclass
class Outcome:
    rows: list[Row]

    @property
    def exit_code(self) -> int:
        return 1 if any(row.verdict == "wrong" for row in self.rows) else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": "parity",
            "ok": self.exit_code == 0,
            "exit_code": self.exit_code,
            "allowed_ulps": ALLOWED,
            "rows": [{**asdict(row), "ulps": plain(row.ulps)} for row in self.rows],
        }

    def render(self) -> RenderableType:
        """One line for each op, one column for each backend, kernels and dtype."""
        columns = list(dict.fromkeys((r.backend, r.kernels, r.dtype) for r in self.rows))
        made = table("op", "calls", *(f"{b}\n{_SHORT[k]}\n{_SHORT[d]}" for b, k, d in columns))
        made.columns[0].no_wrap = True
        by_op: dict[str, dict[tuple[str, str, str], Row]] = {}
        for row in self.rows:
            by_op.setdefault(row.op, {})[row.backend, row.kernels, row.dtype] = row
        for op, cells in by_op.items():
            shown = []
            for column in columns:
                row = cells[column]
                style = {"wrong": "bold red", "unavailable": "dim"}.get(row.verdict, "green")
                text = f"{row.ulps:.3g}" if row.ulps is not None else "no call" if row.verdict == "wrong" else "—"
                shown.append(Text(text, style=style))
            made.add_row(op, str(max(row.calls for row in cells.values())), *shown)
        notes = dict.fromkeys(
            f"— {row.backend} {row.kernels}: unavailable: {row.note}"
            for row in self.rows
            if row.verdict == "unavailable"
        )
        wrong = sum(row.verdict == "wrong" for row in self.rows)
        ran = sum(row.ulps is not None for row in self.rows)
        last = Text(f"{ran} comparisons, {wrong} wrong", style="bold red" if wrong else "bold green")
        last.append(f": ulps from the float64 NumPy reference at the same inputs, {ALLOWED:g} allowed", style="default")
        return Group(made, *(Text(note, style="dim") for note in notes), last)


_SHORT = {"reference": "ref.", "fused": "fused", "float32": "f32", "float64": "f64"}


# ---- recording ------------------------------------------------------------------------------------------------------


def record(seed: int = 0) -> list[Call]:
    """Record calls of every op on the float64 reference; arguments are rounded to float32."""
    calls: list[Call] = []

    def recording(backend: Backend) -> Backend:
        for op in kernel_files.op_names():
            setattr(backend.ops, op, _recorder(calls, op, getattr(backend.ops, op)))
        return backend

    # A model on sparse rows is one on dense rows here, and its KL may come near 0, which leaves no ulp to compare with.
    for target in (one for one in targets.walk() if not one.name.endswith(".sparse")):
        backend = recording(Backend("numpy", "reference", "float64"))
        for rows in (1, targets.B):
            problem = target.build(backend, np.random.default_rng(seed), rows)
            problem.backward(problem.inputs, problem.upstream)
    called = {call.op for call in calls}
    backend = recording(Backend("numpy", "reference", "float64"))
    for name, op in kernel_files.ops().items():
        for case in op.cases if name not in called else ():
            getattr(backend.ops, name)(*op.example(np.random.default_rng(seed), "float64", *EXAMPLE, case))
    return calls


def _recorder(calls: list[Call], op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        rounded = tuple(_rounded(arg) for arg in args)
        calls.append(Call(op, rounded))
        return function(*args)

    return call


def _rounded(arg: Any) -> Any:
    """Copy an argument; floats are rounded to float32, the NaN of buffers stays."""
    if isinstance(arg, np.ndarray):
        if arg.dtype.kind != "f":
            return arg.copy()
        with np.errstate(over="ignore", invalid="ignore"):  # scratch memory may hold any bits, signalling NaN too
            return arg.astype(np.float32).astype(np.float64)
    return arg


# ---- replaying ------------------------------------------------------------------------------------------------------


def _replay(call: Call, backend: Backend) -> list[np.ndarray]:
    """Run the call on this backend → its array arguments afterwards."""
    op = kernel_files.ops()[call.op]
    args = [_given(arg, backend, name in op.double) for name, arg in zip(op.names, call.args, strict=True)]
    getattr(backend.ops, call.op)(*args)
    return [backend.to_host(arg) for arg in args if backend.owns(arg)]


def _given(arg: Any, backend: Backend, double: bool) -> Any:
    if not isinstance(arg, np.ndarray):
        return copy.copy(arg)
    dtype = arg.dtype if arg.dtype.kind != "f" or double else backend.dtype
    out = backend.empty(arg.shape, dtype)
    out[...] = backend.asarray(arg, dtype)
    return out


def _distance(call: Call, mine: list[np.ndarray], reference: list[np.ndarray], dtype: np.dtype) -> float:
    """Return the largest distance of an output from the reference, in ulps of the dtype."""
    op = kernel_files.ops()[call.op]
    before = [(name, arg) for name, arg in zip(op.names, call.args, strict=True) if isinstance(arg, np.ndarray)]
    worst = 0.0
    for x, y, (name, x0) in zip(mine, reference, before, strict=True):
        if name in op.scratch:
            continue
        if np.array_equal(y, x0, equal_nan=True):
            if not np.array_equal(x, x0.astype(x.dtype), equal_nan=True):
                return float("inf")  # an input was changed
            continue
        if y.dtype.kind in "iub":
            worst = max(worst, float(np.abs(x.astype(np.int64) - y.astype(np.int64)).max(initial=0)))
            continue
        scale = np.maximum(np.abs(y), np.abs(y).max(initial=0.0) / SHARE).astype(dtype)
        ulp = np.spacing(np.maximum(scale, np.finfo(dtype).tiny)).astype(np.float64)
        off = np.abs(x.astype(np.float64) - y) / ulp
        if not np.isfinite(off).all():
            return float("inf")
        worst = max(worst, float(off.max(initial=0.0)))
    return worst


def run(backend_names: Sequence[str] = ("numpy", "cupy")) -> Outcome:
    """Replay every recorded call on every backend, kind of kernel and dtype."""
    calls = record()
    specification = Backend("numpy", "reference", "float64")
    reference = [_replay(call, specification) for call in calls]
    rows: list[Row] = []
    for name in backend_names:
        for kernels in ("reference", "fused"):
            for dtype in DTYPES:
                rows += _column(calls, reference, name, kernels, dtype)
    return Outcome(rows)


def _column(calls: list[Call], reference: list[list[np.ndarray]], name: str, kernels: str, dtype: str) -> list[Row]:
    ops = kernel_files.op_names()
    try:
        backend = Backend(name, kernels, dtype)
    except UsageError as error:
        return [Row(op, name, kernels, dtype, 0, None, "unavailable", str(error)) for op in ops]
    worst: dict[str, float] = {}
    count: dict[str, int] = {}
    for call, expected in zip(calls, reference, strict=True):
        off = _distance(call, _replay(call, backend), expected, backend.dtype)
        worst[call.op] = max(worst.get(call.op, 0.0), off)
        count[call.op] = count.get(call.op, 0) + 1
    rows = []
    for op in ops:
        verdict = "ok" if worst.get(op, float("inf")) <= ALLOWED else "wrong"
        note = "" if op in worst else "no call recorded: nothing that parity.py runs uses it"
        rows.append(Row(op, name, kernels, dtype, count.get(op, 0), worst.get(op), verdict, note))
    return rows
