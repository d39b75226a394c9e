"""Ranks on GPUs: gradients that NCCL moves and a kernel adds up have the bits of the sum on the host.

GPUs and NCCL are stand-ins (`standin.py`, `standin_nccl.py`); the CUDA kernels are compiled for the host and run.
"""

import hashlib
import os
import sys
import threading
import types
from pathlib import Path

import hostcuda
import numpy as np
import pytest
import standin
import standin_nccl
import standin_site
from mpi import ROOT, runtime
from test_gpu_ranks import RANKS, assert_bits_of_one
from worlds import together

import minivae as mv
from minivae import kernels
from minivae.backend import Backend
from minivae.distributed import mpi, nccl, tree
from minivae.distributed.shards import Shards
from minivae.distributed.slices import Slices
from minivae.distributed.world import World
from minivae.errors import UsageError, UsageWarning
from minivae.training import state

needs_compiler = pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("P", [1, 2, 3, 4, 6, 8, 12])
def test_the_kernel_adds_up_in_the_order_of_the_tree_to_the_bit(monkeypatch, P, dtype):
    standin.install(monkeypatch)
    for n in (1, 64, 1031):
        terms = np.random.default_rng(n).standard_normal((P, n)).astype(dtype)
        expected = tree.add_up(terms.copy()).tobytes()
        for backend, kind in (("numpy", "reference"), ("numpy", "fused"), ("cupy", "fused")):
            out, given = np.full(n, np.nan, dtype), terms.copy()
            on = standin.DeviceArray if backend == "cupy" else np.asarray
            kernels.load(backend, kind, np).add_up(on(out), on(given))
            assert out.tobytes() == expected, (backend, kind, n)
            assert given.tobytes() == terms.tobytes()


def test_more_terms_than_the_kernel_has_levels_are_refused():
    terms = standin.DeviceArray(np.broadcast_to(np.float32(0), (1 << 13, 1)))
    with pytest.raises(ValueError, match="8192 terms can be halved 13 times"):
        kernels.load("cupy", "fused", np).add_up(standin.DeviceArray(np.zeros(1, np.float32)), terms)


# ---- the sum --------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch):
    return standin.install(monkeypatch, nvmath=True, devices=4)


def on_gpus(size, function, shards=None):
    """[function(world) for each of `size` ranks], threads with a GPU each."""

    def run(world):
        sys.modules["cupy"].cuda.Device(world.rank).use()
        return function(world)

    return together(size, run, shards)


def sums(P, dtype="float32", sizes=(1, 15, 64, 65, 1031), module=nccl):
    """Assert that sums over P ranks have the tree's bits, each size twice: the second finds what the first left."""
    terms = [np.random.default_rng((n, k)).standard_normal((P, n)).astype(dtype) for n in sizes for k in range(2)]

    def run(world):
        backend, found = Backend("cupy", "fused", dtype), []
        for first, second in zip(terms[::2], terms[1::2], strict=True):
            n = first.shape[1]
            slices = Slices(n, P, P, world.rank)
            of_ranks = module.between(world, backend, backend.zeros(n), slices)
            for term in (first, second):
                x = backend.asarray(term[world.rank])
                of_ranks.scatter(x)
                x[: slices.own.start] = x[slices.own.stop :] = 0  # what others update
                of_ranks.gather(x)
                found.append(backend.to_host(x).tobytes())
            of_ranks.close(lost=False)
        return found

    found = on_gpus(P, run)
    expected = [tree.add_up(term.copy()).tobytes() for term in terms]
    for rank in range(P):
        assert found[rank] == expected, rank


@needs_compiler
@pytest.mark.parametrize("P, dtype", [(1, "float32"), (2, "float64"), (3, "float32"), (4, "float32")])
def test_a_sum_over_gpus_has_the_bits_of_the_tree(gpus, P, dtype):
    sums(P, dtype)


