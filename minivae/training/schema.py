"""schema: what a model's file and a run's history may say. Types and ranges are checked before anything is used."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from .. import __version__
from ..errors import UsageError

T = TypeVar("T")
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
    options: dict[str, Any] | None = None
    position: Position | None = None


class Architecture(msgspec.Struct):
    """The arguments of a model that decide the shapes of its tensors; the model itself checks the others."""

    features: Natural
    latent_dim: Natural
    hidden: list[Natural]
    activation: str
    likelihood: str


class Metadata(msgspec.Struct):
    """The description in a model's file."""

    version: int
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


def decode(text: str | bytes, kind: type[T], newest: int | None = None) -> T:
    """JSON as a `kind`; ValueError says in one line what is wrong with it, and where.

    newest   the newest format that is known: UsageError for a later one
    """
    try:
        if newest is not None:
            refuse_newer(msgspec.json.decode(text, type=dict[str, Any]), newest)
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(one_line(error)) from None


def refuse_newer(held: dict[str, Any], newest: int) -> None:
    """Raise UsageError for what a newer version of minivae wrote in a format that this one does not know."""
    version, writer = held.get("version"), held.get("minivae")
    if isinstance(version, int) and version > newest:
        by = f"minivae {writer}" if isinstance(writer, str) and len(writer) < 20 else "minivae"
        raise UsageError(
            f"written by a newer {by}, in format {version}; this is {__version__}, which reads formats up to {newest}: "
            "update this one"
        )


def one_line(error: BaseException) -> str:
    """An error's message on one line of at most 200 characters, all of them printable."""
    text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else str(error)
    return "".join(c if c.isprintable() else " " for c in text)[:200]
