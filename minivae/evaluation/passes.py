"""passes: rows of any number through encoder and decoder, block by block, so that only a block is ever dense.

Shapes: N rows, b in a block, D features, L latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import checks
from ..backend import Array
from ..conditions import Given
from ..inputs import Batch, native, on_backend, rows_in, whole
from ..likelihoods.base import blocks
from ..model import Model
from ..noise import Noise
from .dealt import BATCH_ROWS, at_a_time


def streamed(vae: Model, function: Callable[[Any, int], Array], X: Any, device: bool) -> Array:
    """`function` of (block of rows, number of its first row), its results copied into one array."""
    result: Any = None
    for first, block in blocks(X, at_a_time(vae, BATCH_ROWS)):
        part = function(block, first)
        part = vae.backend.asarray(part) if device else vae.backend.to_host(part)
        if result is None:
            shape = (X.shape[0], part.shape[1])
            result = vae.backend.empty(shape, part.dtype) if device else np.empty(shape, part.dtype)
        result[first : first + block.shape[0]] = part
    return result


def in_model_units(vae: Model, X: Any) -> np.ndarray:
    """X (N, D) in the data's units → as the encoder takes it, on the host: scaled, and thresholded."""
    return streamed(vae, lambda block, first: rows_in(vae, "X", block, first).X, whole(vae, "X", X), device=False)


def in_data_units(vae: Model, X: Array) -> Array:
    """X (N, D) in the model's units → in the data's; with a scale, in float64 on the host."""
    return X if vae.scale is None else vae.scale.undo(vae.backend.to_host(X))


def decode(vae: Model, Z: Any, draw: bool, device: bool, seed: int | None) -> Array:
    """Z (N, L), or `Given` ones → E[x|z], or a draw (N, D), in the data's units."""
    return streamed(vae, lambda z, first: in_data_units(vae, decoded(vae, z, draw, first, seed)), Z, device)


def decoded(vae: Model, Z: Any, draw: bool = False, first: int = 0, seed: int | None = None) -> Array:
    """Z (b, L), rows `first` … of the whole → E[x|z] or a draw (b, D), in the model's units."""
    given = None
    if isinstance(Z, Given):
        given, Z = Given(Z.X, *on_backend(vae, Z)), Z.X
    Z = native(vae, "Z_given", checks.finite("Z", Z, first))
    out = vae.decoded(Z, given)
    if not draw:
        return vae.likelihood.mean(out)
    noise = vae.noise if seed is None else Noise(vae.backend, seed)
    u = vae.workspace.take("draw", (1, Z.shape[0], vae.features))
    fill = noise.uniform if vae.likelihood.noise == "uniform" else noise.normal
    fill(u, "prior", noise.rows(first, first + Z.shape[0]), pass_=1)
    return vae.likelihood.draw(out, u[0])


def nll_of(vae: Model, out: Array, batch: Batch) -> Array:
    """out (S·B, width), rows X (B, D) → −ln p(x|z) (S·B,): scratch."""
    return nll_and_grad(vae, out, batch, 0.0, gradient=not vae.likelihood.forward_only)[0]


def nll_and_grad(vae: Model, out: Array, batch: Batch, weight: Any, gradient: bool = True) -> tuple[Array, Any]:
    """out (S·B, width), rows X (B, D) → −ln p(x|z) (S·B,) and d_out (S·B, width) in evaluation.

    Both are scratch, and nothing else is changed. Arguments as in `Likelihood.nll_and_grad`.
    """
    nll = vae.workspace.take("nll", (out.shape[0],))
    d_out = vae.workspace.take("d_out", out.shape) if gradient else None
    vae.likelihood.over(batch.mask)(nll, d_out, vae.scratch_d_params, out, batch.X, weight)
    return nll, d_out


def reconstruct(vae: Model, X: Any, device: bool, condition: Any = None, exposure: Any = None) -> Any:
    """X (N, D) → E[x|z] at the mean of q(z|x), (N, D), in the data's units; of a table, a table."""

    def there_and_back(block: Any, first: int) -> Array:
        batch = rows_in(vae, "X", block, first)
        Z = vae.backend.xp.ascontiguousarray(vae.encoder.forward(batch.x_in)[:, : vae.latent_dim])
        return in_data_units(vae, vae.likelihood.mean(vae.decoded(Z, batch)))

    found = streamed(vae, there_and_back, whole(vae, "X", vae.given(X, condition, exposure)), device)
    return found if vae.schema is None else vae.schema.like(X, found)


def prior(vae: Model, n: int, seed: int | None = None) -> Array:
    """z ~ N(0, I) (n, L) of the seed, the model's unless given."""
    noise = vae.noise if seed is None else Noise(vae.backend, seed)
    Z = vae.backend.empty((1, checks.integer("n", n), vae.latent_dim))
    noise.normal(Z, "prior", noise.rows(0, n), pass_=0)
    return Z[0]
