"""Ranks started by mpiexec: the same bits for any number of them, and an end for all where something goes wrong.

Other MPIs are tried where MINIVAE_TEST_MPI names their environments (`mpi.py`).
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mpi import LIMIT, Hosts, every_runtime, runtime

import minivae as mv
from minivae.distributed import launcher

# 50 steps by 4 shards, of unequal sizes in the last batch of an epoch; argv: a folder for the run, what happens, and to
# which rank. Every rank prints its digest.
TRAIN = """
import hashlib, os, pathlib, signal, sys
import numpy as np
import scipy.sparse
import minivae as mv
folder, what, whom = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ranks = mv.ranks(shards=4, threads=1)
rng = np.random.default_rng(0)
X, validation = rng.random((310, 12)).astype(np.float32), rng.random((50, 12)).astype(np.float32)
sparse = scipy.sparse.csr_array(np.where(X < 0.2, 5 * X, 0))

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

for name in ("elbo", "iwae", "sparse"):
    more = {} if name == "elbo" else {"objective": "iwae", "samples": 3}
    vae = mv.VAE(12, 3, (8,), backend=mv.Backend("numpy", sparse="yes" if name == "sparse" else "no"), **more)
    run = folder / name
    rows = sparse if name == "sparse" else X
    vae.fit(rows, 10, 64, validation=validation, binarize="dynamic", run=run, ranks=ranks, progress=False,
            resume=(run / "model.safetensors").exists(), save_seconds=0, callback=happens)
    digest = hashlib.sha256(vae.buffer.state)
    digest.update((run / "model.safetensors").read_bytes())
    # without rows a second, and seconds
    rows = [line.rsplit(",", 2)[0] for line in (run / "history.csv").read_text().splitlines()]
    digest.update(repr(rows).encode())
    os.write(1, f"{name} {digest.hexdigest()}\\n".encode())  # a line of one rank stays whole
"""


# The batch is all rows, in an order that every rank knows: the huge value is put into the last shard's part.
DIVERGES = """
import os, re
import numpy as np
import minivae as mv
from minivae.datasets.order import permutation
ranks = mv.ranks(threads=1)
vae = mv.VAE(12, 3, (8,), likelihood="gaussian:1", backend="numpy")
X = np.ones((64, 12), np.float32)
X[permutation(vae.seed, 64, "shuffle", 1)[-1], 5] = 1e30
try:
    vae.fit(X, 3, 64, ranks=ranks, progress=False, scale="none")
except mv.Diverged as error:
    step = re.search(r"step \\d+", str(error))[0]
    assert "rank 1" in str(error), error
    os.write(1, f"the same {step}\\n".encode())
    raise SystemExit(1)
"""


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """What one process prints that nothing happens to."""
    folder = tmp_path_factory.mktemp("quiet")
    found = subprocess.run([sys.executable, "-c", TRAIN, folder, "", "0"], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr
    assert len(set(found.stdout.split())) == 6
    return found.stdout.splitlines()


@every_runtime
@pytest.mark.parametrize("P", (2, 4))
def test_the_bytes_of_one_process(folder, P, quiet, tmp_path):
    found = runtime(folder).run(P, "-c", TRAIN, tmp_path, "", 0)
    assert found.returncode == 0, found.stderr
    assert sorted(lines(found)) == sorted(quiet * P)


def lines(found):
    """What ranks have printed, without the codes by which Open MPI resets a terminal's colours."""
    return [line for line in found.stdout.splitlines() if line[:1] != "\x1b"]


SUMS = """
import numpy as np
import minivae as mv
from minivae.distributed import tree
ranks = mv.ranks(threads=1)
for n in (1, 15, 64, 65, 1000, 100_037):  # slices of whole cache lines, and what is left of them
    terms = np.stack([np.random.default_rng(r).standard_normal(n).astype(np.float32) for r in range(ranks.size)])
    x = terms[ranks.rank].copy()
    ranks.sum(x)
    assert x.tobytes() == tree.add_up(terms).tobytes(), n
"""


