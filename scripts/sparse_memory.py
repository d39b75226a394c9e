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


def most_memory() -> tuple[int, int]:
    """Bytes that this process has held at most, and those of them that are files of libraries.

    How much of a library's file is mapped depends on what other processes have read of it. On Linux getrusage counts
    the parent's memory too.
    """
    status = Path("/proc/self/status")
    if status.exists():
        text = status.read_text()
        peak, files = (1024 * int(re.findall(rf"{name}:\s*(\d+)", text)[0]) for name in ("VmHWM", "RssFile"))
        return peak, files
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024), 0


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
    peak, files = (memory / 1e6 for memory in most_memory())
    print(f"{made[0]} steps on {X.shape[0]:,} × {X.shape[1]:,} with {X.nnz:,} non-zeros")
    print(f"peak {peak:,.0f} MB: {files:,.0f} MB of libraries, and {peak - files:,.0f} MB")


if __name__ == "__main__":
    main()
