"""gradcheck: the command `minivae gradcheck`. It parses options, calls the checker, prints and sets the exit code.

At import only typer is loaded; the command imports the rest. `app.py` registers `gradcheck`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .plugin import Plugin

if TYPE_CHECKING:
    from ..gradcheck.problem import Problem, Settings


def gradcheck(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parts of minivae (dense, likelihoods.bernoulli, vae, vae.gaussian.relu), or your own code as "
            "path/to/file.py:Name or package.module:name. None: everything in minivae.",
            show_default=False,
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(help="Shapes of your code's inputs, filled with normals, such as 5x3,3x4,4.", show_default=False),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative error allowed.")] = 1e-7,
    seed: Annotated[int, typer.Option(help="Seed of inputs, upstream gradients and directions.")] = 0,
    seeds: Annotated[int, typer.Option(help="Repeat the check with this many seeds, from --seed on.")] = 1,
    worst: Annotated[int, typer.Option(help="Show the K worst places of every tensor.", metavar="K")] = 1,
    max_entries: Annotated[
        int, typer.Option(help="A tensor with more entries is checked along random directions.")
    ] = 256,
    directions: Annotated[int, typer.Option(help="Number of these directions.")] = 16,
    kernels: Annotated[str, typer.Option(help="minivae's kernels: fused, reference or both.")] = "both",
    backend: Annotated[str, typer.Option(help="minivae's backend: numpy or cupy.")] = "numpy",
    float32: Annotated[
        bool, typer.Option("--float32", help="Your code: also compare its float32 and float64 gradients.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Print a line for every tensor.")] = False,
    list_targets: Annotated[bool, typer.Option("--list", help="List minivae's targets, and stop.")] = False,
    mutate: Annotated[
        bool, typer.Option("--mutate", help="Test the checker: plant known mistakes and show which are caught.")
    ] = False,
    parity: Annotated[
        bool, typer.Option("--parity", help="Compare every op on every backend and dtype with the reference, in ulps.")
    ] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Draw the error against the step: the U-curve behind the choice of step.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="With --sweep: write the curve as a picture.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the -o file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (docs/gradients.md has the schema).")] = False,
    plugin: Plugin = None,
) -> None:
    """Check hand-written gradients, minivae's or yours, against numerical derivatives.

    Exit status: 0 all good, 1 a gradient is wrong, 2 something cannot be checked.

    Examples:

        minivae gradcheck

        minivae gradcheck dense likelihoods.bernoulli vae.gaussian.relu

        minivae gradcheck examples/gradcheck/affine.py:Affine

        minivae gradcheck my_package.my_module:MyLayer --shapes 5x3,3x4,4
    """
    from ..console import print_json, stdout
    from ..errors import UsageError
    from ..gradcheck.problem import Settings

    chosen = [name for name, on in (("--mutate", mutate), ("--parity", parity), ("--sweep", sweep)) if on]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)}: one at a time")
    if output is not None and not sweep:
        raise UsageError("-o goes with --sweep, whose curve it is written to")
    _check_numbers(tolerance, seed, seeds, worst, max_entries, directions)
    settings = Settings(
        tolerance=tolerance, max_entries=max_entries, directions=directions, seed=seed, worst=max(worst, 5)
    )
    names = targets or (["ops.dense.tanh"] if sweep else [])  # a curve needs one target
    if list_targets:
        from ..gradcheck.ours.targets import select

        found = [target.name for target in select([n for n in names if not _is_own(n)])]
        print_json({"schema": 1, "kind": "targets", "targets": found}) if as_json else print("\n".join(found))
        return
    kinds = _kernels(kernels)
    if parity:
        from ..gradcheck.ours import parity as parity_check

        _finish(as_json, parity_check.run())
    if mutate or sweep or seeds == 1:
        problems = _problems(names, kinds, backend, settings, shapes, float32)
    if mutate:
        from ..gradcheck.ours import mutations

        with _progress(as_json, len(problems), "planting mistakes") as done:
            outcome = mutations.run(problems, settings, done)
        _finish(as_json, outcome, show_all)
    if sweep:
        from ..gradcheck import sweep as sweep_curve

        if output is not None and os.path.lexists(output) and not force:
            raise UsageError(f"{output} exists: --force overwrites it")
        curve = sweep_curve.run(problems[0], settings)
        if output is not None:
            sweep_curve.picture(curve, output)
        _finish(as_json, curve)
    if seeds > 1:
        from ..gradcheck import seeds as many_seeds

        def problems_of(here: Settings) -> list[Problem]:
            return _problems(names, kinds, backend, here, shapes, float32)

        with _progress(as_json, seeds, "seeds") as done:
            many = many_seeds.run(problems_of, settings, seeds, done)
        _finish(as_json, many)

    from ..gradcheck.compare import examine_all

    with _progress(as_json, len(problems), "checking") as done:
        report = examine_all(problems, settings, done)
    if as_json:
        print_json(report.to_json())
    else:
        stdout().print(report.render(worst, True if show_all else None))
    raise typer.Exit(report.exit_code)


def _check_numbers(tolerance: float, seed: int, seeds: int, worst: int, max_entries: int, directions: int) -> None:
    from ..errors import UsageError

    if not 0 < tolerance < 1:
        raise UsageError(f"--tolerance {tolerance:g}: expected a relative error between 0 and 1, such as 1e-7")
    for name, value, least in (
        ("--seed", seed, 0),
        ("--seeds", seeds, 1),
        ("--worst", worst, 1),
        ("--max-entries", max_entries, 0),
        ("--directions", directions, 1),
    ):
        if value < least:
            raise UsageError(f"{name} {value}: expected an integer of at least {least}")


def _kernels(kernels: str) -> tuple[str, ...]:
    from ..errors import UsageError

    kinds = {"both": ("fused", "reference"), "fused": ("fused",), "reference": ("reference",)}
    if kernels not in kinds:
        raise UsageError(f"--kernels {kernels!r}: expected fused, reference or both")
    return kinds[kernels]


def _is_own(name: str) -> bool:
    """Whether a name means the user's code: it ends in :Name, and is not a likelihood such as gaussian:shared."""
    from ..gradcheck.ours import targets

    attribute = name.rpartition(":")[2]
    return ":" in name and attribute[:1].isidentifier() and not targets.knows(name)