@every_runtime
def test_a_sum_over_ranks_has_the_order_of_the_tree(folder):
    found = runtime(folder).run(4, "-c", SUMS)
    assert found.returncode == 0, found.stderr


@every_runtime
def test_runs_go_on_with_another_number_of_ranks_to_the_same_bytes(folder, quiet, tmp_path):
    """4 ranks of which one is killed, 2 of which one is asked to stop, then 1."""
    mpi = runtime(folder)
    assert mpi.run(4, "-c", TRAIN, tmp_path, "kill", 2).returncode != 0
    stopped = mpi.run(2, "-c", TRAIN, tmp_path, "term", 1)
    assert stopped.returncode != 0 and "Traceback" not in stopped.stderr, stopped.stderr
    ended = mpi.run(1, "-c", TRAIN, tmp_path, "", 0)
    assert lines(ended) == quiet, ended.stderr


# Command lines from JSON, in one process of each rank, which costs seconds to start; RANK is its number. Rank 0 prints
# the statuses.
COMMANDS = """
import json, os, sys
from minivae.__main__ import main
from minivae.environment import launched_rank
statuses = []
for line in json.loads(sys.argv[1]):
    words = [word.replace("RANK", str(launched_rank())).replace("--known0", "--json") for word in line]
    sys.argv[:] = ["minivae", *words]
    try:
        main()
    except SystemExit as end:
        statuses.append(end.code or 0)
if launched_rank() == 0:
    print("statuses", statuses, flush=True)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, and its rows in data0.npy; data1.npy is damaged."""
    folder = tmp_path_factory.mktemp("run")
    rows = (np.random.default_rng(0).random((1300, 12)) < 0.3).astype(np.float32)
    np.save(folder / "data0.npy", rows)
    (folder / "data1.npy").write_bytes((folder / "data0.npy").read_bytes()[:2000])
    line = ["train", str(folder / "data0.npy"), "--out", str(folder / "run")]
    line += ["--latent", "3", "--hidden", "8", "--epochs", "1"]
    assert commands([sys.executable], line).returncode == 0
    return folder


def commands(python, *lines):
    return subprocess.run([*python, "-c", COMMANDS, json.dumps(lines)], capture_output=True, text=True, timeout=600)


def test_evaluate_encode_and_score_give_the_bytes_of_one_process(run, tmp_path):
    mpi, of = runtime(), [str(run / "run"), str(run / "data0.npy")]

    def command_lines(P):
        out = lambda name: str(tmp_path / f"{P}-{name}")  # noqa: E731
        return [
            ["evaluate", *of, "--importance", "5", "--report", "--json", "--per-row", out("rows.csv")],
            ["evaluate", *of, "-n", "300", "--ais", "2", "--bidirectional", "--json"],
            ["encode", *of, "-o", out("codes.npz")],
            ["encode", *of, "-o", out("codes.tsv"), "--metadata", out("rows.tsv")],
            ["score", *of, "-o", out("scores.csv"), "--importance", "5", "--columns-top", "2", "--json"],
        ]

    alone = commands([sys.executable], *command_lines(1))
    assert alone.stdout.endswith("statuses [0, 0, 0, 0, 0]\n"), alone.stderr
    found = mpi.run(3, "-c", COMMANDS, json.dumps(command_lines(3)))
    assert found.stdout.replace(f"{tmp_path}/3-", f"{tmp_path}/1-") == alone.stdout, found.stderr
    names = sorted(path.name[2:] for path in tmp_path.glob("1-*"))
    assert len(names) == 5 and sorted(path.name[2:] for path in tmp_path.glob("3-*")) == names
    for name in names:
        if name != "codes.npz":  # a zip has the time in it
            assert (tmp_path / f"3-{name}").read_bytes() == (tmp_path / f"1-{name}").read_bytes(), name
    with np.load(tmp_path / "1-codes.npz") as one, np.load(tmp_path / "3-codes.npz") as three:
        assert all(one[name].tobytes() == three[name].tobytes() for name in one.files) and len(one.files) == 3


