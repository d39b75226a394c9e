"""The small models that the tests of `minivae.bayes` share."""

import numpy as np

import minivae as mv


def linear_vae(L, D=5, sigma=0.7, seed=0, dtype="float64"):
    """A linear VAE with parameters of order 1, none of them 0."""
    vae = mv.VAE(D, L, (), likelihood=f"gaussian:{sigma}", backend="numpy", dtype=dtype, seed=seed)
    for name, view in vae.parameters.items():
        view[...] = np.random.default_rng([seed, len(name)]).normal(size=view.shape) * 0.4
    return vae


def small_vae(likelihood="bernoulli", L=1, D=5, activation="tanh", seed=1, dtype="float64"):
    """A VAE with one hidden layer and parameters of order 1."""
    vae = mv.VAE(D, L, (7,), activation, likelihood=likelihood, backend="numpy", dtype=dtype, seed=seed)
    for view in vae.parameters.values():
        view[...] = np.random.default_rng([seed, view.size]).normal(size=view.shape)
    return vae


def rows(vae, N=3, seed=0):
    rng = np.random.default_rng(seed)
    if vae.likelihood.is_density:
        return rng.normal(size=(N, vae.features))
    return (rng.random((N, vae.features)) < 0.5).astype(np.float64)
