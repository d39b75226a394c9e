"""gradcheck: the command `minivae gradcheck`. It parses options, calls the checker, prints and sets the exit code.

At import only typer is loaded; the command imports the rest. `app.py` registers `gradcheck`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .plugin import Plugin

if TYPE_CHECKING:
    from ..gradcheck.problem import Problem


def gradcheck(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parts of minivae (dense, likelihoods.bernoulli, vae, vae.gaussian.relu), or your own code as "
            "path/to/file.py:Name, package.module:name, file.py (all in it) or a folder of such files. "
            "None: everything in minivae.",
            show_default=False,
        ),
    ] = None,
    shapes: Annotated[
        str | None,
        typer.Option(
            help="Shapes of your code's inputs, filled with normals, such as 5x3,3x4,4,scalar.", show_default=False
        ),
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
    dtype: Annotated[
        str | None,
        typer.Option(
            metavar="float32|bfloat16|float16",
            help="Your code: also compare its gradients in this dtype with float64's.",
            show_default=False,
        ),
    ] = None,
    hvp: Annotated[
        bool,
        typer.Option("--hvp", help="Your code: also check its second derivatives (docs/gradients.md)."),
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME",
            help="Your code: first compare its forward with that of this code, on this code's example_inputs.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Your code: the longest that one target may take.")
    ] = 60.0,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Your code: also write a table of the answers.", show_default=False),
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Print a line for every tensor.")] = False,
    list_targets: Annotated[bool, typer.Option("--list", help="List minivae's targets, and stop.")] = False,
    mutate: Annotated[
        bool, typer.Option("--mutate", help="Test the checker: plant known mistakes and show which are caught.")
    ] = False,
    parity: Annotated[
        bool, typer.Option("--parity", help="Compare every op on every backend and dtype with the reference, in ulps.")
    ] = False,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Each method's least error and its step; with -o the curve of all steps.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="With --sweep: draw the error against the step.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the -o or --csv file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (docs/gradients.md has the schema).")] = False,
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="text|json|github|junit", help="github: annotations of a workflow; junit: XML."
        ),
    ] = "text",
    plugin: Plugin = None,
) -> None:
    """Check hand-written gradients, minivae's or yours, against numerical derivatives.

    Exit status: 0 all good, 1 a gradient is wrong, 2 something cannot be checked.

    Examples:

        minivae gradcheck

        minivae gradcheck dense likelihoods.bernoulli vae.gaussian.relu

        minivae gradcheck examples/gradcheck/affine.py:Affine

        minivae gradcheck my_package.my_module:MyLayer --shapes 5x3,3x4,4

        minivae gradcheck answers/ --reference teacher.py:Tanh --csv grades.csv
    """
    from ..console import print_json, stdout
    from ..errors import UsageError

    modes = [name for name, on in (("mutate", mutate), ("parity", parity), ("sweep", sweep)) if on]
    if len(modes) > 1:
        raise UsageError(f"{' and '.join('--' + name for name in modes)}: one at a time")
    mode = modes[0] if modes else "seeds" if seeds > 1 else "check"
    if form not in ("text", "json", "github", "junit"):
        raise UsageError(f"--format {form!r}: expected text, json, github or junit")
    if as_json and form not in ("text", "json"):
        raise UsageError(f"--json and --format {form}: one at a time")
    if form in ("github", "junit") and mode != "check":
        raise UsageError(f"--format {form} is the form of a check: leave out --{mode}")
    as_json = as_json or form == "json"
    _check_numbers(tolerance, seed, seeds, worst, max_entries, directions, timeout)
    if output is not None and not sweep:
        raise UsageError("-o goes with --sweep, whose curve it is written to")
    if csv is not None and mode != "check":
        raise UsageError(f"--csv is the table of a check: leave out --{mode}")
    _check_file("-o", output, force)
    _check_file("--csv", csv, force)
    kinds = _kernels(kernels)
    names = targets or (["ops.dense.tanh"] if sweep else [])  # a curve needs one target
    names = names[:1] if sweep else names
    yours = [name for name in names if _is_yours(name)]
    ours = [name for name in names if name not in yours]
    if list_targets:
        found = [target.name for target in _targets().select(ours)]
        print_json({"schema": 1, "kind": "targets", "targets": found}) if as_json else print("\n".join(found))
        return
    if parity:
        from ..gradcheck.ours import parity as parity_check

        _finish(as_json, parity_check.run())
    for option, value in (("--shapes", shapes), ("--reference", reference), ("--csv", csv)):
        if value is not None and not yours:
            raise UsageError(f"{option} is for your own code, path/to/file.py:Name")

    from ..gradcheck import process

    settings = {
        "tolerance": tolerance,
        "max_entries": max_entries,
        "directions": directions,
        "seed": seed,
        "worst": max(worst, 5),
    }
    specs = [spec for name in yours for spec in _files(name, reference)]
    many = len({spec.rpartition(":")[0] for spec in specs}) > 1 or any(_folder(name) for name in yours)
    coarse = dtype or ("float32" if float32 else None)
    work = process.Work(
        process.Job(mode, specs, settings, shapes, coarse, hvp, reference, seeds, many),
        timeout,
    )

    from ..gradcheck import outcomes  # while the first child starts

    of_ours = None if yours and not ours else partial(_problems, ours, kinds, backend)
    steps = seeds if mode == "seeds" else len(specs)
    with (
        work,
        _progress(
            as_json or form != "text", steps, {"mutate": "planting mistakes", "seeds": "seeds"}.get(mode, "checking")
        ) as step,
    ):
        outcome = outcomes.gather(mode, settings, seeds, of_ours, work, step)
    if mode == "sweep" and output is not None:
        from ..gradcheck.sweep import picture

        picture(outcome, output)
    if mode != "check":
        _finish(as_json, outcome, *([show_all] if mutate else []))
    if form in ("github", "junit"):
        from ..gradcheck.formats import FORMATS

        print(FORMATS[form](outcome))
    if len(outcome.failures) == 1 and not outcome.results and csv is None:
        raise UsageError(outcome.failures[0].message)
    if csv is not None:
        outcomes.write_grades(outcome, csv)
    if as_json:
        print_json(outcome.to_json())
    elif form != "text":
        pass
    elif (csv is not None or any(_folder(name) for name in yours)) and not show_all:
        stdout().print(outcomes.grades(outcome))
    else:
        stdout().print(outcome.render(worst, True if show_all else None))
    raise typer.Exit(outcome.exit_code)


def _check_numbers(
    tolerance: float, seed: int, seeds: int, worst: int, max_entries: int, directions: int, timeout: float
) -> None:
    from ..errors import UsageError

    if not timeout > 0:
        raise UsageError(f"--timeout {timeout:g}: expected a number of seconds above 0")

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


def _check_file(option: str, path: Path | None, force: bool) -> None:
    """Refuse a file to be written that exists, unless --force, or whose folder does not."""
    from ..errors import UsageError

    if path is not None and os.path.lexists(path) and not force:
        raise UsageError(f"{path} exists: --force overwrites it")
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")


def _is_yours(name: str) -> bool:
    """Whether a name means the user's code: a file, a folder, or module:Name that is not a target (gaussian:shared)."""
    where, _, attribute = name.rpartition(":")
    if name.endswith(".py") or where.endswith(".py"):
        return True
    if (":" in name and not attribute[:1].isidentifier()) or not (":" in name or _folder(name)):
        return False
    from ..errors import UsageError

    try:
        return os.sep in name or not _targets().knows(name)
    except UsageError:  # the checker alone is installed
        return True


