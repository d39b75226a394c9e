"""compare: run all tests of a problem, and the public `check` for one function.

The tests depend on each other in this order: the value and the gradient are functions of the inputs (`trust.py`), then
the numbers agree, then the awkward cases (`behaviour.py`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import UsageError
from . import behaviour, precision
from .diagnose import Case, diagnose, independent, shape_hint
from .numeric import EPS, FLOOR, Probe, Slope, Where
from .problem import Problem, Settings
from .report import Report
from .results import Finding, Hint, Place, Result, Tensor
from .trust import agrees, call_backward, differs, same_twice, unmodified
from .user import problem_of

LOCALISE = 64  # entries measured when a direction disagrees


def check(
    fn: Any,
    inputs: Sequence[Any] | dict[str, Any] | None = None,
    *,
    name: str | None = None,
    reference: Any = None,
    dtype: str | None = None,
    hvp: bool = False,
    **settings: Any,
) -> Report:
    """Check a hand-written gradient against numerical derivatives.

    fn         a layer, `forward(*inputs) → Y or a tuple` and `backward(dY) → gradients`, as a class built without
               arguments or an instance; or a function `fn(*inputs) → (value, gradients)`
    inputs     the arrays to differentiate with respect to, in order, or a dict by name; None: `example_inputs(rng)`
    name       its name in the report
    reference  code of any kind whose forward must give the same outputs
    dtype      float32, bfloat16 or float16: check the gradients of a run in it too; None: the inputs' own, of tensors
    hvp        check second derivatives too: a Hessian-vector product by hand, or the gradient of the gradient
    settings   fields of `Settings`: tolerance=1e-7, seed=0, max_entries=256, directions=16 …

    Raises UsageError if it cannot be checked: integer inputs, values that are not finite or not reproducible, …
    """
    unknown = set(settings) - set(Settings.__dataclass_fields__)
    if unknown:
        raise UsageError(
            f"check: no setting {', '.join(sorted(unknown))}: there are {', '.join(Settings.__dataclass_fields__)}"
        )
    chosen = Settings(**settings)
    return examine_all([problem_of(fn, inputs, name, chosen, dtype=dtype, reference=reference, hvp=hvp)], chosen)


def examine_all(
    problems: Sequence[Problem], settings: Settings, progress: Callable[[str], None] | None = None
) -> Report:
    """`examine` each problem; `progress` is called with the title of each one that is done."""
    start = time.perf_counter()
    results = []
    for problem in problems:
        results.append(examine(problem, settings))
        if progress:
            progress(problem.title)
    return Report(results, settings, time.perf_counter() - start)


def examine(problem: Problem, settings: Settings, probe: Probe | None = None) -> Result:
    """Run every test of one problem. `probe`: measurements of another problem with the same forward, to be reused."""
    if problem.only:
        return precision.examine(problem, settings)
    start = time.perf_counter()
    findings: list[Finding] = []
    problem = same_twice(problem, findings)
    probe = Probe(problem, settings) if probe is None else probe

    # Slightly nearer to 0, so that they probably lie in the function's domain, as the inputs do.
    others = [np.asarray(x * (0.97 + 0.02 * np.cos(np.arange(x.size)).reshape(x.shape))) for x in problem.inputs]
    other_upstream = [np.asarray(u[..., ::-1] * 1.25 if u.ndim else u * 1.25) for u in problem.upstream]
    try:
        previous = call_backward(problem, others, findings, other_upstream)  # reveals a buffer left over from this call
    except UsageError:
        previous = [None] * len(problem.names)
    if problem.reference is not None:
        findings.append(agrees(problem, others, settings.tolerance))
    gradients = call_backward(problem, problem.inputs, findings)
    again = call_backward(problem, problem.inputs, findings)

    tensors = []
    for k in range(len(problem.names)):
        case_hints = differs(problem, k, gradients[k], again[k], previous[k], findings)
        tensors.append(_tensor(problem, probe, k, gradients, previous, case_hints))
        if gradients[k] is None and any(slope.value for slope in probe.known(k)):
            message = f"backward returned None for {problem.names[k]}, though the outputs depend on it: not checked"
            findings.append(Finding("none", "note" if problem.reference is None else "wrong", message))
    unmodified(findings)
    findings += [
        Finding("passed", "note", f"{name} holds {what}: passed through") for name, what in problem.passed.items()
    ]
    if not any(f.kind == "deterministic" for f in findings):
        findings.append(Finding("deterministic", "ok", "value and gradients are the same twice"))
    if all(tensor.verdict in ("ok", "none") for tensor in tensors):
        findings.append(Finding("whole", "ok", "all entries written: no NaN is left in buffers that held NaN before"))
    if settings.behaviour and Result("", "", tensors, findings).ok:  # a wrong gradient is wrong with one row too
        findings += behaviour.findings(problem, settings, gradients, examine)
    if problem.second is not None and Result("", "", tensors, findings).ok:
        further = examine(problem.second(), replace(settings, behaviour=False))
        tensors += further.tensors
        findings += [f for f in further.findings if f.verdict == "wrong"]
    seconds = time.perf_counter() - start
    return Result(problem.name, problem.kernels, tensors, findings, seconds, problem.file, problem.line)


# ---- the numbers ----------------------------------------------------------------------------------------------------


def relative_error(a: float, n: float, largest: float, noise: float, tolerance: float) -> float:
    """|a − n| / max(|a|, |n|, floor), floor = max(10⁻³ largest, noise/tolerance).

    A tiny entry is compared at the tensor's scale, and never more finely than round-off permits. 0/0 is 0.
    """
    scale = max(abs(a), abs(n), FLOOR * largest, noise / tolerance)
    return abs(a - n) / scale if scale > 0 else 0.0


def _along(a: np.ndarray, where: Where) -> float:
    return float(a.reshape(-1)[where]) if isinstance(where, int) else float(np.sum(a * where))


def _tensor(
    problem: Problem,
    probe: Probe,
    k: int,
    gradients: list[np.ndarray | None],
    previous: list[np.ndarray | None],
    hints: list[Hint],
) -> Tensor:
    """Compare tensor k of the problem, and diagnose it if it is wrong."""
    settings, x, a = probe.settings, problem.inputs[k], gradients[k]
    name, tolerance = problem.names[k], settings.tolerance
    if a is None:
        return Tensor(name, x.shape, 0, 0, "none", tolerance, "none")
    bad_shape = a.shape != x.shape
    if bad_shape or not np.isfinite(a).all():
        hint = shape_hint(problem, gradients, k) if bad_shape else _not_finite(a)
        return Tensor(
            name, x.shape, 0, 0, "none", tolerance, "wrong", [Place("", math.nan, math.nan, math.inf, 0.0)], [hint]
        )

    lines, slopes = probe.lines(k), probe.known(k)
    exact = probe.complex_slopes(k)
    if exact is not None:
        tolerance = problem.complex_tolerance or tolerance
        size = float(np.abs(exact).max(initial=0.0))
        nothing = max(size, float(np.abs(a).max(initial=0.0))) <= 64 * EPS * probe.f  # terms that cancel, and round-off
        exact_noise = 4 * EPS * (probe.f if nothing else size)
    analytic = [_along(a, where) for where in lines]
    largest = float(np.abs(a).max(initial=0.0)) if isinstance(lines[0], int) else max(map(abs, analytic))
    places, kinks, checked = [], 0, 0
    for i, (where, a_i) in enumerate(zip(lines, analytic, strict=True)):
        slope = slopes[i]
        n_i, noise = (slope.value, slope.noise) if exact is None else (float(exact[i]), exact_noise)
        error = relative_error(a_i, n_i, largest, noise, tolerance)
        if error > tolerance and exact is None:
            slope = probe.look_again(k, i)
            n_i = slope.value
            error = relative_error(a_i, n_i, largest, slope.noise, tolerance)
        if slope.kind != "smooth":
            kinks += 1
            continue
        checked += 1
        places.append(Place(_index(where, x.shape, i), a_i, n_i, error, slope.step))
    places.sort(key=lambda place: -place.error)
    method = "complex" if exact is not None else "central" if isinstance(lines[0], int) else "directions"
    verdict = "ok"
    if places and places[0].error > tolerance:
        verdict = "wrong"
        if method == "directions" or not isinstance(lines[0], int):
            found, at, n = _localise(probe, k, a, largest)
            places = found + places
        else:
            smooth = [i for i in range(len(lines)) if slopes[i].kind == "smooth"]
            at = np.array(smooth)
            n = np.array([slopes[i].value if exact is None else exact[i] for i in smooth])
        if not hints:
            hints = diagnose(Case(problem, probe, k, a, at, n, gradients, previous))
    elif not places or kinks > max(1, settings.max_kinks * len(lines)):  # one, in a tensor of six, proves nothing
        verdict = "kinks"
        hints = [
            Hint(
                "kinks",
                f"{kinks} of {len(lines)} entries lie on a kink, where there is no derivative to compare with: "
                "take other inputs (ReLU: not at 0), or find out why so many",
            )
        ]
    elif method != "none" and _nothing(analytic, lines, slopes, exact):
        verdict = "flat"
        hints = [independent(probe, k)]
    if verdict == "ok" and hints:
        verdict = "wrong"  # these numbers agree, but two calls gave different gradients
    return Tensor(name, x.shape, checked, kinks, method, tolerance, verdict, places[: settings.worst], hints)


def _nothing(analytic: list[float], lines: list[Where], slopes: list[Slope], exact: np.ndarray | None) -> bool:
    """Whether gradient and slopes are exactly 0: nothing has been compared."""
    measured = not any(slope.value for slope in slopes) and (exact is None or not exact.any())
    return measured and not any(analytic)


def _index(where: Where, shape: tuple[int, ...], i: int) -> str:
    if not isinstance(where, int):
        return f"direction {i}"
    return "[" + ", ".join(str(int(j)) for j in np.unravel_index(where, shape)) + "]" if shape else "[]"


def _not_finite(a: np.ndarray) -> Hint:
    where = np.argwhere(~np.isfinite(a))
    first, many = tuple(int(i) for i in where[0]), len(where)
    return Hint(
        "not-written",
        f"{many} of {a.size} entries are not finite, {first} first. Buffers are filled with NaN before "
        "backward is called: either it does not write them all, or it computes 0/0 or ∞ − ∞ there",
    )


def _localise(probe: Probe, k: int, a: np.ndarray, largest: float) -> tuple[list[Place], np.ndarray, np.ndarray]:
    """Find the entries that make a direction disagree: a random sample first, then bisection if all of these agree."""
    settings = probe.settings
    rng = np.random.default_rng([settings.seed, k, 1])
    at = np.sort(rng.choice(a.size, min(LOCALISE, a.size), replace=False))
    largest = float(np.abs(a).max())

    def places(indices: np.ndarray) -> list[Place]:
        out = []
        for i in indices.tolist():
            slope = probe.second_look(k, i, probe.measure(k, i, probe.step(k, i)), FLOOR * largest)
            a_i = float(a.flat[i])
            error = relative_error(a_i, slope.value, largest, slope.noise, settings.tolerance)
            out.append(Place(_index(i, a.shape, i), a_i, slope.value, error, slope.step))
        return out

    found = places(at)
    if all(place.error <= settings.tolerance for place in found):
        left = np.arange(a.size)
        while len(left) > 1:
            halves = left[: len(left) // 2], left[len(left) // 2 :]
            left = max(halves, key=lambda half: _disagreement(probe, k, a, half, rng))
        found += places(left)
        at = np.append(at, left)
    order = sorted(zip(found, at.tolist(), strict=True), key=lambda pair: pair[1])
    n = np.array([place.numeric for place, _ in order])
    wrong = sorted((p for p in found if p.error > settings.tolerance), key=lambda p: -p.error)
    return wrong, np.array([i for _, i in order]), n


def _disagreement(probe: Probe, k: int, a: np.ndarray, half: np.ndarray, rng: np.random.Generator) -> float:
    """Return |a − n| along a random direction restricted to these entries."""
    v = np.zeros(a.size)
    v[half] = rng.choice([-1.0, 1.0], len(half))
    v = v.reshape(a.shape) / math.sqrt(len(half))
    slope = probe.measure(k, v, probe.step(k, v))
    return abs(float(np.sum(a * v)) - slope.value) * math.sqrt(len(half))
