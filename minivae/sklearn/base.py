"""What both estimators share: their parameters, training, and ln p(x) of rows that have no numbers of their own."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import checks, likelihoods
from ..backend import Backend
from ..conditions import row_weights
from ..datasets.choose import choose
from ..datasets.columns import Columns
from ..datasets.order import permutation
from ..datasets.scale import Scale
from ..errors import UsageError
from ..evaluation.bounds import log_likelihood
from ..evaluation.dealt import row_hashes
from ..optim import Optimizer
from ..training.history import History
from ..training.options import make_optimizer
from ..training.schedules import Beta, Schedule
from ..training.state import observed_value
from ..vae import VAE as Engine

VALIDATION_PASS = 1  # of the stream 'split'


class Estimator(BaseEstimator):
    """A VAE with scikit-learn's manners: parameters are kept as given, and looked at in `fit` alone."""

    def __init__(
        self,
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
        optimizer: str | Optimizer = "adam",
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
        self.latent_dim = latent_dim
        self.hidden = hidden
        self.activation = activation
        self.likelihood = likelihood
        self.scale = scale
        self.binarize = binarize
        self.objective = objective
        self.samples = samples
        self.beta = beta
        self.free_bits = free_bits
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip = clip
        self.validation = validation
        self.patience = patience
        self.importance = importance
        self.backend = backend
        self.dtype = dtype
        self.verbose = verbose
        self.random_state = random_state
        self.columns = columns

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = tags.input_tags.categorical = self.columns is not None
        return tags

    def score_samples(self, X: Any, return_std: bool = False) -> Any:
        """ln p(x) of each row of X (N, D), (N,) float64 nats in the data's units; return_std: also its standard error.

        It is estimated by importance sampling with `importance` samples. The noise is keyed by the row's values: a
        row's score is the same alone, in any batch and in any order.
        """
        log_px, error = self._log_px(self._rows(X))
        return (log_px, error) if return_std else log_px

    def _log_px(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return log_likelihood(self.vae_, X, self.importance, rows=row_hashes(X))

    def _begin(self, X: np.ndarray, weights: np.ndarray | None) -> None:
        """A new model, with the likelihood, scale and binarisation that X (N, D) asks for."""
        missing, likelihood = self.columns is not None, self.likelihood
        if missing:
            if likelihood not in ("auto", "mixed"):
                raise UsageError(f"likelihood={likelihood!r} with columns, which give each its own: leave it out")
            likelihood = likelihoods.name_of(self.columns_)
        chosen = choose(observed_value(X) if missing else X, likelihood, self.scale, self.binarize)
        self.vae_ = Engine(
            X.shape[1], self.latent_dim, self.hidden, self.activation, chosen.likelihood, self.objective, self.samples,
            self.backend, None, None if isinstance(self.backend, Backend) else self.dtype, self._seed(),
            missing=missing,
        )  # fmt: skip
        self.vae_.scale = Scale.fit(chosen.scale, X, weights, missing, self.vae_.likelihood.scales)
        self.vae_.binarize = chosen.binarize
        names = self.columns_.names if missing else getattr(self, "feature_names_in_", None)
        self.vae_.columns = None if names is None else tuple(names)
        self.vae_.schema = self.columns_ if missing else None
        self.likelihood_, self.reason_ = self.vae_.likelihood.name, chosen.reason
        self.history_ = History()
        self._optimizer = (
            copy.deepcopy(self.optimizer)
            if isinstance(self.optimizer, Optimizer)
            else make_optimizer(self.optimizer, self.lr, None, self.weight_decay)
        )

    def _seed(self) -> int:
        """The seed of the model: `random_state` itself where that is an integer."""
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31))

    def _fit(self, X: np.ndarray, sample_weight: Any) -> None:
        """Begin anew and train on X (N, D)."""
        weights = self._weights(X, sample_weight)
        self._begin(X, weights)
        train, held = self._split(len(X))
        self.history_ = self.vae_.fit(
            X[train], self.epochs, self.batch_size, self._optimizer, None if held is None else X[held],
            self.beta, self.vae_.binarize, self.patience, self.clip, schedule=self.schedule, free_bits=self.free_bits,
            progress=bool(self.verbose), rows=train, validation_rows=held,
            weights=None if weights is None else weights[train],
        )  # fmt: skip
        self.n_iter_ = len(self.history_)

    def _weights(self, X: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        if sample_weight is None:
            return None
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
        return row_weights("sample_weight", weights, len(X))

    def _split(self, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The numbers of the rows that train and, where `validation` is above 0, of those held out."""
        share = checks.finite_float(
            "validation", self.validation, lambda x: 0 <= x < 1, "a share of the rows in [0, 1)"
        )
        if not share:
            return np.arange(n), None
        held = int(np.ceil(share * n))
        if held == n:
            raise UsageError(f"validation={share:g} leaves none of {n} rows to train on")
        order = permutation(self.vae_.seed, n, "split", VALIDATION_PASS)
        return np.sort(order[held:]), np.sort(order[:held])

    def _rows(self, X: Any) -> np.ndarray:
        """X as an array of the columns that `fit` saw; scikit-learn's errors where it is none."""
        check_is_fitted(self)
        return self._checked(X, reset=False)

    def _checked(self, X: Any, reset: bool = True, least: int = 1) -> np.ndarray:
        """X as an array (N, D), N ≥ least: by the schema of a table, or numbers as scikit-learn checks them."""
        if self.columns is None:
            return validate_data(self, X, reset=reset, ensure_min_samples=least, order="C")
        validate_data(self, X, reset=reset, skip_check_array=True)
        if reset:
            given = isinstance(self.columns, Columns)
            checks.choice("columns", "infer" if given else self.columns, ("infer",))
            self.columns_ = self.columns.fitted(X) if given else Columns.infer(X)
        rows = self.columns_.encode(X)
        if len(rows) < least:
            raise UsageError(f"{len(rows)} sample(s), and a minimum of {least} is required")
        return rows
