"""scaling: measure how the time of minivae's training step grows with B, D, H, L and S, one at a time.

case: {"axis": "B", "D", "H", "L" or "S", "threads": …}; a contender's name is the value on that axis. Other sizes are
those of BASE: 784-500-20, batch 128, one sample. The rows are synthetic, because D changes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import linear_regression
from typing import Any

from . import problems, steps
from .work import Arrays

BASE = {"B": 128, "D": 784, "H": 500, "L": 20, "S": 1}
AXES = {
    "B": (8, 32, 128, 512, 2048),
    "D": (49, 196, 784, 3136),
    "H": (32, 125, 500, 2000),
    "L": (5, 20, 80, 320),
    "S": (1, 4, 16, 64),
}
WHAT = {"B": "rows a batch", "D": "features", "H": "hidden units", "L": "latent dimensions", "S": "samples of z"}
FITTED = 3  # the last values of an axis are fitted: at smaller ones constant costs matter


def prepare(case: dict[str, Any]) -> Arrays:
    """Return no arrays: every contender has other sizes and makes its own data."""
    return {}


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    return {}


def make(case: dict[str, Any], arrays: Arrays) -> steps.Ours:
    at = {**BASE, case["axis"]: int(case["name"])}
    widths = [at["D"], at["H"], at["L"]]
    sizes = {"widths": widths, "batch": at["B"], "samples": at["S"]}
    return steps.Ours({**case, **sizes}, problems.model(widths, at["B"], 2 * at["B"], real=False))


def exponent(values: Sequence[float], seconds: Sequence[float]) -> float:
    """Fit the slope of ln t against ln n through the last FITTED values by least squares; 1 means proportional."""
    x = [math.log(value) for value in values[-FITTED:]]
    y = [math.log(t) for t in seconds[-FITTED:]]
    return linear_regression(x, y).slope
