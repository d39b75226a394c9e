"""options: how a model is trained. One dataclass, checked once, for `VAE.fit`, the loop and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import checks
from ..errors import UsageError
from ..optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from ..units import BINARIZE_OR_AUTO, SCALE_OR_AUTO, a_scale
from .schedules import PLAIN, Beta, Schedule, parse

if TYPE_CHECKING:
    from ..datasets.scale import Scale

SAVE_SECONDS = 10.0  # a run's checkpoint is written at most this often, and at its end

MOST_EPOCHS = 2**32 - 1


@dataclass
class Options:
    """The options of a training; `VAE.fit` says what each one means. Making one checks them and fills in defaults."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: Any = None  # an Optimizer; None: Adam()
    validation: Any = None
    beta: Any = 1.0  # float or Beta; then Beta
    binarize: str = "none"
    patience: int | None = None
    clip: float | None = None
    run: Any = None  # a folder, of which a Path is made
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
        for name, check in CHECKS.items():
            if (value := getattr(self, name)) is not getattr(Options, name):  # defaults are sound
                setattr(self, name, check(name, value))
        self.optimizer = self.optimizer or Adam()
        self.beta = self.beta if isinstance(self.beta, Beta) else Beta(self.beta)
        self.schedule = _schedule(self.schedule)
        if self.patience is not None and self.validation is None:
            raise UsageError("patience needs validation rows: give validation=X_val (--validation 0.1)")
        if self.resume and self.run is None:
            raise UsageError("resume=True needs run=: the folder to resume")

    def facts(self) -> dict[str, Any]:
        """What all ranks must have alike before they begin, by name: the options that are small, and which are given.

        The folder of the run and the callback may differ: rank 0 alone uses the folder.
        """
        plain = ("epochs", "batch_size", "binarize", "patience", "clip", "free_bits", "resume", "order")
        given = ("validation", "rows", "validation_rows", "weights", "run")
        scale = self.scale if self.scale is None or isinstance(self.scale, str) else self.scale.kind
        found = {name: getattr(self, name) for name in plain} | {"scale": scale}
        found |= {name: asdict(getattr(self, name)) for name in ("beta", "schedule")}
        found |= {name: "nothing" if getattr(self, name) is None else "something" for name in given}
        return {f"its {name}": value for name, value in found.items()}


def _epochs(name: str, value: Any) -> int:
    if checks.integer(name, value) > MOST_EPOCHS:
        raise UsageError(f"{name}={str(value)[:30]}: expected at most {MOST_EPOCHS}, the noise's counter of passes")
    return int(value)


def _callback(name: str, value: Any) -> Any:
    if not callable(value):
        raise UsageError(f"{name}={value!r}: expected a function of an epoch's row")
    return value


def _schedule(value: Any) -> Schedule:
    if isinstance(value, str):
        value = PLAIN.get(value) or parse(value)
    return checks.instance_of("schedule", value, Schedule, "a schedule's name, or a mv.Schedule")


def _scale(name: str, value: Any) -> Any:
    return checks.choice(name, value, SCALE_OR_AUTO) if isinstance(value, str) else a_scale(value)


# Each option that has a check → the check, which returns the value as the training takes it.
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "epochs": _epochs,
    "batch_size": checks.integer,
    "optimizer": lambda name, x: checks.instance_of(name, x, Optimizer, "an optimizer, such as mv.Adam(1e-3)"),
    "binarize": lambda name, x: checks.choice(name, x, BINARIZE_OR_AUTO),
    "patience": checks.integer,
    "clip": lambda name, x: checks.positive(name, x, "a number > 0, the gradient's largest norm"),
    "run": lambda _, x: Path(x),
    "callback": _callback,
    "free_bits": lambda name, x: checks.not_negative(name, x, "a number of nats ≥ 0"),
    "scale": _scale,
    "resume": checks.boolean,
    "ranks": lambda name, x: checks.has_method(name, x, "agreeing", "mv.ranks()"),
    "order": lambda name, x: checks.choice(name, x, ("rows", "blocks")),
    "save_seconds": lambda name, x: checks.not_negative(name, x, "a number of seconds ≥ 0"),
}


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
