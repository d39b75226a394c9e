"""guard: what goes wrong in the numbers of a training. Losses that are not finite, outputs that were clamped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..backend import Backend
from ..model import Model
from .checkpoint import MODEL_FILE

if TYPE_CHECKING:
    from .state import State


class Diverged(ArithmeticError):
    """A loss, a gradient or a parameter is NaN or infinite. The message names the step and the tensor."""


def finite(backend: Backend, x: Any) -> bool:
    """Whether every element of the array x is finite."""
    return bool(backend.to_host(backend.xp.isfinite(x).all()))


def diagnose(training: State, step: int, found: str, X: Any = None) -> Diverged:
    """The error to raise: which step, which tensor, and what to do. X: the step's batch, where it is still there."""
    vae = training.vae
    suspects: dict[str, Any] = {} if X is None else {"X": X}
    suspects |= {f"{layer.name} output": layer.Y for layer in vae.encoder.layers}
    suspects |= {"latent z": vae.posterior.Z}
    suspects |= {f"{layer.name} output": layer.Y for layer in vae.decoder.layers}
    suspects |= {f"gradient of {name}": grad for name, grad in vae.gradients.items()}
    suspects |= {f"parameter {name}": view for name, view in vae.parameters.items()}
    first = next((name for name, x in suspects.items() if not finite(vae.backend, x)), "none that is still held")
    if step == 1:
        low, high = training.batches.range
        advice = f"No update was made yet: the values, from {low:g} to {high:g}, want scaling (--scale standard)."
    else:
        advice = "Try a smaller learning rate, or a clip (--lr, --clip)."
        if training.options.run:
            advice += f" {training.options.run / MODEL_FILE} holds the last good state."
    return Diverged(
        f"training diverged at step {step} (epoch {training.at.epoch}): {found}; the first tensor with a NaN or an "
        f"infinity is: {first}. {advice}"
    )


def clamped(vae: Model, reset: bool = False) -> int:
    """How many outputs of the decoder training has clamped since the count was last reset."""
    counter = vae.likelihood.clamped
    if counter is None:
        return 0
    count = int(vae.backend.to_host(counter)[0])
    if reset:
        counter[...] = 0
    return count
