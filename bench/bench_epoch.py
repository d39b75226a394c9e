"""An epoch of MNIST with dynamic binarisation, batch 128: `fit`'s own loop against a loop in PyTorch."""

import pytest
from racing import raced, replay

from minivae.bench.epochs import CONTENDERS


@raced
@pytest.mark.parametrize("contender", CONTENDERS)
def bench_epoch(benchmark, races, smoke, contender):
    case = {"kind": "epoch", "widths": [784, 500, 20], "batch": 128, "rows": 1000 if smoke else 60_000}
    result = races.result(case, list(CONTENDERS), contender, turns=5, block=0.0)
    benchmark.group = f"an epoch of {case['rows']} rows"
    replay(benchmark, result)
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = case["rows"] / result.median
