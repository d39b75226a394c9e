"""One training step of minivae (ε, forward, backward, Adam): four models at four batch sizes, this process's clock.

Loss and gradients are checked against float64 before anything is timed. `minivae bench --peers` races the same step
against PyTorch and JAX.
"""

import numpy as np
import pytest

from minivae.bench import machine, steps, work

MODELS = ([784, 500, 20], [784, 200, 200, 50], [64, 32, 2], [2000, 256, 32])
SIZES = {"-".join(map(str, widths)): widths for widths in MODELS}
WARM_UP = 20  # steps: threads start, and Adam's moments take their places


@pytest.mark.parametrize("batch", [20, 128, 512, 4096])
@pytest.mark.parametrize("size", SIZES)
def bench_train_step(benchmark, smoke, size, batch):
    if smoke and batch > 128:
        pytest.skip("a smoke run makes small steps")
    case = {"kind": "step", "widths": SIZES[size], "batch": batch, "rows": 4 * batch, "threads": machine.threads()}
    arrays = steps.prepare(case)
    step = steps.Ours(case, arrays)
    got = {name: np.asarray(value, np.float64) for name, value in step.results().items()}
    assert work.disagreement(case, steps.expected(case, arrays), got) is None
    for _ in range(1 if smoke else WARM_UP):
        step.run()
    benchmark.group = f"train_step {size}"
    benchmark(step.run)
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = batch / benchmark.stats["median"]