def test_mistakes_are_one_line_by_rank_0(run, tmp_path):
    mpi, folder = runtime(), str(run / "run")
    lines = {
        ("sample", folder, "-o", str(tmp_path / "s.npy")): "`minivae sample` works in one",
        ("evaluate", "nowhere"): "nowhere does not exist",
        ("evaluate", folder, str(run / "dataRANK.npy")): "rank 1 (",  # a file that one host alone has damaged
        ("evaluate", folder, "--bidirectional"): "give --ais T as well",
        ("evaluate", folder, "--importance", "1RANK"): "has 11 as its --importance, and rank 0 (",
        ("evaluate", folder, "--knownRANK"): "its command line was refused",  # by a rank of another version
        ("score", folder, "-o", str(tmp_path / "s.csv"), "--importance", "1"): "expected at least 2 samples",
        ("encode", folder, "-o", str(run / "data0.npy")): "expected a name that ends in .npz or .tsv",
        ("train", str(run / "dataRANK.npy"), "--out", str(tmp_path / "new")): "rank 1 (",
        ("train", str(run / "data0.npy"), "--out", str(tmp_path / "new"), "--shards", "3"): "start 3 or 1 of them",
    }
    found = mpi.run(2, "-c", COMMANDS, json.dumps(list(lines)))
    said = found.stderr.splitlines()
    assert found.stdout == f"statuses {[2] * len(lines)}\n", found.stderr
    assert len(said) == len(lines), found.stderr
    for line, text in zip(said, lines.values(), strict=True):
        assert line.startswith("minivae: ") and text in line
    assert not list(tmp_path.iterdir())


def test_nan_is_seen_by_all_and_the_rank_and_tensor_are_named(tmp_path):
    """One row overflows, in a shard of rank 1 alone."""
    found = runtime().run(2, "-c", DIVERGES)
    assert found.returncode != 0
    assert found.stdout.splitlines() == ["the same step 1"] * 2, found.stdout + found.stderr


@every_runtime
def test_an_exception_of_one_rank_ends_all(folder, tmp_path):
    found = runtime(folder).run(2, "-c", TRAIN, tmp_path, "exception", 1)
    assert found.returncode == 1
    assert "minivae: rank 1 of 2 (" in found.stderr and "KeyError: 'something that was not foreseen'" in found.stderr


@every_runtime
@pytest.mark.parametrize("signum", (signal.SIGINT, signal.SIGTERM))
def test_a_signal_to_mpiexec_stops_all_at_the_same_step(signum, folder, run, tmp_path):
    line, mpi = endless(run, tmp_path), runtime(folder)
    with mpi.started(2, *line) as ranks:
        wait_for(tmp_path / "r" / "history.csv", lines=5)
        ranks.process.send_signal(signum)
        ended = ranks.wait()
    if mpi.name != "Open MPI":  # which kills them 0.25 s later
        assert ended.returncode in (130, 128 + signum), ended.stderr
        assert ended.stderr.count("is saved; go on with: mpiexec -n 2 minivae train") == 1, ended.stderr
        assert "Traceback" not in ended.stderr
    epochs = len((tmp_path / "r" / "history.csv").read_text().splitlines()) - 1
    resumed = mpi.run(2, *line[:-1], epochs + 1, "--resume")
    assert resumed.returncode == 0, resumed.stderr


def endless(run, folder):
    """A training that does not end by itself."""
    sizes = ["--latent", "3", "--hidden", "8", "--epochs", "1000000"]
    return ["-m", "minivae", "train", run / "data0.npy", "--out", folder / "r", *sizes]


def wait_for(path, lines, limit=LIMIT):
    end = time.monotonic() + limit
    while not path.exists() or path.read_text().count("\n") < lines:
        assert time.monotonic() < end, f"{path} has not got {lines} lines"
        time.sleep(0.05)


