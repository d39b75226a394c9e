"""Kingma & Welling's Fig. 2, run again: the ELBO against the training samples seen."""

import json
from pathlib import Path

from _book import axes

RESULTS = Path(__file__).resolve().parents[2] / "reproductions" / "results" / "kingma.json"


def draw(full):
    figure, ax = axes(width=6.4, height=4)
    for number, (name, curve) in enumerate(json.loads(RESULTS.read_text(encoding="utf-8"))["curves"].items()):
        samples, training, test = zip(*curve, strict=True)
        ax.plot(samples, test, color=f"C{number}", label=f"{name}, test")
        ax.plot(samples, training, color=f"C{number}", linestyle="--", linewidth=1, label=f"{name}, training")
    ax.set(xscale="log", xlabel="training samples seen", ylabel="ELBO, nats", ylim=(-160, -95))
    ax.legend(fontsize=8)
    return figure
