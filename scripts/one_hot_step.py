"""Time a training step of a table whose categories are one-hot columns, as dense columns and by their ones, in turn.

    OPENBLAS_NUM_THREADS=1 MINIVAE_THREADS=1 python scripts/one_hot_step.py [--hidden 500] [--rounds 100]

20 real columns, 10 counts, and some categories; batches of 128, CPU time, medians of the steps, and of their ratios.
`LEAST_CLASSES` of `minivae/matmul/one_hot.py` rests on it.
"""

import argparse
import time

import numpy as np

import minivae as mv

ROWS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=100)
    options, rng = parser.parse_args(), np.random.default_rng(0)
    for columns, classes in ((10, 8), (10, 16), (10, 32), (1, 300), (1, 1000)):
        parts = rng.normal(size=(ROWS, 20)), rng.poisson(4, (ROWS, 10)), rng.integers(0, classes, (ROWS, columns))
        table = np.column_stack(parts).astype("float32")
        spec = f"mixed:real=0-19;count=20-29;categorical:{classes}=30-{29 + columns}"
        models = []
        for sparse in ("no", "auto"):
            backend = mv.Backend("numpy", sparse=sparse)
            models.append(
                (mv.VAE(30 + columns, 20, (options.hidden,), likelihood=spec, backend=backend), mv.Adam(1e-3))
            )
        seconds = np.empty((options.rounds + 3, 2))
        for row in seconds:
            for k, (vae, optimizer) in enumerate(models):
                start = time.process_time()
                for _ in range(3):
                    vae.train_step(table, optimizer)
                row[k] = (time.process_time() - start) / 3
        dense, listed = 1e6 * np.median(seconds[3:], axis=0)
        ratio = np.median(seconds[3:, 0] / seconds[3:, 1])
        print(
            f"{columns:3d} of {classes:4d} classes: dense {dense:6.0f} µs, by their ones {listed:6.0f} µs, {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
