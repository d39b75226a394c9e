"""guard: what goes wrong in the numbers of a training. Losses that are not finite, outputs that were clamped."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

from ..backend import Backend
from ..errors import UsageWarning
from ..evaluation.latents import COLLAPSED
from ..inputs import Batch
from ..matmul.sparse import Sparse
from ..model import Model

if TYPE_CHECKING:
    from .state import State


SOME_EPOCHS = 5  # with fewer, a small KL may be that of a model that has hardly been trained
LARGE = 100.0  # values beyond it are large for a network, which starts at the scale of 1


class Diverged(ArithmeticError):
    """A loss, a gradient or a parameter is NaN or infinite. The message names the step and the tensor.

    agreed   whether all ranks raise it, in the same step
    """

    agreed = False


def finite(backend: Backend, x: Any) -> bool:
    """Whether every element of the array x is finite."""
    return bool(backend.to_host(backend.xp.isfinite(x).all()))


def first_bad(vae: Model, X: Batch | None = None) -> tuple[int, str]:
    """The first tensor of the last pass that is not finite: its place in the order of the pass, and its name.

    X   the pass's batch, where it is still there
    """
    explained: Any = None if X is None else X.X
    suspects: dict[str, Any] = {"X": explained.toarray() if isinstance(explained, Sparse) else explained}
    suspects |= {f"{layer.name} output": getattr(layer, "Y", None) for layer in vae.encoder.layers}
    suspects |= {"latent z": getattr(vae.posterior, "Z", None)}
    suspects |= {f"{layer.name} output": getattr(layer, "Y", None) for layer in vae.decoder.layers}
    suspects |= {f"gradient of {name}": grad for name, grad in vae.gradients.items()}
    suspects |= {f"parameter {name}": view for name, view in vae.parameters.items()}
    for place, (name, x) in enumerate(suspects.items()):
        if x is not None and not finite(vae.backend, x):  # before the first step there is no output
            return place, name
    return len(suspects), "none that is still held"


def diagnose(training: State, step: int, found: str, X: Batch | None = None) -> Diverged:
    """The error to raise: which step, which tensor, and what to do. X: the step's batch, where it is still there."""
    shards = training.shards
    first = first_bad(training.vae, X)[1] if shards is None else shards.first_bad(X)
    error = Diverged(
        f"training diverged at step {step} (epoch {training.at.epoch}): {found}; the first tensor with a NaN or an "
        f"infinity is: {first}. {_advice(training, step)}"
    )
    error.agreed = shards is not None
    return error


def warn_of_constant_columns(vae: Model, columns: Any) -> None:
    """Name the columns that are constant in the training rows, where each has a density of its own width."""
    names = [str(d) if vae.columns is None else vae.columns[d] for d in columns[:5]]
    named = ("columns " if len(columns) > 1 else "column ") + ", ".join(names)
    named += f", … ({len(columns)} of {vae.features})" if len(columns) > 5 else ""
    warnings.warn(
        f"constant in the training rows: {named}. Likelihood {vae.likelihood.name!r} makes the density there ever "
        "narrower, so that ln p(x) says little of the others: leave such columns out, or take 'gaussian:shared'",
        UsageWarning,
        stacklevel=5,
    )


def warn_of_collapse(vae: Model, rows: list[dict[str, Any]]) -> None:
    """Warn where the KL of the history's last row is next to nothing."""
    if len(rows) >= SOME_EPOCHS and (kl := rows[-1]["kl"]) < COLLAPSED:
        warnings.warn(
            f"the KL of all {vae.latent_dim} latent dimensions together is {kl:.3f} nats a row, under {COLLAPSED}: the "
            "posterior has collapsed, and the decoder ignores z. A smaller β, a warm-up of β, free bits or scaled data "
            "may help",
            UsageWarning,
            stacklevel=4,
        )


def _advice(training: State, step: int) -> str:
    """What to do about a divergence at this step, and what the run's file holds."""
    vae, (low, high) = training.vae, training.batches.range
    large = max(abs(low), abs(high)) > LARGE
    if step > 1:
        advice = "Try a smaller learning rate, or a clip (--lr, --clip)."
    elif step == 0:
        advice = "The model was not finite before it was trained: make or load another."
    elif large and not vae.likelihood.integer:
        advice = f"No update was made yet: the values, from {low:g} to {high:g}, want scaling (--scale standard)."
    elif large:
        advice = f"No update was made yet: the counts, up to {high:g}, are too large for {vae.likelihood.name!r}."
    else:
        advice = f"No update was made yet: the model begins too far off with init={vae.init!r}: try 'glorot' (--init)."
    files = training.files
    if files is not None and files.last_save > -math.inf:
        what = f"the state after step {files.saved_step}" if files.saved_step else "the untrained model"
        advice += f" {files.model} holds {what}."
    return advice


def clamped(vae: Model, reset: bool = False) -> int:
    """How many outputs of the decoder training has clamped since the count was last reset."""
    counter = vae.likelihood.clamped
    if counter is None:
        return 0
    count = int(vae.backend.to_host(counter)[0])
    if reset:
        counter[...] = 0
    return count
