"""`mpiexec minivae train`, and what MPI's ranks tell one another. Failures and hosts are in `test_ranks.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi import runtime

COMMAND = [sys.executable, "-m", "minivae", "train", "X.npy", "--hidden", "6", "--latent", "2", "--batch-size", "64"]

WORLD = """
import json, os, sys
import numpy as np
import minivae as mv
from minivae.distributed import tree
from minivae.kernels.add_up import BLOCK
from mpi4py import MPI

whole = mv.ranks(threads=1)
facts = []
for size in (3, 2):  # all of them, and two of them
    comm = MPI.COMM_WORLD.Split(whole.rank < size)
    if whole.rank >= size:
        break
    world = mv.ranks(comm, threads=1)
    for n in (1, 50, 100 * BLOCK + 33):
        for dtype in (np.float32, np.float64):
            parts = np.random.default_rng(n).standard_normal((world.size, n)).astype(dtype)
            own = parts[world.rank].copy()
            world.sum(own)
            facts.append(bool((own == tree.add_up(parts)).all()))
    rows = world.joined(np.full((world.rank, 2), world.rank, np.int32))  # rank 0 has none
    facts.append(rows.tolist() == [[r, r] for r in range(world.size) for _ in range(r)])
    facts.append(world.numbers(np.array([world.rank, 0.5])).tolist() == [[r, 0.5] for r in range(world.size)])
    facts.append(world.all(world.rank) == list(range(world.size)))
    facts.append((world.local_rank, world.local_size) == (world.rank, world.size))
os.write(1, (json.dumps(facts) + "\\n").encode())
"""


@pytest.fixture
def mpi(monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVAE_BACKEND", "numpy")
    monkeypatch.chdir(tmp_path)
    np.save("X.npy", np.random.default_rng(0).random((200, 5)).astype(np.float32))
    return runtime()


def test_the_sum_over_mpis_ranks_is_the_one_in_order(mpi):
    found = mpi.run(3, "-c", WORLD)
    assert found.returncode == 0, found.stderr
    facts = [json.loads(line) for line in found.stdout.splitlines()]
    assert sorted(map(len, facts)) == [10, 20, 20]
    assert all(map(all, facts))


def test_mpiexec_trains_as_one_process_and_rank_0_alone_speaks(mpi):
    """Two ranks, resumed by one: the bytes of one process that has trained throughout."""
    found = mpi.run(2, *COMMAND[1:], "--out", "cut", "--epochs", "1")
    assert (found.returncode, found.stdout.count("ranks       2, threads of each: 1; each batch in 2 shards")) == (0, 1)
    assert found.stdout.count("\n") == len({*found.stdout.splitlines()}), "a line came twice"
    alone = [*COMMAND, "--epochs", "2"]
    for options in (["--out", "cut", "--resume"], ["--out", "whole", "--shards", "2"]):
        assert subprocess.run([*alone, *options], capture_output=True, timeout=600).returncode == 0
    assert Path("cut/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert json.loads(Path("cut/config.json").read_text())["options"]["shards"] == 2


def test_a_mistake_is_one_line_and_status_2(mpi):
    found = mpi.run(2, *COMMAND[1:], "--out", "r", "--free-bits", "0.1")
    assert found.returncode == 2
    assert found.stderr.startswith("minivae: free_bits=0.1") and found.stderr.count("\n") == 1
    assert not os.path.exists("r")


def test_processes_that_do_not_know_one_another_are_refused(mpi):
    """As under the mpiexec of another MPI, which starts P times rank 0 of 1."""
    found = mpi.run(1, *COMMAND[1:], "--out", "r", OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    assert found.returncode == 2
    assert "started 2 processes, and each is alone by the MPI" in found.stderr


SRUN = """#!/bin/bash
# In the place of Slurm's: the ranks are mpiexec's, and have srun's variables too.
echo "$@" >> "$CALLS"
[ "$1" = --mpi=pmix ] || exit 9
shift
export SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_PROCID=0
[ -z "$ALONE" ] && exec "$MPIEXEC" -n 2 "$PYTHON" -m "$@"
"$PYTHON" -m "$@" & SLURM_PROCID=1 "$PYTHON" -m "$@" & wait -n; exit $?
"""


@pytest.fixture
def slurm(mpi, tmp_path):
    """→ run the page's batch script, with `srun` and `module` that are stand-ins; (CompletedProcess, calls of srun)."""
    page = (Path(__file__).parent.parent / "docs" / "distributed.md").read_text()
    script = page.split("```text\n#!/bin/bash\n")[1].split("```")[0]
    for word, other in {"/data/rows.npy": f"{tmp_path}/X.npy", "--epochs 50": "--epochs $EPOCHS --hidden 6"}.items():
        assert word in script
        script = script.replace(word, other)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text(f"PATH={tmp_path}:$PATH\n")
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)

    def run(epochs, **variables):
        variables |= {"EPOCHS": str(epochs), "CALLS": f"{tmp_path}/calls", "PYTHON": sys.executable}
        variables |= {
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_CPUS_PER_TASK": "1",
            "MPIEXEC": str(mpi.bin / "mpiexec"),
        }
        found = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"module() {{ :; }}; resume=\n{script}"],
            env=mpi.environment(**variables, SLURM_JOB_ID="7", SLURM_NTASKS="2"),
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        return found, Path("calls").read_text().splitlines()

    return run


@pytest.mark.slow
def test_the_script_for_slurm_trains_and_goes_on_where_it_is_queued_again(slurm):
    """No Slurm is here: this is bash, and that the words given to srun are a command that works."""
    first, _ = slurm(1)
    assert first.returncode == 0, first.stderr
    again, calls = slurm(2)
    assert again.returncode == 0, again.stderr
    assert "resuming    at epoch 2" in again.stdout and "ranks       2" in again.stdout
    assert [call.endswith("--resume") for call in calls] == [False, True]


def test_processes_of_srun_that_do_not_know_one_another_are_refused(slurm):
    """As where srun's --mpi is none that the MPI of mpi4py speaks."""
    found, _ = slurm(1, ALONE="1")
    assert found.returncode == 2
    assert "started 2 processes, and each is alone by the MPI" in found.stderr, found.stderr
    assert not Path("run").exists()
