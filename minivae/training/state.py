"""state: all that a training knows of itself. The model, its rows, the optimiser, and where it stands."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array
from ..conditions import explained
from ..datasets.choose import choose
from ..datasets.rows import FileRows, blocks
from ..datasets.scale import Scale
from ..evaluation.bounds import evaluate_batches
from ..inputs import whole
from ..model import Model
from ..optim import Optimizer
from .batches import Batches
from .guard import clamped, diagnose, first_bad, warn_of_constant_columns
from .history import History, Position
from .options import Options
from .progress import progress_of

if TYPE_CHECKING:
    from ..distributed.shards import Shards
    from .run_files import RunFiles

LOOK_EVERY = {"numpy": 1, "cupy": 100}  # steps between two looks at the losses: on a device each look is a wait


def observed_value(X: Any) -> Any:
    """X with one of its observed values in every missing cell: what likelihood and scale are chosen for."""
    if isinstance(X, FileRows):
        each = (block[block == block] for block in (X[rows] for rows in blocks(X)))
        return X.but(missing=next((values[0] for values in each if len(values)), None))
    seen = X == X
    return X if seen.all() or not seen.any() else np.where(seen, X, X[seen][0])


class State:
    """The state of one training of `vae` on X (N, D), or on a `Dataset`."""

    files: RunFiles | None = None
    shards: Shards | None = None  # of each batch, where several ranks train, or one does what they did

    def __init__(self, vae: Model, X: Any, options: Options):
        self.vae, self.options = vae, options
        self.optimizer: Optimizer = options.optimizer
        self.lr = self.optimizer.lr  # the schedule's factor is 1 there
        rows, picture = options.rows, getattr(X, "is_picture", False)
        if hasattr(X, "is_picture"):
            X, rows = X.X, X.rows if rows is None else rows
        scale, binarize = vae.scale if options.scale is None else options.scale, options.binarize
        if vae.undecided or isinstance(scale, str) or binarize == "auto":
            scale, binarize = self._choose(X, scale, binarize, picture)
        if options.free_bits or options.weights is not None:
            vae.loss_fn.check(1.0, options.free_bits, options.weights is not None)
        self.batches = Batches(vae, X, rows, scale, binarize, weights=options.weights, ranks=options.ranks)
        if len(self.batches.constant):
            warn_of_constant_columns(vae, self.batches.constant)
        self.validation = None if options.validation is None else self._held_out(scale, binarize)
        vae.scale, vae.binarize = self.batches.scale, self.batches.binarize
        self.jacobian = self.batches.jacobian
        self.steps_per_epoch = -(-len(self.batches) // options.batch_size)
        self.progress = progress_of(options)
        self.first_pass, self.at, self.history = vae.passes, Position(), History()
        self.look_every = LOOK_EVERY[vae.backend.name]
        self.recent = vae.backend.zeros((self.look_every, 3), np.float64)  # Σ loss, Σ nll, Σ kl of each step

    def _choose(self, X: Any, scale: Scale | str | None, binarize: str, picture: bool) -> tuple[Scale | None, str]:
        """Choose what is "auto", by the rows, and fit the scale to them → scale and binarize."""
        vae, ranks = self.vae, self.options.ranks
        host = explained(whole(vae, "X", X, ranks))
        sparse = hasattr(host, "tocsr")
        host = host if sparse or isinstance(host, FileRows) else vae.backend.to_host(host)
        seen = observed_value(host) if vae.missing and not sparse else host
        found = choose(seen, vae.config()["likelihood"], scale, binarize, picture, ranks)
        if vae.undecided:
            vae.lay_out(found.likelihood)
        if not isinstance(found.scale, str):
            return found.scale, found.binarize
        scales = vae.likelihood.scales
        return Scale.fit(found.scale, host, self.options.weights, vae.missing, scales, ranks), found.binarize

    def _held_out(self, scale: Scale | None, binarize: str) -> Batches:
        """The validation rows."""
        o = self.options
        found = Batches(self.vae, o.validation, o.validation_rows, scale, binarize, "validation", ranks=o.ranks)
        found.by_nonzeros = self.batches.by_nonzeros
        return found

    @cached_property
    def best(self) -> Array:
        """The parameters of the best epoch, where validation chooses one."""
        return self.vae.buffer.state.copy()

    def first_bad(self, X: Any) -> tuple[int, str]:
        """The first tensor of this rank's last pass that is not finite (`guard.py`)."""
        return first_bad(self.vae, X)

    def clamped(self, reset: bool = False) -> int:
        """How many outputs of the decoder have been clamped, by all ranks, since the count was last reset."""
        count = clamped(self.vae, reset)
        return count if self.options.ranks is None else sum(self.options.ranks.all(count))

    def out_of_patience(self) -> bool:
        """Whether early stopping ends the training here."""
        return self.options.patience is not None and self.at.waited >= self.options.patience

    def validated(self) -> dict[str, Any]:
        """The validation rows' columns, if any. The epoch with the best bound (β = 1) is kept, once β has warmed up."""
        if self.validation is None:
            return {}
        at, result = self.at, evaluate_batches(self.vae, self.validation, self.options.ranks)
        if not math.isfinite(result.elbo + result.bound):
            raise diagnose(self, at.total_steps, f"validation elbo {result.elbo:g}")
        if self.options.beta.finished(at.epoch):
            at.waited += 1
            if result.bound > at.best_bound:
                at.best_bound, at.best_epoch, at.waited = result.bound, at.epoch, 0
                self.best[...] = self.vae.buffer.state
        iwae = "" if result.iwae is None else result.iwae
        return {"val_elbo": result.elbo, "val_nll": result.nll, "val_kl": result.kl, "val_iwae": iwae}

    def plan(self) -> list[tuple[float, float]]:
        """The learning rate and β of each step until the losses are looked at again."""
        at, plan = self.at, []
        for step in range(at.step, min(at.step + self.look_every, self.steps_per_epoch)):
            t = at.epoch - 1 + step / self.steps_per_epoch
            plan.append((self.lr * self.options.schedule.factor(t, self.options.epochs), self.options.beta(t)))
        return plan
