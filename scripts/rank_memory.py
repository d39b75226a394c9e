"""How much memory of its own does each rank take for a file that cannot be mapped as it is?

    python scripts/rank_memory.py [--ranks 2]

`minivae train` under mpiexec on an .npz of 400,000 rows (160 MB) and on sparse rows of ten million entries (120 MB), of
either 10,000 rows too, which tells what a rank takes for its batches. Printed are the largest sizes of anonymous memory
(RssAnon, looked at every 5 ms), in MB: pages of a mapped file do not count. The first rank has read the file.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import scipy.sparse

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from mpi import runtime

OPTIONS = ["--epochs", "1", "--batch-size", "4096", "--latent", "2", "--hidden", "8", "--validation", "0.2"]
OPTIONS += ["--threads", "1", "--scale", "none", "--likelihood", "gaussian"]
FEW = 10_000  # more than a batch
RANK = "--of-rank"  # the first argument of a rank: then a folder for what it finds, and the words of minivae


def rank(folder: Path) -> None:
    """One rank: `minivae`, while its memory is watched."""
    largest = 0

    def watch() -> None:
        nonlocal largest
        while True:
            largest = max(largest, int(re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]))
            time.sleep(0.005)

    threading.Thread(target=watch, daemon=True).start()
    from minivae.__main__ import main as minivae
    from minivae.environment import launched_rank

    try:
        minivae()
    finally:
        (folder / str(launched_rank())).write_text(str(largest / 1000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", type=int, default=2)
    P, rng = parser.parse_args().ranks, np.random.default_rng(0)
    dense = rng.random((400_000, 100), np.float32)
    sparse = scipy.sparse.random_array((200_000, 1000), density=0.05, rng=rng, format="csr")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, X in (("dense", dense), ("sparse", sparse)):
            for rows in (FEW, X.shape[0]):
                path = folder / f"{kind}.npz"
                if kind == "dense":
                    np.savez(path, X=X[:rows])
                else:
                    scipy.sparse.save_npz(path, X[:rows], compressed=False)
                words = ["train", path, "--out", folder / f"{kind}{rows}", *OPTIONS]
                ended = runtime().run(P, __file__, RANK, folder, *words)
                if ended.returncode:
                    sys.exit(ended.stderr)
                found = [f"{float((folder / str(r)).read_text()):.0f}" for r in range(P)]
                print(
                    f"{kind}, {rows:,} rows, a file of {path.stat().st_size / 1e6:.0f} MB: ranks {', '.join(found)} MB"
                )


if __name__ == "__main__":
    if sys.argv[1:2] == [RANK]:
        where = Path(sys.argv[2])
        sys.argv[1:] = sys.argv[3:]
        rank(where)
    else:
        main()
