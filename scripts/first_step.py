"""Compare checkouts by the CPU seconds of `import minivae`, `minivae --help`, and a first step on an empty Numba cache.

    python scripts/first_step.py 10 before=/path/to/one/checkout now=.

The checkouts take turns, each time in a new process; printed are the medians of so many turns, and all values.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SPENT = "\nimport time; print(time.process_time(), file=sys.stderr)"
WORK = {
    "import": "import minivae",
    "--help": "import runpy; sys.argv = ['minivae', '--help']\n"
    "try: runpy.run_module('minivae', run_name='__main__')\n"
    "except SystemExit: pass",
    "first step": "import numpy as np, minivae as mv\n"
    "X = np.random.default_rng(0).random((128, 64), 'float32')\n"
    "vae = mv.VAE(64, latent_dim=10, hidden=(256,), backend=mv.Backend('numpy', gemm='numpy'))\n"
    "vae.fit(X, epochs=1, binarize='dynamic', optimizer=mv.Adam(1e-3))",
}


def seconds(root: Path, work: str) -> float:
    """CPU seconds of a process that does the work with the checkout at `root`."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", f"import sys\n{work}{SPENT}"]
        done = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True, check=True)
    return float(done.stderr.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("turns", type=int)
    parser.add_argument("checkouts", nargs="+", metavar="NAME=FOLDER")
    options = parser.parse_args()
    roots = {name: Path(folder).resolve() for name, _, folder in (text.partition("=") for text in options.checkouts)}
    for what, work in WORK.items():
        found: dict[str, list[float]] = {name: [] for name in roots}
        for _ in range(options.turns):
            for name, root in roots.items():
                found[name].append(seconds(root, work))
        for name, values in found.items():
            print(f"{what:10}  {name:10}  {statistics.median(values):6.2f} s   {' '.join(f'{x:.2f}' for x in values)}")


if __name__ == "__main__":
    main()
