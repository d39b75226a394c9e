"""race: the command `minivae race`. It parses options, calls the race, prints and sets the exit code.

At import only typer is loaded; the command imports the rest. `app.py` registers `race`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..bench.race_code import Side


def race(
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B]",
            help="Functions, as path/to/file.py:name or package.module:name. One is enough with two --revision or two "
            "--python.",
        ),
    ],
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:make",
            help="A function that returns the arguments: a tuple, a dict of named ones, or the only one.",
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Compare the two results before timing.")] = True,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Largest difference of the results, relative to the largest element; default: the root of the "
            "dtype's epsilon.",
        ),
    ] = None,
    blocks: Annotated[int, typer.Option(metavar="N", help="Blocks; each starts new processes.")] = 12,
    seconds: Annotated[float, typer.Option(metavar="S", help="Timed seconds of each contender in a block.")] = 0.08,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Keep the first block's processes, where starting takes long. What two processes differ by is then "
            "taken for a difference of the code.",
        ),
    ] = False,
    revision: Annotated[
        list[str] | None, typer.Option(metavar="REV", help="Twice: race two git revisions, each built in a venv.")
    ] = None,
    python: Annotated[list[str] | None, typer.Option(metavar="PYTHON", help="Twice: race two interpreters.")] = None,
    fail_over: Annotated[
        float | None,
        typer.Option(metavar="R", help="Exit with 1 if the whole interval of B / A lies above R, such as 1.05."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if the race is undecided.")] = False,
    timeout: Annotated[float, typer.Option(metavar="S", help="Longest wait for a contender, in seconds.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON (docs/race.md has the schema).")] = False,
    format_name: Annotated[
        str | None,
        typer.Option("--format", metavar="F", help="Print for a dashboard: smaller-is-better, bencher or markdown."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write the --json or --format there, and print the report."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Race two functions: is B slower than A, and how sure is that?

    Both take turns, in processes of their own. Exit status: 0, 1 for --fail-over, 2 if they cannot be raced, 3 for
    --strict.

    Examples:

        minivae race old.py:f new.py:f --inputs inputs.py:make --fail-over 1.05

        minivae race bench.py:step --revision main --revision HEAD
    """
    from ..bench import race_code, race_report
    from ..console import Live
    from ..errors import UsageError, printable

    settings = race_code.Settings(blocks, seconds, check, tolerance, timeout, keep)
    _check_numbers(blocks, seconds, timeout, tolerance, fail_over)
    if format_name is not None and format_name not in race_report.FORMATS:
        raise UsageError(f"--format {format_name}: expected {', '.join(race_report.FORMATS)}")
    if as_json and format_name is not None:
        raise UsageError("--json and --format: one at a time")
    write = race_report.json_text if as_json else race_report.FORMATS.get(format_name or "")
    if out is not None:
        _check_out(out, write is not None, force)
    sides = _sides(targets, inputs, revision or [], python or [])
    with ExitStack() as stack:
        live = stack.enter_context(Live(quiet=as_json).start("starting"))
        if revision:
            from ..bench.race_revision import built

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="minivae-race-")))
            sides = stack.enter_context(built(sides, revision, folder, live.update))
        outcome = race_code.race((sides[0], sides[1]), settings, live.update)
    if write is None or out is not None:
        for line in race_report.lines(outcome, fail_over):
            print(printable(line))
    if write is not None and out is None:
        print(write(outcome, fail_over))
    if write is not None and out is not None:
        _write(out, write(outcome, fail_over) + "\n", force)
    warning = race_report.warning(outcome, fail_over)
    if warning:
        typer.echo(f"minivae: {warning}", err=True)
    if fail_over is not None and outcome.compared_with(fail_over) > 0:
        raise typer.Exit(1)
    if warning and strict:
        raise typer.Exit(3)


def _sides(targets: list[str], inputs: str | None, revisions: list[str], pythons: list[str]) -> list[Side]:
    """Return the two that race."""
    from ..bench.race_code import Side
    from ..errors import UsageError

    if revisions and pythons:
        raise UsageError("--revision and --python: one at a time")
    for flag, given in (("--revision", revisions), ("--python", pythons)):
        if len(given) not in (0, 2):
            raise UsageError(f"{flag} is given {'once' if len(given) == 1 else f'{len(given)} times'}: expected two")
    if len(targets) > 2:
        raise UsageError(f"{len(targets)} functions: a race is between two, A and B")
    if len(targets) == 1 and not (revisions or pythons):
        raise UsageError("a race is between two: give A and B, or A with two --revision or two --python")
    pair = targets if len(targets) == 2 else targets * 2
    sides = [Side(target, target, inputs) for target in pair]
    if pythons:
        found = [_interpreter(python) for python in pythons]
        sides = [Side(t, f"{t} on {name}", inputs, path) for t, name, path in zip(pair, pythons, found, strict=True)]
    return sides


def _interpreter(python: str) -> str:
    """Return the path of a Python interpreter. Raises UsageError if it is none that can race."""
    from ..errors import UsageError

    path = shutil.which(python)
    if path is None:
        raise UsageError(f"--python {python}: no such program")
    try:
        test = [path, "-c", "import sys; print(sys.version_info >= (3, 8))"]
        done = subprocess.run(test, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        raise UsageError(f"--python {python}: it does not run") from None
    if done.stdout.strip() != "True":
        raise UsageError(f"--python {python}: expected a Python of 3.8 or later")
    return os.path.abspath(path)


def _check_numbers(
    blocks: int, seconds: float, timeout: float, tolerance: float | None, fail_over: float | None
) -> None:
    from ..bench.race_interval import LEAST
    from ..errors import UsageError

    if blocks < LEAST:
        raise UsageError(f"--blocks {blocks}: expected at least {LEAST}, for an interval")
    for name, value in (("--seconds", seconds), ("--timeout", timeout)):
        if not 0 < value < 1e6:
            raise UsageError(f"{name} {value:g}: expected a number of seconds above 0")
    if tolerance is not None and not 0 <= tolerance < 1:
        raise UsageError(f"--tolerance {tolerance:g}: expected a relative difference from 0 to 1, such as 1e-6")
    if fail_over is not None and not 0 < fail_over < 1e6:
        raise UsageError(f"--fail-over {fail_over:g}: expected a ratio above 0, such as 1.05")


def _check_out(path: Path, has_format: bool, force: bool) -> None:
    from ..errors import UsageError

    if not has_format:
        raise UsageError("-o goes with --json or --format, which it is the file of")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"-o {path}: expected a file in a folder that exists")
    if os.path.lexists(path) and not force:
        raise UsageError(f"-o {path} exists: choose another name, or --force to replace it")


def _write(path: Path, text: str, force: bool) -> None:
    from ..disk import writing
    from ..errors import UsageError

    try:
        with writing(path, replace=force) as file:
            file.write(text.encode())
    except FileExistsError:
        raise UsageError(f"{path} exists by now: choose another name, or --force to replace it") from None