def gone(ranks, limit=LIMIT):
    """Wait until mpiexec and all that it has started have ended, but Open MPI's daemon on a host that is cut off."""
    end = time.monotonic() + limit
    while left := [words for words in map(ranks.words, ranks.left()) if words and b"prted" not in words]:
        assert time.monotonic() < end, f"{left} are still there"
        time.sleep(0.1)
    ranks.kill()
    return ranks.process.communicate()[1]


# The command, whose ranks wait no longer than 2 s for one another once the file $CUT is there: on a busy machine they
# wait longer than that to begin.
IMPATIENT = """
import os, threading, time
from minivae.__main__ import main
from minivae.distributed import mpi

def lose_patience():
    while not os.path.exists(os.environ["CUT"]):
        time.sleep(0.05)
    mpi._started.watchdog.seconds = 2

threading.Thread(target=lose_patience, daemon=True).start()
main()
"""


@every_runtime
def test_a_link_that_goes_down_ends_the_ranks_of_both_sides(folder, run, tmp_path):
    """MPI itself would wait for ever, and so would mpiexec for the host that it cannot reach."""
    line, cut = ["-c", IMPATIENT, *endless(run, tmp_path)[2:]], tmp_path / "cut"
    with Hosts(2, runtime(folder), tmp_path) as hosts, hosts.started(2, *line, CUT=str(cut)) as ranks:
        wait_for(tmp_path / "r" / "history.csv", lines=5)
        cut.touch()
        hosts.cut(1)
        said = gone(ranks)
    assert ranks.process.returncode == -signal.SIGKILL
    assert "minivae: rank 0 of 2 (host0): has waited 2 s for the others" in said
    assert "Traceback" not in said
    assert mv.VAE.load(tmp_path / "r").features == 12  # the last checkpoint is whole


@pytest.mark.slow
@every_runtime
@pytest.mark.parametrize("P", (2, 4))
def test_hosts_give_the_bytes_of_one_process(P, folder, quiet, tmp_path):
    """The gradients have crossed the network: 298 numbers of 4 bytes in each of 100 steps, and as many back."""
    with Hosts(P, runtime(folder), tmp_path) as hosts:
        found = hosts.run(P, "-c", TRAIN, tmp_path, "", 0)
        crossed = [hosts.bytes(i) for i in range(P)]
    assert found.returncode == 0, found.stderr
    assert sorted(lines(found)) == sorted(quiet * P)
    assert min(crossed) > 100 * 298 * 4 * (P - 1) / P


@pytest.mark.slow
@every_runtime
def test_a_host_that_is_killed_ends_all(folder, run, tmp_path):
    """With what the launcher has started there."""
    with Hosts(2, runtime(folder), tmp_path) as hosts, hosts.started(2, *endless(run, tmp_path)) as ranks:
        wait_for(tmp_path / "r" / "history.csv", lines=5)
        hosts.kill(1)
        ended = ranks.wait()
    assert ended.returncode != 0 or hosts.mpi.name == "Open MPI"  # whose status is 0 where its daemon is lost
    assert mv.VAE.load(tmp_path / "r").features == 12


def test_ranks_whose_parameters_drift_apart_are_told_so(tmp_path):
    found = runtime().run(2, "-c", TRAIN, tmp_path, "drift", 1)
    assert found.returncode == 2
    assert "rank 1 (" in found.stderr and "as the digest of its parameters after step" in found.stderr


WITHOUT = """
import os, sys
from minivae.environment import launched_rank
if launched_rank() == 1:  # as on a host of its own, where mpi4py is not installed
    sys.modules["mpi4py"], os.environ["MPI_LOCALRANKID"] = None, "0"
from minivae.__main__ import main
main()
"""


def test_a_host_without_mpi4py_ends_all_with_one_line(run, tmp_path):
    """The others start MPI, which waits for it for ever."""
    found = runtime().run(2, "-c", WITHOUT, "train", run / "data0.npy", "--out", tmp_path / "r", limit=60)
    assert found.returncode == -signal.SIGKILL
    (said,) = [line for line in found.stderr.splitlines() if line.startswith("minivae")]
    assert said.startswith("minivae: rank 1 of 2 ("), found.stderr
    assert "mpi4py, and that cannot be loaded" in said and "pip install" in said


