"""masked: −ln p(x_observed|z), the sum over the cells of a row that were observed (0 in the mask: missing).

The kernel of the likelihood runs as it is, on copies in which every missing cell holds the likelihood's *neutral* cell:
raw outputs and a value whose loss is known, 0 or a constant. Then the constants are taken off again, and the slopes of
missing cells become 0. So what stands under the mask is never read, a mask of ones gives the bits that no mask gives
(x − 0 and x + 0 are x), a pass without a mask costs nothing, and one function serves every likelihood and device.

Shapes as in `base.py`; mask (B, D) uint8; k = width/D outputs of each feature, in blocks of D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..backend import Array
from ..buffers import Grads
from ..errors import UsageError

if TYPE_CHECKING:
    from .base import Likelihood


def over_observed(
    p: Likelihood,
    nll_and_grad: Callable[..., None],
    fitted: bool,
    mask: Array,
    nll_rows: Array,
    d_out: Array | None,
    d_params: Grads,
    out: Array,
    X: Array,
    weight: Any,
) -> None:
    """`nll_and_grad` of the likelihood p, for the cells that the mask says are there; fitted: it is the fitted one."""
    if p.neutral is None:
        raise UsageError(
            f"likelihood {p.name!r} takes no missing values: its class has no `neutral` cell "
            "(minivae/likelihoods/base.py); leave such rows out, or fill them"
        )
    xp, (B, D) = p.backend.xp, X.shape
    seen = mask != 0
    outputs, x = p.neutral
    blocks = out.reshape(-1, B, out.shape[1] // D, D)
    hidden = xp.where(seen[:, None], blocks, p.neutral_outputs(blocks.shape[2], outputs)).astype(out.dtype)
    values = xp.where(seen, X, x).astype(X.dtype)
    nll_and_grad(nll_rows, d_out, d_params, hidden.reshape(out.shape), values, weight)
    if d_out is not None:
        slopes = d_out.reshape(blocks.shape)
        slopes[...] = xp.where(seen[:, None], slopes, 0)
    missing = D - seen.sum(axis=1).astype(X.dtype)
    p.leave_out(nll_rows, d_out, d_params, weight, missing, fitted)
