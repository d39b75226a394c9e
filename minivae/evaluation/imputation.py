"""imputation: fill missing cells from p(x_missing|x_observed), by importance sampling (Mattei & Frellsen 2019).

    E[x_missing|x_observed] ≈ Σ_k w_k E[x_missing|z_k] / Σ_k w_k,   z_k ~ q(z|x_observed),
    w_k = p(x_observed|z_k) p(z_k)/q(z_k|x_observed)                                          self-normalised weights

A positive number is filled with e^{E[ln x]}, a class with the likeliest one, under the same weights. Draws are
resampled: z_k with probability w_k/Σ w, then x ~ p(x|z_k) (Rubin 1987). Right where cells are missing at random.

The weights are summed over tiles of samples, relative to the largest so far; resampling is by Gumbel's maximum, so that
no tile is kept. Noise goes with the row.

Shapes: b rows, k samples in a tile, m draws, D features, M numbers of a summary (`Likelihood.summary`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import checks
from ..backend import Array
from ..conditions import explained
from ..errors import UsageError
from ..inputs import Batch
from ..model import Model, locked
from ..training.batches import Batches
from .bounds import IMPORTANCE_ROWS
from .dealt import at_a_time
from .passes import nll_of
from .tiles import TILE_ROWS

RESAMPLING, DRAWING = 2**20, 2**20 + 1  # passes of the importance stream; pass 0 is ε


@locked
def impute(
    vae: Model,
    X: Any,
    draws: int | None = None,
    samples: int = 1000,
    rows: Any = None,
    condition: Any = None,
    exposure: Any = None,
) -> Any:
    """X (N, D) with every NaN filled, float64 on the host, in the data's units; observed cells come back as they came.

    draws     None: the conditional mean of a number, the likeliest class: (N, D); m: proper draws, (m, N, D)
    samples   K of each row
    rows      (N,) the rows' numbers, which choose their noise; None means 0 … N − 1
    condition, exposure   as in `Model.given`
    A table of the model's `schema` comes back as one, m draws of it as a list of m.
    """
    if not vae.missing:
        raise UsageError("impute: this model takes no missing cells; make it with mv.VAE(missing=True)")
    samples, m = checks.integer("samples", samples), 0 if draws is None else checks.integer("draws", draws)
    given = vae.given(X, condition, exposure)
    batches = Batches(vae, given, rows)
    host = np.asarray(vae.backend.to_host(explained(given)), np.float64)
    filled = np.repeat(host[None], m or 1, axis=0)
    for part, batch, numbers in batches.in_order(IMPORTANCE_ROWS):
        gaps = np.isnan(host[part])
        if gaps.any():
            found = _block(vae, batch, numbers, samples, m)
            scale = batches.scale
            for of_draw, x in zip(filled, found, strict=True):
                values = vae.backend.to_host(x).astype(np.float64)
                values = values if scale is None else scale.undo(values)
                of_draw[part] = np.where(gaps, values, host[part])
    filled = filled if m else filled[0]
    return filled if vae.schema is None else vae.schema.like(X, filled)


def _block(vae: Model, X: Batch, rows: Array, K: int, m: int) -> list[Array]:
    """The fillings of a few rows in the model's units: one of means and modes, or m draws, (b, D) each."""
    xp, (b, L) = vae.backend.xp, (X.shape[0], vae.latent_dim)
    H = vae.encoder.forward(X.x_in).copy()
    half_logvar = 0.5 * H[:, L:].sum(axis=1, dtype="float64")
    total: Any = 0.0
    largest, mass = xp.full(b, -np.inf), xp.zeros(b)
    best, kept = xp.full((m, b), -np.inf), xp.zeros((m, b, L), vae.backend.dtype)
    tile = max(1, at_a_time(vae, TILE_ROWS) // b)
    for start in range(0, K, tile):
        k = min(tile, K - start)
        eps = vae.workspace.take("importance.eps", (k, b, L))
        vae.noise.normal(eps, "importance", rows, 0, sample=start)
        Z, *_ = vae.posterior.forward(H, eps)
        out = vae.decoded(Z.reshape(k * b, L), X)
        nll = nll_of(vae, out, X).reshape(k, b)
        log_w = 0.5 * (eps * eps - Z * Z).sum(axis=2, dtype="float64") + half_logvar - nll
        if m:
            u = vae.workspace.take("imputation.u", (k, b, m))
            vae.noise.uniform(u, "importance", rows, RESAMPLING, sample=start)
            score = log_w.reshape(k, b, 1) - xp.log(-xp.log(xp.clip(u.astype("float64"), 2.0**-25, 1 - 2.0**-25)))
            first = score.argmax(axis=0)  # (b, m)
            for draw in range(m):
                chosen, row = first[:, draw], xp.arange(b)
                better = score[chosen, row, draw] > best[draw]
                best[draw] = xp.where(better, score[chosen, row, draw], best[draw])
                kept[draw] = xp.where(better.reshape(b, 1), Z[chosen, row], kept[draw])
            continue
        rise = xp.maximum(largest, log_w.max(axis=0))
        w, shrunk = xp.exp(log_w - rise), xp.exp(largest - rise)
        summary = vae.likelihood.summary(out)
        weighed = (w.reshape(k, b, 1) * summary.reshape(k, b, summary.shape[1])).sum(axis=0)
        total, mass, largest = total * shrunk.reshape(b, 1) + weighed, mass * shrunk + w.sum(axis=0), rise
    if not m:
        return [vae.likelihood.filling((total / mass.reshape(b, 1)).astype(vae.backend.dtype))]
    noise = vae.backend.empty((m, b, vae.features))
    fill = vae.noise.uniform if vae.likelihood.noise == "uniform" else vae.noise.normal
    fill(noise, "importance", rows, DRAWING)
    return [vae.likelihood.draw(vae.decoded(kept[draw], X), noise[draw]) for draw in range(m)]
