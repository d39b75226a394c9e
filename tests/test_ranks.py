"""Ranks started by mpiexec: the same bits for any number of them, and an end for all where something goes wrong.

Other MPIs are tried where MINIVAE_TEST_MPI names their environments (`mpi.py`).
"""

import os
import signal
import subprocess
import sys
import time

import pytest
from mpi import FOLDERS, Hosts, every_runtime, runtime

# 50 steps by 4 shards; argv: a folder for the run, what happens, and to which rank. Every rank prints its digest.
TRAIN = """
import hashlib, os, pathlib, signal, sys
import numpy as np
import minivae as mv
folder, what, whom = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ranks = mv.ranks(shards=4, threads=1)
rng = np.random.default_rng(0)
X, validation = rng.random((320, 12)).astype(np.float32), rng.random((50, 12)).astype(np.float32)

def happens(row):
    if row["epoch"] != 3:
        return
    if ranks.rank == whom:
        if what == "exception":
            raise KeyError("something that was not foreseen")
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        if what == "drift":
            vae.parameters["encoder.0.b"][0] += 1e-3
    if what == "wait":
        print("epoch 3", flush=True)
        signal.pause()

for objective in ("elbo", "iwae"):
    more = {"objective": "iwae", "samples": 3} if objective == "iwae" else {}
    vae = mv.VAE(12, 3, (8,), backend="numpy", **more)
    run = folder / objective
    vae.fit(X, 10, 64, validation=validation, binarize="dynamic", run=run, ranks=ranks, progress=False,
            resume=(run / "model.safetensors").exists(), save_seconds=0, callback=happens)
    digest = hashlib.sha256(vae.buffer.state)
    digest.update((run / "model.safetensors").read_bytes())
    # without rows a second, and seconds
    rows = [line.rsplit(",", 2)[0] for line in (run / "history.csv").read_text().splitlines()]
    digest.update(repr(rows).encode())
    os.write(1, f"{objective} {digest.hexdigest()}\\n".encode())  # a line of one rank stays whole
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """What one process prints that nothing happens to."""
    folder = tmp_path_factory.mktemp("quiet")
    found = subprocess.run([sys.executable, "-c", TRAIN, folder, "", "0"], capture_output=True, text=True, timeout=120)
    assert found.returncode == 0, found.stderr
    assert len(set(found.stdout.split())) == 4
    return found.stdout.splitlines()


@every_runtime
@pytest.mark.parametrize("P", (2, 4))
def test_the_bytes_of_one_process(folder, P, quiet, tmp_path):
    found = runtime(folder).run(P, "-c", TRAIN, tmp_path, "", 0)
    assert found.returncode == 0, found.stderr
    lines = [line for line in found.stdout.splitlines() if line[:1] != "\x1b"]  # Open MPI resets a terminal's colours
    assert sorted(lines) == sorted(quiet * P)


def test_runs_go_on_with_another_number_of_ranks_to_the_same_bytes(quiet, tmp_path):
    """4 ranks of which one is killed, 2 of which one is asked to stop, then 1."""
    mpi = runtime()
    assert mpi.run(4, "-c", TRAIN, tmp_path, "kill", 2).returncode != 0
    stopped = mpi.run(2, "-c", TRAIN, tmp_path, "term", 1)
    assert stopped.returncode != 0 and "Traceback" not in stopped.stderr, stopped.stderr
    ended = mpi.run(1, "-c", TRAIN, tmp_path, "", 0)
    assert ended.stdout.splitlines() == quiet, ended.stderr