# What one rank alone meets before it has started MPI, not the first of its host.
BEFORE = """
import os, sys
from minivae.environment import launched_rank
what = sys.argv.pop(1)
if launched_rank() == 1:
    if what == "timeout":
        os.environ["MINIVAE_MPI_TIMEOUT"] = "soon"
    elif what == "numba":
        os.environ["NUMBA_NUM_THREADS"] = "0"
    else:
        sys.modules["minivae.cli.app"] = None
from minivae.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("what", "status", "text"),
    [
        ("timeout", 2, "MINIVAE_MPI_TIMEOUT='soon': expected a number"),
        ("import", -signal.SIGKILL, "ends all ranks"),
        pytest.param("numba", -signal.SIGKILL, "NUMBA_NUM_THREADS=0: Numba expects", marks=pytest.mark.slow),
    ],
)
def test_an_error_before_mpi_has_started_is_printed_and_ends_all(what, status, text, run, tmp_path):
    """The others start MPI, which waits for this rank for ever, and mpiexec waits for them."""
    found = runtime().run(2, "-c", BEFORE, what, "train", run / "data0.npy", "--out", tmp_path / "r", limit=60)
    assert found.returncode == status, found.stderr
    (said,) = [line for line in found.stderr.splitlines() if line.startswith("minivae: rank")]
    assert said.startswith("minivae: rank 1 ") and text in said
    assert ("ModuleNotFoundError" in found.stderr) == (what == "import")


def test_the_launcher_is_killed_and_not_a_later_process_of_its_number(tmp_path, monkeypatch):
    shutil.copy(shutil.which("sleep"), tmp_path / "mpiexec.hydra")
    with subprocess.Popen([tmp_path / "mpiexec.hydra", "60"]) as process:
        monkeypatch.setattr(os, "getppid", lambda: process.pid)
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        later = launcher.KILL_LATER.format(process.pid, int(fields[19]) - 1)
        assert subprocess.run(["sh", "-c", later], timeout=60).returncode == 0
        assert process.poll() is None
        launcher.kill()
        assert process.wait(60) == -signal.SIGKILL


def test_the_launcher_of_another_mpi_is_refused():
    """Each process is alone, and the launcher has said that there are two."""
    runtime()
    command = [sys.executable, "-c", "import minivae as mv; mv.ranks()"]
    found = subprocess.run(
        command, env=os.environ | {"OMPI_COMM_WORLD_SIZE": "2"}, capture_output=True, text=True, timeout=600
    )
    assert found.returncode == 1 and "this mpiexec belongs to another MPI" in found.stderr.splitlines()[-1]


ALONE = """
import os, sys
import numpy as np
import minivae as mv
from minivae.distributed.world import World
X = np.eye(8, dtype=np.float32)
for rank in ("1", "0"):
    os.environ["PMI_RANK"] = rank
    for ranks in (World(), None, None):
        print(rank, ranks, file=sys.stderr)
        mv.VAE(8, 1, (2,), backend="numpy").fit(X, 1, 8, ranks=ranks, progress=False)
assert "mpi4py" not in sys.modules
"""


def test_a_script_that_trains_in_each_process_alone_is_told_so_once():
    """By the first of them, and where `fit` has no ranks."""
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=600,
                          env=os.environ | {"PMI_SIZE": "3"})  # fmt: skip
    assert told.returncode == 0, told.stderr
    lines = [line for line in told.stderr.splitlines() if "compiling kernels" not in line]
    said = "3 processes were started, and each of them trains alone, on all rows: to share out one training, give "
    assert lines[5:] == [f"{said}fit(..., ranks=mv.ranks())", "0 None"], told.stderr
    assert [line[:1] for line in lines[:5]] == ["1", "1", "1", "0", "0"]
