"""How much the gradient of one batch scatters with the number of samples S (eq. 23)."""

import numpy as np
from _book import BLUE, GREY, ORANGE, axes
from matplotlib.ticker import FormatStrFormatter, LogLocator

import minivae as mv


def draw(full):
    digits = mv.load("digits")
    X = (digits.X[:128] > 0.5).astype("float32")
    vae = mv.VAE(64, latent_dim=10, hidden=(64,), backend="numpy", seed=0)
    vae.fit(digits.X, epochs=20 if full else 5, binarize="dynamic", progress=False)
    rng, sizes, losses, norms = np.random.default_rng(0), (1, 2, 5, 10, 20, 50), [], []
    for samples in sizes:
        loss, grads = [], []
        for _ in range(100 if full else 40):
            eps = rng.standard_normal((samples, len(X), 10)).astype("float32")
            loss.append(vae.objective_and_grad(X, eps=eps).loss)
            grads.append(vae.buffer.grad.copy())
        grads = np.array(grads)
        losses.append(np.std(loss, ddof=1))
        norms.append(np.sqrt(grads.var(axis=0, ddof=1).sum()) / np.linalg.norm(grads.mean(axis=0)))
    figure, panels = axes(2)
    for panel, values, color, title in (
        (panels[0], losses, BLUE, "loss of 128 rows, nats: its spread"),
        (panels[1], norms, ORANGE, "gradient: spread / size"),
    ):
        panel.loglog(sizes, values, "o-", color=color)
        panel.loglog(sizes, values[0] / np.sqrt(sizes), color=GREY, lw=1, ls="--", zorder=3, label="$S^{-1/2}$")
        panel.set(xlabel="samples S", title=title, xticks=sizes, xticklabels=sizes)
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FormatStrFormatter("%g"))
        panel.minorticks_off()
    panels[0].legend()
    return figure
