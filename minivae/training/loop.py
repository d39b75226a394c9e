"""train: the loop around `VAE.train_step`. Epochs, validation, early stopping, history, checkpoints, and resuming.

A training is a function of its data, its options and its seed: shuffles, binarisation and ε come from counters
(`noise.py`), sums are added up in the order of the steps, and a checkpoint holds where in which epoch it was written.
So a run that was killed at any moment and resumed ends with the same bytes as the run that never was.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..errors import UsageError
from ..evaluation.bounds import evaluate_batches, log_jacobian
from ..model import Model
from ..noise import permutation
from ..optim import Adam, Optimizer
from . import checkpoint as files
from . import cuda_graph as graph
from .batches import CHECK_ROWS, Batches
from .progress import Progress
from .schedules import Beta, Schedule, parse

if TYPE_CHECKING:
    from ..datasets.scale import Scale

MODEL_FILE, HISTORY_FILE = "model.safetensors", "history.csv"
SAVE_SECONDS = 10.0  # how often a run's checkpoint is written at the most, but for its end
DATA = "data (sha256)"
LOOK_EVERY = {"numpy": 1, "cupy": 100}  # steps between two looks at the losses: on a device each look is a wait

COLUMNS = {  # of the history: name → what it is
    "epoch": "1, 2, …",
    "step": "training steps so far",
    "loss": "what was optimised, mean over the epoch",
    "elbo": "−(nll + kl) at β = 1, mean over the epoch",
    "nll": "E[−ln q(x|z)], nats",
    "kl": "KL(p(z|x) ‖ q(z)), nats",
    "val_elbo": "the same on the validation rows, after the epoch",
    "val_nll": "",
    "val_kl": "",
    "val_iwae": "the importance-weighted bound on the validation rows, where that is the objective",
    "beta": "the KL's weight at the epoch's last step",
    "bound": "whether −loss bounds ln q(x) from below: no where β < 1 (iwae: β ≠ 1), or σ² was each batch's own",
    "lr": "the learning rate at the epoch's last step",
    "clamped": "outputs of the decoder (log-variances …) that were clamped",
    "rows_per_second": "training rows",
    "seconds": "training time so far",
}
TIMES = ("rows_per_second", "seconds")  # the columns that a resumed run does not repeat


class Diverged(ArithmeticError):
    """A loss or gradient is NaN or infinite. The message names the step and the tensor."""


@dataclass
class History:
    """What a training did: `history["elbo"]` is a column, `rows` one dict for each epoch, columns as in COLUMNS.

    best_epoch   the epoch whose parameters validation chose; None without validation
    stopped      "finished", or "patience" where early stopping ended it
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    stopped: str = "finished"

    def __getitem__(self, column: str) -> list[Any]:
        if column not in COLUMNS:
            raise KeyError(f"no column {column!r}: there are {', '.join(COLUMNS)}")
        return [row[column] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        last = f", last elbo={self.rows[-1]['elbo']:.2f}" if self.rows else ""
        return f"History({len(self.rows)} epochs{last}, best_epoch={self.best_epoch}, stopped={self.stopped!r})"


@dataclass
class Position:
    """Where a training stands; with the parameters and the optimiser's state it is all that resuming needs."""

    epoch: int = 1  # the epoch under way
    step: int = 0  # steps of it that are done
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # Σ loss, Σ nll, Σ kl over its rows so far
    bound: bool = True  # whether −loss has bounded ln q(x) in every step of it
    total_steps: int = 0
    best_bound: float = -math.inf
    best_epoch: int | None = None
    waited: int = 0  # epochs since the best, as patience counts them
    seconds: float = 0.0


def fit(vae: Model, X: Any, resume: bool = False, **options: Any) -> History:
    """Train `vae` on X (N, D); `VAE.fit` describes the options."""
    training = Training(vae, X, **options)
    if resume:
        training.restore()
    return training.run()


def settle(vae: Model, batches: Batches) -> None:
    """Fit what the likelihood knows in closed form (gaussian:optimal: its σ²) by one pass over the training rows.

    `fit` does it after each epoch; a loop of your own over `train_step` leaves the last batch's, until it calls
    `settle(vae, Batches(vae, X))`.
    """
    if vae.likelihood.closed_form:
        with vae.likelihood.settling():
            evaluate_batches(vae, batches)


class Training:
    """One training of one model: `run` it, or `restore` it from its run's checkpoint first. Options as `VAE.fit`."""

    def __init__(
        self,
        vae: Model,
        X: Any,
        epochs: int = 10,
        batch_size: int = 128,
        optimizer: Optimizer | None = None,
        validation: Any = None,
        beta: float | Beta = 1.0,
        free_bits: float = 0.0,
        binarize: str = "none",
        scale: Scale | None = None,
        schedule: str | Schedule = "constant",
        patience: int | None = None,
        clip: float | None = None,
        run: str | os.PathLike | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        progress: Any = None,
        rows: Any = None,
        validation_rows: Any = None,
        save_seconds: float = SAVE_SECONDS,
    ):
        epochs, batch_size = checks.whole("epochs", epochs), checks.whole("batch_size", batch_size)
        patience = None if patience is None else checks.whole("patience", patience)
        if clip is not None:
            clip = checks.real("clip", clip, lambda x: x > 0, "a number > 0, the gradient's largest norm")
        vae.loss_fn.check(1.0, free_bits)
        save_seconds = checks.real("save_seconds", save_seconds, lambda x: x >= 0, "a number of seconds ≥ 0")
        if callback is not None and not callable(callback):
            raise UsageError(f"callback={callback!r}: expected a function of an epoch's row")
        if patience is not None and validation is None:
            raise UsageError("patience needs validation rows: give validation=X_val (--validation 0.1)")
        self.vae, self.epochs, self.batch_size = vae, epochs, batch_size
        optimizer = Adam() if optimizer is None else optimizer
        self.optimizer = checks.instance("optimizer", optimizer, Optimizer, "an optimizer, such as mv.Adam(1e-3)")
        self.base_lr = self.optimizer.lr
        schedule = parse(schedule) if isinstance(schedule, str) else schedule
        self.schedule = checks.instance("schedule", schedule, Schedule, "a schedule's name, or a mv.Schedule")
        self.beta = beta if isinstance(beta, Beta) else Beta(beta)
        self.free_bits, self.patience, self.clip = float(free_bits), patience, clip
        self.batches = Batches(vae, X, rows, scale, binarize)
        self.validation = None
        if validation is not None:
            self.validation = Batches(vae, validation, validation_rows, scale, binarize, "validation")
        self.scale = self.batches.scale
        self.jacobian = log_jacobian(vae, self.scale)
        self.steps_per_epoch = -(-len(self.batches) // batch_size)
        self.callback = callback
        self.progress = Progress() if progress is True or (progress is None and sys.stderr.isatty()) else progress
        self.save_seconds = save_seconds

        self.first_pass = vae.passes
        self.at = Position()
        self.history = History()
        self.best = vae.buffer.state.copy()  # used where there is validation
        self.look_every = LOOK_EVERY[vae.backend.name]
        self.recent, self.unread = vae.backend.zeros((self.look_every, 3), np.float64), 0
        self.graphs: graph.Graphs | None = None
        if graph.possible(vae, self.batches):
            self.graphs = graph.Graphs(vae, self.batches, self.optimizer, self.recent, self.free_bits, clip)
        self.last_save = -math.inf
        self.interrupted = threading.Event()
        self.run_folder = None if run is None else Path(run)
        self.options = self._options() if run is not None else {}

    # ---- the loop -----------------------------------------------------------------------------------------------

    def run(self) -> History:
        """Train to the end. Ctrl-C saves the run and raises KeyboardInterrupt."""
        self._open_run()
        if self.progress:
            self.progress.start(self)
        try:
            # an overflow is not warned of on the way: the guard names the step and the tensor
            with _interrupts(self.interrupted), np.errstate(all="ignore"):
                while self.at.epoch <= self.epochs and not self._out_of_patience():
                    self._epoch()
        finally:
            self.optimizer.lr = self.base_lr
            if self.progress:
                self.progress.stop()
        self.history.stopped = "patience" if self._out_of_patience() else "finished"
        self.history.best_epoch = self.at.best_epoch
        self._save()
        if self.at.best_epoch is not None:
            self.vae.buffer.state[...] = self.best
        return self.history

    def _out_of_patience(self) -> bool:
        return self.patience is not None and self.at.waited >= self.patience

    def _epoch(self) -> None:
        at, vae = self.at, self.vae
        pass_ = vae.passes = self.first_pass + at.epoch
        order = vae.backend.asarray(permutation(vae.seed, len(self.batches), "shuffle", pass_))
        rows_here, start = 0, time.perf_counter()
        before = at.seconds
        while at.step < self.steps_per_epoch:
            plan = self._plan()
            beta = plan[-1][1]
            at.bound = at.bound and all(vae.loss_fn.is_bound(beta, vae.samples) for _, beta in plan)
            X = self._steps(order, plan, pass_)
            rows_here += min(len(plan) * self.batch_size, len(self.batches) - at.step * self.batch_size)
            at.step += len(plan)
            at.total_steps += len(plan)
            self.unread = len(plan)
            self._look(X)
            seconds = time.perf_counter() - start
            at.seconds = before + seconds
            if self.progress:
                self.progress.step(self, beta, rows_here / seconds)
            if at.step < self.steps_per_epoch:
                self._stop_or_save()
        self._close_epoch(beta, rows_here / (time.perf_counter() - start))

    def _plan(self) -> list[tuple[float, float]]:
        """The learning rate and β of each step until the losses are looked at again."""
        at, plan = self.at, []
        for step in range(at.step, min(at.step + self.look_every, self.steps_per_epoch)):
            t = at.epoch - 1 + step / self.steps_per_epoch
            plan.append((self.base_lr * self.schedule.factor(t, self.epochs), self.beta(t)))
        return plan

    def _steps(self, order: Any, plan: list[tuple[float, float]], pass_: int) -> Any:
        """The steps of the plan, their losses to `recent` → the last batch X."""
        first, size = self.at.step * self.batch_size, self.batch_size
        if self.graphs is not None:
            return self.graphs.run(order, plan, pass_, first, size)
        for k, (lr, beta) in enumerate(plan):
            self.optimizer.lr = lr
            X, rows = self.batches.take(order[first + k * size : first + (k + 1) * size], "binarise", pass_)
            terms = self.vae.train_step(
                X, self.optimizer, rows=rows, beta=beta, free_bits=self.free_bits, clip=self.clip, pass_=pass_
            )
            self.recent[k] = terms.sums()
        return X

    def _look(self, X: Any) -> None:
        """Read the losses since the last look, guard against NaN, and add them to the epoch's sums."""
        at = self.at
        losses = self.vae.backend.to_host(self.recent)[: self.unread].tolist()
        for k, (loss, nll, kl) in enumerate(losses):
            if not math.isfinite(loss + nll + kl):
                raise Diverged(self._diagnosis(at.total_steps - self.unread + k + 1, f"nll {nll:g}, kl {kl:g}", X))
            at.sums = [at.sums[0] + loss, at.sums[1] + nll, at.sums[2] + kl]
        self.unread = 0

    def _diagnosis(self, step: int, found: str, X: Any = None) -> str:
        """One sentence: which step, which tensor, and what to do. X: the step's batch, where it is still there."""
        vae = self.vae
        suspects: dict[str, Any] = {} if X is None else {"X": X}
        suspects |= {f"{layer.name} output": layer.Y for layer in vae.encoder.layers}
        suspects |= {"latent z": vae.posterior.Z}
        suspects |= {f"{layer.name} output": layer.Y for layer in vae.decoder.layers}
        suspects |= {f"gradient of {name}": grad for name, grad in vae.gradients.items()}
        suspects |= {f"parameter {name}": view for name, view in vae.parameters.items()}
        first = next((name for name, x in suspects.items() if not self._finite(x)), "none that is still held")
        if step == 1:
            low, high = self.batches.range
            advice = f"No update was made yet: the values, from {low:g} to {high:g}, want scaling (--scale standard)."
        else:
            advice = "Try a smaller learning rate, or a clip (--lr, --clip)."
            if self.run_folder:
                advice += f" {self.run_folder / MODEL_FILE} holds the last good state."
        return (
            f"training diverged at step {step} (epoch {self.at.epoch}): {found}; the first tensor with a NaN or an "
            f"infinity is: {first}. {advice}"
        )

    def _finite(self, x: Any) -> bool:
        return bool(self.vae.backend.to_host(self.vae.backend.xp.isfinite(x).all()))

    def _close_epoch(self, beta: float, rate: float) -> None:
        at, N = self.at, len(self.batches)
        clock = time.perf_counter()
        loss, nll, kl = (total / N for total in at.sums)
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
        row |= {"epoch": at.epoch, "step": at.total_steps, "loss": loss + self.jacobian, "nll": nll + self.jacobian}
        row |= {"elbo": -(nll + self.jacobian + kl), "kl": kl, "lr": self.optimizer.lr, "beta": beta}
        row |= {"bound": "yes" if at.bound else "no", "clamped": self._clamped()}
        settle(self.vae, self.batches)
        if self.validation is not None:
            result = evaluate_batches(self.vae, self.validation)
            if not math.isfinite(result.elbo + result.bound):
                raise Diverged(self._diagnosis(at.total_steps, f"validation elbo {result.elbo:g}"))
            row |= {"val_elbo": result.elbo, "val_nll": result.nll, "val_kl": result.kl}
            row["val_iwae"] = "" if result.iwae is None else result.iwae
            if self.beta.settled(at.epoch):
                self._judge(result.bound)
        at.seconds += time.perf_counter() - clock
        row |= {"rows_per_second": round(rate), "seconds": round(at.seconds, 3)}
        self.history.rows.append(row)
        if self.run_folder is not None:
            _append(self.run_folder / HISTORY_FILE, row)
        at.epoch, at.step, at.sums, at.bound = at.epoch + 1, 0, [0.0, 0.0, 0.0], True
        if self.progress:
            self.progress.epoch(self, row)
        if self.callback is not None:
            self.callback(row)
        self._stop_or_save()

    def _judge(self, bound: float) -> None:
        """Is this the best epoch so far, by the objective's bound on the validation rows at β = 1?"""
        at = self.at
        if bound > at.best_bound:
            at.best_bound, at.best_epoch, at.waited = bound, at.epoch, 0
            self.best[...] = self.vae.buffer.state
        else:
            at.waited += 1

    def _clamped(self) -> int:
        counter = self.vae.likelihood.clamped
        if counter is None:
            return 0
        count = int(self.vae.backend.to_host(counter)[0])
        counter[...] = 0
        return count

    # ---- the run's files ----------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        """What a resumed training must agree in, the number of epochs left out."""
        numbers = {k: v for k, v in vars(self.optimizer).items() if isinstance(v, (int, float)) and k != "steps"}
        return {
            "model": self.vae.config(),
            "dtype": self.vae.backend.dtype.name,
            "kernels": self.vae.backend.kernels,
            "backend": self.vae.backend.name,
            DATA: _digest(self.batches, self.validation),
            "batch_size": self.batch_size,
            "optimizer": {"name": type(self.optimizer).__name__, **numbers, "lr": self.base_lr},
            "beta": asdict(self.beta),
            "free_bits": self.free_bits,
            "binarize": self.batches.binarize,
            "schedule": {**asdict(self.schedule), "milestones": list(self.schedule.milestones)},
            "patience": self.patience,
            "clip": self.clip,
        }

    def _open_run(self) -> None:
        """Write the first checkpoint and the history's heading; refuse to write over another run's."""
        folder = self.run_folder
        if folder is None or self.last_save > -math.inf:
            return
        if (folder / MODEL_FILE).exists():
            raise UsageError(
                f"{folder} holds a run already: resume it (resume=True, --resume), or choose another folder"
            )
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"run={str(folder)!r}: a file of that name exists; choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
        _write_history(folder / HISTORY_FILE, [])
        self._save()

    def _save(self) -> None:
        if self.run_folder is None:
            return
        vae, at = self.vae, self.at
        if not self._finite(vae.buffer.state):
            raise Diverged(self._diagnosis(at.total_steps, "the loss is finite, the parameters are not"))
        tensors = files.tensors_of(vae)
        if at.best_epoch is not None:
            tensors |= files.tensors_of(vae, self.best, "best.")
        for slot, state in self.optimizer.state.items():
            tensors[f"optimizer.{slot}"] = vae.backend.to_host(state)
        if self.scale is not None:
            tensors |= {f"scale.{name}": array for name, array in self.scale.to_arrays().items()}
        clamped = vae.likelihood.clamped
        training = {
            "passes": vae.passes,
            "first_pass": self.first_pass,
            "optimizer_steps": self.optimizer.steps,
            "clamped": 0 if clamped is None else int(vae.backend.to_host(clamped)[0]),
            "options": self.options,
            # times would make two runs differ that do not; −inf is no JSON
            "position": {**asdict(at), "seconds": 0.0, "best_bound": repr(at.best_bound)},
        }
        extra = {"scale": self.scale.kind if self.scale else "none", "binarize": self.batches.binarize}
        files.write(
            self.run_folder / MODEL_FILE,
            files.Checkpoint(vae.config(), vae.backend.dtype.name, tensors, training, extra),
        )
        self.last_save = time.monotonic()

    def _stop_or_save(self) -> None:
        if self.interrupted.is_set():
            self._save()
            raise KeyboardInterrupt
        if time.monotonic() - self.last_save > self.save_seconds:
            self._save()

    def restore(self) -> None:
        """Take up the run where its last checkpoint left it, and cut its history back to there."""
        folder = self.run_folder
        if folder is None:
            raise UsageError("resume=True needs run=: the folder to resume")
        if not (folder / MODEL_FILE).exists():
            if folder.is_dir():  # killed before its first checkpoint: from the beginning
                return
            raise UsageError(f"{folder}: there is no such folder to resume")
        saved = files.read(folder / MODEL_FILE)
        try:
            self._take_up(saved, folder)
        except UsageError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise UsageError(
                f"{folder / MODEL_FILE}: a model, but not one that a run left to be resumed ({error!r})"
            ) from None

    def _take_up(self, saved: files.Checkpoint, folder: Path) -> None:
        vae, source, training = self.vae, folder / MODEL_FILE, saved.training
        if training["position"].keys() != asdict(self.at).keys():
            raise UsageError(
                f"{folder} was begun by another version of minivae, which kept other things of a run: its model can be "
                "loaded and evaluated, and a run to go on with has to be begun in another folder"
            )
        for name, value in json.loads(json.dumps(self.options)).items():
            if training["options"][name] != value:
                if name == DATA:
                    raise UsageError(
                        f"the data have changed since {folder} was begun: give the same, or begin another run"
                    )
                was, now = _difference(name, training["options"][name], value)
                raise UsageError(f"{folder} was begun with {was}, and now it is {now}: only --epochs may change")
        files.put_tensors(vae, saved.tensors, vae.buffer.state, "", source)
        position = training["position"]
        if position["epoch"] - 1 > self.epochs:
            done = position["epoch"] - 1
            raise UsageError(f"{folder} has {done} epochs behind it, and {self.epochs} were asked for: ask for more")
        self.at = Position(**{**position, "best_bound": float(position["best_bound"])})
        if self.at.best_epoch is not None:
            files.put_tensors(vae, saved.tensors, self.best, "best.", source)
        self.first_pass, vae.passes = training["first_pass"], training["passes"]
        self.optimizer.steps = training["optimizer_steps"]
        self.optimizer.state = {}
        if self.optimizer.steps:
            for slot in self.optimizer.slots:
                state = self.optimizer.state[slot] = vae.backend.zeros(vae.buffer.data.shape)
                vae.backend.assign(state, saved.tensors[f"optimizer.{slot}"])
        if vae.likelihood.clamped is not None:
            vae.likelihood.clamped[...] = training["clamped"]
        self.history.rows = read_history(folder, before=self.at.epoch)
        if self.history.rows:
            self.at.seconds = float(self.history.rows[-1]["seconds"])
        _write_history(folder / HISTORY_FILE, self.history.rows)
        for leftover in folder.glob(files.TEMPORARY):
            leftover.unlink()
        self.last_save = time.monotonic()


# ---- small parts ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _interrupts(interrupted: threading.Event) -> Iterator[None]:
    """Ctrl-C sets the event, for the loop to stop between two steps; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(signum: int, frame: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _digest(*sets: Batches | None) -> str:
    """A fingerprint of the values that train and validate, and of their scale."""
    digest = hashlib.sha256()
    for batches in sets:
        if batches is None:
            continue
        digest.update(f"{batches.X.shape} {batches.X.dtype};".encode())
        for start in range(0, len(batches), CHECK_ROWS):
            block = batches.backend.to_host(batches.X[start : start + CHECK_ROWS])
            digest.update(np.ascontiguousarray(block).view(np.uint8).data)
        if batches.scale is not None:
            digest.update(batches.scale.kind.encode())
    return digest.hexdigest()


def _difference(name: str, was: Any, now: Any) -> tuple[str, str]:
    """Two option values that differ, cut down to the part that does."""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in now:
            if was.get(key) != now[key]:
                return f"{name} {key} {was.get(key)}", f"{now[key]}"
    return f"{name} {was}", f"{now}"


def _append(path: Path, row: dict[str, Any]) -> None:
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, list(COLUMNS), lineterminator="\n").writerow(row)


def _write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [",".join(COLUMNS)] + [",".join(str(row[column]) for column in COLUMNS) for row in rows]
    files.write_whole(path, ("\n".join(lines) + "\n").encode())


def read_history(folder: str | os.PathLike, before: int | None = None) -> list[dict[str, Any]]:
    """The rows of a run's history.csv, numbers as numbers; only those of epochs below `before`."""
    path = Path(folder) / HISTORY_FILE
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    rows: list[dict[str, Any]] = []
    with open(path, newline="") as file:
        for text in csv.DictReader(file):
            try:
                row = {name: _number(text[name]) for name in COLUMNS}
                ours = before is None or row["epoch"] < before
            except (KeyError, TypeError):  # a line cut off by a kill
                break
            if not ours:
                break
            rows.append(row)
    if before is not None and [row["epoch"] for row in rows] != list(range(1, before)):
        raise UsageError(f"{path}: expected the epochs 1 … {before - 1}, as the checkpoint has them; found {len(rows)}")
    return rows


def _number(text: str) -> Any:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
