"""ln p(x) by importance sampling: 784-200-200-50, K = 5000, 100 rows, against PyTorch and the decoder's products."""

import pytest
from racing import raced, replay

from minivae.bench.evaluations import CONTENDERS


@raced
@pytest.mark.parametrize("contender", CONTENDERS)
def bench_log_likelihood(benchmark, races, smoke, contender):
    sizes = {"rows": 5, "samples": 200} if smoke else {"rows": 100, "samples": 5000}
    case = {"kind": "evaluate", "widths": [784, 200, 200, 50], **sizes}
    result = races.result(case, list(CONTENDERS), contender, turns=5, block=0.0)
    benchmark.group = f"ln p(x) of {case['rows']} rows, K = {case['samples']}"
    replay(benchmark, result)
    if benchmark.stats is not None:
        benchmark.extra_info["times_the_floor"] = races.ratio(contender, "floor-mkl" if "mkl" in contender else "floor")
