"""784-512-512-128 on binarised MNIST, beside jaanli/variational-autoencoder (JAX): test ELBO −104.867, ln p(x) −96.716.

The published ln p(x) is what some 100 importance samples give; their script's default is 1000. Before its first step it
prints ELBO −565.755 and ln p(x) −557.914 of the validation rows; `--first` measures this difference for our initial
weights.

  python reproductions/jaanli.py                    # our own static binarisation
  python reproductions/jaanli.py --data FOLDER      # Larochelle's files
  python reproductions/jaanli.py --seed 1           # another training: how far the last parameters scatter
  python reproductions/jaanli.py --scale exp        # the posterior's σ as minivae has it, instead of softplus
  python reproductions/jaanli.py --first            # before any training: 100 samples, or 1000?
  python reproductions/jaanli.py --quick

The same command again goes on where it stopped.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import digits
import numpy as np
import paper

import minivae as mv

NAME, TITLE = "jaanli", "jaanli/variational-autoencoder: 784-512-512-128, RMSprop"
SOURCE = "https://github.com/jaanli/variational-autoencoder, README, “jax implementation”, mean-field, step 29999, test"


def lines(scale: str, seed: int) -> list[paper.Figure]:
    """Return the lines of one training: the ELBO, and ln p(x) with each number of SAMPLES."""
    which = f"seed {seed}" + (", σ = exp(½ ln σ²)" if scale == "exp" else "")
    return [
        paper.Figure(f"elbo {scale} {seed}", f"test ELBO, {which}", "−104.867"),
        *(
            paper.Figure(f"ln p(x) {K} {scale} {seed}", f"test ln p(x), {K} samples, {which}", "−96.716")
            for K in SAMPLES
        ),
    ]


STEPS, BATCH, SAMPLES, SEEDS, FIRST_ROWS = 30_000, 128, (1000, 100), (0, 1, 2, 3), 1000
FIRST = [paper.Figure(f"first {K}", f"before training: ln p(x) − ELBO, {K} samples", "7.841") for K in SAMPLES]
LINES = [line for seed in SEEDS for line in lines("softplus", seed)] + lines("exp", 0) + FIRST
PROTOCOL = [
    "784-512-512-128, ReLU, Bernoulli; the posterior's σ is softplus of the encoder's output; one sample of z a row, "
    "the ELBO sampled as ln q(x, z) − ln p(z|x)",
    "50,000 rows to train on, the last parameters, 10,000 test rows, importance sampling with 1000 samples a row",
    "RMSprop, learning rate 1e-3, decay 0.9, no momentum; batches of 128; weights N(0, 1/n_in) cut at 2σ, biases 0",
]
DIFFERENCES = [
    "whole passes: 77 of 391 steps are 30,107 steps, 0.4 % more than 30,000",
    "RMSprop's ε: theirs is 1e-8 inside the root, for a loss summed over the batch; ours 1e-4/128 outside, for its "
    "mean: the same step where the gradient is large against it, and where it is small",
    "rows are shuffled anew in each pass, there within a window of 1280",
    "by all signs the published ln p(x) is an estimate with some 100 samples, not with the 1000 their script has as "
    "its default: before its first step it prints ln p(x) − ELBO = −557.914 + 565.755 on the validation rows; our "
    "first weights (the mean of four seeds on 1,000 rows, its error from their spread) have that difference with "
    "100 samples",
    "the last parameters of a training at a constant step scatter from seed to seed by more than the standard error",
]


class SoftplusScale:
    """An encoder whose second half s is read as σ = softplus(s): H = [μ | ln σ²] with ln σ² = 2 ln softplus(s)."""

    def __init__(self, encoder: Any, latent: int):
        self.encoder, self.layers, self.latent = encoder, encoder.layers, latent

    def forward(self, X: Any) -> Any:
        H = self.encoder.forward(X)
        s = np.maximum(H[:, self.latent :], -80)  # below it softplus is 0 in float32
        softplus = np.logaddexp(0, s)
        self.slope = 2 / (1 + np.exp(-s)) / softplus  # of ln σ² against s
        H[:, self.latent :] = 2 * np.log(softplus)
        return H

    def backward(self, dH: Any, need_dX: bool = True, need_dW: bool = True) -> Any:
        dH[:, self.latent :] *= self.slope
        return self.encoder.backward(dH, need_dX, need_dW)


def build(seed: int, scale: str, widths: tuple[int, ...] = (512, 512), latent: int = 128, **more: Any) -> mv.VAE:
    """Build the model, with Haiku's initial weights; scale: "softplus", or minivae's own "exp"."""
    vae = mv.VAE(784, latent, widths, "relu", objective="iwae", samples=1, seed=seed, backend="numpy", **more)
    rng = np.random.default_rng(seed)
    for name, W in vae.parameters.items():
        if name.endswith(".W"):
            vae.backend.assign(W, (truncated_normal(rng, W.shape) / math.sqrt(W.shape[0])).astype(np.float32))
    if scale == "softplus":
        vae.encoder = SoftplusScale(vae.encoder, latent)
    return vae


def truncated_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw from N(0, 1) truncated to |x| ≤ 2; values outside are drawn again."""
    x = rng.standard_normal(shape)
    while (outside := np.abs(x) > 2).any():
        x[outside] = rng.standard_normal(int(outside.sum()))
    return x


