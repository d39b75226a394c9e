"""The training step on a GPU: ours, uncaptured and captured, torch eager, torch.compile(reduce-overhead), jax.jit.

    python bench/bench_gpu_step.py [--seconds 420] [--smoke]           → bench/results/gpu-step.json

Everybody does the same: rows gathered from data on the device, ε, forward, backward, Adam, the loss kept on the device;
float32, ReLU, Bernoulli, one sample of z. Contenders take turns, block by block; a block is timed by two device events
with the device idle before the first and done before the second. TF32 off for all, then on for all. --smoke: tiny, the
peers on the CPU, to see that it runs.
"""

import argparse
import os
import statistics
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from gpu_results import Deadline, Results

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
MODELS = {"784-500-20": (784, (500,), 20), "784-200-200-50": (784, (200, 200), 50), "4096-2048-64": (4096, (2048,), 64)}
BATCHES = (128, 1024, 8192, 65536)
ROUNDS, LR = 9, 1e-4


class Ours:
    """minivae's step, as `fit` repeats it."""

    def __init__(self, data, model, batch, tf32, capture, smoke):
        import minivae as mv
        from minivae.backend import Backend
        from minivae.training.loop import Training
        from minivae.training.options import Options

        D, hidden, L = model
        backend = Backend("cupy", tf32=tf32)
        if capture and not backend.capture:
            raise ImportError(backend.gemm.about)
        backend.capture = capture
        vae = mv.VAE(D, L, hidden, backend=backend)
        self.batch, self.backend = batch, backend
        self.training = Training(vae, data, Options(batch_size=batch, optimizer=mv.Adam(LR)))
        self.order = backend.xp.arange(len(data))

    def steps(self, count):
        """`count` steps, from the data's first batch on, around and around."""
        each = self.order.shape[0] // self.batch
        while count > 0:
            plan = [(LR, 1.0)] * min(count, each, self.training.look_every)
            self.training.at.step = 0
            self.training._steps(self.order, plan, 1)
            count -= len(plan)

    def wait(self):
        self.backend.xp.cuda.runtime.deviceSynchronize()

    def loss(self):
        return float(self.backend.to_host(self.training.recent)[0, 0]) / self.batch


class Torch:
    def __init__(self, data, model, batch, tf32, compiled, smoke):
        import torch

        self.torch, self.batch, self.device = torch, batch, "cpu" if smoke else "cuda"
        torch.backends.cuda.matmul.allow_tf32 = tf32
        D, hidden, L = model
        nn = torch.nn

        def mlp(widths):
            layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
            return nn.Sequential(*layers[:-1])

        net = nn.ModuleList([mlp([D, *hidden, 2 * L]), mlp([L, *reversed(hidden), D])]).to(self.device)
        self.data = torch.from_numpy(data).to(self.device)
        self.order = torch.arange(len(data), device=self.device)
        fused = {} if smoke else {"fused": True, "capturable": True}
        optimizer = torch.optim.Adam(net.parameters(), lr=LR, **fused)
        likelihood = nn.functional.binary_cross_entropy_with_logits

        def objective(X, eps):
            mean, logvar = net[0](X).chunk(2, dim=1)
            kl = 0.5 * (mean * mean + logvar.exp() - logvar - 1).sum()
            logits = net[1](mean + (0.5 * logvar).exp() * eps)
            return (likelihood(logits, X, reduction="sum") + kl) / X.shape[0]

        objective = torch.compile(objective, mode="reduce-overhead") if compiled else objective

        def step(rows):
            X = self.data[rows]
            loss = objective(X, torch.randn(len(rows), L, device=self.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            return loss.detach()

        self.step = step

    def steps(self, count):
        each = len(self.order) // self.batch
        for k in range(count):
            first = k % each * self.batch
            self.last = self.step(self.order[first : first + self.batch])

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def loss(self):
        return float(self.last)


class Jax:
    def __init__(self, data, model, batch, tf32, _, smoke):
        import jax
        import jax.numpy as jnp

        D, hidden, L = model
        self.jax, self.batch = jax, batch
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if tf32 else "float32")
        rng = np.random.default_rng(0)

        def mlp(widths):
            return [(jnp.asarray(rng.normal(0, (2 / (a + b)) ** 0.5, (a, b)), F), jnp.zeros(b, F))
                    for a, b in pairwise(widths)]  # fmt: skip

        def run(layers, x):
            for W, b in layers[:-1]:
                x = jax.nn.relu(x @ W + b)
            return x @ layers[-1][0] + layers[-1][1]

        def objective(parameters, X, eps):
            mean, logvar = jnp.split(run(parameters[0], X), 2, axis=1)
            kl = 0.5 * (mean * mean + jnp.exp(logvar) - logvar - 1).sum()
            logits = run(parameters[1], mean + jnp.exp(0.5 * logvar) * eps)
            nll = (jnp.maximum(logits, 0) - logits * X + jnp.log1p(jnp.exp(-jnp.abs(logits)))).sum()
            return (nll + kl) / X.shape[0]

        def step(state, data, first):
            parameters, m, v, t, key = state
            key, mine = jax.random.split(key)
            X = jax.lax.dynamic_slice_in_dim(data, first, batch)
            loss, g = jax.value_and_grad(objective)(parameters, X, jax.random.normal(mine, (batch, L)))
            t = t + 1
            m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            c1, c2 = 1 - 0.9**t, 1 - 0.999**t
            parameters = jax.tree.map(lambda p, m, v: p - LR * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), parameters, m, v)
            return (parameters, m, v, t, key), loss

        parameters = [mlp([D, *hidden, 2 * L]), mlp([L, *reversed(hidden), D])]
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        # a copy: donated buffers may not be shared
        self.state = (parameters, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), F), jax.random.key(0))
        self.data, self.step = jnp.asarray(data), jax.jit(step, donate_argnums=0)

    def steps(self, count):
        each = len(self.data) // self.batch
        for k in range(count):
            self.state, self.last = self.step(self.state, self.data, k % each * self.batch)

    def wait(self):
        self.jax.block_until_ready((self.state, self.last))

    def loss(self):
        return float(self.last)


