"""pytorch: the VAE in PyTorch, written as a PyTorch user writes fast code. Bernoulli, ReLU, float32.

The classes are contenders of the races in `steps.py`, `epochs.py`, `losses.py` and `evaluations.py`. A case with
"device": "cuda" runs on the GPU, "tf32" says whether products may use TF32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from ...errors import UsageError
from .. import evaluations, losses, steps
from ..work import Arrays, Work, require


def torch_for(case: dict[str, Any], flush: bool) -> Any:
    """Import PyTorch with the threads of the case. `flush`: flush subnormals to zero.

    The flag is set before the threads start, because a thread inherits it at its start.
    """
    torch = require("torch")
    torch.set_flush_denormal(flush)
    torch.set_num_threads(case["threads"])
    if case.get("device") == "cuda":
        if not torch.cuda.is_available():
            raise UsageError("torch sees no GPU")
        torch.set_float32_matmul_precision("high" if case["tf32"] else "highest")
    return torch


def compiled(torch: Any, function: Callable[..., Any], *example: Any, mode: str | None = None) -> Callable[..., Any]:
    """Compile a function for the example with torch.compile. Raises UsageError if it cannot be compiled."""
    fast = torch.compile(function, dynamic=False, mode=mode)
    try:
        fast(*example)
    except Exception as error:
        last = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"torch.compile does not work here ({last[0][:100]}): it needs a C++ compiler") from None
    return fast


class VAE:
    """The model. `weights` are leaves that require gradients."""

    def __init__(self, torch: Any, parameters: Arrays, device: str = "cpu"):
        self.torch, self.F = torch, torch.nn.functional
        self.weights = {name: torch.tensor(W, requires_grad=True, device=device) for name, W in parameters.items()}
        self.layers = sum(name.startswith("encoder") for name in parameters) // 2

    def mlp(self, name: str, Y: Any) -> Any:
        for i in range(self.layers):
            Y = self.torch.addmm(self.weights[f"{name}.{i}.b"], Y, self.weights[f"{name}.{i}.W"])
            if i < self.layers - 1:
                Y = self.torch.relu(Y)
        return Y

    def loss(self, X: Any, eps: Any) -> Any:
        """Return −ELBO, mean over rows."""
        torch = self.torch
        mean, logvar = self.mlp("encoder", X).chunk(2, dim=1)
        logits = self.mlp("decoder", mean + torch.exp(0.5 * logvar) * eps)
        nll = self.F.binary_cross_entropy_with_logits(logits, X, reduction="sum")
        kl = 0.5 * (mean * mean + logvar.exp() - logvar - 1).sum()
        return (nll + kl) / X.shape[0]

    def gradients(self) -> Arrays:
        return {name: weight.grad.cpu().numpy() for name, weight in self.weights.items()}


class Step(steps.Step):
    """Eager: autograd, torch.optim.Adam(fused=True), subnormals flushed to zero."""

    flush = True

    def build(self) -> None:
        self.torch = torch_for(self.case, self.flush)
        self.device = self.case.get("device", "cpu")
        self.vae = VAE(self.torch, self.parameters, self.device)
        self.loss = self.vae.loss
        self.batches = self.torch.tensor(self.batches, dtype=self.torch.float32, device=self.device)
        self.eps: Any = self.torch.tensor(self.eps, device=self.device)
        on_gpu = {"capturable": True} if self.device == "cuda" else {}
        self.adam = self.torch.optim.Adam(self.vae.weights.values(), lr=steps.LR, fused=True, **on_gpu)

    def facts(self) -> dict[str, Any]:
        return {"torch": self.torch.__version__}

    def results(self) -> dict[str, Any]:
        self.adam.zero_grad()
        loss = self.vae.loss(self.batches[0][: len(self.eps)], self.eps)
        loss.backward()
        return {"loss": loss.item(), **self.vae.gradients()}

    def run(self) -> None:
        self.adam.zero_grad()
        X = self.next()
        self.loss(X, self.torch.randn(X.shape[0], self.L, device=self.device)).backward()
        self.adam.step()

    def finish(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()


class StepDefault(Step):
    """Eager, with PyTorch's default: subnormals are not flushed."""

    flush = False


class StepCompile(Step):
    """torch.compile: the loss and its backward as compiled graphs; on a GPU with mode="reduce-overhead"."""

    def build(self) -> None:
        super().build()
        X = self.batches[0]
        eps = self.torch.randn(X.shape[0], self.L, device=self.device)
        mode = "reduce-overhead" if self.device == "cuda" else None
        self.loss = compiled(self.torch, self.vae.loss, X, eps, mode=mode)

    def results(self) -> dict[str, Any]:
        if len(self.eps) < self.batch:  # the compiled form takes full batches; the race checks the same function
            return super().results()
        self.adam.zero_grad()
        loss = self.loss(self.batches[0], self.eps)
        loss.backward()
        return {"loss": loss.item(), **self.vae.gradients()}


