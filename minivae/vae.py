"""vae: the class for users. A Model that is trained, used, saved, loaded, scored and traced.

The mathematics is `model.py`'s; here stands what takes rows of any number, block by block, and what reaches into the
rooms `training/`, `evaluation/`, `export/` and `trace/`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import checks
from .backend import Array, Backend
from .console import html_facts
from .evaluation import bounds, imputation, latents, passes
from .export import onnx as onnx_file
from .export import torch as pytorch
from .model import Model, locked
from .optim import Optimizer
from .trace import recorder
from .training import checkpoint
from .training.history import History
from .training.loop import Training
from .training.options import SAVE_SECONDS, Options
from .training.schedules import Beta, Schedule

if TYPE_CHECKING:
    from .datasets.scale import Scale
    from .distributed.world import World
    from .trace.result import Trace


class VAE(Model):
    """A variational auto-encoder: MLP encoder and decoder, Gaussian posterior, prior N(0, I).

    features     D, the width of a row of X
    latent_dim   L
    hidden       widths of the encoder's hidden layers; the decoder has them in reverse. () is a linear model
    activation   identity, relu, tanh, sigmoid, softplus or silu
    likelihood   "bernoulli", "gaussian:0.5", "poisson" … (`likelihoods/`); "auto": chosen by the first `fit`
    objective    "elbo" (eq. 13), or "iwae", the importance-weighted bound with K = samples
    samples      S, samples of z for each row in training (eq. 23)
    antithetic   draw the noise in pairs: ε of sample s + S/2 is −ε of sample s; S is even
    backend      "numpy", "cupy", "auto", or a Backend; kernels and dtype as in `Backend`
    seed         of every random number the model draws
    init         "glorot", "he" or "normal:s"
    inputs       what the encoder sees of X in the model's units: "same", "log1p" (of counts), "one-hot:K" or
                 "centred:K" (of classes; `inputs.py`); "auto": what suits the likelihood, which is X itself
    missing      True: NaN in X is a missing cell. The encoder sees 0 there, and which cells are missing; −ln p(x|z) is
                 that of the observed cells alone. With "iwae" this is MIWAE (Mattei & Frellsen 2019)
    condition    labels or covariates of the training rows, (N,) or (N, columns): what the model may be conditioned on.
                 Text and integers are labels, floating-point numbers covariates; None: nothing

    `parameters` and `gradients` map names to views of the flat buffers: "encoder.0.W" (D, H), "encoder.0.b" …
    """

    def fit(
        self,
        X: Any,
        epochs: int = 10,
        batch_size: int = 128,
        optimizer: Optimizer | None = None,
        validation: Any = None,
        beta: float | Beta = 1.0,
        binarize: str = "none",
        patience: int | None = None,
        clip: float | None = None,
        run: str | os.PathLike | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
        *,
        schedule: str | Schedule = "constant",
        free_bits: float = 0.0,
        scale: Scale | str | None = None,
        progress: Any = None,
        rows: Any = None,
        validation_rows: Any = None,
        resume: bool = False,
        save_seconds: float = SAVE_SECONDS,
        weights: Any = None,
        ranks: World | None = None,
        order: str = "rows",
        condition: Any = None,
        exposure: Any = None,
    ) -> History:
        """Train on X (N, D), and return the history of its epochs.

        X            any real dtype, on the host, on the device, or memory-mapped: it is converted batch by batch; or a
                     `mv.Dataset`: its X and rows, and whether they are pictures, which "auto" looks at
        optimizer    `mv.Adam(1e-3)` unless given
        validation   X_val: evaluated after each epoch; the model then keeps the parameters of the best bound (β = 1)
        beta         weight of the KL, or a `mv.Beta` that warms it up
        binarize     "none", "threshold", "static", "dynamic"; "auto": dynamic for grey pictures of a Bernoulli
                     likelihood, else none
        patience     stop after so many epochs without a better validation bound, counted after β's warm-up
        clip         largest global norm of the gradient
        run          a folder for history.csv and model.safetensors, written as training goes
        callback     called with each epoch's row of the history
        schedule     of the learning rate: "cosine", "warmup:2+cosine", … or a `mv.Schedule`
        free_bits    nats of KL that each latent dimension has for nothing
        scale        "none", "minmax", "standard" or "maxabs", fitted to X; "auto": standard for a table of real
                     numbers, else none; or a `mv.Scale`. None: the model's own
        progress     True: lines on standard error; None: where that is a terminal
        rows, validation_rows   (N,) the rows' numbers in the data set, which choose their noise
        resume       True: take up `run` where it stopped
        save_seconds   the run's checkpoint is written at most this often
        weights      (N,) of the rows in the loss, ≥ 0: only their ratios count
        ranks        `mv.ranks()`: train by all processes that `mpiexec` has started, each with the same X and options.
                     Every batch is cut into shards, and the bits depend on their number alone (`distributed/`)
        order        "rows": the rows of an epoch in random order; "blocks": of a file that is larger than a machine's
                     memory, each shard shuffles its own contiguous block, and a rank reads no other rows
        condition, exposure   of the rows, as `given` takes them; validation: `vae.given(X_val, condition=…)`

        Calls of this model by other threads wait until `fit` has ended. To use it meanwhile, call it in `callback`, or
        make a copy before (`copy.deepcopy`).

        Raises UsageError for a mistake, `mv.Diverged` when a loss is NaN or infinite, and KeyboardInterrupt after
        Ctrl-C, with the run saved. With `run`, SIGTERM and SIGHUP save it too and raise SystemExit (143, 129).
        """
        options = Options(
            epochs, batch_size, optimizer, validation, beta, binarize, patience, clip, run, callback, schedule,
            free_bits, scale, progress, rows, validation_rows, resume, save_seconds, weights, ranks, order,
        )  # fmt: skip
        with self.lock:
            return Training(self, self.given(X, condition, exposure), options).run()

    def __repr__(self) -> str:
        widths, config = "-".join(map(str, (self.features, *self.hidden, self.latent_dim))), self.config()
        names = f"{self.activation}, {config['likelihood']}, {config['objective']}"
        count = "chosen by fit" if self.undecided else f"{self.buffer.count:,} parameters"
        return f"VAE({widths}, {names}; {count}; {self.backend})"

    def _repr_html_(self) -> str:
        facts = {name: value for name, value in self.config().items() if name != "features"}
        count = None if self.undecided else f"{self.buffer.count:,}"
        facts |= {"parameters": count, "scale": self.scale, "backend": self.backend}
        return html_facts(f"VAE of {self.features:,} features", facts)

    @locked
    def save(self, path: str | os.PathLike) -> None:
        """Write one safetensors file, whole or not at all."""
        checkpoint.save_model(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        backend: str | Backend = "auto",
        kernels: str | None = None,
        dtype: Any = None,
        which: str = "best",
    ) -> VAE:
        """The model that `save` or a run wrote: its file, or the run's folder.

        which   "best": the parameters that validation chose, where a run had validation, else the last; "last"
        dtype   None: the one it was saved with
        """
        return checkpoint.load_model(cls, path, backend, kernels, dtype, which)

    @locked
    def __reduce__(self) -> tuple[Any, ...]:
        """For `pickle`, `copy` and joblib: config, parameters, scale and the backend's name; no gradients."""
        return checkpoint.pickled(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """What `pickled` tells of a model whose likelihood `fit` has still to choose; 0.1.0 said `_columns`."""
        vars(self).update({name.lstrip("_"): value for name, value in state.items()})

    @locked
    def encode(self, X: Any, device: bool = False, condition: Any = None) -> tuple[Array, Array]:
        """X (N, D) → mean and logvar of q(z|x), (N, L) each (eq. 15); on the host unless device=True."""
        return latents.encode(self, self.given(X, condition), device=device)

    @locked
    def decode(
        self,
        Z: Any,
        draw: bool = False,
        device: bool = False,
        seed: int | None = None,
        condition: Any = None,
        exposure: Any = None,
    ) -> Array:
        """Z (N, L) → E[x|z] (N, D); draw=True: x ~ p(x|z), with the noise of `seed` (the model's, unless given).

        condition, exposure   as in `given`
        In the data's units: with a scale, float64.
        """
        Z = self.given(checks.array("Z", Z, self.latent_dim), condition, exposure)
        return passes.decode(self, Z, draw, device, seed)

    @locked
    def reconstruct(self, X: Any, device: bool = False, condition: Any = None, exposure: Any = None) -> Array:
        """X (N, D) → E[x|z] at the mean of q(z|x), (N, D), in the data's units; of a table, a table."""
        return passes.reconstruct(self, X, device, condition, exposure)

    @locked
    def sample(
        self,
        n: int,
        seed: int | None = None,
        draw: bool = False,
        device: bool = False,
        condition: Any = None,
        exposure: Any = None,
    ) -> Array:
        """n rows from the model: z ~ N(0, I), then E[x|z] (n, D), or x ~ p(x|z) with draw=True, in the data's units.

        condition, exposure   of the rows, or one for all: `vae.sample(8, condition=7)` gives sevens
        The same n rows each time, for one seed: the model's, unless given.
        """
        return self.decode(passes.prior(self, n, seed), draw, device, seed, condition, exposure)

    @locked
    def log_likelihood(
        self,
        X: Any,
        samples: int = 1000,
        rows: Any = None,
        eps: Any = None,
        ranks: World | None = None,
        condition: Any = None,
        exposure: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """ln p(x) of each row of X by importance sampling: (log_px (N,), standard error (N,)), nats (`evaluation/`)."""
        return bounds.log_likelihood(self, self.given(X, condition, exposure), samples, rows=rows, eps=eps, ranks=ranks)

    @locked
    def impute(
        self,
        X: Any,
        draws: int | None = None,
        samples: int = 1000,
        rows: Any = None,
        condition: Any = None,
        exposure: Any = None,
    ) -> Any:
        """X (N, D) with NaN filled by the conditional mean, or the likeliest class; draws=m: (m, N, D) proper draws.

        By importance sampling with K = samples (`evaluation/imputation.py`); float64, in the data's units. A table
        of the model's `schema` comes back as one, filled; m draws of it are a list of m.
        """
        return imputation.impute(self, X, draws, samples, rows, condition, exposure)

    @locked
    def trace(
        self,
        X: Any,
        eps: Any = None,
        beta: float = 1.0,
        free_bits: float = 0.0,
        condition: Any = None,
        exposure: Any = None,
    ) -> Trace:
        """What `objective_and_grad` does, step by step: arrays, times, norms, and what is not finite (`trace/`).

        print(vae.trace(X)) is a table; .steps and ["encoder.0.Y"] are its parts. The model is left as it is.
        """
        return recorder.trace(self, self.given(X, condition, exposure), eps, beta, free_bits)

    @locked
    def to_onnx(self, path: str | os.PathLike, part: str = "both", opset: int = onnx_file.OPSET) -> None:
        """Write ONNX (`export/graph.py`): part "encoder" or "decoder" as the file `path`, "both" into that folder."""
        onnx_file.write(self, path, part, opset)

    @locked
    def to_torch(self) -> Any:
        """A `torch.nn.Module` with a copy of the parameters: encode, decode, elbo (`export/torch_module.py`)."""
        return pytorch.module(self)
