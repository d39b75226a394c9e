"""schedules: the learning rate and the KL's weight as functions of time.

Time is measured in epochs, and fractions of one: t = 0 before the first step, t = 2.5 in the middle of the third epoch.
A learning-rate schedule is a factor on the optimiser's `lr`; a β schedule is the KL's weight itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import checks
from ..errors import UsageError

SHAPES = ("constant", "cosine", "milestones")


@dataclass(frozen=True)
class Schedule:
    """A factor on the learning rate: warm-up × shape.

    shape       "constant": 1;  "cosine": ½ (1 + cos πt/T), T the number of epochs (Loshchilov & Hutter 2017, without
                restarts);  "milestones": γ for each milestone that has passed
    warmup      epochs over which the factor rises linearly from 0; cosine then runs over what is left
    """

    shape: str = "constant"
    warmup: float = 0.0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        rising = all(0 < m < n for m, n in pairwise((*self.milestones, math.inf)))
        if not (self.shape in SHAPES and 0 <= self.warmup < math.inf and 0 < self.gamma < math.inf and rising):
            raise UsageError(
                f"{self!r}: expected a shape among {', '.join(SHAPES)}, warmup ≥ 0, rising milestones > 0, gamma > 0"
            )
        if bool(self.milestones) != (self.shape == "milestones"):
            raise UsageError(f"{self!r}: milestones belong to the shape 'milestones', and that needs some")

    def factor(self, t: float, epochs: float) -> float:
        """The factor at time t of a training of `epochs` epochs."""
        ramp = min(1.0, t / self.warmup) if self.warmup else 1.0
        if self.shape == "cosine":
            length = epochs - self.warmup  # ≤ 0: all of it is warm-up
            progress = min(1.0, max(0.0, t - self.warmup) / length) if length > 0 else 0.0
            return ramp * 0.5 * (1 + math.cos(math.pi * progress))
        return ramp * self.gamma ** sum(t >= milestone for milestone in self.milestones)


PLAIN = {name: Schedule(name) for name in ("constant", "cosine")}


def parse(text: str) -> Schedule:
    """A Schedule from its name: "constant", "cosine", "milestones:30,60", "milestones:30,60:0.5", "warmup:2",
    "warmup:2+cosine".
    """
    found: dict[str, Any] = {}
    try:
        for part in text.split("+"):
            kind, _, argument = part.partition(":")
            listed, _, gamma = argument.partition(":")
            if kind == "warmup" and "warmup" not in found:
                found["warmup"] = float(argument)
            elif kind not in SHAPES or "shape" in found or bool(argument) != (kind == "milestones"):
                raise ValueError
            else:
                numbers = {"milestones": tuple(map(float, listed.split(",")))} if argument else {}
                found |= {"shape": kind, **numbers, **({"gamma": float(gamma)} if gamma else {})}
        return Schedule(**found)
    except ValueError:
        raise UsageError(
            f"schedule={text!r}: expected constant, cosine, milestones:30,60 (epochs; :0.5 behind them for another "
            "factor than 0.1) or warmup:2 (epochs), or a warm-up joined to one of them, as in warmup:2+cosine"
        ) from None


@dataclass(frozen=True)
class Beta:
    """The KL's weight over time.

    beta     its final value
    warmup   epochs over which it rises linearly from 0 (Bowman et al. 2016; Sønderby et al. 2016)
    cycle    epochs of a cycle: it rises over the first half and stays for the second (Fu et al. 2019)
    """

    beta: float = 1.0
    warmup: float = 0.0
    cycle: float = 0.0

    def __post_init__(self) -> None:
        for name in ("beta", "warmup", "cycle"):
            object.__setattr__(self, name, checks.not_negative(name, getattr(self, name)))
        if self.warmup and self.cycle:
            raise UsageError("a linear warm-up and a cycle of the KL's weight exclude each other: leave one out")

    def __call__(self, t: float) -> float:
        """β at time t."""
        if self.cycle:
            return self.beta * min(1.0, (t % self.cycle) / (0.5 * self.cycle))
        return self.beta * (min(1.0, t / self.warmup) if self.warmup else 1.0)

    def finished(self, t: float) -> bool:
        """Whether the warm-up, or the first cycle, is over: from here on early stopping counts."""
        return t >= max(self.warmup, self.cycle)
