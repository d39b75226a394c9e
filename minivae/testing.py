"""testing: gradient checks for other people's test suites.

    from minivae.testing import assert_gradients

    def test_gradients_of_my_layer():
        assert_gradients(MyLayer, [X, W, b])

It is `minivae.gradcheck.check` with an assertion: a failure shows the table and what its pattern suggests. Under pytest
nothing needs to be registered. For the protocol of a layer and of a function see docs/gradients.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gradcheck import Report


def assert_gradients(
    fn: Any,
    inputs: Sequence[Any] | dict[str, Any] | None = None,
    *,
    tolerance: float = 1e-7,
    seeds: int = 1,
    **settings: Any,
) -> Report:
    """Raise AssertionError, with the report as its message, if a gradient of `fn` is wrong; else return the report.

    fn         a layer (a class built without arguments, or an instance) or a function that returns (value, gradients)
    inputs     arrays in the order of its inputs, or a dict by name; None: its `example_inputs(rng)`
    tolerance  largest relative error allowed, in float64
    seeds      how many upstream gradients (and example inputs) to try
    settings   the other settings of `minivae.gradcheck.check`

    Raises UsageError, a ValueError, where it cannot be checked at all.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    from .gradcheck import check

    first = settings.pop("seed", 0)
    for seed in range(first, first + max(seeds, 1)):
        report = check(fn, inputs, tolerance=tolerance, seed=seed, **settings)
        if not report.ok:
            raise AssertionError(f"wrong gradient (seed {seed})\n\n{report}")
    return report
