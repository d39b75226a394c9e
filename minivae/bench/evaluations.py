"""evaluations: ln q(x) by importance sampling with K samples a row, and its standard error.

case: {"widths": [D, hidden …, L], "rows": N, "samples": K, "threads": …}. `floor` is the decoder's matrix products.

The check compares every row's estimate on the same noise (few samples) with float64's, and the mean over rows of the
estimate that is timed, on noise of the contender's own, with float64's within the standard errors of both.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np

from . import floors, peers, problems, work
from .work import Arrays, Work

GIVEN = 20  # samples a row on the same noise
JUDGED = 200  # samples a row behind float64's mean
TRIED = 200  # samples a row when PyTorch's tiles are chosen
ERRORS = 5.0  # standard errors that two means may lie apart
BENIGN = 0.1  # of Glorot's scale: a posterior so near the prior that K samples are enough for a standard error


def prepare(case: dict[str, Any]) -> Arrays:
    """A model whose heads are small, the rows, and noise `given` (GIVEN, N, L)."""
    widths, N = case["widths"], case["rows"]
    arrays = problems.model(widths, N, N)
    for name, value in problems.parameters(arrays).items():
        if name.endswith(f".{len(widths) - 2}.W"):
            arrays[f"parameter.{name}"] = BENIGN * value
    arrays["given"] = np.random.default_rng(4).standard_normal((GIVEN, N, widths[-1])).astype(np.float32)
    return arrays


def expected(case: dict[str, Any], arrays: Arrays) -> Arrays:
    """By the reference kernels in float64."""
    results = Float64({**case, "samples": JUDGED}, arrays).results()
    return {name: np.asarray(value) for name, value in results.items()}


def disagreement(case: dict[str, Any], expected: Arrays, got: Arrays) -> str | None:
    """The rows as `work.disagreement` has it, the means within their standard errors."""
    why = work.disagreement(case, {"log_px": expected["log_px"]}, got)
    if why or "mean" not in got or "error" not in got:
        return why or "its mean and standard error are missing"
    apart = abs(got["mean"] - expected["mean"])
    allowed = ERRORS * math.hypot(got["error"], expected["error"])
    return None if apart <= allowed else f"the mean of ln q(x) is {apart:.2g} off, and {allowed:.2g} would be chance"


def make(case: dict[str, Any], arrays: Arrays) -> Work:
    return CONTENDERS[case["name"]](case, arrays)


class Evaluation(Work):
    """One contender: `run` estimates ln q(x) of every row."""

    def __init__(self, case: dict[str, Any], arrays: Arrays):
        self.widths, self.samples, self.threads = case["widths"], case["samples"], case["threads"]
        self.parameters, self.given = problems.parameters(arrays), arrays["given"]
        self.X: Any = arrays["rows"].astype(np.float32)
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def log_likelihood(self, samples: int, eps: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """(ln q(x), standard error), (N,) each."""
        raise NotImplementedError

    def results(self) -> dict[str, Any]:
        log_px, error = self.log_likelihood(self.samples)
        alone, _ = self.log_likelihood(len(self.given), self.given)
        return {"log_px": alone, "mean": log_px.mean(), "error": math.sqrt((error**2).sum()) / len(error)}

    def wake(self) -> None:
        self.log_likelihood(len(self.given), self.given)

    def run(self) -> None:
        self.log_likelihood(self.samples)


class Ours(Evaluation):
    """`vae.log_likelihood`."""

    gemm, kernels, dtype = "numpy", "fused", "float32"

    def build(self) -> None:
        import minivae as mv

        D, *hidden, L = self.widths
        backend = problems.backend(self.gemm, kernels=self.kernels, dtype=self.dtype)
        self.vae = mv.VAE(D, L, tuple(hidden), backend=backend)
        for name, value in self.parameters.items():
            self.vae.parameters[name][...] = value

    def facts(self) -> dict[str, Any]:
        return {"backend": str(self.vae.backend)}

    def log_likelihood(self, samples: int, eps: Any = None) -> tuple[np.ndarray, np.ndarray]:
        return self.vae.log_likelihood(self.X, samples, eps=eps)


class OursMkl(Ours):
    gemm = "mkl"


class Float64(Ours):
    """The judge."""

    kernels, dtype = "reference", "float64"


class Torch(Evaluation):
    """PyTorch, eager, in tiles of decoder rows: of the sizes TILES the one that is fastest here."""

    TILES = (500, 2000, 8000)
    tile: int | None = None

    def build(self) -> None:
        torch = self.torch = peers.torch_on(self.threads, flush=True)
        self.vae = peers.TorchVAE(torch, self.parameters)
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
        if self.tile is None:  # in the warm-up, when nobody else works
            self.tile = min(self.TILES, key=self.seconds)
        super().run()

    def seconds(self, tile: int) -> float:
        """How long a short evaluation takes with such tiles, the second time."""
        self.tile = tile
        for _ in range(2):
            start = perf_counter()
            self.log_likelihood(TRIED)
        return perf_counter() - start

    def log_weights(self, noise: Any, mean: Any, sigma: Any) -> Any:
        """ln q(x|z) + ln q(z) − ln p(z|x) − ½ Σ ln σ² for one tile, (k, N)."""
        Z = mean + sigma * noise
        logits = self.vae.mlp("decoder", Z.flatten(0, 1)).unflatten(0, Z.shape[:2])
        X = self.X.expand_as(logits)
        nll = self.torch.nn.functional.binary_cross_entropy_with_logits(logits, X, reduction="none").sum(-1)
        return 0.5 * (noise * noise - Z * Z).sum(-1) - nll


CONTENDERS: dict[str, type[Any]] = {
    "minivae": Ours,
    "minivae-mkl": OursMkl,
    "torch": Torch,
    "floor": floors.Evaluation,
    "floor-mkl": floors.EvaluationMkl,
}
