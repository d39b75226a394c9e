"""The VAE as a detector of outliers: rows of low ln p(x)."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import OutlierMixin

from .. import checks, optim
from ..backend import Backend
from ..evaluation.columns import explain
from ..evaluation.dealt import row_hashes
from ..training.schedules import Beta, Schedule
from .base import Estimator


class VAEDetector(OutlierMixin, Estimator):
    """Outliers by a VAE: a row is one where ln p(x) lies below that of a share `contamination` of the training rows.

    contamination   the share of outliers, in (0, 0.5]
    All others are those of `VAE`. Attributes of a fitted one: those of `VAE`, and `offset_`, the threshold of ln p(x).
    """

    def __init__(
        self,
        contamination: float = 0.1,
        latent_dim: int = 20,
        hidden: tuple[int, ...] = (500,),
        activation: str = "relu",
        likelihood: str = "auto",
        scale: str = "auto",
        binarize: str = "auto",
        objective: str = "elbo",
        samples: int = 1,
        beta: float | Beta = 1.0,
        free_bits: float = 0.0,
        epochs: int = 10,
        batch_size: int = 128,
        optimizer: str | optim.Optimizer = "adam",
        lr: float = 1e-3,
        weight_decay: float | None = None,
        schedule: str | Schedule = "constant",
        clip: float | None = None,
        validation: float = 0.0,
        patience: int | None = None,
        importance: int = 100,
        backend: str | Backend = "auto",
        dtype: str = "float64",
        verbose: bool = False,
        random_state: Any = None,
        columns: Any = None,
    ):
        super().__init__(
            latent_dim, hidden, activation, likelihood, scale, binarize, objective, samples, beta, free_bits, epochs,
            batch_size, optimizer, lr, weight_decay, schedule, clip, validation, patience, importance, backend, dtype,
            verbose, random_state, columns,
        )  # fmt: skip
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> VAEDetector:
        """Train anew on X (N, D), N ≥ 2, and set `offset_`; y is not used.

        sample_weight   (N,) of the rows in the loss, ≥ 0
        """
        X = self._checked(X, least=2)
        share = checks.finite_float("contamination", self.contamination, lambda x: 0 < x <= 0.5, "a share in (0, 0.5]")
        self._fit(X, sample_weight)
        self.offset_ = float(np.percentile(self._log_px(X)[0], 100 * share))
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """ln p(x) − `offset_` of each row, (N,): below 0 for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """−1 for each outlier, 1 for each other row, (N,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def explain(self, X: Any) -> np.ndarray:
        """Each column's share of a row's −ln p(x), (N, D): a row adds up to −`score_samples`.

        See `minivae.evaluation.columns` for what a share is.
        """
        X = self._rows(X)
        return explain(self.vae_, X, self.importance, rows=row_hashes(X))
