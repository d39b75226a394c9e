"""masked: −ln p(x_observed|z), the sum over the cells of a row that were observed (0 in the mask: missing).

The kernel of the likelihood runs as it is, on copies in which every missing cell holds the likelihood's *neutral* cell:
raw outputs and a value whose loss is known, 0 or a constant. Then the constants are taken off again, and the slopes of
missing cells become 0. So what stands under the mask is never read, a mask of ones gives the bits that no mask gives
(x − 0 and x + 0 are x), a pass without a mask costs nothing, and one function serves every likelihood and device.

Shapes as in `base.py`; mask (B, D) uint8; k = width/D outputs of each feature, in blocks of D.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import Array, Backend
from ..buffers import Grads
from ..errors import UsageError


class Maskable:
    """What a likelihood says of a missing cell; `Likelihood` builds on it.

    neutral   (raw outputs, x) of a cell whose loss is `neutral_nll()`; None: it takes no masks
    """

    name: str
    backend: Backend
    neutral: tuple[float, Any] | None = None
    mean: Callable[[Array], Array]

    def neutral_nll(self) -> Any:
        """−ln p of the neutral cell: a number, or (1,) on the device."""
        return 0.0

    def neutral_outputs(self, k: int, outputs: float) -> Any:
        """The k raw outputs of the neutral cell, as a number or (k, 1)."""
        return outputs

    def summary(self, out: Array) -> Array:
        """out (R, width) → (R, M), whose mean over samples `filling` takes: E[x|z], or the probabilities of classes."""
        return self.mean(out)

    def filling(self, summary: Array) -> Array:
        """A mean of summaries (R, M) → what stands for a missing x, (R, D): the mean, or the likeliest class."""
        return summary

    def leave_out(
        self, nll_rows: Array, d_out: Any, d_params: Grads, weight: Any, missing: Array, fitted: bool
    ) -> None:
        """Take the neutral cells, missing (B,) of each row, out of what `nll_and_grad` has written."""
        nll = self.neutral_nll()
        if not isinstance(nll, float) or nll:
            nll_rows.reshape(-1, missing.size)[...] -= nll * missing

    def over_observed(
        self,
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
        """`nll_and_grad` of this likelihood, for the cells that the mask says are there (fitted: the fitted one)."""
        if self.neutral is None:
            raise UsageError(
                f"likelihood {self.name!r} takes no missing values: its class has no `neutral` cell "
                "(minivae/likelihoods/masked.py); leave such rows out, or fill them"
            )
        xp, (B, D) = self.backend.xp, X.shape
        seen = mask != 0
        outputs, x = self.neutral
        blocks = out.reshape(-1, B, out.shape[1] // D, D)
        hidden = xp.where(seen[:, None], blocks, self.neutral_outputs(blocks.shape[2], outputs)).astype(out.dtype)
        values = xp.where(seen, X, x).astype(X.dtype)
        nll_and_grad(nll_rows, d_out, d_params, hidden.reshape(out.shape), values, weight)
        if d_out is not None:
            slopes = d_out.reshape(blocks.shape)
            slopes[...] = xp.where(seen[:, None], slopes, 0)
        missing = D - seen.sum(axis=1).astype(X.dtype)
        self.leave_out(nll_rows, d_out, d_params, weight, missing, fitted)
