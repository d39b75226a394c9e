"""inputs: validate the arguments of this folder's functions, arrays or lists → float64, or UsageError."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import checks
from ...errors import UsageError
from ...vae import VAE

SUM_TOLERANCE = 1e-9  # allowed distance of a sum of probabilities from 1: more than float64's rounding, not float32's


def depth(x: Any) -> int:
    """Return the number of dimensions of x; 0 for a ragged list, which `numbers` then rejects."""
    try:
        return np.ndim(x)
    except ValueError:
        return 0


def numbers(name: str, x: Any, ndim: int) -> np.ndarray:
    """Finite real numbers in `ndim` dimensions, none of them empty."""
    try:
        array = np.asarray(x)
    except ValueError:  # a ragged list
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf" or array.ndim != ndim or array.size == 0:
        came = f"{array.dtype}, shape {array.shape}"
        raise UsageError(f"{name}: expected an array of real numbers in {ndim} dimension(s); got {came}")
    if not np.isfinite(array).all():
        raise UsageError(f"{name}: expected finite numbers; it holds a NaN or an infinity")
    return array.astype(np.float64)


def probabilities(name: str, p: Any, ndim: int = 1) -> np.ndarray:
    """Probabilities: ≥ 0, and their sum over the last axis is 1."""
    array = numbers(name, p, ndim)
    if (array < 0).any():
        raise UsageError(f"{name}: expected probabilities ≥ 0; the smallest is {array.min():g}")
    sums = array.sum(axis=-1)
    worst = float(sums.flat[np.abs(sums - 1).argmax()])
    if abs(worst - 1) > SUM_TOLERANCE:
        where = "" if ndim == 1 else " in each row"
        raise UsageError(
            f"{name}: expected probabilities whose sum{where} is 1; got {worst:.12g}: "
            "divide them by their sum, in float64"
        )
    return array


def same_shape(**arrays: np.ndarray) -> None:
    """Arrays of one shape, by name."""
    if len({array.shape for array in arrays.values()}) > 1:
        came = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"expected arrays of one shape; got {came}")


def covariance(name: str, given: Any, dims: int) -> np.ndarray:
    """(dims, dims), symmetric and positive definite; a vector (dims,) is its diagonal: the variances σ² > 0."""
    array = numbers(name, given, 1 if depth(given) == 1 else 2)
    if array.ndim == 1:
        array = np.diag(array)
    if array.shape != (dims, dims):
        raise UsageError(f"{name}: expected {dims} variances, or ({dims}, {dims}); got shape {np.shape(given)}")
    if not np.allclose(array, array.T, rtol=1e-10, atol=0):
        raise UsageError(f"{name}: expected variances σ² > 0, or a symmetric matrix; it is not symmetric")
    smallest = float(np.linalg.eigvalsh(array).min())
    if smallest <= 0:
        raise UsageError(
            f"{name}: expected variances σ² > 0, or a symmetric matrix whose eigenvalues are > 0; "
            f"the smallest is {smallest:g}"
        )
    return array


def unscaled(vae: Any) -> VAE:
    """A model without a scale: for what calls encoder and decoder directly, in the data's units."""
    checks.instance_of("vae", vae, VAE, "a mv.VAE")
    if vae.scale is not None:
        raise UsageError(
            f"vae: expected a model without a scale, whose units are the data's; this one has {vae.scale.kind!r}: "
            "set vae.scale = None and give rows that are scaled already"
        )
    return vae
