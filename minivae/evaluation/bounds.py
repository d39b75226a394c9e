"""bounds: estimate the ELBO, and ln p(x) by importance sampling. Only `fit_closed_form` changes the model.

    ln p(x) ≈ ln (1/K) Σ_k w_k,   ln w_k = ln p(x|z_k) + ln p(z_k) − ln q(z_k|x),   z_k ~ q(z|x)     (eq. 7)

The estimate is below ln p(x) on average, and more samples narrow the gap; K = 1 gives the ELBO on average. Samples are
processed in tiles, as many decoder rows as stay in the cache and never K × D for a row (`tiles.py`).

Results do not depend on the batch size or the backend, because noise is keyed by row. They are nats in the data's
units: if the data were scaled, densities include the log-Jacobian.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import checks
from ..backend import Array
from ..errors import UsageError
from ..inputs import Batch, native
from ..model import Model, locked
from ..training.batches import Batches
from . import tiles
from .dealt import BATCH_ROWS, at_a_time, checked, over_blocks, over_rows

if TYPE_CHECKING:
    from ..datasets.scale import Scale
    from ..distributed.world import World

IMPORTANCE_ROWS = 64  # data rows in a tile


@dataclass(frozen=True)
class Evaluation:
    """Means over `rows` rows, in nats: elbo = −(nll + kl).

    iwae   the importance-weighted bound with the model's S samples if that is its objective, else None

    The expectation over z uses S samples a row (one, unless the model has more). On few rows the ELBO may therefore
    exceed an estimate of ln p(x), although it is a lower bound on average.
    """

    elbo: float
    nll: float
    kl: float
    rows: int
    iwae: float | None = None

    @property
    def bound(self) -> float:
        """The bound on ln p(x) that the model's objective maximises."""
        return self.elbo if self.iwae is None else self.iwae

    def to_dict(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def log_jacobian(vae: Model, scale: Scale | None) -> float:
    """Return the term that scaling adds to a whole row's −ln p(x); 0 for probabilities and for unscaled data."""
    return scale.log_jacobian if scale is not None and vae.likelihood.is_density else 0.0


def row_jacobian(vae: Model, scale: Scale | None, batch: Batch) -> Any:
    """`log_jacobian` of the observed cells of each row of a batch, (b,) on the host; a number where all are there."""
    if batch.mask is None or not log_jacobian(vae, scale):
        return log_jacobian(vae, scale)
    assert scale is not None
    return vae.backend.to_host(batch.mask) @ np.log(scale.factor)


@locked
def evaluate(
    vae: Model,
    X: Any,
    rows: Any = None,
    scale: Scale | None = None,
    binarize: str | None = None,
    ranks: World | None = None,
) -> Evaluation:
    """Compute ELBO, NLL and KL of the model on X (N, D).

    rows, scale, binarize   as in `Batches`; binarisation and ε come from the evaluation stream, so that repeated calls
                            give the same figures
    ranks                   `mv.ranks()`: each computes a share of the blocks of rows, and all return the same figures
    """
    return evaluate_batches(vae, checked(vae, X, rows, scale, binarize, ranks), ranks)


def evaluate_batches(vae: Model, batches: Batches, ranks: World | None = None) -> Evaluation:
    """`evaluate` for rows that are `Batches` already."""

    def block(rows: slice) -> np.ndarray:
        X, numbers = batches.at(rows)
        eps = vae.epsilon(None, X.shape[0], "evaluation", numbers, 0)
        return vae.backend.to_host(vae.forward(X, eps, 1.0, 0.0).sums())

    sums = np.zeros(3)
    for found in over_blocks(ranks, len(batches), at_a_time(vae, BATCH_ROWS), block):
        sums += found
    loss, nll, kl = (sums / len(batches)).tolist()
    jacobian = batches.jacobian
    iwae = -(loss + jacobian) if vae.loss_fn.name == "iwae" else None
    return Evaluation(-(nll + jacobian + kl), nll + jacobian, kl, len(batches), iwae)


def observed_rows(batch: Batch) -> Any:
    """How many whole rows the observed cells of a batch come to: what a mean over its cells counts."""
    return batch.shape[0] if batch.mask is None else batch.mask.sum(dtype="float64") / batch.shape[1]


def fit_closed_form(vae: Model, batches: Batches) -> None:
    """Fit the likelihood's closed-form parameters (gaussian:optimal: σ²) to all training rows in one pass.

    `fit` does so after each epoch. After a loop of your own over `train_step` they are those of the last batch, until
    you call `fit_closed_form(vae, Batches(vae, X))`.
    """
    if vae.likelihood.closed_form:
        rows: Any = 0
        totals = {name: vae.backend.zeros(shape, np.float64) for name, shape in vae.likelihood.statistics()}
        for _, X, numbers in batches.in_order(at_a_time(vae, BATCH_ROWS)):
            eps = vae.epsilon(None, X.shape[0], "evaluation", numbers, 0)
            vae.forward(X, eps, 1.0, 0.0, training=True)
            for name, total in totals.items():
                total += (cells := observed_rows(X)) * vae.scratch_d_params[name]
            rows += cells
        vae.likelihood.fit({name: total / rows for name, total in totals.items()})


@locked
def log_likelihood(
    vae: Model,
    X: Any,
    samples: int = 1000,
    rows: Any = None,
    eps: Any = None,
    scale: Scale | None = None,
    binarize: str | None = None,
    ranks: World | None = None,
    everywhere: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate ln p(x) (eq. 7) by importance sampling from q(z|x) → (log_px (N,), its standard error (N,)), float64.

    samples   K ≥ 1; the standard error (delta method) needs K ≥ 2 and is NaN for 1
    eps       (K, N, L), the noise; None draws it from the importance stream
    rows, scale, binarize, ranks   as in `evaluate`
    everywhere   False: rank 0 alone gets the estimates of all rows, and the others those of their own
    """
    samples = checks.integer("samples", samples)
    batches = checked(vae, X, rows, scale, binarize, ranks)
    N, L = len(batches), vae.latent_dim
    if eps is not None and tuple(getattr(eps, "shape", ())) != (samples, N, L):
        raise UsageError(f"eps: expected ({samples}, {N}, {L}); got {getattr(eps, 'shape', type(eps).__name__)}")
    host = vae.backend.to_host

    def block(part: slice) -> list[np.ndarray]:
        batch, numbers = batches.at(part)
        own = None if eps is None else native(vae, "importance.given", checks.finite("eps", eps[:, part]))
        estimate, se = importance_sampled(vae, batch, samples, numbers, own)
        return [host(estimate) - row_jacobian(vae, batches.scale, batch), host(se)]

    log_px, error = over_rows(ranks, N, IMPORTANCE_ROWS, block, [(), ()], everywhere=everywhere)
    return log_px, error


def importance_sampled(vae: Model, X: Batch, K: int, rows: Array, eps: Array | None) -> tuple[Array, Array]:
    """ln p(x) and its standard error for a few rows X (b, D): running Σ w and Σ w², relative to the largest ln w."""
    xp, take, (b, L) = vae.backend.xp, vae.workspace.take, (X.shape[0], vae.latent_dim)
    weigh, most = tiles.weigh(vae, X, vae.encoder.forward(X.x_in), K)
    largest, total, squares = xp.full(b, -np.inf), xp.zeros(b), xp.zeros(b)
    tile = max(1, most // b)
    for start in range(0, K, tile):
        k = min(tile, K - start)
        if eps is None:
            noise = take("importance.eps", (k, b, L))
            vae.noise.normal(noise, "importance", rows, 0, sample=start)
        else:
            noise = xp.ascontiguousarray(eps[start : start + k])
        vae.backend.ops.log_sum_exp(largest, total, squares, weigh(noise))
    estimate = largest + xp.log(total) - math.log(K)
    if K == 1:
        return estimate, xp.full(b, np.nan)
    return estimate, xp.sqrt(xp.maximum(K * squares / (total * total) - 1, 0) / (K - 1))
