"""A training step of 784-500-20 beside no, one and two busy processes on the same two cores.

`best_over_ours` in extra_info is the fastest of PyTorch, JAX and ours on one thread, over ours as it comes: it is to be
at least 1/1.2 beside busy processes. The contenders are those of `minivae/bench/busy.py`.
"""

import pytest
from racing import raced, replay

from minivae.bench.busy import CONTENDERS, NEIGHBOURS

SEEN = (1, 20)  # where a smoke run has all of them race


@raced
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("batch", (20, 128, 512))
@pytest.mark.parametrize("neighbours", NEIGHBOURS)
def bench_train_step_beside(benchmark, races, smoke, neighbours, batch, contender):
    case = {"kind": "busy", "widths": [784, 500, 20], "batch": batch, "neighbours": neighbours, "rows": 2 * batch}
    warm_up, seen = {"units": 1000, "seconds": 3.0}, (neighbours, batch) == SEEN
    result = races.result(case, list(CONTENDERS), contender, turns=11, block=1.0, warm_up=warm_up, seen=seen)
    benchmark.group = f"train_step 784-500-20, batch {batch}, beside {neighbours}"
    replay(benchmark, result)
    if benchmark.stats is not None:
        others = [races.ratio(name, "minivae") for name in CONTENDERS if name != "minivae"]
        benchmark.extra_info["best_over_ours"] = min(filter(None, others), default=None)
