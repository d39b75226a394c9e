"""One training step (ε, forward, mirror, Adam) of 784-500-20, ReLU, Bernoulli, float32, fused and reference."""

import numpy as np
import pytest

import minivae as mv


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("batch", [20, 128, 512])
def bench_train_step(benchmark, rng, batch, kernels):
    vae = mv.VAE(784, 20, (500,), backend="numpy", kernels=kernels)
    batches = (rng.random((8, batch, 784)) < 0.2).astype(np.float32)
    optimizer, rows = mv.Adam(1e-4), np.arange(batch)
    first = vae.train_step(batches[0], optimizer, rows=rows)
    assert np.isfinite(first.loss)
    step = iter(range(10**9))
    benchmark.group = f"train_step, batch {batch}"
    benchmark(lambda: vae.train_step(batches[next(step) % 8], optimizer, rows=rows))
    if benchmark.stats is not None:
        benchmark.extra_info["rows_per_second"] = batch / benchmark.stats["median"]