END = "            self.nccl.groupEnd()\n"
ADD = "            self.ops.add_up(x[self.rank * each : (self.rank + 1) * each], self.parts)\n"
REST = "            self.comm.allGather(rest.data.ptr, self.rests.data.ptr, rest.size, self.kind, stream)\n"
ADD_REST, TAKE_REST = "            self.ops.add_up(rest, self.rests)\n", "            rest[...] = self.rests[-1]\n"
MISTAKES = {
    "ranks 1 and 2 change places": ("self.parts[rank].data", "self.parts[(0, 2, 1, 3)[rank]].data"),
    "a slice is not sent": ("for rank in range(self.size):", "for rank in range(self.size - 1):"),
    "a slice that begins late": ("x.data.ptr + rank * each *", "x.data.ptr + (rank * each + 1) *"),
    "an order of NCCL's own": (ADD, "            x[self.rank * each :][:each] = self.parts.sum(axis=0)\n"),
    "parts that have not come": (END + ADD, ADD + END),
    "the sum at another place": (ADD, ADD.replace("self.rank * each", "0 * each")),
    "the slice of another rank": ("own = x.data.ptr + self.rank *", "own = x.data.ptr + (self.rank ^ 1) *"),
    "slices that stay where they are": ("self.comm.allGather(own,", "_ = (own,"),
    "the rest is not added up": (ADD_REST, ""),
    "a rest that has not come": (REST + ADD_REST, ADD_REST + REST),
    "the rest of another rank": (TAKE_REST, TAKE_REST.replace("-1", "0")),
}  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_sum_is_seen(gpus, mistake):
    old, new = MISTAKES[mistake]
    text = Path(nccl.__file__).read_text()
    assert text.count(old) == 1
    module = types.ModuleType("minivae.distributed.mistaken")
    exec(compile(text.replace(old, new), "mistaken.py", "exec"), vars(module))
    with pytest.raises((AssertionError, UsageError)):
        sums(4, sizes=(1031,), module=module)


@needs_compiler
def test_nccl_is_called_in_this_order(gpus):
    """By 2 ranks, for 40 numbers: slices of 16, and a rest of 8."""
    sums(2, sizes=(40,))
    exchange = [(what, r, 16) for r in (0, 1) for what in ("send", "recv")]
    for rank in (0, 1):
        gather = [("allGather", 8), ("allGather", 16), ("allGather", 8)]
        assert standin_nccl.calls[rank] == 2 * [*exchange, *gather] + [("destroy",)]


# ---- training -------------------------------------------------------------------------------------------------------

ROWS = (np.random.default_rng(0).random((27, 8)) < 0.4).astype(np.float32)  # the last batch has 3 rows for 4 shards


def train(world, run=None, file=None, **options):
    """A training of this rank → the digest of its parameters and its history without times; and how it ran."""
    before = standin.here.launches
    vae = mv.VAE(8, 3, (6,), "silu", backend="cupy", seed=4)
    options = {"epochs": 2, "batch_size": 12, "clip": 1.0, "binarize": "dynamic", "validation": ROWS[:20]} | options
    options |= {"beta": mv.Beta(0.7, warmup=2), "schedule": "warmup:1+cosine", "optimizer": mv.AdamW(0.01)}
    rows = ROWS if file is None else mv.load(file, hold_out=False, ranks=world).X
    history = vae.fit(rows, ranks=world, run=run, progress=False, **options)
    told = [{k: v for k, v in row.items() if k not in ("seconds", "rows_per_second")} for row in history.rows]
    digest = hashlib.sha256(vae.backend.to_host(vae.buffer.state)).hexdigest()
    return (digest, told), standin.here.launches - before


@pytest.fixture
def looks(monkeypatch):
    """Losses are looked at after every second step: not a divisor of the three of an epoch."""
    monkeypatch.setitem(state.LOOK_EVERY, "cupy", 2)


