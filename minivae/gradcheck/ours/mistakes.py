"""mistakes: wrong gradients for `mutations.py` to plant. A new one is a function and a row in OF_GRADIENTS or OF_OPS.

Each changes a backward only, and a model would still train with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..problem import Arrays, Problem, with_backward

Gradients = list[np.ndarray | None]
Backward = Callable[[Arrays, Arrays], Gradients]


# ---- mistakes of the gradient ---------------------------------------------------------------------------------------
# Each: (problem, k) → a new backward, or None where it would change nothing.


def _scaled(factor: float) -> Callable[[Problem, int], Backward | None]:
    return lambda problem, k: _with(problem, k, lambda g: factor * g)


def _with(problem: Problem, k: int, change: Callable[[np.ndarray], np.ndarray]) -> Backward:
    """Return a backward whose gradient k is changed."""

    def backward(inputs: Arrays, upstream: Arrays) -> Gradients:
        grads = problem.backward(inputs, upstream)
        g = grads[k]
        return [change(g.copy()) if i == k and g is not None else other for i, other in enumerate(grads)]

    return backward


def _if_different(problem: Problem, k: int, change: Callable[[np.ndarray], np.ndarray]) -> Backward | None:
    """`_with`, or None if the change would not alter this gradient."""
    g = problem.backward([x.copy() for x in problem.inputs], [u.copy() for u in problem.upstream])[k]
    if g is None or np.allclose(change(g.copy()), g, rtol=1e-6, atol=1e-6 * np.abs(g).max()):
        return None
    return _with(problem, k, change)


def _rows(problem: Problem) -> int:
    return next((n for name, n in problem.sizes.items() if name.startswith("B,")), len(problem.inputs[0]))


def _transposed(problem: Problem, k: int) -> Backward | None:
    if problem.inputs[k].ndim != 2 or 1 in problem.inputs[k].shape:
        return None
    return _if_different(problem, k, lambda g: np.ascontiguousarray(g.T).reshape(g.shape))


def _one_entry(problem: Problem, k: int) -> Backward | None:
    def change(g: np.ndarray) -> np.ndarray:
        i = int(np.argmax(np.abs(g)))
        g.flat[i] *= 1.01
        return g

    return _if_different(problem, k, change) or _with(problem, k, lambda g: g + 0.1)


def _last_row_missing(problem: Problem, k: int) -> Backward | None:
    def change(g: np.ndarray) -> np.ndarray:
        g[-1:] = 0
        return g

    return _if_different(problem, k, change)


def _not_whole(problem: Problem, k: int) -> Backward | None:
    def change(g: np.ndarray) -> np.ndarray:
        g.reshape(-1)[-1] = np.nan  # what a poisoned buffer holds
        return g

    return _with(problem, k, change)


def _stale(problem: Problem, k: int) -> Backward:
    kept: list[np.ndarray | None] = []

    def backward(inputs: Arrays, upstream: Arrays) -> Gradients:
        grads = problem.backward(inputs, upstream)
        kept.append(grads[k])
        grads[k] = kept[-2] if len(kept) > 1 else kept[-1]
        return grads

    return backward


def _accumulated(problem: Problem, k: int) -> Backward:
    total: list[np.ndarray] = []

    def backward(inputs: Arrays, upstream: Arrays) -> Gradients:
        grads = problem.backward(inputs, upstream)
        g = grads[k]
        if g is not None:
            total[:] = [total[0] + g] if total else [g.copy()]
            grads[k] = total[0].copy()
        return grads

    return backward


def _upstream_ignored(problem: Problem, k: int) -> Backward | None:
    if all(u.ndim == 0 for u in problem.upstream):
        return None
    return lambda inputs, upstream: problem.backward(inputs, [np.ones_like(u) for u in upstream])


def _input_changed(problem: Problem, k: int) -> Backward:
    def backward(inputs: Arrays, upstream: Arrays) -> Gradients:
        grads = problem.backward(inputs, upstream)
        inputs[k] += 1.0
        return grads

    return backward


OF_GRADIENTS: dict[str, Callable[[Problem, int], Backward | None]] = {
    "× 1.001": _scaled(1.001),
    "sign": _scaled(-1.0),
    "× 2": _scaled(2.0),
    "× ½": _scaled(0.5),
    "× B: sum for mean": lambda problem, k: _scaled(float(_rows(problem)))(problem, k),
    "× 1/B: mean for sum": lambda problem, k: _scaled(1.0 / _rows(problem))(problem, k),
    "zero": _scaled(0.0),
    "transposed": _transposed,
    "shifted by one": lambda problem, k: _if_different(problem, k, lambda g: np.roll(g, 1)),
    "one entry × 1.01": _one_entry,
    "last row missing": _last_row_missing,
    "a constant added": lambda problem, k: _with(problem, k, lambda g: g + 1e-4 * np.abs(g).max() + 1e-9),
    "rounded to float16": lambda problem, k: _if_rounding_shows(problem, k),
    "not written whole": _not_whole,
    "stale buffer": _stale,
    "accumulated": _accumulated,
    "upstream ignored": _upstream_ignored,
    "input changed": _input_changed,
}


def _if_rounding_shows(problem: Problem, k: int) -> Backward | None:
    g = problem.backward([x.copy() for x in problem.inputs], [u.copy() for u in problem.upstream])[k]
    if g is None or not np.any(g) or np.abs(g).max() > 6e4:
        return None
    return _with(problem, k, lambda g: g.astype(np.float16).astype(np.float64))


# ---- mistakes inside minivae's ops ----------------------------------------------------------------------------------
# Each is called in place of the op, with the op and its arguments.


def _kl_dropped(op, dH, dZ, eps, sigma, H, kl_weight):
    op(dH, dZ, eps, sigma, H, 0 * kl_weight)


def _sigma_of_logvar(op, dH, dZ, eps, sigma, H, kl_weight):
    """σ = e^{logvar} in the backward, e^{½ logvar} in the forward."""
    op(dH, dZ, eps, sigma * sigma, H, kl_weight)


def _half_dropped(op, dH, dZ, eps, sigma, H, kl_weight):
    """Drop the ½ of dσ/dv = ½ σ."""
    op(dH, dZ, eps, sigma, H, kl_weight)
    L = sigma.shape[1]
    dH[:, L:] += 0.5 * sigma * (eps * dZ).sum(axis=0)


def _noise_redrawn(seed: list[int]):
    def call(op, dH, dZ, eps, sigma, H, kl_weight):
        seed[0] += 1
        fresh = np.random.default_rng(seed[0]).normal(size=eps.shape)
        op(dH, dZ, fresh.astype(eps.dtype), sigma, H, kl_weight)

    return call


def _one_sample(op, dH, dZ, eps, sigma, H, kl_weight):
    """Use only the first of S samples."""
    op(dH, dZ[:1], eps[:1], sigma, H, kl_weight)


def _slope_omitted(op, dA, db, partial, Y, A, activation):
    op(dA, db, partial, Y, A, "identity")


def _bias_of_one_row(op, dA, db, partial, Y, A, activation):
    op(dA, db, partial, Y, A, activation)
    db[...] = dA[-1]


def _bias_averaged(op, dA, db, partial, Y, A, activation):
    op(dA, db, partial, Y, A, activation)
    db[...] = db / dA.shape[0]


def _bias_not_written(op, dA, db, partial, Y, A, activation):
    kept = db.copy()
    op(dA, db, partial, Y, A, activation)
    db[...] = kept


def _slope_at_other_point(op, dA, db, partial, Y, A, activation):
    """Compute the slope from the activation's input if it is a function of the output, or the reverse."""
    op(dA, db, partial, 0.5 * Y, None if A is None else 0.5 * A, activation)


