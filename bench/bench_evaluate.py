"""ln p(x) of 100 rows by importance sampling with K = 5000 samples each, 784-200-200-50: minivae, PyTorch, the floor.

This process's clock, one after the other; `minivae bench --peers` races them in processes of their own, in turns.
"""

import pytest

from minivae.bench import evaluations, machine
from minivae.errors import UsageError


@pytest.mark.parametrize("name", ["minivae", "torch", "floor"])
def bench_log_likelihood(benchmark, smoke, name):
    sizes = {"rows": 5, "samples": 200} if smoke else {"rows": 100, "samples": 5000}
    case = {"kind": "evaluate", "widths": [784, 200, 200, 50], **sizes, "threads": machine.threads(), "name": name}
    try:
        evaluation = evaluations.make(case, evaluations.prepare(case))
    except UsageError as missing:
        pytest.skip(str(missing))
    evaluation.run()
    benchmark.group = f"ln p(x) of {case['rows']} rows, K = {case['samples']}"
    benchmark.pedantic(evaluation.run, rounds=5)