def _targets() -> Any:
    """Return the module of minivae's own targets. They are the engine's, which a checker alone may lack."""
    from ..errors import UsageError

    if find_spec("numba") is None:
        raise UsageError(
            "minivae's own targets need numba: pip install numba. Your code is checked without it: path/to/file.py:Name"
        )
    from ..gradcheck.ours import targets

    return targets


def _folder(name: str) -> Path | None:
    """Return the folder of "folder" or "folder:Name"; None if it is none."""
    where = name.rpartition(":")[0] or name
    return Path(where) if os.path.isdir(where) else None


def _files(name: str, reference: str | None) -> list[str]:
    """Return the targets that a name stands for, each "file.py:Name", "module:name", or "file.py" for all in it.

    In a folder: every file in it and below, but those whose name begins with _ or . and the reference's.
    """
    from ..errors import UsageError

    known = (reference or "").rpartition(":")
    folder = _folder(name)
    if folder is None:
        files, attribute = [name], "" if ":" in name else known[2] if known[0] else ""
    else:
        attribute = name.rpartition(":")[2] if ":" in name else known[2] if known[0] else ""
        teacher = Path(known[0] or known[2]).absolute()
        found = [path for path in sorted(folder.rglob("*.py")) if path.absolute() != teacher]
        files = [str(p) for p in found if not any(part[0] in "_." for part in p.relative_to(folder).parts)]
        if not files:
            raise UsageError(f"{name}: there is no .py file in this folder")
    return [f"{file}:{attribute}" if attribute else file for file in files]


def _problems(names: list[str], kinds: tuple[str, ...], backend: str, seed: int) -> list[Problem]:
    """Build the problems of minivae's targets."""
    targets = _targets()
    from ..backend import Backend

    for kind in kinds:
        Backend(backend, kind)  # raises UsageError if something is missing, before anything is built
    return [targets.build(target, kind, seed, backend) for target in targets.select(names) for kind in kinds]


@contextmanager
def _progress(as_json: bool, total: int, what: str) -> Iterator[Callable[[str], None]]:
    """Show a live line on standard error; yields a function to call with the name of each thing done.

    total   the number of things; more may come
    """
    from ..console import Live

    done = 0
    with Live(quiet=as_json).start(f"{what} …") as live:

        def step(name: str) -> None:
            nonlocal done
            done += 1
            live.update(f"{what} {done}{f' of {total}' if done <= total else ''}: {name}")

        yield step


def _finish(as_json: bool, outcome: Any, *options: Any) -> None:
    """Print an outcome (an object with to_json, render and exit_code), and exit."""
    from ..console import print_json, stdout

    if as_json:
        print_json(outcome.to_json())
    else:
        stdout().print(outcome.render(*options))
    raise typer.Exit(outcome.exit_code)
