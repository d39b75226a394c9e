"""Eq. 16 for one dimension, over mean and standard deviation."""

import numpy as np
from _book import axes


def draw(full):
    mean, std = np.meshgrid(np.linspace(-3, 3, 241), np.linspace(0.05, 3, 241))
    kl = 0.5 * (mean**2 + std**2 - 2 * np.log(std) - 1)
    figure, ax = axes(width=5)
    lines = ax.contour(mean, std, kl, levels=[0.02, 0.1, 0.25, 0.5, 1, 2, 3, 4], cmap="viridis", vmax=6)
    places = [*((0, std) for std in (1.34, 1.56, 1.78, 2.12, 2.66)), (2.45, 1), (2.83, 1)]  # one on each line
    ax.clabel(lines, levels=[0.1, 0.25, 0.5, 1, 2, 3, 4], fmt="%g", fontsize=8, manual=places)
    ax.plot(0, 1, "k+", ms=9)
    ax.set(xlabel="mean μ", ylabel="standard deviation σ", title="KL to N(0, 1), nats")
    return figure
