"""An epoch of `fit`'s own loop on 60,000 rows with dynamic binarisation, 784-500-20 at batch 128."""

from minivae.bench import epochs, machine


def bench_epoch(benchmark, smoke):
    case = {"kind": "epoch", "widths": [784, 500, 20], "batch": 128, "rows": 1000 if smoke else 60_000}
    case["threads"] = machine.threads()
    epoch = epochs.Ours(case, epochs.prepare(case))
    benchmark.group = f"an epoch of {case['rows']} rows"
    benchmark.pedantic(epoch.run, rounds=5, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = case["rows"] / benchmark.stats["median"]