def _weights_uniform(op, log_w, weight, bound, nll, Z, eps, H, beta):
    """Weight every sample by 1/(B·S), as the ELBO does."""
    op(log_w, weight, bound, nll, Z, eps, H, beta)
    weight[...] = 1 / weight.size


def _weights_of_likelihoods(op, log_w, weight, bound, nll, Z, eps, H, beta):
    """Use the softmax of ln p(x|z), without the ratio of prior and posterior."""
    op(log_w, weight, bound, nll, Z, eps, H, 0.0)


def _prior_dropped(op, dH, dZ, eps, sigma, Z, weight, beta):
    """Drop z, which is −d ln p(z)/dz."""
    op(dH, dZ, eps, sigma, 0 * Z, weight, beta)


def _entropy_dropped(op, dH, dZ, eps, sigma, Z, weight, beta):
    """Drop −½, which is d ln q(z|x)/dv."""
    op(dH, dZ, eps, sigma, Z, weight, beta)
    dH[:, sigma.shape[1] :] += 0.5 * beta * weight.sum(axis=0)[:, None]


def _normaliser_dropped(op, nll_rows, d_logits, logits, X, weight):
    """Drop the gradient of the continuous Bernoulli's normaliser: only the cross-entropy's is left."""
    from ...kernels import bernoulli  # here, so that mistakes can be planted in your code without the engine

    bernoulli.reference(np, nll_rows, d_logits, logits, X, weight)


def _half_of_logvar_dropped(op, nll_rows, d_out, clamped, out, X, weight):
    """Drop the ½ before ln σ²."""
    op(nll_rows, d_out, clamped, out, X, weight)
    if d_out is not None:
        d_out[:, X.shape[1] :] *= 2


def _variance_of_one_row(op, nll_rows, d_mean, d_logvar, clamped, mean, logvar, X, weight):
    """Use only the last row's gradient for a learned σ."""
    op(nll_rows, d_mean, d_logvar, clamped, mean, logvar, X, weight)
    last = np.ravel(weight)[-1]
    squared = ((mean[-1] - X[-1]) ** 2).sum() * np.exp(-logvar)
    if d_mean is not None:
        d_logvar[...] = last * 0.5 * (X.shape[1] - squared)


