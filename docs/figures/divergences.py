"""The Gaussian nearest to a distribution with two humps, in either direction of the KL divergence."""

import numpy as np
from _book import BLUE, GREY, ORANGE, axes
from scipy.optimize import minimize

from minivae import bayes


def draw(full):
    x = np.linspace(-7, 7, 4001 if full else 1001)

    def gaussian(mean, std):
        return np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))

    def share(density):
        return np.maximum(density, 1e-300) / density.sum()

    p = 0.6 * gaussian(-1.6, 0.6) + 0.4 * gaussian(2.0, 0.8)

    def nearest(forward, start):
        def distance(h):
            q = share(gaussian(h[0], np.exp(h[1])))
            return bayes.kl_discrete(share(p), q) if forward else bayes.kl_discrete(q, share(p))

        return minimize(distance, start, method="Nelder-Mead").x

    figure, ax = axes(width=6)
    ax.fill_between(x, p, color=GREY, alpha=0.3, lw=0, label="p, two humps")
    for forward, color, label in ((True, BLUE, "least KL(p‖q): covers"), (False, ORANGE, "least KL(q‖p): chooses")):
        mean, log_std = nearest(forward, [-1.0, 0.0])
        ax.plot(x, gaussian(mean, np.exp(log_std)), color=color, label=label)
    ax.set(xlabel="x", ylabel="density", ylim=(0, None))
    ax.legend()
    return figure
