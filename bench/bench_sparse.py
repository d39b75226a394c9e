"""Products by the non-zeros of a batch, and training steps with and without them, this process's clock.

Densities of text, single cells and binarised digits. `minivae bench --peers` races the step on counts against PyTorch.
"""

import itertools

import numpy as np
import pytest

import minivae as mv
from minivae.bench import counts, machine, work
from minivae.buffers import Workspace
from minivae.matmul.sparse import Sparse
from minivae.training.batches import Batches

LAYERS = {"784-500 13 %": (784, 500, 0.13), "20000-128 3 %": (20_000, 128, 0.03)}


@pytest.mark.parametrize("how", ["dense", "non-zeros"])
@pytest.mark.parametrize("batch", [20, 128, 512, 4096])
@pytest.mark.parametrize("layer", LAYERS)
def bench_products(benchmark, smoke, rng, layer, batch, how):
    """X W and Xᵀ dA; by the non-zeros with finding them, which a step does too."""
    D, H, density = LAYERS[layer]
    if (smoke and batch > 20) or batch * D > 2**25:
        pytest.skip("too large")
    X = (rng.random((batch, D), np.float32) < density).astype(np.float32)
    W, dA = rng.standard_normal((D, H), np.float32), rng.standard_normal((batch, H), np.float32)
    backend = mv.Backend("numpy", gemm="numpy")
    Y, dW, take = backend.empty((batch, H)), backend.empty((D, H)), Workspace(backend).take

    def products():
        if how == "dense":
            backend.gemm(Y, X, W)
            backend.gemm(dW, X.T, dA)
        else:
            found = Sparse.of(X, take)
            found.gemm(Y, found, W)
            found.gemm(dW, found.T, dA)

    products()
    for mine, right in ((Y, X @ W), (dW, X.T @ dA)):
        assert np.abs(mine - right).max() < 2e-5 * np.abs(right).max()
    benchmark.group = f"products {layer}, batch {batch}"
    benchmark(products)


@pytest.mark.parametrize("sparse", ["no", "yes"])
@pytest.mark.parametrize("density", [0.03, 0.08, 0.13, 0.18, 0.24])
@pytest.mark.parametrize("widths", [(784, 500, 20), (784, 200, 20), (784, 64, 8), (5000, 500, 20), (20_000, 128, 10)])
def bench_step_on_arrays(benchmark, smoke, rng, widths, density, sparse):
    """A step on rows of 0 and 1 as an array: the rule of `auto` (`minivae/matmul/sparse.py`) comes from these."""
    D, H, L = widths
    if smoke and (D > 784 or density > 0.03):
        pytest.skip("a smoke run makes small steps")
    X = (rng.random((512, D), np.float32) < density).astype(np.float32)
    vae = mv.VAE(D, L, (H,), backend=mv.Backend("numpy", gemm="numpy", sparse=sparse))
    batches, optimizer = Batches(vae, X), mv.Adam()

    blocks = itertools.cycle(range(0, 512, 128))  # the same rows again would be known to the branch predictor

    def step():
        first = next(blocks)
        batch = batches.take(vae.noise.rows(first, first + 128), "binarise", 1)
        return vae.step(batch, optimizer, 1.0, 0.0, None, 1).loss

    assert np.isfinite(step())
    benchmark.group = f"step {D}-{H}-{L}, {density:.0%}"
    benchmark(step)


@pytest.mark.parametrize("name", ["minivae", "minivae-dense"])
@pytest.mark.parametrize("likelihood", ["poisson", "negative-binomial"])
def bench_step_on_counts(benchmark, smoke, likelihood, name):
    sizes = {"columns": 2000 if smoke else 20_000, "density": 0.03, "hidden": 128, "latent": 10, "batch": 128}
    case = {"kind": "counts", **sizes, "likelihood": likelihood, "threads": machine.threads(), "name": name}
    arrays = counts.prepare(case)
    step = counts.make(case, arrays)
    got = {name: np.asarray(value, np.float64) for name, value in step.results().items()}
    assert work.disagreement(case, counts.expected(case, arrays), got) is None
    benchmark.group = f"step on counts, {likelihood}"
    benchmark(step.run)
