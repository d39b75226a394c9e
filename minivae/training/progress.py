"""progress: what a training says while it runs. A line for each finished epoch, and a live one on a terminal.

It writes to standard error, so that standard output stays a machine's.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from numba.core import event

from ..console import Live, in_notebook
from ..environment import launched, launched_rank

if TYPE_CHECKING:
    from .options import Options
    from .state import State

REFRESH_SECONDS = 0.2
LINES = 20  # about as many epochs are printed, evenly spaced; history.csv has them all
SLOW_FIRST_STEP = 1.0  # seconds: longer means, on a quiet machine, that kernels were compiled


def progress_of(options: Options) -> Any:
    """What shows the progress: the user's own, lines on a terminal, or a word on compilation. Rank 0 speaks for all."""
    if options.ranks is not None and options.ranks.rank > 0:
        return Silent()
    terminal = sys.stderr is not None and sys.stderr.isatty()  # None: it is closed, or a program without a console
    wanted = options.progress is True or (options.progress is None and (terminal or in_notebook()))
    return Progress() if wanted else options.progress or Compilation()


@contextmanager
def shown(training: State) -> Iterator[None]:
    """Show the progress of a training meanwhile, and give its optimiser its own learning rate back."""
    if training.options.ranks is None and launched() > 1:
        _tell_of_training_alone(launched(), launched_rank())
    training.progress.start(training)
    try:
        yield
    finally:
        training.optimizer.lr = training.lr
        training.progress.stop()


@cache
def _tell_of_training_alone(processes: int, rank: int) -> None:
    """Say, in the first of the processes that a launcher has started, that each trains for itself."""
    if rank == 0:
        logging.getLogger("minivae").warning(
            f"{processes} processes were started, and each of them trains alone, on all rows: to share out one "
            "training, give fit(..., ranks=mv.ranks())"
        )


class Silent:
    """What the loop calls: start, step, epoch, stop. It shows nothing."""

    def start(self, training: State) -> None: ...

    def step(self, training: State, beta: float, rate: float) -> None: ...

    def epoch(self, training: State, row: dict[str, Any]) -> None: ...

    def stop(self) -> None: ...


class Compilation(Silent, event.Listener):
    """One line, logged to "minivae", when the first kernel is compiled; where all are cached there is none."""

    said = False

    def start(self, training: State) -> None:
        event.register("numba:compile", self)

    def stop(self) -> None:
        event.unregister("numba:compile", self)

    def on_start(self, event: Any) -> None:
        if not self.said:
            self.said = True
            logging.getLogger("minivae").warning(
                "compiling kernels for this machine, once; they are cached. To silence this: "
                'logging.getLogger("minivae").setLevel(logging.ERROR)'
            )

    def on_end(self, event: Any) -> None:
        pass


class Progress(Silent):
    """Lines on the terminal, or in a notebook."""

    def __init__(self) -> None:
        self.live = Live()

    def start(self, training: State) -> None:
        self.started, self.first_step, self.last = time.perf_counter(), True, 0.0
        self.live.start("first step: compiling the kernels that are not cached yet …")

    def step(self, training: State, beta: float, rate: float) -> None:
        now = time.perf_counter()
        if self.first_step:
            self.first_step = False
            if now - self.started > SLOW_FIRST_STEP:
                self.live.line(
                    f"[dim]first step after {now - self.started:.1f} s, which compiles kernels that are not cached[/]",
                    markup=True,
                )
        if not self.live.shown or now - self.last < REFRESH_SECONDS:
            return
        self.last = now
        at, vae = training.at, training.vae
        rows = min(at.step * training.options.batch_size, len(training.batches))
        nll, kl = at.sums[1] / rows + training.jacobian, at.sums[2] / rows
        self.live.update(
            f"epoch {at.epoch}/{training.options.epochs}  {at.step}/{training.steps_per_epoch}  "
            f"{_loss(training, at.sums[0] / rows + training.jacobian)}elbo {-(nll + kl):.2f}  "
            f"nll {nll:.2f}  kl {kl:.2f}{_beta(beta, vae.loss_fn.is_bound(beta, vae.samples))}  {rate:,.0f} rows/s"
        )

    def epoch(self, training: State, row: dict[str, Any]) -> None:
        every = max(1, training.options.epochs // LINES)
        if row["epoch"] % every and row["epoch"] not in (1, training.options.epochs):
            return
        width = len(str(training.options.epochs))
        beta = _beta(row["beta"], row["bound"] == "yes")
        validation = f"  val elbo {row['val_elbo']:.2f}" if row["val_elbo"] != "" else ""
        validation += f"  val iwae {row['val_iwae']:.2f}" if row["val_iwae"] != "" else ""
        best = "  best" if validation and training.at.best_epoch == row["epoch"] else ""
        clamped = f"  [yellow]{row['clamped']:,} outputs clamped[/]" if row["clamped"] else ""
        self.live.line(
            f"epoch {row['epoch']:>{width}}/{training.options.epochs}  {_loss(training, row['loss'])}"
            f"elbo {row['elbo']:.2f}  nll {row['nll']:.2f}  kl {row['kl']:.2f}{validation}{best}{beta}  "
            f"{row['rows_per_second']:,} rows/s{clamped}",
            markup=True,
        )

    def stop(self) -> None:
        self.live.stop()


def _loss(training: State, loss: float) -> str:
    """What is minimised, where elbo, nll and kl do not say it already."""
    return "" if training.vae.loss_fn.name == "elbo" else f"loss {loss:.2f}  "


def _beta(beta: float, bound: bool) -> str:
    """β, where it is not 1, and whether the loss bounds ln p(x)."""
    if beta == 1 and bound:
        return ""
    return f"  β {beta:.2f}" + ("" if bound else " (loss is not a bound)")
