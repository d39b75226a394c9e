"""A training on the digits: 𝓛 and its two terms, and what the model samples before and after."""

import numpy as np
from _book import BLUE, ORANGE, axes

import minivae as mv


def draw(full):
    digits = mv.load("digits")
    vae = mv.VAE(64, latent_dim=10, hidden=(256,), backend="numpy", seed=0)
    before = vae.sample(36)
    rows = []
    vae.fit(digits.X, epochs=200 if full else 20, binarize="dynamic", progress=False, callback=rows.append)
    after = vae.sample(36)
    figure, panels = axes(3, width=7.5, height=2.8, width_ratios=[1.6, 1, 1])
    epochs = [row["epoch"] for row in rows]
    for key, color in (("loss", "black"), ("nll", BLUE), ("kl", ORANGE)):
        panels[0].plot(epochs, [row[key] for row in rows], color=color, label=key)
    panels[0].set(xlabel="epoch", ylabel="nats", ylim=(0, None))
    panels[0].legend()
    for panel, X, title in ((panels[1], before, "samples, before"), (panels[2], after, "and after")):
        tiles = np.pad(X.reshape(6, 6, 8, 8), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.5)
        panel.imshow(tiles.transpose(0, 2, 1, 3).reshape(54, 54), cmap="gray", vmin=0, vmax=1)
        panel.set(title=title)
        panel.axis("off")
    return figure
