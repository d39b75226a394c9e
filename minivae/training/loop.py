"""loop: epochs of training steps, with validation, early stopping, a history and checkpoints.

A training is a function of its data, its options and its seed: shuffles, binarisation and ε come from counters
(`noise.py`), and sums are added up in the order of the steps.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..datasets.order import permutation
from ..evaluation.bounds import fit_closed_form
from ..evaluation.dealt import agreeing
from ..model import Model
from . import cuda_graph
from .guard import diagnose, warn_of_collapse
from .history import History, epoch_row
from .options import Options
from .progress import shown
from .run_files import RunFiles, recorded_shards
from .signals import noting, stopped_by
from .state import State


class Training(State):
    """One training of one model; `run` trains to the end."""

    def __init__(self, vae: Model, X: Any, options: Options):
        with agreeing(options.ranks):
            if options.ranks is not None:
                shape = getattr(getattr(X, "X", X), "shape", None)
                options.ranks.alike(options.facts() | {"the shape of its X": shape})
            super().__init__(vae, X, options)
            if options.ranks is not None:
                recorded = options.ranks.first(lambda: recorded_shards(options.run)) if options.resume else None
                self.shards = options.ranks.begin(self, recorded)
        given = (vae, self.batches, self.optimizer, self.recent, options.free_bits, options.clip, self.shards)
        possible = cuda_graph.possible(vae, self.batches)
        possible = possible if self.shards is None else self.shards.may_capture(possible)
        self.graphs = cuda_graph.Graphs(*given) if possible else None
        with agreeing(options.ranks):
            self.files = None if options.run is None else RunFiles(options.run, self)
        self.asked: list[int] = []  # the signals that ask to stop

    def run(self) -> History:
        """Train to the end. A signal that asks to stop saves the run first (`signals.py`)."""
        with self.shards or nullcontext(), self.files.locked() if self.files else nullcontext():
            if self.files:
                self.files.open()
            # an overflow is not warned of on the way: the guard names the step and the tensor
            with noting(self.asked, self.files is not None), np.errstate(all="ignore"), shown(self):
                while self.at.epoch <= self.options.epochs and not self.out_of_patience():
                    self._epoch()
            self.history.stopped = "patience" if self.out_of_patience() else "finished"
            self.history.best_epoch = self.at.best_epoch
            if self.files:
                self.files.save()
        if self.at.best_epoch is not None:
            self.vae.buffer.state[...] = self.best
        warn_of_collapse(self.vae, self.history.rows)
        return self.history

    def _epoch(self) -> None:
        at, vae, N, size = self.at, self.vae, len(self.batches), self.options.batch_size
        pass_ = vae.passes = self.first_pass + at.epoch
        order = (
            self.shards.order(pass_) if self.shards else vae.backend.asarray(permutation(vae.seed, N, "shuffle", pass_))
        )
        first, start, before = at.step * size, time.perf_counter(), at.seconds
        while at.step < self.steps_per_epoch:
            plan = self.plan()
            beta = plan[-1][1]
            at.bound = at.bound and all(vae.loss_fn.is_bound(beta, vae.samples) for _, beta in plan)
            X = self._steps(order, plan, pass_)
            at.step += len(plan)
            at.total_steps += len(plan)
            self._look(X, len(plan))
            seconds = time.perf_counter() - start
            at.seconds, rate = before + seconds, (min(at.step * size, N) - first) / seconds
            self.progress.step(self, beta, rate)
            if at.step < self.steps_per_epoch:
                self._stop_or_save()
        self._close_epoch(beta, rate)

    def _steps(self, order: Any, plan: list[tuple[float, float]], pass_: int) -> Any:
        """The steps of the plan, their losses to `recent` → the last batch X."""
        o, size = self.options, self.options.batch_size
        first = self.at.step * size
        if self.graphs is not None:
            return self.graphs.run(order, plan, pass_, first, size)
        for k, (lr, beta) in enumerate(plan):
            self.optimizer.lr = lr
            start = first + k * size
            if self.shards:
                X, self.recent[k] = self.shards.step(order, start, beta, pass_)
            else:
                X = self.batches.take(order[start : start + size], "binarise", pass_)
                self.recent[k] = self.vae.step(X, self.optimizer, beta, o.free_bits, o.clip, pass_).sums()
        return X

    def _look(self, X: Any, steps: int) -> None:
        """Read the losses of the last steps, guard against NaN, and add them to the epoch's sums."""
        at, recent = self.at, self.recent[:steps]
        recent = self.vae.backend.to_host(recent) if self.shards is None else self.shards.exchange(recent)
        for k, (loss, nll, kl) in enumerate(recent.tolist()):
            if not math.isfinite(loss + nll + kl):
                raise diagnose(self, at.total_steps - steps + k + 1, f"nll {nll:g}, kl {kl:g}", X)
            at.sums = [at.sums[0] + loss, at.sums[1] + nll, at.sums[2] + kl]

    def _close_epoch(self, beta: float, rate: float) -> None:
        at, clock = self.at, time.perf_counter()
        row = epoch_row(at, len(self.batches), self.jacobian)
        row |= {"lr": self.optimizer.lr, "beta": beta, "clamped": self.clamped(reset=True)}
        fit_closed_form(self.vae, self.batches)
        row |= self.validated()
        at.seconds += time.perf_counter() - clock
        row |= {"rows_per_second": round(rate), "seconds": round(at.seconds, 3)}
        self.history.rows.append(row)
        if self.files:
            self.files.append(row)
        at.epoch, at.step, at.sums, at.bound = at.epoch + 1, 0, [0.0, 0.0, 0.0], True
        self.progress.epoch(self, row)
        if self.options.callback is not None:
            self.options.callback(row)
        if self.shards:
            self.shards.exchange(np.zeros((0, 3)))
        self._stop_or_save()

    def _stop_or_save(self) -> None:
        asked = self.asked if self.shards is None else self.shards.asked
        if asked:
            if self.files:
                self.files.save()
            raise stopped_by(asked[0], self.shards is not None)
        if self.files and (self.files.due() if self.shards is None else self.shards.due):
            self.files.save()