def _problems(
    names: list[str],
    kinds: tuple[str, ...],
    backend: str,
    settings: Settings,
    shapes: str | None,
    float32: bool,
) -> list[Problem]:
    """Build the problems of the names."""
    from ..backend import Backend
    from ..errors import UsageError
    from ..gradcheck import user
    from ..gradcheck.ours import targets

    own = [name for name in names if _is_own(name)]
    ours = [name for name in names if not _is_own(name)]
    if shapes is not None and not own:
        raise UsageError("--shapes is for your own code, path/to/file.py:Name: minivae's targets have shapes")
    for name in ours:
        if name.endswith(".py"):
            raise UsageError(f"{name}: name what to check in it, as in {name}:MyLayer")
    problems = []
    if ours or not own:
        for kind in kinds:
            Backend(backend, kind)  # raises UsageError if something is missing, before anything is built
        for target in targets.select(ours):
            problems += [targets.build(target, kind, settings.seed, backend) for kind in kinds]
    parsed = None if shapes is None else user.parse_shapes(shapes)
    for name in own:
        label = name.rpartition(":")[2]
        problems.append(user.problem_of(user.load(name), None, label, settings, parsed, float32))
    return problems


@contextmanager
def _progress(as_json: bool, total: int, what: str) -> Iterator[Callable[[str], None]]:
    """Show a live line on standard error; yields a function to call with the name of each thing done."""
    from ..console import Live

    done = 0
    with Live(quiet=as_json).start(f"{what}: compiling on first use …") as live:

        def step(name: str) -> None:
            nonlocal done
            done += 1
            live.update(f"{what} {done} of {total}: {name}")

        yield step


def _finish(as_json: bool, outcome: Any, *options: Any) -> None:
    """Print an outcome (an object with to_json, render and exit_code), and exit."""
    from ..console import print_json, stdout

    if as_json:
        print_json(outcome.to_json())
    else:
        stdout().print(outcome.render(*options))
    raise typer.Exit(outcome.exit_code)
