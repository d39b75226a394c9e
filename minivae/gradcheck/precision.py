"""precision: whether the gradients of a run in few digits differ from exact ones by more than its rounding explains.

A run in float32, bfloat16 or float16 is too coarse for differences of its own values. It is compared with a float64
gradient at the same inputs, which both can represent, eight times, with the inputs and dY moved by a few ε each time:
every run then rounds otherwise. Of the differences e = a − n of an entry

    the mean over the runs      may be 16 ε |n|, or 4 ε of the tensor's largest entry; in float32, where sums of rows
                                cancel, 64 and 32 ε; and besides
    the range over the runs     which measures the rounding of this code at these inputs, cancellation included

and ⟨mean e, n⟩/⟨n, n⟩, the relative error of the tensor as a whole, in which the rounding of its entries averages out,
may be 2 ε in bfloat16, 8 ε in float16, and its range over the runs. That finds a factor of 1.05 in a bfloat16 tensor,
whose ε is 0.008. In float32 it may be 64 ε: sums of n terms are taken in float32 itself there, with up to n ε/2 of the
same sign, whereas halves are summed in float32.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from .numeric import Probe
from .problem import Arrays, Backward, Problem, Settings
from .results import Finding, Hint, Place, Result, Tensor
from .trust import call_backward, unmodified

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
RUNS = 8
ENTRY = {"float64": 64, "float32": 64, "float16": 16, "bfloat16": 16}  # in ε, of the entry
LARGEST = {"float64": 32, "float32": 32, "float16": 4, "bfloat16": 4}  # in ε, of the largest entry of the tensor
WHOLE = {"float64": 64, "float32": 64, "float16": 8, "bfloat16": 2}  # in ε, of the tensor as a whole

Gradients = list[np.ndarray | None]


@dataclass
class Difference:
    """The worst difference of one tensor: `error` is a share of what rounding explains, at most 1 if it is right.

    entry              the flat index of the worst entry; None: the tensor as a whole, by this `factor`
    analytic, numeric  there, averaged over the runs
    """

    error: float
    entry: int | None
    factor: float
    analytic: float
    numeric: float

    def describe(self, name: str, shape: tuple[int, ...]) -> str:
        """Say how a tensor differs."""
        if self.entry is None:
            return f"{name} is {self.factor:.4g} × its float64 gradient"
        at = ", ".join(str(int(i)) for i in np.unravel_index(self.entry, shape))
        return f"{name}[{at}] is {self.analytic:.4g}, and {self.numeric:.4g} in float64"


def rounded(x: np.ndarray, dtype: str) -> np.ndarray:
    """Round to what a dtype can represent, in float64. NumPy has no bfloat16: the upper half of a float32's bits."""
    x = np.asarray(x)
    if dtype != "bfloat16":
        return x.astype(dtype).astype(np.float64)
    bits = x.astype(np.float32).reshape(-1).view(np.uint32)
    to_even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return ((bits + to_even) & np.uint32(0xFFFF0000)).view(np.float32).astype(np.float64).reshape(x.shape)


def differences(
    coarse: Backward,
    exact: Backward,
    inputs: Arrays,
    upstream: Arrays,
    dtype: str,
) -> list[Difference | None]:
    """Return the worst difference of every tensor; None of a tensor without a gradient.

    coarse, exact  (inputs, dY) → gradients, of float64 arrays that `dtype` can represent
    """
    rng, eps = np.random.default_rng(0), EPSILON[dtype]
    found: list[tuple[Gradients, Gradients]] = []
    for run in range(RUNS):
        moved = [[rounded(x * (1 - eps * _steps(rng, run, x)), dtype) for x in xs] for xs in (inputs, upstream)]
        found.append((coarse(*_copies(moved)), exact(*_copies(moved))))
    tensors = zip(zip(*(c for c, _ in found), strict=True), zip(*(e for _, e in found), strict=True), strict=True)
    return [None if a[0] is None or n[0] is None else _worst(np.stack(a), np.stack(n), dtype) for a, n in tensors]


def _steps(rng: np.random.Generator, run: int, x: np.ndarray) -> np.ndarray:
    """Return how many ε to move each entry towards 0, where the function is probably defined too; none at first."""
    return rng.integers(0, 5, x.shape) if run else np.zeros(x.shape)


def _copies(arrays: list[Arrays]) -> list[Arrays]:
    return [[np.array(x) for x in xs] for xs in arrays]


def _worst(a: np.ndarray, n: np.ndarray, dtype: str) -> Difference:
    """Return the worst difference of one tensor: a, n (runs, *shape), the coarse and the exact gradients."""
    a, n = a.reshape(RUNS, -1).astype(np.float64), n.reshape(RUNS, -1)
    a, n = np.where(np.isnan(n), 0.0, a), np.where(np.isnan(n), 0.0, n)  # on a kink, where there is nothing to compare
    eps = EPSILON[dtype]
    mean_a, mean_n = a.mean(axis=0), n.mean(axis=0)
    if not np.isfinite(a).all():
        entry = int(np.argmax(~np.isfinite(a).all(axis=0)))
        return Difference(np.inf, entry, np.nan, float(mean_a[entry]), float(mean_n[entry]))
    with np.errstate(divide="ignore", invalid="ignore"):
        e = a - n
        allowed = eps * np.maximum(ENTRY[dtype] * np.abs(mean_n), LARGEST[dtype] * np.abs(n).max()) + np.ptp(e, axis=0)
        errors = np.nan_to_num(np.abs(e.mean(axis=0)) / allowed)
        factors = np.nan_to_num((e * n).sum(axis=1) / (n * n).sum(axis=1))
        whole = abs(factors.mean()) / (WHOLE[dtype] * eps + np.ptp(factors))
    entry, factor = int(np.argmax(errors)), 1 + float(factors.mean())
    alone = errors[entry] >= whole
    return Difference(
        float(max(errors[entry], whole)), entry if alone else None, factor, float(mean_a[entry]), float(mean_n[entry])
    )