def first(X: np.ndarray, sizes: dict[str, Any], quick: bool) -> list[paper.Figure]:
    """Return the lines of untrained models: means over SEEDS, with the standard error of that mean."""
    gaps = np.empty((len(SAMPLES), len(SEEDS)))
    for j, seed in enumerate(SEEDS):
        vae = build(seed, "softplus", **sizes)
        elbo = paper.elbo(vae, X).mean()
        gaps[:, j] = [vae.log_likelihood(X, 5 if quick else K)[0].mean() - elbo for K in SAMPLES]
    more = {"reached": f"{len(SEEDS)} first weights, {len(X):,} rows", "complete": not quick}
    return [paper.measured(line, rows, **more) for line, rows in zip(FIRST, gaps, strict=True)]


def main(argv: list[str] | None = None) -> None:
    parser = paper.parser(__doc__, NAME)
    parser.add_argument("--data", metavar="PLACE", help="Larochelle's digits: a folder of .amat or .npz, or one .npz")
    parser.add_argument(
        "--first", action="store_true", help="ln p(x) − ELBO before training, with 1000 and 100 samples"
    )
    parser.add_argument("--scale", choices=("softplus", "exp"), default="softplus",
                        help="what makes the posterior's σ of the encoder's output (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(argv)
    bits = digits.binary(options.data)
    passes, sizes = -(-STEPS // -(-50_000 // BATCH)), {}
    if options.quick:
        bits, passes, sizes = bits.first(256), 2, {"widths": (16, 16), "latent": 4}
    if options.first:
        result = paper.begin(sys.modules[__name__], bits.name, options)
        paper.finish(result, first(bits.valid[:FIRST_ROWS], sizes, options.quick), options, argv)
        print(paper.show(result))
        return
    vae = build(options.seed, options.scale, **sizes)
    folder = options.runs / f"{options.scale}-{options.seed}"
    optimizer = mv.RMSprop(1e-3, rho=0.9, eps=1e-4 / BATCH)
    history = paper.train(vae, bits.train, folder, epochs=passes, batch_size=BATCH, optimizer=optimizer)
    result = paper.begin(sys.modules[__name__], bits.name, options)
    steps = int(history["step"][-1])
    more = {"reached": f"{steps:,} steps", "complete": steps >= STEPS, "seconds": paper.seconds(history)}
    elbo, *likelihoods = lines(options.scale, options.seed)
    figures = [paper.measured(elbo, paper.elbo(vae, bits.test), **more)]
    for line, K in zip(likelihoods, SAMPLES, strict=True):
        estimates = paper.log_likelihood(vae, bits.test, 5 if options.quick else K, folder)
        figures.append(paper.measured(line, *estimates, **more))
    paper.finish(result, figures, options, argv)
    print(paper.show(result))


if __name__ == "__main__":
    paper.run(main)
