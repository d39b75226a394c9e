"""tiles: ln w of importance samples, where one kernel computes it from the noise on, or layer by layer.

One kernel does for many samples where the likelihood is Bernoulli: on the CPU, fused, in float32, with no value
missing, and with a BLAS whose routines can be called by their address (`importance_kernel.py`). The layers of
the model do everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..backend import Array
from ..inputs import Batch
from ..model import Model
from ..objectives.iwae import log_weights
from . import importance_kernel as kernel
from .dealt import at_a_time
from .passes import nll_of

TILE_ROWS = 2048  # decoder rows in memory at a time
CACHED_VALUES = 600_000  # outputs that stay in the cache until their losses are known: 2.4 MB
LEAST_ROWS = 256  # of a product that is worth packing W for
NOISE_VALUES = 2**20  # of the noise that the kernel is given at a time: 4 MB
LEAST_SAMPLES = 50  # of a row: fewer make too few tiles for the threads

Weigh = Callable[[Array], Array]


def weigh(vae: Model, batch: Batch, H: Array, samples: int) -> tuple[Weigh, int]:
    """Return a function eps (k, b, L) → ln w (k, b) in float64, of rows with H (b, 2L); and how many k·b it takes.

    ln w = ln p(x|z) + ln p(z) − ln q(z|x), z = μ + σ ⊙ ε (eq. 7).
    samples   of each row, in all calls together
    """
    backend, width = vae.backend, vae.likelihood.width
    fused = backend.kernels == "fused" and backend.dtype == np.float32 and hasattr(backend.gemm, "address")
    suits = fused and vae.likelihood.name == "bernoulli" and batch.mask is None
    if suits and samples >= LEAST_SAMPLES and LEAST_ROWS * width <= CACHED_VALUES:
        rows = min(TILE_ROWS, max(LEAST_ROWS, CACHED_VALUES // 2 // width))  # half of it: each thread has a tile
        return _by_one_kernel(vae, batch, H, rows), max(rows, NOISE_VALUES // vae.latent_dim)

    def by_layers(eps: Array) -> Array:
        (k, b, L), (Z, *_) = eps.shape, vae.posterior.forward(H, eps)
        nll = nll_of(vae, vae.decoded(Z.reshape(k * b, L), batch), batch)
        log_w, *_ = log_weights(vae.posterior, nll.reshape(k, b), 1.0)
        return log_w.astype("float64")

    return by_layers, at_a_time(vae, min(TILE_ROWS, max(LEAST_ROWS, CACHED_VALUES // width)))


def _by_one_kernel(vae: Model, batch: Batch, H: Array, rows: int) -> Weigh:
    b, L = len(H), vae.latent_dim
    sigma = np.exp(0.5 * H[:, L:])
    condition = np.zeros((b, 0)) if batch.condition is None else batch.condition
    condition = np.ascontiguousarray(condition, H.dtype)
    X = kernel.filled_up(batch.X, 0)
    layers, places = vae.decoder.layers, vae.buffer.offsets
    bias = kernel.filled_up(layers[-1].b, kernel.NOTHING)
    table = [[places[f"{at.name}.W"], places[f"{at.name}.b"], at.n_in, at.n_out] for at in layers]
    model = vae.buffer.data, np.array(table, np.int64), vae.backend.gemm.address[H.dtype], vae.activation

    def by_one_kernel(eps: Array) -> Array:
        log_w = np.empty(eps.shape[:2])
        take = partial(vae.workspace.take, "importance.work")
        kernel.log_weights(log_w.reshape(-1), eps.reshape(-1, L), H, sigma, condition, X, bias, *model, rows, take)
        return log_w

    return by_one_kernel
