"""Mean squared error against KL on the digits, for several fixed σ (eq. 22)."""

import numpy as np
from _book import BLUE, axes

import minivae as mv


def draw(full):
    digits = mv.load("digits")
    rate, error, sigmas = [], [], (0.05, 0.1, 0.2, 0.4, 0.8)
    for sigma in sigmas:
        vae = mv.VAE(64, latent_dim=10, hidden=(128,), likelihood=f"gaussian:{sigma}", backend="numpy", seed=0)
        vae.fit(digits.X, epochs=200 if full else 12, progress=False)
        rate.append(vae.objective(digits.X_test.astype("float32")).kl)
        error.append(np.mean((vae.reconstruct(digits.X_test) - digits.X_test) ** 2))
    figure, ax = axes(width=5.5)
    ax.plot(rate, error, "o-", color=BLUE)
    for x, y, sigma in zip(rate, error, sigmas, strict=True):
        ax.annotate(f"σ = {sigma:g}", (x, y), (5, 6), textcoords="offset points", fontsize=8)
    ax.set(xlabel="rate: KL, nats a picture", ylabel="mean squared error", ylim=(0, None), xlim=(-0.5, None))
    return figure
