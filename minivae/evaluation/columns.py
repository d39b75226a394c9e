"""columns: what each column adds to a row's −ln p(x): which values make a row unlikely.

Let the columns come in gradually, all of them alike, x explained with weight t from 0 to 1:

    p_t(z|x) ∝ p(z) p(x|z)^t,      d/dt [−ln ∫ p(z) p(x|z)^t dz] = Σ_d E_{p_t}[−ln p(x_d|z)]

so that the shares ∫₀¹ E_{p_t}[−ln p(x_d|z)] dt of the columns d add up to −ln p(x). A share is the Aumann–Shapley value
of its column: what it adds on average, whichever columns are known before it. A column that the decoder does not
connect with the others has its own −ln p(x_d) as its share.

The integral is a Gauss–Legendre rule in t^{1/5}, for the integrand is steep near 0. The expectation at each t is
importance sampling from q_t ∝ p^{1−t} q(z|x)^t, a Gaussian, and the distribution itself where q(z|x) is the posterior.
What the estimates are short of the row's −ln p(x) is shared alike.

Shapes: b rows, k samples, L latent dimensions, D features. Nats in the data's units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import likelihoods
from ..backend import Array
from ..errors import UsageError
from ..inputs import Batch, filled
from ..model import Model, locked
from ..training.batches import Batches
from .bounds import IMPORTANCE_ROWS, importance_sampled
from .dealt import checked, over_rows
from .passes import nll_of
from .tiles import TILE_ROWS

if TYPE_CHECKING:
    from ..distributed.world import World

NODES, POWER = 16, 5  # of the rule: right to 1e-4 where a column fixes z to 1/100 of its prior's width
MOST_ERROR = 1e-3  # relative, between a row's nll and the sum of its columns'


@locked
def explain(
    vae: Model, X: Any, samples: int = 100, rows: Any = None, ranks: World | None = None, everywhere: bool = True
) -> np.ndarray:
    """Each column's share of −ln p(x) of the rows of X (N, D) → (N, D) float64, adding up to −`log_likelihood`.

    samples   K, as in `log_likelihood`; each of the 16 points of the integral takes TILE_ROWS / 64 of its own
    rows      (N,) the rows' numbers, which choose their noise; None means 0 … N − 1
    ranks, everywhere   as in `log_likelihood`
    Raises UsageError for a likelihood of your own whose outputs are not in blocks of D.
    """
    batches = checked(vae, X, rows, ranks=ranks)
    split = ColumnNll(vae)

    def block(part: slice) -> list[np.ndarray]:
        batch, numbers = batches.at(part)
        log_px, _ = importance_sampled(vae, batch, samples, numbers, None)
        found, mask = vae.backend.to_host(_shares(vae, split, batch, numbers)), batch.mask
        seen = np.ones(found.shape) if mask is None else vae.backend.to_host(mask)
        short = -vae.backend.to_host(log_px) - found.sum(axis=1)
        found += seen * (short / np.maximum(seen.sum(axis=1), 1)).reshape(-1, 1)
        if batches.scale is not None and vae.likelihood.is_density:
            found += seen * np.log(batches.scale.factor)
        return [found]

    (shares,) = over_rows(ranks, len(batches), IMPORTANCE_ROWS, block, [(vae.features,)], everywhere=everywhere)
    return shares


@locked
def reconstruction(vae: Model, X: Any, rows: Any = None) -> np.ndarray:
    """E_q[−ln p(x_d|z)] of each column, a mean over the rows of X (N, D) that have it → (D,) nats in the data's units.

    Of S samples a row, the model's; rows as in `explain`. NaN for a column that no row has.
    """
    batches, split = Batches(vae, X, rows), ColumnNll(vae)
    total, count = np.zeros(vae.features), np.zeros(vae.features)
    for _, batch, numbers in batches.in_order(IMPORTANCE_ROWS):
        H, eps = vae.encoder.forward(batch.x_in), vae.epsilon(None, batch.shape[0], "evaluation", numbers, 0)
        Z, *_ = vae.posterior.forward(H, eps)
        nll = split(vae.decoded(Z.reshape(-1, vae.latent_dim), batch), batch).mean(axis=0)
        mask = batch.mask
        total += vae.backend.to_host(nll.sum(axis=0))
        count += batch.shape[0] if mask is None else vae.backend.to_host(mask).sum(axis=0)
    scale = batches.scale if vae.likelihood.is_density else None
    with np.errstate(invalid="ignore"):
        return total / count + (0 if scale is None else np.log(scale.factor))


def _shares(vae: Model, split: ColumnNll, X: Batch, rows: Array) -> Array:
    """The integral over t of E[−ln p(x_d|z)], (b, D) float64."""
    xp, (b, L), k = vae.backend.xp, (X.shape[0], vae.latent_dim), TILE_ROWS // IMPORTANCE_ROWS
    H = vae.encoder.forward(X.x_in)
    mean, precision = H[:, :L].copy(), xp.exp(-H[:, L:])
    eps, shares = vae.workspace.take("importance.eps", (k, b, L)), xp.zeros((b, vae.features))
    points, weights = np.polynomial.legendre.leggauss(NODES)
    for node, (u, w) in enumerate(zip((points + 1) / 2, weights / 2, strict=True)):
        t = float(u**POWER)
        precision_t = 1 - t + t * precision
        vae.noise.normal(eps, "importance", rows, 1 + node)
        Z = t * precision * mean / precision_t + eps / xp.sqrt(precision_t)
        nll = split(vae.decoded(xp.ascontiguousarray(Z.reshape(k * b, L)), X), X)
        log_w = 0.5 * (eps * eps - Z * Z).sum(axis=2, dtype="float64") - t * nll.sum(axis=2)
        share = xp.exp(log_w - log_w.max(axis=0))
        share /= share.sum(axis=0)
        shares += float(w * POWER * u ** (POWER - 1)) * (share.reshape(k, b, 1) * nll).sum(axis=0)
    return shares


class ColumnNll:
    """−ln p(x_d|z) of each column: the model's likelihood, or that of its block, for one feature at a time.

    The decoder's outputs stand in blocks of D, or so in the slice of each block of a mixed likelihood; a learned tensor
    is one number for all features, or has one for each as its last axis.
    """

    def __init__(self, vae: Model):
        self.vae = vae
        views = {**vae.buffer.views, **vae.buffer.fitted}
        held = {name: views[f"likelihood.{name}"] for name, _ in vae.likelihood.parameters() + vae.likelihood.fitted()}
        self.blocks = []
        for name, columns, out in vae.likelihood.pieces():
            n = len(columns)
            own = {tensor: view for tensor, view in held.items() if tensor.startswith(f"{name[6:-2]}.")}
            own = own if name.startswith("mixed:") else held
            apart = any(view.shape[-1:] == (n,) for view in own.values()) and n > 1  # one likelihood for each column
            parts = []
            for d in range(n if apart else 1):
                part = likelihoods.make(name, vae.backend, 1)
                part.bind({tensor: view[..., d : d + 1] if apart else view for tensor, view in own.items()})
                scratch = {tensor: vae.backend.zeros(shape) for tensor, shape in part.parameters()}
                parts.append((part, part.destinations(scratch)))
            self.blocks.append((parts, apart, columns, out))

    def __call__(self, out: Array, batch: Batch) -> Array:
        """out (k·b, width), X (b, D) of the batch → (k, b, D) float64; 0 where a value is missing."""
        xp, x, mask, R = self.vae.backend.xp, filled(self.vae, batch.X), batch.mask, out.shape[0]
        (b, D), found = x.shape, [None] * x.shape[1]
        for parts, apart, columns, place in self.blocks:
            n, own = len(columns), out[:, place].reshape(R, -1, len(columns))
            if apart:
                each = [self._nll(part, own[:, :, d], x[:, columns[d]]) for d, part in enumerate(parts)]
            else:
                values = xp.stack([x[:, column] for column in columns], axis=1).reshape(b * n)
                nll = self._nll(parts[0], own.transpose(0, 2, 1).reshape(R * n, -1), values).reshape(R, n)
                each = [nll[:, d] for d in range(n)]
            for column, nll in zip(columns, each, strict=True):
                found[column] = nll
        nll = xp.stack(found, axis=1).reshape(-1, b, D).astype("float64")
        nll = nll if mask is None else xp.where(mask != 0, nll, 0)
        whole = nll_of(self.vae, out, batch)
        error = xp.abs(nll.sum(axis=2) - whole.reshape(-1, b)) - MOST_ERROR * xp.abs(nll).sum(axis=2)
        if float(self.vae.backend.to_host(error.max())) > 0:
            raise UsageError(
                f"likelihood {self.vae.likelihood.name!r}: the columns do not add up to the row: expected outputs of "
                "the decoder in blocks of D, and each term of −ln p(x|z) to be of one column"
            )
        return nll

    def _nll(self, part: Any, out: Array, X: Array) -> Array:
        """out (R, outputs of a feature), X (B,) → (R,)."""
        likelihood, d_params = part
        backend = self.vae.backend
        out = backend.xp.ascontiguousarray(out)
        nll, d_out = backend.empty((out.shape[0],)), None if likelihood.forward_only else backend.empty(out.shape)
        likelihood.nll_and_grad(nll, d_out, d_params, out, backend.xp.ascontiguousarray(X.reshape(-1, 1)), 0.0)
        return nll
