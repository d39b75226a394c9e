"""schema: what a model's file and a run's history may say. Types and ranges are checked before anything is used."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from .. import __version__
from ..errors import UsageError

T = TypeVar("T")
VERSION = 1  # of the format of a model's file; raised when an older minivae would misread one
LARGEST = 1.7976931348623157e308
Count = Annotated[int, Meta(ge=0, le=2**53)]
Natural = Annotated[int, Meta(ge=1, le=2**53)]
Pass = Annotated[int, Meta(ge=0, lt=2**32)]  # one word of the noise's counter
Number = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
Text = Annotated[str, Meta(max_length=200)]
Seconds = Annotated[float, Meta(ge=0, le=LARGEST)]


class Position(msgspec.Struct):
    """`history.Position`, as a file has it; best_bound is the text of a number, for −∞ is no JSON."""

    epoch: Annotated[int, Meta(ge=1, le=2**32)]
    step: Count
    sums: tuple[Number, Number, Number]
    bound: bool
    total_steps: Count
    best_bound: str
    best_epoch: Natural | None
    waited: Count
    seconds: Seconds

    def __post_init__(self) -> None:
        if not float(self.best_bound) <= LARGEST:
            raise ValueError("best_bound is neither a number nor -inf")


class Training(msgspec.Struct):
    """Where a training stands; only `passes` in the file of a bare model."""

    passes: Pass = 0
    first_pass: Pass = 0
    optimizer_steps: Count = 0
    clamped: Count = 0
    threads: Natural | None = None
    sparse: Literal["yes", "no"] | None = None  # whether the first layer took the non-zeros of its rows
    options: dict[str, Any] | None = None
    position: Position | None = None


class ConditionColumn(msgspec.Struct, omit_defaults=True):
    """A column of a condition: the levels of labels, or the mean and standard deviation of numbers."""

    name: Annotated[str, Meta(max_length=1 << 24)] | None = None
    levels: list[bool | int | float | str] | None = None
    mean: Number = 0.0
    std: Annotated[float, Meta(gt=0, le=LARGEST)] = 1.0


class Architecture(msgspec.Struct):
    """The arguments of a model that decide the shapes of its tensors; the model itself checks the others."""

    features: Natural
    latent_dim: Natural
    hidden: list[Natural]
    activation: str
    likelihood: str
    inputs: Text = "auto"
    missing: bool = False
    condition: list[ConditionColumn] | None = None


class Metadata(msgspec.Struct):
    """The description in a model's file."""

    version: Annotated[int, Meta(ge=1, le=VERSION)]
    model: dict[str, Any]
    dtype: Literal["float32", "float64"]
    training: Training
    extra: dict[str, Any]


class HistoryRow(msgspec.Struct):
    """A row of history.csv; the columns of validation are empty without it."""

    epoch: Natural
    step: Natural
    loss: Number
    elbo: Number
    nll: Number
    kl: Number
    beta: Number
    bound: Literal["yes", "no"]
    lr: Number
    clamped: Count
    rows_per_second: Count
    seconds: Seconds
    val_elbo: Number | None = None
    val_nll: Number | None = None
    val_kl: Number | None = None
    val_iwae: Number | None = None


def decode(text: str | bytes, kind: type[T]) -> T:
    """JSON as a `kind`; ValueError says in one line what is wrong, and where.

    Raises UsageError where it is wrong because a newer version of minivae wrote it.
    """
    try:
        return _read(text, kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        writer = _writer(text)
        if _release(writer) > _release(__version__):
            message = f"written by a newer minivae {writer}; this is {__version__}: update this one"
            raise UsageError(message) from None
        raise ValueError(one_line(error)) from None


def _read(text: str | bytes, kind: type[T]) -> T:
    """By json: msgspec.json refuses a file's name that is not UTF-8 (PEP 383), which train writes by an escape."""
    return msgspec.convert(json.loads(text, parse_constant=_no_constant), kind)


def _no_constant(name: str) -> float:
    raise ValueError(f"JSON has no {name}")


class Writer(msgspec.Struct):
    """The version of minivae that wrote a file, as every file says it."""

    minivae: Annotated[str, Meta(pattern=r"^\d{1,4}(\.\d{1,4}){1,3}[a-z0-9.+]{0,12}$")] = "0.0"


def _writer(text: str | bytes) -> str:
    try:
        return _read(text, Writer).minivae
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return "0.0"


def _release(version: str) -> tuple[int, ...]:
    """(0, 2, 1) of "0.2.1" and of "0.2.1.dev3"."""
    return tuple(int(number) for number in re.findall(r"\d+", re.split(r"[^\d.]", version)[0]))


def one_line(error: BaseException) -> str:
    """An error's message on one line of at most 200 characters, all of them printable."""
    told = isinstance(error, (ValueError, msgspec.MsgspecError))  # no ValueError before msgspec 0.20
    text = str(error) if told else f"{type(error).__name__}: {error}"
    return "".join(c if c.isprintable() else " " for c in text)[:200]
