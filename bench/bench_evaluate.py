"""ln p(x) of 100 rows by importance sampling with K = 5000 samples each, 784-200-200-50."""

from minivae.bench import evaluations, machine


def bench_log_likelihood(benchmark, smoke):
    sizes = {"rows": 5, "samples": 200} if smoke else {"rows": 100, "samples": 5000}
    case = {"kind": "evaluate", "widths": [784, 200, 200, 50], **sizes, "threads": machine.threads()}
    evaluation = evaluations.Ours(case, evaluations.prepare(case))
    evaluation.before_turn()
    benchmark.group = f"ln p(x) of {case['rows']} rows, K = {case['samples']}"
    benchmark.pedantic(evaluation.run, rounds=5)
