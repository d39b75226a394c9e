"""Burda, Grosse & Salakhutdinov (2016), Table 1, MNIST with one stochastic layer: test −ln p(x) and active units.

  python reproductions/burda.py                           # the whole of it: some five days of one core
  python reproductions/burda.py --stages 3                # a prefix of the schedule, 1 + 3 + 9 passes
  python reproductions/burda.py --stages 4 --models iwae-50
  python reproductions/burda.py --quick

The same command again goes on where it stopped; more --stages go on from fewer.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import digits
import numpy as np
import paper

import minivae as mv
from minivae.evaluation.latents import usage

NAME, TITLE = "burda", "Burda et al. 2016, Table 1, one stochastic layer"
SOURCE = (
    "Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, Table 1 "
    "(https://arxiv.org/abs/1509.00519); code: https://github.com/yburda/iwae"
)
PUBLISHED = {  # model: −ln p(x) of the test rows, active units
    "vae-1": ("86.76", "19"), "vae-5": ("86.47", "20"), "vae-50": ("86.35", "20"),
    "iwae-1": ("86.76", "19"), "iwae-5": ("85.54", "22"), "iwae-50": ("84.78", "25"),
}  # fmt: skip
LINES = [
    line
    for model, (nll, units) in PUBLISHED.items()
    for line in (
        paper.Figure(f"{model} nll", f"{model}, −ln p(x)", nll),
        paper.Figure(f"{model} active", f"{model}, active units of 50", units, digits=0),
    )
]
BATCH, SAMPLES, STAGES, LR, TRAINED = 20, 5000, 8, 1e-3, 59_600
PROTOCOL = [
    "784-200-200-50, tanh, Bernoulli; k samples of z a row; a fresh binarisation in each pass over 59,600 rows",
    "Adam (0.9, 0.999, ε 1e-4 of a gradient summed over the batch), batches of 20; 3^i passes at 1e-3·10^(−i/7), "
    "i = 0 … 7: 3280 passes",
    "weights by Glorot & Bengio, the decoder's last bias the logit of each pixel's mean in [0.001, 0.999]",
    "−ln p(x) of the test rows, binarised once, by importance sampling with 5000 samples a row; active: the variance "
    "of the posterior's mean over the test rows is above 0.01",
]
DIFFERENCES = [
    "one stochastic layer alone; for k = 1 the two objectives are one, and were run once",
    "vae-5 and vae-50 take the KL by its formula, there from the samples",
    "their published code has Adam's first decay at 0.99 and second moments that start at 1, takes rows in the same "
    "order in each pass, and rounds the learning rate to 1e-5; here it is as the paper says, and rows are shuffled",
]


def milestones(stages: int = STAGES) -> tuple[float, ...]:
    """Return the passes after which the learning rate falls: 1, 4, 13, … = (3^i − 1)/2."""
    return tuple((3**i - 1) / 2 for i in range(1, stages))


def passes(stages: int) -> int:
    """Return the passes of the first stages: Σ 3^i = (3^stages − 1)/2."""
    return (3**stages - 1) // 2


SCHEDULE = mv.Schedule("milestones", milestones=milestones(), gamma=10 ** (-1 / 7))


def build(model: str, seed: int, mean: np.ndarray, hidden: int = 200, latent: int = 50) -> mv.VAE:
    """Build vae-k or iwae-k, with the paper's initial weights; mean (784,) of the training pixels."""
    kind, _, k = model.partition("-")
    objective = "elbo" if kind == "vae" and k != "1" else "iwae"  # k = 1: the sampled ELBO, for both
    vae = mv.VAE(784, latent, (hidden, hidden), "tanh", objective=objective, samples=int(k), seed=seed)
    p = np.clip(mean, 0.001, 0.999)
    vae.backend.assign(vae.parameters["decoder.2.b"], np.log(p / (1 - p)).astype(np.float32))
    return vae


def run(model: str, options: Any, grey: digits.Digits, test: np.ndarray, hidden: int) -> list[paper.Figure]:
    """Train and evaluate one model; return the lines of its likelihood and its active units."""
    folder = options.runs / ("k-1" if model.endswith("-1") else model)
    vae = build(model, options.seed, grey.train.mean(axis=0), hidden)
    history = paper.train(
        vae, grey.train, folder, epochs=passes(options.stages), batch_size=BATCH, binarize="dynamic",
        optimizer=mv.Adam(LR, eps=1e-4 / BATCH), schedule=SCHEDULE,
    )  # fmt: skip
    log_px, errors = paper.log_likelihood(vae, test[: options.test_rows], options.samples, folder)
    more = {
        "reached": f"{options.stages} of {STAGES} stages, {len(history)} passes",
        "complete": options.stages == STAGES and options.samples >= SAMPLES and len(log_px) == 10_000,
        "seconds": paper.seconds(history),
    }
    nll, active = (line for line in LINES if line.key.split()[0] == model)
    what = f"{nll.what} of {len(log_px):,} rows, {options.samples} samples"
    return [
        paper.measured(replace(nll, what=what), -log_px, errors, **more),
        replace(active, ours=len(usage(vae, test).active), **more),
    ]


def main(argv: list[str] | None = None) -> None:
    parser = paper.parser(__doc__, NAME)
    parser.add_argument("--models", default=",".join(PUBLISHED), help="with commas (default: %(default)s)")
    parser.add_argument("--stages", type=int, default=STAGES, choices=range(1, STAGES + 1), metavar="N",
                        help="the first N of the schedule's 8 stages (default: %(default)s)")  # fmt: skip
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of importance sampling (default: %(default)s)")
    parser.add_argument("--test-rows", type=int, default=10_000, help="the first so many (default: %(default)s)")
    options = parser.parse_args(argv)
    models = paper.names("--models", options.models, PUBLISHED)
    mnist, hidden = digits.grey(), 200
    whole = np.concatenate([mnist.train, mnist.valid])[:TRAINED]
    grey = digits.Digits(
        whole, mnist.valid, mnist.test, "MNIST, binarised anew in each pass; test rows once, PCG64, seed 0"
    )
    test = digits.draw(mnist.test, 0)
    if options.quick:
        grey, test, hidden, models = grey.first(200), test[:200], 16, models[:1] + models[-1:]
        options.stages, options.samples = 2, 5
    result = paper.begin(sys.modules[__name__], grey.name, options)
    for model in models:
        paper.finish(result, run(model, options, grey, test, hidden), options, argv)
    print(paper.show(result))


if __name__ == "__main__":
    paper.run(main)
