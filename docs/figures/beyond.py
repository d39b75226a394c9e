"""The importance-weighted bound against K on a linear-Gaussian model, whose ln p(x) is known."""

import numpy as np
from _book import BLUE, GREY, axes

import minivae as mv
from minivae.article.bayes.linear import LinearGaussian


def draw(full):
    rows = 2000 if full else 300
    X = np.random.default_rng(0).normal(size=(rows, 6))
    sizes, means, errors, exact = (1, 2, 5, 10, 20, 50, 100), [], [], 0.0
    for K in sizes:
        vae = mv.VAE(6, 2, (), likelihood="gaussian:0.5", objective="iwae", samples=K, dtype="float64", seed=3)
        exact = LinearGaussian.of(vae).log_px(X).mean()
        below = LinearGaussian.of(vae).log_px(X) - vae.objective(X).bound_rows
        means.append(below.mean())
        errors.append(below.std(ddof=1) / np.sqrt(rows))
    figure, ax = axes(width=5.5)
    ax.errorbar(sizes, means, errors, fmt="o-", color=BLUE, capsize=3)
    ax.axhline(0, color=GREY, lw=1)
    ax.set(xscale="log", xlabel="samples K", ylabel="ln p(x) − bound, nats a row", xticks=sizes, xticklabels=sizes)
    ax.set_title(f"mean ln p(x) = {exact:.2f}".replace("-", "−"))
    ax.minorticks_off()
    return figure
