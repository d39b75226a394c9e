"""Kingma & Welling (2014), Fig. 2 on MNIST: the ELBO against the training samples seen, for L = 3, 5, 10, 20, 200.

  python reproductions/kingma.py                          # all five, 10 million samples each
  python reproductions/kingma.py --latents 3,20,200
  python reproductions/kingma.py --samples 1000000 --latents 3
  python reproductions/kingma.py --quick

The same command continues a run that stopped; more --samples continue one with fewer. The paper has curves but no
numbers: the comparison is with its statement that superfluous latent variables did not result in overfitting.
"""

from __future__ import annotations

import sys
from typing import Any

import digits
import numpy as np
import paper

import minivae as mv

NAME, TITLE = "kingma", "Kingma & Welling 2014, Fig. 2: the ELBO against training samples"
SOURCE = "Kingma & Welling, Auto-Encoding Variational Bayes, 2014, §5 and Fig. 2 (https://arxiv.org/abs/1312.6114)"
LATENTS, SAMPLES, BATCH, HIDDEN = (3, 5, 10, 20, 200), 10_000_000, 100, 500
LINES = [
    paper.Figure(f"{latent} {part}", f"L = {latent}, {part} ELBO", "a curve")
    for latent in LATENTS
    for part in ("training", "test")
]
STEPS = (0.01, 0.02, 0.1)  # of Adagrad: the paper's three, chosen by the training set in the first few iterations
ROWS = 50_000
PROTOCOL = [
    "784-500-L, tanh, Bernoulli; batches of 100, one sample of z a row; weights N(0, 0.01²), biases 0",
    "Adagrad, its step the best of 0.01, 0.02, 0.1 on the training rows after one pass (500 updates); weight decay "
    "1/N, which is the prior N(0, I) on the parameters",
    "ELBO on the 10,000 test rows and on the first 10,000 of the 50,000 training rows, 16 samples of z a row",
]
DIFFERENCES = [
    "the paper gives no numbers: its curves were not digitised",
    "the paper does not say how pixels became Bernoulli's, nor which rows trained: here one draw, 50,000 rows",
    "the paper's N(0, 0.01) of the first weights is read as σ = 0.01; there the biases are drawn so too",
]


def build(latent: int, seed: int, hidden: int = HIDDEN) -> mv.VAE:
    return mv.VAE(784, latent, (hidden,), "tanh", seed=seed, init="normal:0.01")


def choose_step(latent: int, seed: int, X: np.ndarray, hidden: int = HIDDEN) -> float:
    """Return Adagrad's step size with the best training ELBO after one pass."""
    scores = {}
    for step in STEPS:
        vae = build(latent, seed, hidden)
        optimizer = mv.Adagrad(step, weight_decay=1 / len(X))
        scores[step] = vae.fit(X, epochs=1, batch_size=BATCH, optimizer=optimizer, progress=False)["elbo"][-1]
    print(f"L = {latent}: training ELBO of the first pass " + ", ".join(f"{s:g}: {e:.1f}" for s, e in scores.items()))
    return max(scores, key=lambda step: scores[step])


def run(latent: int, options: Any, bits: digits.Digits, hidden: int) -> tuple[list[paper.Figure], list[list[float]]]:
    """Train one latent size; return its two figures and its curve (samples seen, training ELBO, test ELBO)."""
    folder, N = options.runs / f"latent-{latent}", len(bits.train)
    passes = max(1, round(options.samples / N))
    chosen = folder / "step.txt"
    if not chosen.exists():
        folder.mkdir(parents=True, exist_ok=True)
        paper.write_whole(chosen, f"{choose_step(latent, options.seed, bits.train, hidden)}\n".encode())
    step = float(chosen.read_text())
    vae, optimizer = build(latent, options.seed, hidden), mv.Adagrad(step, weight_decay=1 / N)
    history = paper.train(
        vae, bits.train, folder, epochs=passes, batch_size=BATCH, optimizer=optimizer, validation=bits.test
    )
    last = mv.VAE.load(folder / paper.MODEL, which="last")  # validation is for the curve here: nothing is chosen by it
    curve = [[row["epoch"] * N, round(row["elbo"], 3), round(row["val_elbo"], 3)] for row in history.rows]
    more = {
        "reached": f"{len(history) * N:.3g} samples, step {step:g}",
        "complete": len(history) * N >= SAMPLES,
        "seconds": paper.seconds(history),
    }
    parts = {"training": bits.train[:10_000], "test": bits.test}
    lines = {part: paper.Figure(f"{latent} {part}", f"L = {latent}, {part} ELBO", "a curve") for part in parts}
    return [paper.measured(lines[part], paper.elbo(last, X), **more) for part, X in parts.items()], curve


def main(argv: list[str] | None = None) -> None:
    parser = paper.parser(__doc__, NAME)
    parser.add_argument("--latents", default=",".join(map(str, LATENTS)), help="with commas (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="training samples seen (default: %(default)s)")
    parser.add_argument("--data", metavar="PLACE", help="Larochelle's digits instead of our own draw")
    options = parser.parse_args(argv)
    latents = paper.numbers("--latents", options.latents)
    bits, hidden = digits.binary(options.data), HIDDEN
    if options.quick:
        bits, hidden, latents, options.samples = bits.first(300), 16, latents[:2], 600
    result = paper.begin(sys.modules[__name__], bits.name, options)
    for latent in latents:
        figures, curve = run(latent, options, bits, hidden)
        result.curves[f"L = {latent}"] = curve
        paper.finish(result, figures, options, argv)
    print(paper.show(result))


if __name__ == "__main__":
    paper.run(main)