@needs_compiler
def test_captured_steps_have_the_bits_of_the_way_by_the_host_and_of_one_rank(gpus, looks, monkeypatch, tmp_path):
    files, replayed = {}, 2 * 3 - 4  # all but the first of 12 rows and of 3, and again after the larger validation
    for size in (1, 2, 4):
        results = on_gpus(size, lambda world, size=size: train(world, tmp_path / f"gpu{size}"), shards=4)
        files[size] = (tmp_path / f"gpu{size}" / "model.safetensors").read_bytes()
        assert {launches for _, launches in results} == {replayed}
        assert [told for told, _ in results] == [results[0][0]] * size
    assert standin_nccl.faults == [] and standin_nccl.calls[3][-1] == ("destroy",)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", standin_nccl.module(available=False))
    with pytest.warns(UsageWarning, match="gradients cross by the host"):
        by_host = on_gpus(2, lambda world: train(world, tmp_path / "host"), shards=4)
    assert by_host[0] == (results[0][0], 0)
    assert set(files.values()) == {(tmp_path / "host" / "model.safetensors").read_bytes()}


@needs_compiler
def test_rows_that_a_host_shares_are_taken_to_the_gpus_whole(gpus, looks, tmp_path):
    """So steps are captured as those of an array are; a file that is mapped as it lies stays on the host."""
    np.savez(tmp_path / "x.npz", X=ROWS)
    np.save(tmp_path / "x.npy", ROWS)
    given, shared, mapped = (
        on_gpus(2, lambda world, file=file: train(world, file=file), shards=2)
        for file in (None, tmp_path / "x.npz", tmp_path / "x.npy")
    )
    assert shared == given and given[0][1] > 0
    assert [(told, 0) for told, _ in given] == mapped


@needs_compiler
def test_a_step_is_captured_by_all_ranks_or_by_none(gpus, looks, monkeypatch):
    """Rank 1 alone evaluates, and its workspace grows: if it alone captured anew, NCCL would wait for ever."""
    monkeypatch.setattr(Shards, "any", lambda self, here: here)
    with pytest.raises(standin_nccl.NcclError, match=r"^rank 1 sends \(False, .*, and \(True, .* is awaited$"):
        on_gpus(2, train, shards=2)


@needs_compiler
def test_a_rank_that_fails_gives_up_what_waits_for_it(gpus):
    def callback(row):
        raise KeyError("something")

    with pytest.raises(KeyError, match="something"):
        on_gpus(2, lambda world: train(world, epochs=1, callback=callback), shards=2)
    assert [calls[-1] for calls in standin_nccl.calls.values()] == [("abort",)] * 2
    assert standin_nccl.faults == []


# ---- what can be missing, and what can fail -------------------------------------------------------------------------


def between(world, host="a"):
    world.host = host
    backend = Backend("cupy", "reference")
    return nccl.between(world, backend, backend.zeros(5), Slices(5, world.size, world.size, world.rank))


