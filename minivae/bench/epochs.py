"""epochs: one epoch of training with dynamic binarisation: shuffle, gather, draw the pixels, step; with the short last
batch. minivae runs `fit`'s loop, PyTorch the usual hand-written loop.

The check is that of `steps.py`, and the mean loss over the first epoch, for which each contender draws its own noise.

case: {"widths": [D, hidden …, L], "batch": B, "rows": N, "threads": …}. All contenders hold the grey rows in memory as
float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import problems, steps, work
from .work import Arrays, Work

LOSS = 0.03  # relative difference of an epoch's mean loss that other noise may cause


def prepare(case: dict[str, Any]) -> Arrays:
    """The problem of `steps.py` with one batch, and `grey` (N, D)."""
    arrays = problems.model(case["widths"], case["batch"], case["rows"])
    arrays["rows"] = arrays["rows"][: case["batch"]]
    return arrays | {"grey": np.ascontiguousarray(problems.grey_rows(case["widths"][0], case["rows"]))}


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """Compute the results with the reference kernels in float64."""
    return {name: np.asarray(value) for name, value in Float64(case, arrays).results().items()}


def disagreement(case: dict[str, Any], expected: Arrays, got: Arrays) -> str | None:
    """Compare the first batch as `work.disagreement` does, and the mean loss of the first epoch within LOSS."""
    right = expected["epoch"]
    why = work.disagreement(case, {name: value for name, value in expected.items() if name != "epoch"}, got)
    if why or "epoch" not in got:
        return why or "the loss of its epoch is missing"
    close = abs(got["epoch"] - right) <= LOSS * right
    return None if close else f"the first epoch's mean loss is {got['epoch']:.2f}, not about {right:.2f}"


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return work.contender(CONTENDERS, case["name"])(case, arrays)


class Ours(Work):
    """`vae.fit(…, binarize="dynamic")`, one epoch at a time."""

    step: type[steps.Ours] = steps.Ours

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        from ..training.loop import Training
        from ..training.options import Options

        self.one = self.step(case, arrays)
        options = Options(batch_size=case["batch"], optimizer=self.one.optimizer, binarize="dynamic", progress=False)
        options.epochs = 0  # `run` adds one
        self.training = Training(self.one.vae, arrays["grey"], options)

    def facts(self) -> dict[str, Any]:
        return self.one.facts()

    def results(self) -> dict[str, Any]:
        first = {name: np.array(value) for name, value in self.one.results().items()}
        self.run()
        return first | {"epoch": self.training.history["loss"][-1]}

    def before_turn(self) -> None:
        """Do nothing: an epoch is long enough without a warm-up."""

    def run(self) -> None:
        self.training.options.epochs += 1
        self.training.run()


class OursMkl(Ours):
    step = steps.OursMkl


class Float64(Ours):
    """The float64 reference that the others are checked against."""

    step = steps.Float64


CONTENDERS: dict[str, str | type[Work]] = {
    "minivae": Ours,
    "minivae-mkl": OursMkl,
    "torch": "pytorch:Epoch",
    "torch-default": "pytorch:EpochDefault",
}
