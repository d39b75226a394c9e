"""options: the arguments and options that several commands share, and how a command writes its file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError, printable

if TYPE_CHECKING:
    from ..distributed.world import World

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder that `minivae train` made.")]
OtherData = Annotated[
    str | None, typer.Argument(metavar="[DATA]", help="Data other than the run's: a set's name or a file.")
]
Split = Annotated[
    str | None,
    typer.Option(metavar="train|validation|test", help="Part of the data to use; default: the test part."),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
MACHINE = "Machine"  # the panel of `--help`
BackendName = Annotated[
    str,
    typer.Option("--backend", metavar="numpy|cupy|auto", help="Array library: CPU or GPU.", rich_help_panel=MACHINE),
]
KernelKind = Annotated[
    str,
    typer.Option(
        "--kernels", metavar="fused|reference", help="Fused kernels, or plain array code.", rich_help_panel=MACHINE
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def say(text: str) -> None:
    """Print a line on standard output."""
    print(printable(text))


def check_out(path: Path, suffixes: tuple[str, ...], force: bool, flag: str = "-o") -> None:
    if path.suffix not in suffixes:
        raise UsageError(f"{flag} {path}: expected a name that ends in {' or '.join(suffixes)}")
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{flag} {path}: expected a file in a folder that exists")
    if os.path.lexists(path) and not force:  # a broken link counts as existing
        raise UsageError(f"{flag} {path} exists: choose another name, or --force to replace it")
    if path.suffix == ".png":
        from ..plots import draw

        others = [suffix for suffix in suffixes if suffix not in draw.FORMATS]
        draw.require(f"; or write {' or '.join(others)} instead of .png" if others else "")


@contextlib.contextmanager
def writing_file(path: Path, force: bool) -> Iterator[Any]:
    """Open a file that becomes `path` when complete; without `force`, a file created meanwhile is not replaced."""
    from ..disk import writing

    try:
        with writing(path.resolve() if force else path, replace=force) as file:
            yield file
    except FileExistsError:
        raise UsageError(f"{path} exists by now: choose another name, or --force to replace it") from None


def ranks_of_command(context: typer.Context) -> World:
    """Return the ranks that share out this command's work: one, unless mpiexec or srun has started more."""
    from ..distributed import mpi

    ranks = mpi.begin()
    check_alike(ranks, context)
    with ranks.agreeing():
        mpi.share_processors(ranks, None)
    return ranks


def check_alike(ranks: World, context: typer.Context) -> None:
    """Raise the same UsageError on all ranks where two have another command or option: they would wait for ever.

    Names of files may differ: what is in them is compared.
    """
    options = {name: value for name, value in context.params.items() if not isinstance(value, Path) and name != "data"}
    told = ranks.all((context.info_name, options))
    ranks.same("its command", context.info_name)
    for name, value in options.items():
        if any(repr(other[name]) != repr(value) for _, other in told):
            ranks.same(f"its {'-n' if name == 'n' else '--' + name.replace('_', '-')}", value)


def write_file(path: Path, force: bool, write: Callable[[Any], None], ranks: World) -> None:
    """Let rank 0 write a file, whole or not at all, by write(file); where it cannot, all ranks raise its error."""
    with ranks.agreeing():
        if ranks.rank == 0:
            with writing_file(path, force) as file:
                write(file)
