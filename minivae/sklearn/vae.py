"""The VAE as a transformer and a density."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted

from ..errors import UsageError
from ..evaluation.dealt import row_hashes
from .base import Estimator


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """A variational auto-encoder: `transform` to latent means, `score_samples` for ln p(x), `sample` for new rows.

    latent_dim, hidden, activation, objective, samples, backend, dtype   as in `minivae.VAE`; dtype: float64
    likelihood   "auto": bernoulli where every value is 0 or 1, else gaussian; or a name that `minivae.VAE` takes
    scale        "auto": standard where the likelihood explains real numbers, else none; none, minmax, standard, maxabs
    binarize     "auto": none for a table; or none, threshold, static, dynamic
    beta, free_bits, epochs, batch_size, schedule, clip, patience   as in `minivae.VAE.fit`
    optimizer    adam, adamw, sgd, nesterov, rmsprop, adagrad, with `lr` and `weight_decay`; or an optimizer, copied
    validation   the share of the rows held out, which chooses the best epoch and serves `patience`
    importance   K, samples of z for each row in `score_samples`
    verbose      whether `fit` prints its progress
    random_state   an integer is the model's seed itself
    columns      for tables of several kinds, with text, categories and gaps: "infer", or a `minivae.Columns`

    Attributes of a fitted one: `vae_` (the `minivae.VAE`), `history_` (a row an epoch), `likelihood_` and `reason_`
    (what "auto" chose, and why), `n_iter_` (epochs), `n_features_in_`, `feature_names_in_`.
    """

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> VAE:
        """Train anew on X (N, D), N ≥ 2; y is not used.

        sample_weight   (N,) of the rows in the loss, ≥ 0
        """
        self._fit(self._checked(X, least=2), sample_weight)
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> VAE:
        """One more epoch, over X (N, D). The first call chooses likelihood and scale, so it should have many rows."""
        first = not hasattr(self, "vae_")
        X = self._checked(X, first, 2 if first else 1)
        weights = self._weights(X, sample_weight)
        if first:
            self._begin(X, weights)
        history = self.vae_.fit(
            X, 1, self.batch_size, self._optimizer, beta=self.beta, binarize=self.vae_.binarize, clip=self.clip,
            free_bits=self.free_bits, progress=bool(self.verbose), weights=weights,
        )  # fmt: skip
        row = history.rows[0]
        if len(self.history_):
            row |= {name: self.history_[name][-1] + row[name] for name in ("epoch", "step", "seconds")}
        self.history_.rows.append(row)
        self.n_iter_ = len(self.history_)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """X (N, D) → the means of q(z|x), (N, latent_dim)."""
        rows = self._rows(X)
        return np.ascontiguousarray(self.vae_.encode(rows)[0])

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Z (N, latent_dim) → E[x|z] (N, D), in the data's units."""
        check_is_fitted(self)
        return self.vae_.decode(check_array(Z, dtype=np.float64))

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`: what `GridSearchCV` makes as large as it can."""
        return float(np.mean(self.score_samples(X)))

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """Draw new rows x ~ p(x), (n_samples, D), in the data's units; the same rows each time for one integer."""
        check_is_fitted(self)
        rows = self.vae_.sample(n_samples, int(check_random_state(random_state).randint(2**31)), draw=True)
        return rows if self.columns is None else self.columns_.to_frame(rows)

    def impute(self, X: Any, draws: int | None = None) -> Any:
        """A table X, of a model with `columns`, with its gaps filled as by `minivae.VAE.impute`; draws: a list."""
        check_is_fitted(self)
        if self.columns is None:
            raise UsageError("impute: this model takes no missing cells; make it with columns='infer'")
        rows, index = self._rows(X), getattr(X, "index", None)
        filled = self.vae_.impute(rows, draws, rows=row_hashes(rows))
        if draws is None:
            return self.columns_.to_frame(filled, index)
        return [self.columns_.to_frame(one, index) for one in filled]

    @property
    def _n_features_out(self) -> int:
        return self.vae_.latent_dim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [np.dtype(self.dtype).name]
        return tags