class Epoch(Work):
    """randperm, index, bernoulli, step."""

    step: type[Step] = Step

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.one, self.batch = self.step(case, arrays), case["batch"]
        self.grey = self.one.torch.from_numpy(arrays["grey"])

    def facts(self) -> dict[str, Any]:
        return self.one.facts()

    def results(self) -> dict[str, Any]:
        first = {name: np.array(value) for name, value in self.one.results().items()}
        self.run()
        return first | {"epoch": self.total.item() / len(self.grey)}

    def before_turn(self) -> None:
        """Do nothing: an epoch is long enough without a warm-up."""

    def run(self) -> None:
        torch, one = self.one.torch, self.one
        order, self.total = torch.randperm(len(self.grey)), torch.zeros((), dtype=torch.float64)
        for start in range(0, len(order), self.batch):
            X = torch.bernoulli(self.grey[order[start : start + self.batch]])
            one.adam.zero_grad()
            loss = one.loss(X, torch.randn(X.shape[0], one.L))
            loss.backward()
            one.adam.step()
            self.total += loss.detach() * X.shape[0]


class EpochDefault(Epoch):
    step = StepDefault


class Loss(losses.Loss):
    """Eager: the loss of torch.nn.functional if there is one, and autograd."""

    def build(self) -> None:
        self.torch = torch_for(self.case, flush=True)
        self.out, self.X = self.torch.tensor(self.out, requires_grad=True), self.torch.tensor(self.X)
        self.loss = self.choose()

    def choose(self) -> Any:
        return {"bernoulli": self._bernoulli, "gaussian": self._gaussian}[self.likelihood]

    def _bernoulli(self, out: Any, X: Any) -> Any:
        nll = self.torch.nn.functional.binary_cross_entropy_with_logits(out, X, reduction="sum")
        return nll / X.shape[0]

    def _gaussian(self, out: Any, X: Any) -> Any:
        mean, logvar = out.chunk(2, dim=1)
        logvar = logvar.clamp(losses.LOGVAR_MIN, losses.LOGVAR_MAX)
        nll = 0.5 * ((X - mean) ** 2 * self.torch.exp(-logvar) + logvar).sum()
        return nll / X.shape[0] + 0.5 * math.log(2 * math.pi) * X.shape[1]

    def results(self) -> dict[str, Any]:
        self.run()
        return {"loss": self.value.item(), "gradient": self.out.grad.numpy()}

    def run(self) -> None:
        self.out.grad = None
        self.value = self.loss(self.out, self.X)
        self.value.backward()


class LossCompile(Loss):
    """The same function through torch.compile."""

    def choose(self) -> Any:
        return compiled(self.torch, super().choose(), self.out, self.X)


class Evaluation(evaluations.Evaluation):
    """Eager, in tiles of decoder rows, with the fastest of the sizes TILES."""

    TILES = (500, 2000, 8000)
    tile: int | None = None

    def build(self) -> None:
        torch = self.torch = torch_for(self.case, flush=True)
        self.vae = VAE(torch, self.parameters)
        self.X, self.given = torch.tensor(self.X), torch.tensor(self.given)

    def facts(self) -> dict[str, Any]:
        return {"torch": self.torch.__version__}

    def log_likelihood(self, samples: int, eps: Any = None) -> tuple[np.ndarray, np.ndarray]:
        torch, N = self.torch, len(self.X)
        tile = max(1, (self.tile or self.TILES[0]) // N)
        with torch.inference_mode():
            mean, logvar = self.vae.mlp("encoder", self.X).chunk(2, dim=1)
            sigma, half_logvar = torch.exp(0.5 * logvar), 0.5 * logvar.sum(-1)
            parts = []
            for start in range(0, samples, tile):
                k = min(tile, samples - start)
                noise = torch.randn(k, N, mean.shape[1]) if eps is None else eps[start : start + k]
                parts.append(self.log_weights(noise, mean, sigma) + half_logvar)
            log_w = torch.cat(parts).double()
            log_px = torch.logsumexp(log_w, 0) - math.log(samples)
            w = torch.exp(log_w - log_px)  # its mean is 1
            return log_px.numpy(), (w.std(0) / math.sqrt(samples)).numpy()

    def run(self) -> None:
        if self.tile is None:  # chosen in the warm-up, while no other contender runs
            self.tile = min(self.TILES, key=self.seconds)
        super().run()

    def seconds(self, tile: int) -> float:
        """Return the time of a short evaluation with such tiles, at its second run."""
        self.tile = tile
        for _ in range(2):
            start = perf_counter()
            self.log_likelihood(evaluations.TRIED)
        return perf_counter() - start

    def log_weights(self, noise: Any, mean: Any, sigma: Any) -> Any:
        """Return ln p(x|z) + ln p(z) − ln q(z|x) − ½ Σ ln σ² for one tile, (k, N)."""
        Z = mean + sigma * noise
        logits = self.vae.mlp("decoder", Z.flatten(0, 1)).unflatten(0, Z.shape[:2])
        X = self.X.expand_as(logits)
        nll = self.torch.nn.functional.binary_cross_entropy_with_logits(logits, X, reduction="none").sum(-1)
        return 0.5 * (noise * noise - Z * Z).sum(-1) - nll
