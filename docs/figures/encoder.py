"""Eq. 16 for one dimension, over mean and standard deviation."""

import numpy as np
from _book import axes


def draw(full):
    mean, std = np.meshgrid(np.linspace(-3, 3, 241), np.linspace(0.05, 3, 241))
    kl = 0.5 * (mean**2 + std**2 - 2 * np.log(std) - 1)
    figure, ax = axes(width=5)
    lines = ax.contour(mean, std, kl, levels=[0.02, 0.1, 0.25, 0.5, 1, 2, 3, 4], cmap="viridis")
    ax.clabel(lines, fmt="%g", fontsize=8)
    ax.plot(0, 1, "k+", ms=9)
    ax.set(xlabel="mean μ", ylabel="standard deviation σ", title="KL to N(0, 1), nats")
    return figure
