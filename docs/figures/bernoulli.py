"""Loss and gradient of one bit against its logit: eq. 19 by the kernel's own reference."""

import numpy as np
from _book import BLUE, ORANGE, axes

from minivae.kernels import bernoulli


def draw(full):
    logits = np.linspace(-6, 6, 241)[:, None]
    figure, panels = axes(2)
    for x, color in ((0.0, BLUE), (1.0, ORANGE)):
        nll, grad = np.empty(len(logits)), np.empty_like(logits)
        bernoulli.reference(np, nll, grad, logits, np.full_like(logits, x), 1.0)
        panels[0].plot(logits, nll, color=color, label=f"x = {x:.0f}")
        panels[1].plot(logits, grad, color=color, label=f"x = {x:.0f}")
    panels[0].set(xlabel="logit", ylabel="nats", title="−ln p(x|z)")
    panels[1].set(xlabel="logit", title="its derivative, ρ − x")
    panels[0].legend()
    return figure