def test_without_nccl_one_line_says_what_to_install(gpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", standin_nccl.module(available=False))
    with pytest.warns(UsageWarning, match=r"Rank 0 \(a\): CuPy finds no NCCL .*pip install nvidia-nccl-cu12"):
        assert on_gpus(2, between) == [None, None]


def test_ranks_that_share_a_gpu_are_told_so(gpus):
    with pytest.warns(
        UsageWarning, match=r"Rank 1 \(a\): it shares GPU 0000:00:00.0 with rank 0: start one rank a GPU"
    ):
        assert together(2, between) == [None, None]


def test_ranks_of_two_hosts_do_not_share_a_gpu(gpus, monkeypatch):
    monkeypatch.setattr(standin_nccl.socket, "gethostname", lambda: threading.current_thread().name)
    assert all(together(2, lambda world: between(world, f"host{world.rank}")))


def test_an_error_of_nccl_is_one_line_that_names_the_gpu(gpus, monkeypatch):
    def fails(*_):
        raise standin_nccl.NcclError("NCCL_ERROR_SYSTEM_ERROR: no socket")

    monkeypatch.setattr(sys.modules["cupy.cuda.nccl"], "get_unique_id", fails)
    with pytest.raises(UsageError, match=r"^GPU 0: NCCL fails \(NCCL_ERROR_SYSTEM_ERROR: no socket\): NCCL_DEBUG=INFO"):
        on_gpus(2, between)


def test_a_rank_that_cannot_join_ends_all_and_does_not_wait_to_tell_them(gpus, monkeypatch):
    done = []

    class Alone(World):
        def complain(self, message):
            done.append(message)

        def abort(self, status):
            done.append(status)
            raise SystemExit

    def fails(*_):
        raise standin_nccl.NcclError("NCCL_ERROR_SYSTEM_ERROR: no socket")

    monkeypatch.setattr(sys.modules["cupy.cuda.nccl"], "NcclCommunicator", fails)
    with pytest.raises(SystemExit):
        between(Alone())
    assert done == ["GPU 0: NCCL fails (NCCL_ERROR_SYSTEM_ERROR: no socket): NCCL_DEBUG=INFO says more", 1]


def test_the_watchdog_ends_a_rank_whose_nccl_has_lost_another(gpus, monkeypatch):
    said, ended = [], threading.Event()

    def exit(status):
        said.append(status)
        ended.set()
        threading.Event().wait()  # it would have ended

    monkeypatch.setattr(mpi.os, "_exit", exit)
    world = types.SimpleNamespace(size=2, rank=0, nccl=between(World()), complain=said.append)
    with mpi.Watchdog(world, seconds=0.1).waiting():
        assert not ended.wait(0.02)
        world.nccl.comm.failure = "NCCL_ERROR_REMOTE_ERROR: rank 1 is gone"
        assert ended.wait(300)
    assert said == ["GPU 0: NCCL fails (NCCL_ERROR_REMOTE_ERROR: rank 1 is gone): NCCL_DEBUG=INFO says more", 1]
    assert standin_nccl.calls[0] == [("abort",)] and world.nccl.error() == ""


# ---- processes of MPI's ---------------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("P", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_with_a_gpu_each_have_the_bits_of_one(P, tmp_path):
    site = standin_site.make(tmp_path / "site", devices=4)
    found = runtime().run(P, "-c", RANKS, PYTHONPATH=os.pathsep.join([str(site), str(ROOT)]))
    assert_bits_of_one(found, P)


@needs_compiler
@pytest.mark.slow
def test_processes_that_share_a_gpu_cross_by_the_host_and_say_so_once(tmp_path):
    site = standin_site.make(tmp_path / "site")
    found = runtime().run(2, "-c", RANKS, PYTHONPATH=os.pathsep.join([str(site), str(ROOT)]))
    assert found.returncode == 0, found.stderr
    assert len({line.split()[0] for line in found.stdout.splitlines()}) == 1
    assert found.stderr.count("gradients cross by the host") == 1, found.stderr


HANGS = """
import time
import numpy as np
import minivae as mv
from minivae.training.cuda_graph import Graph

ranks = mv.ranks(threads=1)
if ranks.rank == 1:  # its link is down
    Graph.launch = lambda self: time.sleep(600)
mv.VAE(8, 3, (6,), backend="cupy").fit(np.eye(8), 9, 4, ranks=ranks, progress=False)
"""


@needs_compiler
@pytest.mark.slow
def test_a_rank_that_nccl_waits_for_in_vain_ends_all(tmp_path):
    site = standin_site.make(tmp_path / "site", devices=2)
    path = os.pathsep.join([str(site), str(ROOT)])
    found = runtime().run(2, "-c", HANGS, PYTHONPATH=path, MINIVAE_MPI_TIMEOUT="4")
    assert found.returncode != 0
    assert "minivae: rank 0 of 2" in found.stderr and "has waited 4 s for the others" in found.stderr
    assert "Traceback" not in found.stderr
