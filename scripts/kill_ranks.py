"""Kill a random rank at a random time, resume, and so on: does the training end with the bytes of a quiet one?

    python scripts/kill_ranks.py [--kills 30] [--ranks 4] [--seed 0] [--format csv]

1,000 steps (100 epochs) by `minivae train` under mpiexec, saved after every step. A rank is killed at any moment from
the start of its process on, within three times the seconds of the quiet run: while it imports, loads, trains, writes or
draws. Runs that end before enough kills have
come are compared as well, and a new one begins. The quiet run is one process with as many shards. Status 1 if bytes
differ, or if a temporary file is left behind: by --format csv and npz the ranks share one, by npy they map the rows.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from mpi import runtime

HEADER = ",".join(f"column{d}" for d in range(12))
WRITE = {
    "npy": np.save,
    "npz": lambda path, X: np.savez(path, X=X),
    "csv": lambda path, X: np.savetxt(path, X, delimiter=",", header=HEADER, comments=""),
}
OPTIONS = ["--epochs", "100", "--batch-size", "64", "--latent", "3", "--hidden", "16", "--validation", "0.2"]
OPTIONS += ["--likelihood", "bernoulli", "--scale", "none", "--binarize", "dynamic", "--threads", "1"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=WRITE, default="npy")
    given = parser.parse_args()
    chance, P = random.Random(given.seed), given.ranks
    os.environ["MINIVAE_SAVE_SECONDS"], os.environ["MINIVAE_THREADS"] = "0", "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        temporary, rows = folder / "temporary", folder / f"rows.{given.format}"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        WRITE[given.format](rows, np.random.default_rng(0).random((1000, 12)).astype(np.float32))
        quiet = folder / "quiet"
        command = [sys.executable, *train(rows, quiet, "--shards", str(P))]
        begun = time.monotonic()
        subprocess.run(command, check=True, env=runtime().environment(), capture_output=True)
        life = 3 * (time.monotonic() - begun)
        kills, runs, equal, where = 0, 0, 0, []
        while kills < given.kills:
            run, runs = folder / f"run{runs}", runs + 1
            while True:
                line = train(rows, run, "--resume") if (run / "model.safetensors").exists() else train(rows, run)
                if not (run / "model.safetensors").exists() and run.exists():
                    line.append("--force")  # it was killed before it had written a checkpoint
                start = time.monotonic()
                end = start + chance.uniform(0.05, life) if kills < given.kills else float("inf")
                with runtime().started(P, *line) as ranks:
                    while ranks.process.poll() is None and time.monotonic() < end:
                        time.sleep(0.005)
                    if ranks.process.poll() is None and (alive := list(rank_processes(ranks))):
                        os.kill(chance.choice(alive), signal.SIGKILL)
                        kills += 1
                        where.append(steps(run))
                        if ranks.wait(60).returncode == 0:
                            sys.exit("a rank was killed, and mpiexec says that all went well")
                        continue
                    ended = ranks.wait(600)
                    if ended.returncode:
                        sys.exit(f"ranks that were not killed ended with {ended.returncode}:\n{ended.stderr}")
                    break
            same = (run / "model.safetensors").read_bytes() == (quiet / "model.safetensors").read_bytes()
            same = same and history(run) == history(quiet)
            equal += same
            print(f"run {runs}: {kills} kills so far, {'the bytes of' if same else 'OTHER BYTES than'} the quiet run",
                  flush=True)  # fmt: skip
        left = sorted(path.name for path in temporary.glob("minivae*"))
        print(f"left behind: {left}" if left else "no temporary file is left behind")
        print(
            f"{kills} kills of {P} ranks, after epochs {where}; {equal} of {runs} runs end with the quiet run's bytes"
        )
        sys.exit(equal < runs or bool(left))


def train(rows: Path, run: Path, *more: str) -> list[str]:
    return ["-m", "minivae", "train", str(rows), "--out", str(run), *OPTIONS, *more]


def rank_processes(ranks: object) -> list[int]:
    """The processes of the ranks that run now."""
    return [process for process, variables in ranks.left().items() if b"PMI_RANK" in variables]  # type: ignore[attr-defined]


def steps(run: Path) -> int:
    """How many epochs the history holds."""
    return max(0, len(history(run)) - 1)


def history(run: Path) -> list[str]:
    """The lines of the history without their last two columns, which are times."""
    path = run / "history.csv"
    return [line.rsplit(",", 2)[0] for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
