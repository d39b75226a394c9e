"""Eq. 14 on a grid for three rows of a small VAE, with the encoder's and the best diagonal Gaussian."""

import numpy as np
from _book import BLUE, GREY, ORANGE, axes

import minivae as mv
from minivae import bayes


def draw(full):
    rng = np.random.default_rng(0)
    angles, places = rng.uniform(0, 2 * np.pi, (128, 1)), np.linspace(0, 2 * np.pi, 12, endpoint=False)
    X = (rng.random((128, 12)) < 1 / (1 + np.exp(-4 * np.cos(angles - places)))).astype(float)
    vae = mv.VAE(12, 1, (8,), "tanh", backend="numpy", dtype="float64", seed=0)
    optimizer = mv.Adam(0.02)
    for _ in range(600 if full else 200):
        vae.train_step(X, optimizer)
    rows = X[[0, 3, 5]]
    exact, gaps, (mean, logvar) = bayes.exact_posterior(vae, rows), bayes.encoder_gaps(vae, rows), vae.encode(rows)
    figure, panels = axes(3, width=7.5, height=2.7)
    for n, panel in enumerate(panels):
        z = exact.axes[n, 0]
        panel.fill_between(z, np.exp(exact.log_density[n]), color=GREY, alpha=0.35, lw=0, label="exact, eq. 14")
        middle, wide = mean[n, 0], 5 * np.exp(0.5 * logvar[n, 0])
        pairs = ((mean, logvar, BLUE, "encoder"), (gaps.best_mean, gaps.best_logvar, ORANGE, "best Gaussian"))
        for m, v, color, label in pairs:
            s = np.exp(0.5 * v[n, 0])
            density = np.exp(-0.5 * ((z - m[n, 0]) / s) ** 2) / (s * np.sqrt(2 * np.pi))
            panel.plot(z, density, color=color, label=label)
        lost = f"{gaps.approximation[n]:.2f} + {gaps.amortisation[n]:.2f} nats"
        panel.set(xlabel="z", yticks=[], title=lost, xlim=(middle - wide, middle + wide))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    return figure
