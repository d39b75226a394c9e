"""One training step (ε, forward, mirror, Adam) of four models at four batch sizes, against PyTorch, JAX and the floor.

The contenders are those of `minivae/bench/steps.py`; they race, and pytest-benchmark shows the turns (`racing.py`).
"""

import pytest
from racing import raced, replay

from minivae.bench.steps import CONTENDERS

MODELS = ([784, 500, 20], [784, 200, 200, 50], [64, 32, 2], [2000, 256, 32])
SIZES = {"-".join(map(str, widths)): widths for widths in MODELS}
BATCHES = (20, 128, 512, 4096)
SEEN = ("784-500-20", 128)  # where a smoke run has all of them race


@raced
@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("size", SIZES)
def bench_train_step(benchmark, races, smoke, size, batch, contender):
    case = {"kind": "step", "widths": SIZES[size], "batch": batch, **({"rows": 2 * batch} if smoke else {})}
    warm_up = {"units": 1000, "seconds": 3.0}
    result = races.result(case, list(CONTENDERS), contender, warm_up=warm_up, seen=(size, batch) == SEEN)
    benchmark.group = f"train_step {size}, batch {batch}"
    replay(benchmark, result)
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = batch / result.median
        benchmark.extra_info["times_the_floor"] = races.ratio(contender, "floor-mkl" if "mkl" in contender else "floor")
