"""Counts of words or of cells: a model that takes them as CSR, and the same model on the same rows, dense.

Without a file: counts of words in the licences, read-me files and descriptions that the installed packages carry. With
one: any file of sparse counts that `mv.load` reads, such as the .h5ad of single cells. Every fifth row is kept for
the test. Both models begin with the same parameters and take the same noise. With the
same parameters they differ by float32's rounding, which updates then enlarge.

  python reproductions/terms.py
  python reproductions/terms.py cells.h5ad:layers/counts --likelihood poisson
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from importlib.metadata import distributions
from typing import Any

import numpy as np
import scipy.sparse as sp

import minivae as mv
from minivae.evaluation.bounds import evaluate

DOCUMENT = re.compile(r"(licen[cs]e|copying|notice|readme|metadata|authors)[^/]*$|\.(rst|md)$", re.IGNORECASE)
WORD = re.compile(r"[a-z]{3,}")
MOST_BYTES = 1 << 16  # of a document


def documents() -> list[str]:
    """Return the texts of the installed packages, without those that occur twice."""
    texts = {}
    for package in distributions():
        for file in sorted(package.files or [], key=str):
            path = file.locate()
            if DOCUMENT.search(str(file)) and path.is_file() and path.stat().st_size <= MOST_BYTES:
                texts[path.read_text("utf-8", errors="replace")] = None
    return list(texts)


def terms(columns: int) -> sp.csr_array:
    """Return how often each document (rows) has each of the words (columns) that most documents have."""
    counts = [found for text in documents() if (found := Counter(WORD.findall(text.lower())))]
    common = Counter(word for found in counts for word in found).most_common(columns)
    place = {word: i for i, (word, _) in enumerate(common)}
    entries = [(row, place[w], n) for row, found in enumerate(counts) for w, n in found.items() if w in place]
    rows, at, values = np.array(entries, np.int64).T
    X = sp.csr_array((values.astype(np.float32), (rows, at)), shape=(len(counts), len(place)))
    return X[np.diff(X.indptr) > 0]


def compare(X: Any, likelihood: str, epochs: int, dtype: str = "float32") -> list[tuple[float, ...]]:
    """Train on X by its non-zeros, then dense → of each: the test rows' ELBO before training and after it, that of the
    other model with the same parameters, and the seconds of CPU that training took.
    """
    test, found = np.arange(X.shape[0]) % 5 == 0, []
    models = [
        mv.VAE(
            X.shape[1],
            10,
            (128,),
            "tanh",
            likelihood,
            init="normal:0.01",
            backend=mv.Backend("numpy", dtype=dtype, sparse=how),
        )
        for how in ("yes", "no")
    ]
    for vae, other, rows, others in zip(models, models[::-1], (X, X.toarray()), (X.toarray(), X), strict=True):
        before, start = evaluate(vae, rows[test]).elbo, time.process_time()
        vae.fit(rows[~test], epochs=epochs, batch_size=64, clip=10.0, progress=False)
        seconds, held = time.process_time() - start, other.buffer.data.copy()
        other.buffer.data[...] = vae.buffer.data
        found.append((before, evaluate(vae, rows[test]).elbo, evaluate(other, others[test]).elbo, seconds))
        other.buffer.data[...] = held
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", help="sparse counts; without it, words of the installed packages")
    parser.add_argument("--columns", type=int, default=5000, help="words")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--likelihood", default="negative-binomial")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    X = mv.load(options.file, hold_out=False).X if options.file else terms(options.columns)
    share = X.nnz / np.prod(X.shape)
    print(f"{X.shape[0]:,} rows of {X.shape[1]:,} columns, {share:.1%} not 0; {options.likelihood}")
    for name, figures in zip(
        ("non-zeros", "dense"), compare(X, options.likelihood, options.epochs, options.dtype), strict=True
    ):
        before, after, other, seconds = figures
        print(f"trained by {name}: {seconds:.1f} s of CPU; test ELBO {before:.4f} before, {after:.4f} after;")
        print(f"    the same parameters, the other way: {other:.4f}, {abs(other / after - 1):.1e} apart")


if __name__ == "__main__":
    main()
