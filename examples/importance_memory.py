"""ln p(x) of 1,000 rows with 5,000 samples each, in a few tiles of memory: python examples/importance_memory.py

All samples at once would be 15.7 GB for the decoder's output alone. `log_likelihood` goes through them in tiles and
keeps a running sum of the weights, so that its memory depends on neither rows nor samples. About half a minute on two
cores; real MNIST where MINIVAE_DATA names its folder or it has been fetched.
"""

import time
import tracemalloc

import minivae as mv


def peak_megabytes(vae: mv.VAE, X, samples: int) -> float:
    """The most memory that the estimate holds at any moment, all its arrays together."""
    tracemalloc.start()
    try:
        vae.log_likelihood(X, samples)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def main(rows: int = 1000, samples: int = 5000) -> None:
    X = (mv.load("mnist").X_test[:rows] > 0.5).astype("float32")
    vae = mv.VAE(784, 20, (500,))
    start = time.perf_counter()
    peak = peak_megabytes(vae, X, samples)
    print(f"{rows:,} rows, {samples:,} samples each: {peak:.1f} MB at the peak, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
