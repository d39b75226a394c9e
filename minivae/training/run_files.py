"""run_files: the folder of a run. Its checkpoint and history are written as training goes, and read to resume it.

model.safetensors   the model, its best parameters, the optimiser's state, and where training stands (`checkpoint.py`)
history.csv         one row an epoch (`history.py`)

A checkpoint holds where in which epoch it was written, so that a run that was killed at any moment and resumed ends
with the same bytes as the run that never was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .. import checks
from ..disk import clear_temporaries, locked, sync
from ..errors import UsageError, UsageWarning
from ..evaluation.dealt import agreeing
from ..inputs import CHECK_ROWS
from . import checkpoint as files
from . import schema
from .batches import Batches
from .guard import diagnose, finite
from .history import HISTORY_FILE, Position, append, read_history, write_history

if TYPE_CHECKING:
    from .state import State


T = TypeVar("T")
DATA = "data (sha256)"


class RunFiles:
    """The files of one training in its folder."""

    def __init__(self, folder: Path, training: State):
        self.folder, self.model, self.history = folder, folder / files.MODEL_FILE, folder / HISTORY_FILE
        self.training, self.ranks = training, training.options.ranks
        self.writes = self.ranks is None or self.ranks.rank == 0  # rank 0 alone touches the folder
        self.settings = self._settings()
        self.last_save, self.saved_step = -math.inf, 0
        self._locked = self._unsynced = False

    def _settings(self) -> dict[str, Any]:
        """What a resumed training must agree in, the number of epochs left out."""
        training, backend = self.training, self.training.vae.backend
        options, optimizer = training.options, training.optimizer
        shards = training.shards
        cut = {} if shards is None else {"shards": shards.count, "order": options.order}
        numbers = {k: v for k, v in vars(optimizer).items() if isinstance(v, (int, float)) and k != "steps"}
        return {
            "model": training.vae.config(),
            "dtype": backend.dtype.name,
            "kernels": backend.kernels,
            "backend": backend.name,
            DATA: _digest(training.batches, training.validation, None if shards is None else self.ranks.map),
            "batch_size": options.batch_size,
            "optimizer": {"name": type(optimizer).__name__, **numbers, "lr": training.lr},
            "beta": asdict(options.beta),
            "free_bits": options.free_bits,
            "binarize": training.batches.binarize,
            "schedule": {**asdict(options.schedule), "milestones": list(options.schedule.milestones)},
            "patience": options.patience,
            "clip": options.clip,
            **cut,
        }

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Work in the folder: one training at a time. A new run's folder is made."""
        with contextlib.ExitStack() as stack:
            with agreeing(self.ranks):
                if self.writes and not self._locked:  # by whoever called `run`
                    stack.enter_context(self._lock())
            yield

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder}: a file of that name exists; choose another folder for the run")
        if not self.training.options.resume:
            self.folder.mkdir(parents=True, exist_ok=True)
        elif not self.folder.is_dir():
            raise UsageError(f"{self.folder}: there is no such folder to resume")
        with locked(self.folder):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def open(self, replace: bool = False) -> None:
        """Begin the run, or take it up where its last checkpoint left it; a second call does nothing.

        replace   write over the run that is in the folder, file by file: there is the old one whole or the new one

        Raises UsageError, and has changed nothing, where that cannot be done.
        """
        if self.last_save > -math.inf:
            return
        with agreeing(self.ranks):
            exists = self.read(self.model.exists)
            if exists and self.training.options.resume:
                self._restore()
            elif exists and not replace:
                raise UsageError(
                    f"{self.folder} holds a run already: resume it (resume=True, --resume), or choose another folder"
                )
            else:
                self.save()
                self.write(lambda: write_history(self.history, []))
            self.write(lambda: clear_temporaries(self.folder))

    def append(self, row: dict[str, Any]) -> None:
        """Write an epoch's row to history.csv."""
        self.write(lambda: append(self.history, row))
        self._unsynced = True

    def read(self, function: Callable[[], T]) -> T:
        """What rank 0 reads in the folder, for all ranks."""
        return function() if self.ranks is None else self.ranks.first(function)

    def write(self, function: Callable[[], None]) -> None:
        """Let rank 0 write; if it cannot, all ranks raise its error."""
        self.read(function)

    def save(self) -> None:
        """Write the checkpoint; raises Diverged, and leaves the old one, where a parameter is not finite."""
        training, vae, at = self.training, self.training.vae, self.training.at
        if not finite(vae.backend, vae.buffer.state):
            raise diagnose(training, at.total_steps, "a parameter is not finite")
        if training.shards is not None:
            training.shards.check_same(at.total_steps)
            training.shards.bring_moments()
        checkpoint = files.describe(vae)
        tensors = checkpoint.tensors
        if at.best_epoch is not None:
            tensors.update(files.tensors_of(vae, training.best, "best."))
        for slot, state in training.optimizer.state.items():
            tensors[f"optimizer.{slot}"] = vae.backend.to_host(state)
        checkpoint.training = {
            "passes": vae.passes,
            "first_pass": training.first_pass,
            "optimizer_steps": training.optimizer.steps,
            "clamped": training.clamped(),
            "threads": vae.backend.threads,
            "sparse": "yes" if training.batches.by_nonzeros else "no",
            "options": self.settings,
            # times would make two runs differ that do not; −inf is no JSON
            "position": {**asdict(at), "seconds": 0.0, "best_bound": repr(at.best_bound)},
        }
        self.write(lambda: self._write_checkpoint(checkpoint))
        self.last_save, self.saved_step = time.monotonic(), at.total_steps

    def _write_checkpoint(self, checkpoint: files.Checkpoint) -> None:
        if self._unsynced:  # a checkpoint never counts a row that a power cut can take
            sync(self.history)
            self._unsynced = False
        files.write(self.model, checkpoint)

    def due(self) -> bool:
        """Whether the last checkpoint is older than `save_seconds`."""
        return time.monotonic() - self.last_save > self.training.options.save_seconds

    def _restore(self) -> None:
        """Take up the run where its last checkpoint left it, and cut its history back to there."""
        training, vae = self.training, self.training.vae
        saved = self.read(lambda: files.read(self.model))
        state = saved.training
        position, settings = state["position"], state["options"]
        if position is None or settings is None:
            raise UsageError(f"{self.model}: a model, but not one that a run left to be resumed")
        cut, now_cut = settings.get("shards", 1), self.settings.get("shards", 1)
        if cut != now_cut:
            raise UsageError(
                f"{self.folder} was begun with shards {cut}, and now it is {now_cut}: give --shards {cut}, in "
                f"Python ranks=mv.ranks(shards={cut})"
            )
        for name, value in json.loads(json.dumps(self.settings)).items():
            if settings.get(name) != value:
                if name == DATA:
                    raise UsageError(
                        f"the data have changed since {self.folder} was begun: give the same, or begin another run"
                    )
                was, now = _difference(name, settings.get(name), value)
                raise UsageError(f"{self.folder} was begun with {was}, and now it is {now}: only --epochs may change")
        done = position["epoch"] - 1
        if done > training.options.epochs:
            raise UsageError(
                f"{self.folder} has {done} epochs behind it, and {training.options.epochs} were asked for: ask for more"
            )
        at = Position(**{**position, "sums": list(position["sums"]), "best_bound": float(position["best_bound"])})
        if at.step >= training.steps_per_epoch or at.total_steps != done * training.steps_per_epoch + at.step:
            raise UsageError(
                f"{self.model}: step {at.step} of epoch {at.epoch} is said to be step {at.total_steps} in all, and an "
                f"epoch has {training.steps_per_epoch}: it is damaged"
            )
        rows = self.read(lambda: read_history(self.folder, before=at.epoch))
        if state["threads"] not in (None, vae.backend.threads):
            warnings.warn(
                f"{self.folder} was trained on {state['threads']} threads and goes on with {vae.backend.threads}: its "
                "last digits may differ from those of a run that was never interrupted (MINIVAE_THREADS="
                f"{state['threads']} keeps them)",
                UsageWarning,
                stacklevel=2,
            )
        for batches in filter(None, (training.batches, training.validation)):
            batches.by_nonzeros = state["sparse"] == "yes"  # an older run did without
        files.put_tensors(vae, saved.tensors, vae.buffer.state, "", self.model)
        if at.best_epoch is not None:
            files.put_tensors(vae, saved.tensors, training.best, "best.", self.model)
        optimizer = training.optimizer
        optimizer.state = {}
        if state["optimizer_steps"]:
            shapes = {f"optimizer.{slot}": vae.buffer.data.shape for slot in optimizer.slots}
            files.check_tensors(shapes, saved.tensors, "", self.model)
            optimizer.state = {slot: vae.backend.zeros(vae.buffer.data.shape) for slot in optimizer.slots}
            for slot, array in optimizer.state.items():
                vae.backend.assign(array, saved.tensors[f"optimizer.{slot}"])
        best = {} if at.best_epoch is None else {"best": training.best}
        for name, array in {"parameters": vae.buffer.state, **best}.items():
            if not finite(vae.backend, array):
                raise UsageError(f"{self.model} holds NaN or infinite {name}, from which no training goes on")
        for slot, array in optimizer.state.items():  # an infinite moment is sound: its step is 0
            if np.isnan(vae.backend.to_host(array)).any():
                raise UsageError(f"{self.model} holds NaN in optimizer.{slot}, from which no training goes on")
        optimizer.steps = state["optimizer_steps"]
        training.at, training.history.rows = at, rows
        training.first_pass, vae.passes = state["first_pass"], state["passes"]
        if vae.likelihood.clamped is not None:
            vae.likelihood.clamped[...] = state["clamped"] if self.writes else 0
        if rows:
            at.seconds = float(rows[-1]["seconds"])
        self.write(lambda: write_history(self.history, rows))
        self.last_save, self.saved_step = time.monotonic(), at.total_steps


