"""In steady state a training step allocates nothing: tracemalloc over 100 steps, the short last batch included."""

import runpy
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import minivae as mv

LIKELIHOODS = [form.replace("σ", "0.5").replace("K", "2") for form in mv.LIKELIHOODS]
OPTIMIZERS = {
    "adam": lambda: mv.Adam(1e-3),
    "sgd": lambda: mv.SGD(1e-3, momentum=0.9),
    "rmsprop": lambda: mv.RMSprop(1e-3),
    "adagrad": lambda: mv.Adagrad(1e-3),
}


@pytest.fixture(autouse=True)
def _small_buffers():
    """NumPy below 2.3 allocates a buffer of 8192 elements for each max and min."""
    before = np.setbufsize(64)
    yield
    np.setbufsize(before)


def _run(vae, optimizer, X, rows, steps):
    for step in range(steps):
        size = 77 if step % 10 == 9 else len(X)  # the short last batch of an epoch
        vae.train_step(X[:size], optimizer, rows=rows[:size], clip=1.0)


COMBINATIONS = [  # every optimizer, likelihood and activation; slow: with each other
    pytest.param(activation, samples, optimizer, likelihood, marks=[pytest.mark.slow] if slow else [])
    for likelihood in ("bernoulli", "gaussian", "gaussian:0.5")
    for activation, samples, optimizer in [*(("relu", 1, name) for name in OPTIMIZERS), ("silu", 3, "adam")]
    for slow in [likelihood != "bernoulli" and (activation, optimizer) != ("relu", "adam")]
]


@pytest.mark.parametrize("activation, samples, optimizer, likelihood", COMBINATIONS)
def test_a_hundred_steps_allocate_no_block_over_a_kilobyte(activation, samples, likelihood, optimizer):
    vae = mv.VAE(
        784, 20, (200, 100), activation, likelihood, samples=samples, backend="numpy", kernels="fused", dtype="float32"
    )
    X = (np.random.default_rng(0).random((128, 784)) < 0.3).astype(np.float32)
    rows, optimizer = np.arange(1000, 1128), OPTIMIZERS[optimizer]()
    _run(vae, optimizer, X, rows, 20)
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        _run(vae, optimizer, X, rows, 100)
        _, peak = tracemalloc.get_traced_memory()
        left = [trace.size for trace in tracemalloc.take_snapshot().traces]
    finally:
        tracemalloc.stop()
    assert peak - start < 16 * 1024
    assert max(left) <= 1024


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_no_block_of_an_importance_weighted_step_exceeds_a_kilobyte(likelihood):
    vae = mv.VAE(784, 20, (200,), "relu", likelihood, "iwae", samples=4, antithetic=True, backend="numpy")
    X, optimizer = (np.random.default_rng(0).random((128, 784)) < 0.3).astype(np.float32), mv.Adam()
    rows = np.arange(128)
    _run(vae, optimizer, X, rows, 12)
    assert 0 < largest_allocation(lambda: _run(vae, optimizer, X, rows, 11)) <= 1024


def largest_allocation(step):
    """The most that memory rises between two Python or C calls of `step`: no block it allocates is larger."""
    largest, last = 0, 0

    def watch(frame, event, argument):
        nonlocal largest, last
        _, peak = tracemalloc.get_traced_memory()
        largest = max(largest, peak - last)
        tracemalloc.reset_peak()
        last, _ = tracemalloc.get_traced_memory()

    tracemalloc.start()
    last, _ = tracemalloc.get_traced_memory()
    sys.setprofile(watch)
    try:
        step()  # once in vain: what is watched has frame objects, which Python then keeps
        largest = 0
        step()
    finally:
        sys.setprofile(None)
        tracemalloc.stop()
    return largest


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_no_block_of_a_step_exceeds_a_kilobyte_however_short_its_life(likelihood):
    vae = mv.VAE(784, 20, (200,), likelihood=likelihood, backend="numpy")
    X, optimizer = (np.random.default_rng(0).random((128, 784)) < 0.3).astype(np.float32), mv.Adam()
    rows = np.arange(128)
    _run(vae, optimizer, X, rows, 20)
    assert 0 < largest_allocation(lambda: _run(vae, optimizer, X, rows, 20)) <= 1024


def test_the_watch_sees_a_block_that_lives_for_one_call():
    assert largest_allocation(lambda: np.empty(5000, np.uint8).sum()) >= 5000


def test_the_test_sees_an_allocation():
    """The reference kernels allocate: the same measurement must say so."""
    vae = mv.VAE(784, 20, (200,), backend="numpy", kernels="reference")
    X, optimizer = (np.random.default_rng(0).random((128, 784)) < 0.3).astype(np.float32), mv.Adam()
    _run(vae, optimizer, X, np.arange(128), 5)
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        _run(vae, optimizer, X, np.arange(128), 5)
        assert tracemalloc.get_traced_memory()[1] - start > 16 * 1024
    finally:
        tracemalloc.stop()


def test_workspace_grows_to_the_largest_batch_and_is_sliced_for_smaller_ones():
    vae = mv.VAE(50, 3, (20,), backend="numpy")
    sizes = []
    for B in (10, 40, 5, 40):
        vae.train_step(np.zeros((B, 50), np.float32), mv.SGD(1e-3))
        sizes.append(sum(flat.nbytes for flat in vae.workspace.flat.values()))
    assert sizes[0] < sizes[1] == sizes[2] == sizes[3]


def test_importance_sampling_holds_little_however_many_samples_and_rows():
    """5,000 samples of the 784 outputs of 100 rows are 1.6 GB: the estimate goes through them in tiles."""
    example = runpy.run_path(str(Path(__file__).resolve().parent.parent / "examples/importance_memory.py"))
    vae = mv.VAE(784, 20, (50,), backend="numpy")
    X = (np.random.default_rng(0).random((100, 784)) < 0.2).astype(np.float32)
    assert 4 < example["peak_megabytes"](vae, X, 5000) < 64  # TILE_ROWS · 784 outputs are 6


def test_training_without_validation_keeps_no_second_copy_of_the_parameters():
    X, vae = np.eye(4, 4000, dtype=np.float32), mv.VAE(4000, 2, (64,))
    vae.train_step(X, mv.SGD())  # which allocates the scratch of a step
    tracemalloc.start()
    try:
        vae.fit(X, epochs=1, optimizer=mv.SGD())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < vae.buffer.state.nbytes / 2