F = np.float32
CONTENDERS = {
    "ours, captured": (Ours, True),
    "ours, uncaptured": (Ours, False),
    "torch eager": (Torch, False),
    "torch.compile": (Torch, True),
    "jax.jit": (Jax, None),
}


def race(cupy, data, model, batch, tf32, steps, rounds, smoke):
    """Microseconds of a step for each contender, by blocks in turn; or why it did not run."""
    runners, found = {}, {}
    for name, (build, how) in CONTENDERS.items():
        try:
            runner = build(data, model, batch, tf32, how, smoke)
            runner.steps(3)
            runner.wait()
            assert np.isfinite(runner.loss()), f"{name}: the loss is not finite"
            runners[name], found[name] = runner, []
        except (ImportError, RuntimeError, MemoryError) as error:
            found[name] = f"did not run: {type(error).__name__}: {error}"[:500]
    for _ in range(rounds):
        for name, runner in runners.items():
            runner.wait()
            start, stop = cupy.cuda.Event(), cupy.cuda.Event()
            start.record()
            runner.steps(steps)
            runner.wait()
            stop.record()
            stop.synchronize()
            found[name].append(1e3 * cupy.cuda.get_elapsed_time(start, stop) / steps)
    return {
        name: times if isinstance(times, str) else {"median_us": statistics.median(times), "rounds_us": times}
        for name, times in found.items()
    }


def _told(result):
    return result if isinstance(result, str) else f"{result['median_us']:.1f} µs"


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=420)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args(arguments)
    from minivae.backend import Backend

    Backend("cupy")
    cupy, deadline = import_module("cupy"), Deadline(options.seconds)
    results = Results("step-smoke" if options.smoke else "step", __file__)
    models = {"16-8-3": (16, (8,), 3)} if options.smoke else MODELS
    for tf32 in (False, True):
        for model, shape in models.items():
            for batch in (8,) if options.smoke else BATCHES:
                cell = f"{model}, batch {batch}, TF32 {'on' if tf32 else 'off'}"
                if results.done(cell):
                    continue
                if deadline.passed():
                    print("out of time: run it again to go on")
                    return 3
                rows = 32 if options.smoke else max(2 * batch, 16384)
                data = (np.random.default_rng(0).random((rows, shape[0]), dtype=F) < 0.2).astype(F)
                steps = 2 if options.smoke else max(5, min(200, 2**20 // batch))
                found = race(cupy, data, shape, batch, tf32, steps, 2 if options.smoke else ROUNDS, options.smoke)
                results.add(cell, contenders=found, steps_a_round=steps)
                print(cell, *(f"{k} {_told(v)}" for k, v in found.items()), sep="\n  ", flush=True)
                cupy.get_default_memory_pool().free_all_blocks()
    return 0


if __name__ == "__main__":
    sys.exit(main())