def recorded_shards(folder: Path) -> int | None:
    """The number of shards of the run in a folder; None where there is none to resume."""
    if not (folder / files.MODEL_FILE).exists():
        return None
    options = files.read(folder / files.MODEL_FILE).training["options"] or {}
    return checks.integer("shards", options.get("shards", 1))


def _digest(training: Batches, validation: Batches | None, deal: Callable[..., list[bytes]] | None) -> str:
    """A fingerprint of the values that train and validate, and of their scale.

    deal   a World's `map`: then it is that of the digests of blocks, which ranks read for one another
    """
    digest = hashlib.sha256()
    for batches in (training, validation):
        if batches is None:
            continue

        def block(start: int, batches: Batches = batches) -> Any:
            return b"".join(x.view(np.uint8).data for x in batches.arrays(start, start + CHECK_ROWS))

        digest.update(f"{batches.X.shape} {batches.X.dtype};".encode())
        starts = range(0, len(batches), CHECK_ROWS)
        blocks = (
            map(block, starts) if deal is None else deal(lambda start: hashlib.sha256(block(start)).digest(), starts)
        )
        for data in blocks:
            digest.update(data)
        if batches.scale is not None:
            digest.update(batches.scale.kind.encode())
        if batches.weights is not None:
            digest.update(batches.backend.to_host(batches.weights).tobytes())
    return digest.hexdigest()


def _difference(name: str, was: Any, now: Any) -> tuple[str, str]:
    """Two option values that differ, cut down to the part that does."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in now:
            if was.get(key) != now[key]:
                return f"{name} {key} {_shown(was.get(key))}", f"{now[key]}"
    return f"{name} {_shown(was)}", f"{now}"


def _shown(value: Any) -> str:
    """A value from a file, to be shown."""
    return schema.one_line(ValueError(str(value)))[:80]
