"""Time a training step for each value of B, D, H, L and S; the other sizes are those of 784-500-20 at batch 128.

`minivae bench` races the values of an axis against each other, and fits the exponent that docs/benchmarks.md shows.
"""

import pytest

from minivae.bench import machine, scaling


@pytest.mark.parametrize("axis, value", [(axis, value) for axis, values in scaling.AXES.items() for value in values])
def bench_growth(benchmark, smoke, axis, value):
    if smoke and value != scaling.AXES[axis][0]:
        pytest.skip("a smoke run looks at one value of each axis")
    case = {"kind": "scaling", "axis": axis, "name": str(value), "threads": machine.threads()}
    step = scaling.make(case, {})
    step.run()
    benchmark.group = f"train_step against {axis}"
    benchmark(step.run)
