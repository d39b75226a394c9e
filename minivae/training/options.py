"""options: how a model is trained. One dataclass, checked once, for `VAE.fit`, the loop and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import checks
from ..errors import UsageError
from ..optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from .schedules import Beta, Schedule, parse

if TYPE_CHECKING:
    from ..datasets.scale import Scale

SAVE_SECONDS = 10.0  # a run's checkpoint is written at most this often, and at its end

MOST_EPOCHS = 2**32 - 1


@dataclass
class Options:
    """The options of a training; `VAE.fit` says what each one means. Making one checks them and fills in defaults."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: Any = None  # Optimizer; None means Adam()
    validation: Any = None
    beta: Any = 1.0  # float or Beta; then Beta
    binarize: str = "none"
    patience: int | None = None
    clip: float | None = None
    run: Any = None  # str or path; then Path
    callback: Callable[[dict[str, Any]], None] | None = None
    schedule: Any = "constant"  # its name or a Schedule; then Schedule
    free_bits: float = 0.0
    scale: Scale | str | None = None
    progress: Any = None
    rows: Any = None
    validation_rows: Any = None
    resume: bool = False
    save_seconds: float = SAVE_SECONDS
    weights: Any = None
    ranks: Any = None  # a World of `distributed/`; None: this process alone
    order: str = "rows"

    def __post_init__(self) -> None:
        self.epochs = checks.integer("epochs", self.epochs)
        if self.epochs > MOST_EPOCHS:
            raise UsageError(
                f"epochs={str(self.epochs)[:30]}: expected at most {MOST_EPOCHS}, the noise's counter of passes"
            )
        self.batch_size = checks.integer("batch_size", self.batch_size)
        optimizer = Adam() if self.optimizer is None else self.optimizer
        self.optimizer = checks.instance_of("optimizer", optimizer, Optimizer, "an optimizer, such as mv.Adam(1e-3)")
        self.beta = self.beta if isinstance(self.beta, Beta) else Beta(self.beta)
        if self.patience is not None:
            self.patience = checks.integer("patience", self.patience)
            if self.validation is None:
                raise UsageError("patience needs validation rows: give validation=X_val (--validation 0.1)")
        if self.clip is not None:
            self.clip = checks.finite_float(
                "clip", self.clip, lambda x: x > 0, "a number > 0, the gradient's largest norm"
            )
        self.run = None if self.run is None else Path(self.run)
        if self.callback is not None and not callable(self.callback):
            raise UsageError(f"callback={self.callback!r}: expected a function of an epoch's row")
        schedule = parse(self.schedule) if isinstance(self.schedule, str) else self.schedule
        self.schedule = checks.instance_of("schedule", schedule, Schedule, "a schedule's name, or a mv.Schedule")
        self.free_bits = checks.finite_float("free_bits", self.free_bits, lambda x: x >= 0, "a number of nats ≥ 0")
        checks.choice("binarize", self.binarize, checks.BINARIZE_OR_AUTO)
        if isinstance(self.scale, str):
            checks.choice("scale", self.scale, checks.SCALE_OR_AUTO)
        elif self.scale is not None:
            checks.scale(self.scale)
        if checks.boolean("resume", self.resume) and self.run is None:
            raise UsageError("resume=True needs run=: the folder to resume")
        if self.ranks is not None:
            checks.has_method("ranks", self.ranks, "agreeing", "mv.ranks()")
        if self.order not in ("rows", "blocks"):
            raise UsageError(f"order={self.order!r}: expected 'rows' or 'blocks'")
        self.save_seconds = checks.finite_float(
            "save_seconds", self.save_seconds, lambda x: x >= 0, "a number of seconds ≥ 0"
        )


OPTIMIZERS: dict[str, type[Optimizer]] = {cls.__name__.lower(): cls for cls in (SGD, Adagrad, RMSprop, Adam, AdamW)}


def make_optimizer(name: str, lr: float, momentum: float | None = None, weight_decay: float | None = None) -> Optimizer:
    """The optimiser called `name`, "nesterov" being SGD with Nesterov's momentum; None leaves the default."""
    options: dict[str, Any] = {"lr": lr}
    if weight_decay is not None:
        options["weight_decay"] = weight_decay
    if momentum is not None:
        if name not in ("sgd", "nesterov", "rmsprop"):
            raise UsageError(f"momentum={momentum!r}: {name} has none; sgd, nesterov and rmsprop have")
        options["momentum"] = momentum
    if name == "nesterov":
        return SGD(nesterov=True, **{"momentum": 0.9, **options})
    if name not in OPTIMIZERS:
        raise UsageError(f"optimizer={name!r}: expected one of {', '.join(OPTIMIZERS)}, nesterov")
    return OPTIMIZERS[name](**options)
