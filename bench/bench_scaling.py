"""How a training step's cost grows with B, D, H, L and S, one at a time, everything else as in 784-500-20 at batch 128.

The values of an axis race against each other; the exponent fitted through the last of them is in extra_info. `minivae
bench` measures the same, and the picture in docs/benchmarks.md shows it.
"""

import pytest
from racing import raced, replay

from minivae.bench.scaling import AXES, exponent


@raced
@pytest.mark.parametrize("axis, value", [(axis, value) for axis, values in AXES.items() for value in values])
def bench_growth(benchmark, races, smoke, axis, value):
    values = [AXES[axis][0]] if smoke else AXES[axis]
    if value not in values:
        pytest.skip("a smoke run looks at one value of each axis")
    names, warm_up = [str(n) for n in values], {"units": 100, "seconds": 0.5}
    result = races.result({"kind": "scaling", "axis": axis}, names, str(value), turns=5, block=0.2, warm_up=warm_up)
    benchmark.group = f"train_step against {axis}"
    replay(benchmark, result)
    if benchmark.stats is not None:
        seconds = [races.results[name].median for name in names]
        benchmark.extra_info["exponent"] = exponent(list(values), seconds)