# ---- code that has no float64 run -----------------------------------------------------------------------------------


def examine(problem: Problem, settings: Settings) -> Result:
    """Check a problem whose backward runs in `problem.only`, against differences of its forward, the reference's.

    In a tensor of more than `max_entries`, both are compared along random directions.
    """
    start, dtype, names = time.perf_counter(), problem.only, problem.names
    inputs = [rounded(x, dtype) for x in problem.inputs]
    upstream = [rounded(u, dtype) for u in problem.upstream]
    findings: list[Finding] = []
    call_backward(problem, inputs, findings, upstream)
    unmodified(findings)
    lines = Probe(replace(problem, inputs=inputs), settings).lines
    kinks = [0] * len(names)

    def along(k: int, g: np.ndarray | None) -> np.ndarray | None:
        if g is None or g.shape != problem.inputs[k].shape:
            return g
        return np.array([g.reshape(-1)[at] if isinstance(at, int) else np.sum(g * at) for at in lines(k)])

    def coarse(xs: Arrays, us: Arrays) -> Gradients:
        return [along(k, g) for k, g in enumerate(problem.backward(xs, us))]

    def exact(xs: Arrays, us: Arrays) -> Gradients:
        probe = Probe(replace(problem, inputs=xs, upstream=us), settings)
        out: Gradients = []
        for k in range(len(names)):
            slopes = probe.known(k)
            kinks[k] = max(kinks[k], sum(slope.kind != "smooth" for slope in slopes))
            out.append(np.array([slope.value if slope.kind == "smooth" else np.nan for slope in slopes]))
        return out

    wrong_shape = {
        k: g.shape
        for k, g in enumerate(problem.backward(_copies([inputs])[0], _copies([upstream])[0]))
        if g is not None and g.shape != inputs[k].shape
    }
    if wrong_shape:
        k, shape = next(iter(wrong_shape.items()))
        hint = Hint("shape", f"the gradient has shape {shape}, and the input {inputs[k].shape}")
        tensors = [Tensor(names[k], inputs[k].shape, 0, 0, dtype, 1.0, "wrong", [], [hint])]
    else:
        found = differences(coarse, exact, inputs, upstream, dtype)
        tensors = [_tensor(problem, k, d, len(lines(k)), kinks[k]) for k, d in enumerate(found)]
    if problem.reference is not None:
        findings.append(_same_forward(problem, inputs))
    seconds = time.perf_counter() - start
    return Result(problem.name, problem.kernels, tensors, findings, seconds, problem.file, problem.line)


def _tensor(problem: Problem, k: int, found: Difference | None, lines: int, kinks: int) -> Tensor:
    name, shape, dtype = problem.names[k], problem.inputs[k].shape, problem.only
    tolerance = ENTRY[dtype] * EPSILON[dtype]
    if found is None:
        return Tensor(name, shape, 0, 0, "none", tolerance, "none")
    entries = lines == problem.inputs[k].size
    at = 0 if found.entry is None else found.entry
    index = ", ".join(str(int(i)) for i in np.unravel_index(at, shape)) if entries else ""
    place = Place(
        f"[{index}]" if entries else f"direction {at}", found.analytic, found.numeric, tolerance * found.error, 0.0
    )
    hints = []
    if not found.error <= 1:
        what = found.describe("it", shape if entries else (lines,)) if np.isfinite(found.error) else "it is not finite"
        hints = [
            Hint("factor" if found.entry is None else "entries", f"{what}: more than rounding to {dtype} explains")
        ]
    many = kinks > max(1, lines // 10)
    verdict = "wrong" if hints else "kinks" if many else "ok"
    return Tensor(name, shape, lines - kinks, kinks, dtype, tolerance, verdict, [place], hints)


def _same_forward(problem: Problem, inputs: Arrays) -> Finding:
    """Compare the outputs of the code, in its dtype, with the reference's, as `differences` compares gradients."""
    assert problem.reference is not None
    coarse, exact = problem.reference, problem.forward
    if [y.shape for y in coarse(_copies([inputs])[0])] != [y.shape for y in exact(_copies([inputs])[0])]:
        return Finding("reference", "wrong", f"forward returns other shapes than {problem.reference_name}")
    found = differences(lambda xs, _: list(coarse(xs)), lambda xs, _: list(exact(xs)), inputs, [], problem.only)
    worst = max((d.error for d in found if d), default=0.0)
    if not worst <= 1:
        message = f"forward differs from {problem.reference_name} by more than rounding to {problem.only} explains"
        return Finding("reference", "wrong", message, worst)
    return Finding("reference", "ok", f"forward gives what {problem.reference_name} does, but for rounding", worst)
