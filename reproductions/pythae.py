"""784-400-40 on binarised MNIST, beside pythae's reproduction of a VAE: test −ln p(x) 89.78 with 200 samples.

python reproductions/pythae.py                    # 500 passes on our own static binarisation
python reproductions/pythae.py --passes 50        # a beginning; the same command with more goes on from there
python reproductions/pythae.py --data FOLDER      # Larochelle's files
python reproductions/pythae.py --layers 2         # with the second hidden layer that their script has in comments
python reproductions/pythae.py --quick
"""

from __future__ import annotations

import math
import sys

import digits
import numpy as np
import paper

import minivae as mv

NAME, TITLE = "pythae", "pythae: 784-400-40, Adam"
SOURCE = (
    "https://github.com/clementchadebec/benchmark_VAE, examples/scripts/reproducibility: README (VAE, Binary MNIST) "
    "and vae.py"
)
LINES = [
    paper.Figure("nll", "test −ln p(x), 200 samples", "89.78"),
    paper.Figure("nll 2", "test −ln p(x), 200 samples, two hidden layers", "89.78"),
]
PASSES, BATCH, SAMPLES = 500, 100, 200
MILESTONES, GAMMA = (200.0, 350.0), 10 ** (-1 / 5)  # 500, 750 and 1000 are past the end
PROTOCOL = [
    "784-400-40, ReLU, Bernoulli; one sample of z a row, the KL by its formula",
    "50,000 rows to train on; after each pass the ELBO on 10,000 validation rows chooses the parameters that are kept",
    "Adam 1e-4, times 10^(−1/5) after 200 and 350 passes; batches of 100, 500 passes; first weights and biases "
    "uniform in ±1/√n_in",
    "−ln p(x) of the 10,000 test rows by importance sampling, 200 samples a row",
]
DIFFERENCES = [
    "one round of importance sampling, there the mean of five (their spread: 0.01)",
    "vae.py has a second hidden layer of 400 units in comments, in encoder and decoder; with it we come to the "
    "published number, and without it we do not: by all signs the published model has it",
    "the learning rate, the batch and the number of passes are in no file of that repository: these are ours",
]


def build(seed: int, layers: int = 1, hidden: int = 400, latent: int = 40) -> mv.VAE:
    """Build the model, with the initial weights and biases of PyTorch's Linear."""
    vae = mv.VAE(784, latent, (hidden,) * layers, "relu", seed=seed)
    rng = np.random.default_rng(seed)
    for name, W in vae.parameters.items():
        if name.endswith(".W"):
            b, bound = vae.parameters[name[:-1] + "b"], 1 / math.sqrt(W.shape[0])
            for tensor in (W, b):
                vae.backend.assign(tensor, rng.uniform(-bound, bound, tensor.shape).astype(np.float32))
    return vae


def main(argv: list[str] | None = None) -> None:
    parser = paper.parser(__doc__, NAME)
    parser.add_argument("--passes", type=int, default=PASSES, help="over the training rows (default: %(default)s)")
    parser.add_argument("--data", metavar="PLACE", help="Larochelle's digits: a folder of .amat or .npz, or one .npz")
    parser.add_argument("--layers", type=int, choices=(1, 2), default=1,
                        help="hidden layers of encoder and decoder, of 400 each (default: %(default)s)")  # fmt: skip
    options = parser.parse_args(argv)
    bits, vae, samples = digits.binary(options.data), build(options.seed, options.layers), SAMPLES
    folder = options.runs / f"layers-{options.layers}"
    if options.quick:
        bits, vae, samples, options.passes = bits.first(300), build(options.seed, options.layers, 16, 4), 5, 2
    schedule = mv.Schedule("milestones", milestones=MILESTONES, gamma=GAMMA)
    history = paper.train(
        vae, bits.train, folder, epochs=options.passes, batch_size=BATCH, optimizer=mv.Adam(1e-4),
        schedule=schedule, validation=bits.valid,
    )  # fmt: skip
    log_px, errors = paper.log_likelihood(vae, bits.test, samples, folder)
    result = paper.begin(sys.modules[__name__], bits.name, options)
    passes = len(history)
    more = {"reached": f"{passes} of {PASSES} passes", "complete": passes >= PASSES, "seconds": paper.seconds(history)}
    paper.finish(result, [paper.measured(LINES[options.layers - 1], -log_px, errors, **more)], options, argv)
    print(paper.show(result))


if __name__ == "__main__":
    paper.run(main)
