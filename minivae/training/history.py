"""history: what a training did and where it stands. One row an epoch, in memory and in a run's history.csv."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..console import html_curve, html_facts
from ..disk import write_whole
from ..errors import UsageError
from . import schema

HISTORY_FILE = "history.csv"

COLUMNS = {  # of the history: name → what it is
    "epoch": "1, 2, …",
    "step": "training steps so far",
    "loss": "what was optimised, mean over the epoch",
    "elbo": "−(nll + kl) at β = 1, mean over the epoch",
    "nll": "E[−ln p(x|z)], nats",
    "kl": "KL(q(z|x) ‖ p(z)), nats",
    "val_elbo": "the same on the validation rows, after the epoch",
    "val_nll": "",
    "val_kl": "",
    "val_iwae": "the importance-weighted bound on the validation rows, where that is the objective",
    "beta": "the KL's weight at the epoch's last step",
    "bound": "whether −loss bounds ln p(x) from below: no where β < 1 (iwae: β ≠ 1), or σ² was each batch's own",
    "lr": "the learning rate at the epoch's last step",
    "clamped": "outputs of the decoder (log-variances …) that were clamped",
    "rows_per_second": "training rows",
    "seconds": "training time so far",
}
TIMES = ("rows_per_second", "seconds")  # the columns that a resumed run does not repeat


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

    def _repr_html_(self) -> str:
        if not self.rows:
            return html_facts(repr(self), {})
        last = {name: f"{self.rows[-1][name]:.2f}" for name in ("elbo", "nll", "kl")}
        held = self.rows[-1]["val_elbo"]
        facts = {**last, "val_elbo": None if held == "" else f"{held:.2f}", "best epoch": self.best_epoch}
        return html_facts(repr(self), facts) + html_curve("−elbo: epochs", self["epoch"], [-x for x in self["elbo"]])


@dataclass
class Position:
    """Where a training stands; with the parameters and the optimiser's state it is all that resuming needs."""

    epoch: int = 1  # the epoch under way
    step: int = 0  # steps of it that are done
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # Σ loss, Σ nll, Σ kl over its rows so far
    bound: bool = True  # whether −loss has bounded ln p(x) in every step of it
    total_steps: int = 0
    best_bound: float = -math.inf
    best_epoch: int | None = None
    waited: int = 0  # epochs since the best, as patience counts them
    seconds: float = 0.0


def epoch_row(at: Position, rows: int, jacobian: float) -> dict[str, Any]:
    """The row of an epoch over so many rows, from its sums; the other columns are empty yet."""
    loss, nll, kl = (total / rows for total in at.sums)
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"epoch": at.epoch, "step": at.total_steps, "loss": loss + jacobian, "nll": nll + jacobian, "kl": kl}
    return row | {"elbo": -(nll + jacobian + kl), "bound": "yes" if at.bound else "no"}


def append(path: Path, row: dict[str, Any]) -> None:
    with open(path, "a", newline="") as file:
        csv.DictWriter(file, list(COLUMNS), lineterminator="\n").writerow(row)


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [",".join(COLUMNS)] + [",".join(str(row[column]) for column in COLUMNS) for row in rows]
    write_whole(path, ("\n".join(lines) + "\n").encode())


def read_history(folder: str | os.PathLike, before: int | None = None) -> list[dict[str, Any]]:
    """The rows of a run's history.csv, numbers as numbers; only those of epochs below `before`.

    A last line that a kill has cut off is left out.
    """
    path = Path(folder) / HISTORY_FILE
    if before == 1:  # no epoch is done: the file may not be there yet, or be that of the run before
        return []
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    rows: list[dict[str, Any]] = []
    fault = ""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            for text in csv.DictReader(file):
                row = msgspec.convert({k: v or None for k, v in text.items() if k}, schema.HistoryRow, strict=False)
                if before is not None and row.epoch >= before:
                    break
                held = msgspec.structs.asdict(row)
                rows.append({name: "" if held[name] is None else held[name] for name in COLUMNS})
    except (msgspec.ValidationError, csv.Error, UnicodeDecodeError) as error:
        fault = f" ({schema.one_line(error)})"
    if before is not None and [row["epoch"] for row in rows] != list(range(1, before)):
        raise UsageError(
            f"{path}: expected the epochs 1 … {before - 1}, as the checkpoint has them; found {len(rows)}{fault}"
        )
    return rows