OF_OPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "KL dropped": ("latent_backward", _kl_dropped),
    "σ = e^{logvar} backward": ("latent_backward", _sigma_of_logvar),
    "½ of σ dropped": ("latent_backward", _half_dropped),
    "noise redrawn": ("latent_backward", _noise_redrawn([0])),
    "one sample of S": ("latent_backward", _one_sample),
    "weights uniform": ("importance_forward", _weights_uniform),
    "weights without prior": ("importance_forward", _weights_of_likelihoods),
    "prior dropped": ("importance_backward", _prior_dropped),
    "entropy dropped": ("importance_backward", _entropy_dropped),
    "slope omitted": ("dense_backward", _slope_omitted),
    "slope at another point": ("dense_backward", _slope_at_other_point),
    "bias sum missing": ("dense_backward", _bias_of_one_row),
    "bias averaged": ("dense_backward", _bias_averaged),
    "bias not written": ("dense_backward", _bias_not_written),
    "normaliser dropped": ("continuous_bernoulli", _normaliser_dropped),
    "½ of ln σ² dropped": ("gaussian", _half_of_logvar_dropped),
    "σ² of one row": ("gaussian_shared", _variance_of_one_row),
}


# ---- mistakes of the product Xᵀ dA by the non-zeros of X -------------------------------------------------------------
# Each is called in place of the product, with it, the non-zeros by columns (`matmul/sparse.py`) and its arguments.


def _last_dropped(op, X, out, M):
    """The last non-zero of the fullest column is left out."""
    bounds = X.bounds
    X.bounds = bounds.copy()
    X.bounds[1, 0, np.argmax(bounds[1, 0] - bounds[0, 0])] -= 1
    op(X, out, M)
    X.bounds = bounds


def _block_dropped(op, X, out, M):
    """All but the first of the blocks of rows are left out."""
    bounds, X.bounds = X.bounds, X.bounds[:, :1].copy()
    op(X, out, M)
    X.bounds = bounds


def _row_shifted(op, X, out, M):
    """Each non-zero is taken for one of the row before, but in a block's first row."""
    rows, X.rows = X.rows, np.maximum(X.rows, 1) - np.uint8(1)
    op(X, out, M)
    X.rows = rows


def _values_ignored(op, X, out, M):
    """Every non-zero is taken for 1."""
    values, X.values = X.values, None
    op(X, out, M)
    X.values = values


def _columns_shifted(op, X, out, M):
    """The places of each column are those of the column before."""
    bounds, X.bounds = X.bounds, np.roll(X.bounds, 1, axis=2)
    op(X, out, M)
    X.bounds = bounds


def _unit_wrong(op, X, out, M):
    """The gradient of the last unit's weights is that of the first one's."""
    op(X, out, M)
    out[:, -1] = out[:, 0]


OF_PRODUCTS: dict[str, Callable[..., Any]] = {
    "a non-zero dropped": _last_dropped,
    "blocks of rows dropped": _block_dropped,
    "rows of non-zeros shifted": _row_shifted,
    "columns of non-zeros shifted": _columns_shifted,
    "values of non-zeros ignored": _values_ignored,
    "a wrong column of dW": _unit_wrong,
}


@contextmanager
def _replaced(ops: Any, name: str, mistake: Callable[..., Any]) -> Iterator[None]:
    op = getattr(ops, name)
    setattr(ops, name, lambda *args: mistake(op, *args))
    try:
        yield
    finally:
        setattr(ops, name, op)


def of_op(problem: Problem, op: str, mistake: Callable[..., Any], ops: Any = None) -> Backward | None:
    """Return a backward with one of its ops replaced; None if it does not use the op, or its gradients are the same.

    ops   what has the op; None: the problem's
    """
    ops = problem.ops if ops is None else ops
    if not hasattr(ops, op):
        return None

    def backward(inputs: Arrays, upstream: Arrays) -> Gradients:
        with _replaced(ops, op, mistake):
            return problem.backward(inputs, upstream)

    def once(function: Backward) -> Gradients:
        return function([x.copy() for x in problem.inputs], [u.copy() for u in problem.upstream])

    right, wrong = once(problem.backward), once(backward)
    pairs = [(a, b) for a, b in zip(right, wrong, strict=True) if a is not None and b is not None]
    if all(np.allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(a).max(initial=0.0)) for a, b in pairs):
        return None
    return backward


def mistakes(problem: Problem) -> Iterator[tuple[str, str, Problem]]:
    """Yield (mistake, tensor, the problem with the mistake planted) for all that apply.

    In an op every tensor gets every mistake; in a model the tensors take turns.
    """
    count = len(problem.names)
    for number, (name, make) in enumerate(OF_GRADIENTS.items()):
        tried = range(count) if count <= 3 else [(number + i) % count for i in range(count)]
        for k in tried:
            backward = make(problem, k)
            if backward is not None:
                yield name, problem.names[k], with_backward(problem, backward)
                if count > 3:
                    break
    for name, (op, mistake) in OF_OPS.items():
        backward = of_op(problem, op, mistake)
        if backward is not None:
            yield name, op, with_backward(problem, backward)
    if "sparse" not in problem.name:
        return
    from ...matmul.sparse import Columns

    for name, mistake in OF_PRODUCTS.items():
        backward = of_op(problem, "times", mistake, Columns)
        if backward is not None:
            yield name, "Xᵀ dA", with_backward(problem, backward)
