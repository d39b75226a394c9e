"""gpu: a training step on a GPU: minivae captured and uncaptured, PyTorch eager and compiled, jax.jit.

All use float32 and the same model: Bernoulli likelihood, ReLU, one sample of z, Adam, data on the device. minivae
gathers the rows of each batch, as `fit` does; the others use batches made beforehand. Steps are queued, and a turn ends
when the device has finished. The check uses the first CHECKED rows.

case: {"widths": [D, hidden …, L], "batch": B, "tf32": bool, "threads": …}; optionally "rows", for fewer of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import problems, steps, work
from .work import Arrays, Work

CHECKED = 1024  # rows whose gradients are compared with float64's
ROWS = 16384  # smallest number of data rows
TF32 = 2e-2  # tolerance relative to an array's largest element: TF32 has 10 bits, and a ReLU near 0 may change side
TOGETHER = 64  # steps that minivae queues between two readings of the clock


def prepare(case: dict[str, Any]) -> Arrays:
    n = case.get("rows") or max(2 * case["batch"], ROWS)
    return problems.model(case["widths"], min(case["batch"], CHECKED), n, real=False)


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """Compute loss and gradients of the checked rows with the reference kernels in float64, on the CPU."""
    return steps.expected({**case, "batch": len(arrays["eps"])}, arrays)


def disagreement(case: dict[str, Any], expected: Arrays, got: Arrays) -> str | None:
    """`work.disagreement`, with the tolerance TF32 if the case uses it."""
    return work.disagreement(case, expected, got, TF32 if case["tf32"] else work.TOLERANCE)


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return work.contender(CONTENDERS, case["name"])({**case, "device": "cuda"}, arrays)


class Captured(steps.Step):
    """minivae's step as one CUDA graph (`training/cuda_graph.py`)."""

    capture = True

    def build(self) -> None:
        import minivae as mv

        from ..backend import Backend
        from ..errors import UsageError
        from ..training.batches import Batches
        from ..training.cuda_graph import Graphs

        self.backend = Backend("cupy", tf32=self.case["tf32"])
        if self.capture and not self.backend.capture:
            raise UsageError(self.backend.gemm.about)
        self.vae = mv.VAE(self.D, self.L, tuple(self.hidden), backend=self.backend)
        for name, value in self.parameters.items():
            self.vae.parameters[name][...] = self.backend.asarray(value)
        self.first = self.batches[0][: len(self.eps)].astype(np.float32)
        self.data = Batches(self.vae, self.batches.reshape(-1, self.D).astype(np.float32))
        self.order = self.backend.xp.arange(len(self.data))
        self.optimizer = mv.Adam(steps.LR)
        self.each = min(TOGETHER, len(self.batches))
        self.plan = [(steps.LR, 1.0)] * self.each
        recent = self.backend.zeros((self.each, 3), np.float64)
        self.graphs = Graphs(self.vae, self.data, self.optimizer, recent, 0.0, None) if self.capture else None

    def facts(self) -> dict[str, Any]:
        return {"backend": str(self.backend), "products": self.backend.gemm.about}

    def results(self) -> dict[str, Any]:
        terms = self.vae.objective_and_grad(self.first, eps=self.eps)
        gradients = {name: self.backend.to_host(value) for name, value in self.vae.gradients.items()}
        return {"loss": terms.loss, **gradients}

    def run(self) -> None:
        assert self.graphs is not None
        self.graphs.run(self.order, self.plan, 1, 0, self.batch)

    def finish(self) -> None:
        self.backend.xp.cuda.runtime.deviceSynchronize()


class Uncaptured(Captured):
    """minivae's step, kernel by kernel."""

    capture = False

    def run(self) -> None:
        for k in range(self.each):
            batch = self.data.take(self.order[k * self.batch : (k + 1) * self.batch], "binarise", 1)
            self.vae.train_step(batch, self.optimizer, rows=batch.rows, pass_=1)


CONTENDERS: dict[str, str | type[Work]] = {
    "minivae": Captured,
    "minivae-uncaptured": Uncaptured,
    "torch": "pytorch:Step",
    "torch.compile": "pytorch:StepCompile",
    "jax": "jax:Step",
}
