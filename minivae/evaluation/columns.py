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
from ..model import Model, explained, locked
from ..training.batches import Batches
from .bounds import IMPORTANCE_ROWS, TILE_ROWS, importance_sampled
from .dealt import over_rows

if TYPE_CHECKING:
    from ..distributed.world import World

NODES, POWER = 16, 5  # of the rule: right to 1e-4 where a column fixes z to 1/100 of its prior's width
MOST_ERROR = 1e-3  # relative, between a row's nll and the sum of its columns'


@locked
def explain(vae: Model, X: Any, samples: int = 100, rows: Any = None, ranks: World | None = None) -> np.ndarray:
    """Each column's share of −ln p(x) of the rows of X (N, D) → (N, D) float64, adding up to −`log_likelihood`.

    samples   K, as in `log_likelihood`; each of the 16 points of the integral takes TILE_ROWS / 64 of its own
    rows      (N,) the rows' numbers, which choose their noise; None means 0 … N − 1
    ranks     as in `evaluate`
    Raises UsageError for a likelihood of your own whose outputs are not in blocks of D.
    """
    batches = Batches(vae, X, rows)
    split = ColumnNll(vae)

    def block(part: slice) -> list[np.ndarray]:
        batch, numbers = batches.at(part)
        log_px, _ = importance_sampled(vae, batch, samples, numbers, None)
        found = _shares(vae, split, batch, numbers)
        found += ((-log_px - found.sum(axis=1)) / vae.features).reshape(-1, 1)
        return [vae.backend.to_host(found)]

    (shares,) = over_rows(ranks, len(batches), IMPORTANCE_ROWS, block, [(vae.features,)])
    if batches.scale is not None and vae.likelihood.is_density:
        shares += np.log(batches.scale.factor)
    return shares


def _shares(vae: Model, split: ColumnNll, X: Array, rows: Array) -> Array:
    """The integral over t of E[−ln p(x_d|z)], (b, D) float64."""
    xp, (b, L), k = vae.backend.xp, (X.shape[0], vae.latent_dim), TILE_ROWS // IMPORTANCE_ROWS
    H = vae.encoded(X)
    mean, precision = H[:, :L].copy(), xp.exp(-H[:, L:])
    eps, shares = vae.workspace.take("importance.eps", (k, b, L)), xp.zeros((b, vae.features))
    points, weights = np.polynomial.legendre.leggauss(NODES)
    for node, (u, w) in enumerate(zip((points + 1) / 2, weights / 2, strict=True)):
        t = float(u**POWER)
        precision_t = 1 - t + t * precision
        vae.noise.normal(eps, "importance", rows, 1 + node)
        Z = t * precision * mean / precision_t + eps / xp.sqrt(precision_t)
        nll = split(vae.decoder.forward(xp.ascontiguousarray(Z.reshape(k * b, L))), explained(X))
        log_w = 0.5 * (eps * eps - Z * Z).sum(axis=2, dtype="float64") - t * nll.sum(axis=2)
        share = xp.exp(log_w - log_w.max(axis=0))
        share /= share.sum(axis=0)
        shares += float(w * POWER * u ** (POWER - 1)) * (share.reshape(k, b, 1) * nll).sum(axis=0)
    return shares


class ColumnNll:
    """−ln p(x_d|z) of each column: the model's likelihood, for one feature at a time.

    The decoder's outputs stand in blocks of D, and a learned tensor is one number for each feature, or one for all.
    """

    def __init__(self, vae: Model):
        self.vae, D = vae, vae.features
        views = {**vae.buffer.views, **vae.buffer.fitted}
        own = [(name, views[f"likelihood.{name}"]) for name, _ in vae.likelihood.parameters() + vae.likelihood.fitted()]
        self.apart = any(view.shape == (D,) for _, view in own) and D > 1  # a likelihood of its own for each column
        self.parts = []
        for d in range(D if self.apart else 1):
            part = likelihoods.make(vae.likelihood.name, vae.backend, 1)
            part.bind({name: view[d : d + 1] if view.shape == (D,) else view for name, view in own})
            scratch = {name: vae.backend.zeros(shape) for name, shape in part.parameters()}
            self.parts.append((part, part.destinations(scratch)))

    def __call__(self, out: Array, X: Array) -> Array:
        """out (k·b, width), X (b, D) → (k, b, D) float64."""
        xp, (b, D), R = self.vae.backend.xp, X.shape, out.shape[0]
        blocks = out.reshape(R, -1, D)
        if self.apart:
            columns = [self._nll(part, blocks[:, :, d], X[:, d]) for d, part in enumerate(self.parts)]
            nll = xp.stack(columns, axis=1)
        else:
            nll = self._nll(self.parts[0], blocks.transpose(0, 2, 1).reshape(R * D, -1), X.reshape(b * D))
        nll = nll.reshape(-1, b, D).astype("float64")
        whole = self.vae.nll(out, X)
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
