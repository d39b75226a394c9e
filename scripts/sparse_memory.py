"""Train on sparse counts, and print the largest memory that the process ever held.

    python scripts/sparse_memory.py [--rows 50000] [--columns 20000] [--steps 40]

Rows with 3 % of counts, hidden 128, latent 10, Poisson, batches of 128, float32. Dense they would take 4 GB. The steps
are those of the first epoch: the memory of a step is that of every other.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import sys
from pathlib import Path

import numpy as np
import scipy.sparse as sp

import minivae as mv

SHARE = 33  # one value in so many is not 0


def counts(rows: int, columns: int) -> sp.csr_array:
    """Rows of counts, one in each SHARE columns at a random place of them, made in blocks."""
    rng, each = np.random.default_rng(0), columns // SHARE
    indices = np.empty((rows, each), np.int32)
    values = np.empty((rows, each), np.float32)
    for start in range(0, rows, 1000):
        part = slice(start, start + 1000)
        indices[part] = rng.integers(0, SHARE, indices[part].shape, np.int32)
        values[part] = rng.integers(1, 6, indices[part].shape, np.int32)
    indices += np.arange(0, each * SHARE, SHARE, dtype=np.int32)
    return sp.csr_array(
        (values.ravel(), indices.ravel(), np.arange(0, rows * each + 1, each, dtype=np.int32)), (rows, columns)
    )


def most_memory() -> int:
    """Bytes that this process has held at most; on Linux getrusage counts its parent's too."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1])  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Enough(Exception):
    """So many steps have been made."""


def main() -> None:
    parser = argparse.ArgumentParser(description="The peak memory of training on sparse counts.")
    for name, number in (("rows", 50_000), ("columns", 20_000), ("steps", 40)):
        parser.add_argument(f"--{name}", type=int, default=number)
    options = parser.parse_args()
    X = counts(options.rows, options.columns)
    vae = mv.VAE(options.columns, 10, (128,), likelihood="poisson")
    optimizer, update, made = mv.Adam(), mv.Adam.update, [0]

    def counted(self, *arguments, **more):  # type: ignore[no-untyped-def]
        update(self, *arguments, **more)
        made[0] += 1
        if made[0] == options.steps:
            raise Enough

    mv.Adam.update = counted  # type: ignore[method-assign]
    with contextlib.suppress(Enough):
        vae.fit(X, epochs=1, optimizer=optimizer, progress=False)
    peak = most_memory()
    print(f"{made[0]} steps on {X.shape[0]:,} × {X.shape[1]:,} with {X.nnz:,} non-zeros; peak {peak / 1e6:,.0f} MB")


if __name__ == "__main__":
    main()
