"""Time a training step of a mixed table beside steps of one likelihood of the same width, in turn, in CPU time.

    OPENBLAS_NUM_THREADS=1 MINIVAE_THREADS=1 python scripts/mixed_step.py [--hidden 500]

The table has 20 real columns, 10 counts and 10 categories of 8: 110 inputs of the encoder, 130 outputs of the decoder,
which the others have too. Of those some have fewer inputs, and so less to multiply and fewer parameters to update: the
table says how many. Medians of 60 rounds of 5 steps each; the last column is the median of each round's ratio.
"""

import argparse
import time

import numpy as np

import minivae as mv

ROUNDS, STEPS, ROWS = 60, 5, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=500)
    hidden, rng = parser.parse_args().hidden, np.random.default_rng(0)
    table = np.column_stack(
        [rng.normal(size=(ROWS, 20)), rng.poisson(4, (ROWS, 10)), rng.integers(0, 8, (ROWS, 10))]
    ).astype("float32")
    rows = {
        "mixed:real=0-19;count=20-29;categorical:8=30-39": table,
        "bernoulli": rng.integers(0, 2, (ROWS, 130)).astype("float32"),
        "poisson": rng.poisson(4, (ROWS, 130)).astype("float32"),
        "negative-binomial": rng.poisson(4, (ROWS, 130)).astype("float32"),
        "gaussian": rng.normal(size=(ROWS, 65)).astype("float32"),
        "categorical:8": rng.integers(0, 8, (ROWS, 16)).astype("float32"),
    }
    rows["categorical:8, one-hot"] = rows["categorical:8"]
    models = {}
    for name, X in rows.items():
        likelihood, _, one_hot = name.partition(", ")
        inputs = f"{one_hot}:8" if one_hot else "auto"
        vae = mv.VAE(X.shape[1], 20, (hidden,), likelihood=likelihood, inputs=inputs, backend="numpy")
        models[name] = vae, X, mv.Adam(1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(ROUNDS + 1):
        for name, (vae, X, optimizer) in models.items():
            start = time.process_time()
            for _ in range(STEPS):
                vae.train_step(X, optimizer)
            if repeat:
                seconds[name].append((time.process_time() - start) / STEPS)
    mixed = np.array(next(iter(seconds.values())))
    for name, found in seconds.items():
        n = models[name][0].encoder.layers[0].n_in
        print(
            f"{name.partition('=')[0]:22s} {n:4d} inputs {1e6 * np.median(found):7.0f} µs   mixed is "
            f"{np.median(mixed / found):.2f} ×"
        )


if __name__ == "__main__":
    main()
