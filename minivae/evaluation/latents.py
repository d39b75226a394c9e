"""latents: measure which latent dimensions a model uses, and how much. Read this when samples ignore the data.

If the decoder ignores a dimension, the KL drives its posterior to the prior for every row, where it costs nothing:
posterior collapse. These quantities show it:

    rate, distortion   KL(q(z|x) ‖ p(z)) and E[−ln p(x|z)], means over rows: their sum is −ELBO (Alemi et al. 2018)
    KL per dimension   eq. 16 without its sum; near 0 where the posterior is the prior
    active units       A_l = Var_x(μ_l(x)) > 0.01: the posterior's mean moves with x (Burda et al. 2016, §5.2)
    information        I(x; z) = E[ln q(z|x) − ln (1/M) Σ_j q(z|x_j)] over M rows, one z each: at most ln M, and the
                       rate less the KL of the aggregate posterior from the prior (Hoffman & Johnson 2016)

Shapes: N rows, L latent dimensions. Nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import Array
from ..errors import UsageError
from ..inputs import rows_in, whole
from ..model import Model, locked
from .dealt import BATCH_ROWS, at_a_time, by_first, checked, in_order, over_rows
from .passes import streamed

if TYPE_CHECKING:
    from ..datasets.scale import Scale
    from ..distributed.world import World

ACTIVE = 0.01  # a dimension counts as used if the variance of its posterior mean is above this
COLLAPSED = 0.2  # nats a row: with a KL of all dimensions together under it, the decoder ignores z
INFORMATION_ROWS = 1000  # M: the cost is M² L


@dataclass(frozen=True)
class Usage:
    """Use of the latent dimensions, over `rows` rows, in nats.

    kl_dims, variances   (L,): each dimension's mean KL, and the variance over rows of its posterior mean
    information          I(x; z) over the first `information_rows` rows; at most the logarithm of their number
    """

    rate: float
    distortion: float
    kl_dims: np.ndarray
    variances: np.ndarray
    information: float
    information_rows: int
    rows: int

    @property
    def active(self) -> list[int]:
        """The dimensions that are used."""
        return np.flatnonzero(self.variances > ACTIVE).tolist()

    @property
    def unused(self) -> list[int]:
        """The dimensions that are not used."""
        return np.flatnonzero(~(self.variances > ACTIVE)).tolist()

    def to_dict(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "distortion": self.distortion,
            "active": self.active,
            "unused": self.unused,
            "kl_dims": self.kl_dims.tolist(),
            "variances": self.variances.tolist(),
            "mutual_information": self.information,
            "mutual_information_rows": self.information_rows,
        }


@locked
def usage(
    vae: Model,
    X: Any,
    rows: Any = None,
    scale: Scale | None = None,
    binarize: str | None = None,
    ranks: World | None = None,
) -> Usage:
    """Measure how much of its latent space the model uses on X (N, D), N ≥ 2; arguments as in `evaluate`."""
    batches = checked(vae, X, rows, scale, binarize, ranks)
    N, L = len(batches), vae.latent_dim
    if N < 2:
        raise UsageError("one row has no variance over rows: give at least two")
    own: list[np.ndarray] = []  # of this rank's blocks: Σ loss, Σ nll, Σ kl, and Σ kl of each dimension

    def block(part: slice) -> list[np.ndarray]:
        batch, numbers = batches.at(part)
        eps = vae.epsilon(None, batch.shape[0], "evaluation", numbers, 0)
        terms = vae.forward(batch, eps, 1.0, 0.0)
        dims = batch.shape[0] * terms.kl_dims.astype(np.float64)
        own.append(np.concatenate((vae.backend.to_host(terms.sums()), dims)))
        return [vae.backend.to_host(vae.posterior.H), vae.backend.to_host(vae.posterior.Z[0])]

    H, Z = over_rows(ranks, N, at_a_time(vae, BATCH_ROWS), block, [(2 * L,), (L,)], everywhere=False)
    sums = np.zeros(3 + L)
    for found in in_order(ranks, own):
        sums += found
    nll, kl, kl_dims = sums[1] / N, sums[2] / N, sums[3:] / N
    M = min(N, INFORMATION_ROWS)
    variances, information = by_first(
        ranks, lambda: (H[:, :L].var(axis=0), mutual_information(Z[:M], H[:M, :L], H[:M, L:]))
    )
    return Usage(
        rate=float(kl),
        distortion=float(nll) + batches.jacobian,
        kl_dims=kl_dims,
        variances=variances,
        information=information,
        information_rows=M,
        rows=N,
    )


@locked
def encode(
    vae: Model, X: Any, ranks: World | None = None, everywhere: bool = True, device: bool = False
) -> tuple[Array, Array]:
    """Compute mean and logvar of q(z|x), (N, L) each (eq. 15); ranks as in `evaluate`.

    everywhere   False: rank 0 alone gets all rows, and the others their own
    device       True: the arrays stay where the model computes; without ranks
    """
    X, L = whole(vae, "X", X), vae.latent_dim

    def block(rows: Any, first: int) -> Array:
        return vae.encoder.forward(rows_in(vae, "X", rows, first).x_in)

    if ranks is None:
        H = streamed(vae, block, X, device)
    else:
        part = lambda rows: [vae.backend.to_host(block(X[rows], rows.start))]  # noqa: E731
        size = at_a_time(vae, BATCH_ROWS)
        (H,) = over_rows(ranks, X.shape[0], size, part, [(2 * L,)], vae.backend.dtype, everywhere)
    return H[:, :L], H[:, L:]


def mutual_information(Z: np.ndarray, mean: np.ndarray, logvar: np.ndarray) -> float:
    """Estimate I(x; z) from one draw Z (M, L) of each row's posterior N(mean, e^logvar).

    The data distribution is taken to be uniform over these M rows.
    """
    M, L = Z.shape
    log_p = np.zeros((M, M))  # [i, j]: ln q(z_i | x_j), without the constant that all entries share
    for l in range(L):
        log_p -= 0.5 * ((Z[:, l, None] - mean[:, l]) ** 2 * np.exp(-logvar[:, l]) + logvar[:, l])
    largest = log_p.max(axis=1)
    log_mean = largest + np.log(np.exp(log_p - largest[:, None]).sum(axis=1)) - math.log(M)
    return float((np.diag(log_p) - log_mean).mean())
