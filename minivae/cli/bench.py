"""bench: the command `minivae bench`. It parses options, calls `headline.py`, prints and saves the figures.

At import only typer is loaded; the command imports the rest. `app.py` registers `bench`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..bench.figures import Figures, Measured
    from ..console import Live

RESULTS = Path("bench/results")  # of a checkout


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Short runs, in less than a minute.")] = False,
    peers: Annotated[bool, typer.Option("--peers", help="Race PyTorch and JAX too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="Save the figures as JSON; default in a checkout: bench/results/."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the FILE of an interrupted run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    threads: Annotated[int, typer.Option(metavar="N", help="Cores for each contender.")] = 2,
) -> None:
    """Measure minivae: training step, kernels, epoch, evaluation. Contenders take turns, so that ratios are fair.

    Example: minivae bench --quick --peers
    """
    from ..bench import figures as kept
    from ..bench import headline, machine, report, sums
    from ..console import Live, print_json, stdout
    from ..errors import UsageError

    if threads < 1:
        raise UsageError(f"--threads {threads}: expected an integer of at least 1")
    threads = min(threads, len(machine.available()))
    figures = kept.begin(quick)
    path = _path(out, figures, resume, force)
    cells = headline.plan(quick, peers, threads)
    if resume:
        assert path is not None
        figures = kept.Figures.read(path)
        cells = kept.remaining(figures, cells)
    with Live(quiet=as_json).start("beginning …") as live:
        watcher = _Watcher(live)
        if why := sums.missing():
            live.line(why)

        def done(measured: Measured) -> None:
            watcher.done(measured)
            if path is not None:
                figures.write(path)

        try:
            headline.run(figures, cells, live.update, done)
        except KeyboardInterrupt:
            live.line(_farewell(path, figures))
            raise typer.Exit(130) from None
    if as_json:
        print_json(figures.to_json())
        return
    stdout().print(report.render(figures))
    if path is not None:
        typer.echo(f"\n{path} holds these figures; docs/benchmarks.md is made of them by")
        typer.echo(f"python -m minivae.bench.page {path}")


def _path(out: Path | None, figures: Figures, resume: bool, force: bool) -> Path | None:
    """Return the file for the figures: --out; else, for a full run in a checkout, one named by date and machine."""
    from ..errors import UsageError

    if resume and force:
        raise UsageError("--resume goes on with a file and --force replaces it: leave one of the two out")
    if out is None and not figures.quick and RESULTS.parent.is_dir():
        words = re.sub(r"[^a-z0-9]+", "-", figures.machine["cpu"].lower()).strip("-")
        RESULTS.mkdir(exist_ok=True)
        out = RESULTS / f"{figures.date[:10]}-{words or 'machine'}.json"
    if out is None:
        if resume:
            raise UsageError("--resume needs --out: the file to go on with")
        return None
    if out.suffix != ".json" or not out.parent.is_dir():
        raise UsageError(f"--out {out}: expected a name that ends in .json, in a folder that exists")
    if resume and not out.exists():
        raise UsageError(f"--out {out}: there is no such file to go on with")
    if os.path.lexists(out) and not (resume or force):
        raise UsageError(f"{out} exists: --resume goes on with it, --force replaces it, --out names another")
    return out


def _farewell(path: Path | None, figures: Figures) -> str:
    if path is None or not figures.cells:
        return "minivae: interrupted; nothing was saved"
    count = len(figures.cells)
    return f"minivae: interrupted; {path} holds {count} races; go on with: minivae bench … --out {path} --resume"


class _Watcher:
    """Shows progress on standard error: a live line on a terminal, and a line for each finished race."""

    def __init__(self, live: Live):
        self.live = live
        self.told: set[str] = set()

    def done(self, measured: Measured) -> None:
        """Print a line for the race and, once, one for each contender that could not run."""
        from ..bench.figures import title

        for name, result in measured.results.items():
            if result.left_out and name not in self.told:
                self.told.add(name)
                self.live.line(f"{name} is left out: {result.left_out}")
        times = ", ".join(f"{r.name} {1e3 * r.median:.3g}" for r in measured.results.values() if r.seconds)
        self.live.line(f"{title(measured.cell.case)}: {times} ms")
