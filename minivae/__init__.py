"""minivae: a variational auto-encoder engine whose every forward and backward pass is written by hand.

    import minivae as mv
    vae = mv.VAE(784, latent_dim=20, hidden=(500,))
    vae.fit(X, epochs=10)

This page holds the public names only, and loads what is asked for: importing it loads neither Numba nor CuPy.
Reading order: backend, buffers, layers, latent, likelihoods, noise, vae; each beside its kernels in `kernels/`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "VAE": "vae",
    "Terms": "objectives",
    "Backend": "backend",
    "UsageError": "errors",
    "UsageWarning": "errors",
    "LIKELIHOODS": "likelihoods",
    "register_likelihood": "likelihoods",
    "SGD": "optim",
    "Adagrad": "optim",
    "RMSprop": "optim",
    "Adam": "optim",
    "AdamW": "optim",
    "Schedule": "training.schedules",
    "Beta": "training.schedules",
    "History": "training.history",
    "Diverged": "training.guard",
    "Dataset": "datasets.load",
    "Columns": "datasets.columns",
    "Scale": "datasets.scale",
    "load": "datasets.load",
    "choose_likelihood": "datasets.choose",
    "explain": "article.equations",
    "ranks": "distributed.mpi",
}

_ROOMS = {"bayes": "article.bayes", "plots": "plots"}  # sub-packages, loaded when asked for

__all__ = ["__version__", *_HOME, *_ROOMS]

if TYPE_CHECKING:
    from . import plots
    from .article import bayes
    from .article.equations import explain
    from .backend import Backend
    from .datasets.choose import choose_likelihood
    from .datasets.columns import Columns
    from .datasets.load import Dataset, load
    from .datasets.scale import Scale
    from .distributed.mpi import ranks
    from .errors import UsageError, UsageWarning
    from .likelihoods import LIKELIHOODS, register_likelihood
    from .objectives import Terms
    from .optim import SGD, Adagrad, Adam, AdamW, RMSprop
    from .training.guard import Diverged
    from .training.history import History
    from .training.schedules import Beta, Schedule
    from .vae import VAE


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{_ROOMS[name]}")
    if name not in _HOME:
        raise AttributeError(f"module 'minivae' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
