"""Ranks on GPUs, `scripts/gpu_check.sh correct` runs it third: NCCL inside captured steps, on one GPU and on all.

One GPU has one rank, which sends itself all that ranks send one another: NCCL's calls are real, and captured. Where
there are more, `mpiexec` starts a rank on each.
"""

import faulthandler
import sys
from importlib import import_module

import numpy as np
import pytest
from mpi import runtime

import minivae as mv
from minivae.backend import Backend
from minivae.distributed.nccl import DeviceSum
from minivae.distributed.world import World
from minivae.training.loop import Training
from minivae.training.options import Options

pytestmark = pytest.mark.gpu
LIMIT = 90  # seconds of a test

# Every rank prints its digest, whether gradients crossed by NCCL, how many steps were replayed, and its GPU; then rank
# 0 trains with the same shards alone.
RANKS = """
import hashlib, os
import cupy
import numpy as np
import minivae as mv
from minivae.distributed.world import World
from minivae.training.cuda_graph import Graph

replayed, by_nccl, launch = [], [], Graph.launch
Graph.launch = lambda self: replayed.append(1) or launch(self)

def train(ranks):
    vae = mv.VAE(8, 3, (6,), backend="cupy", seed=4)
    vae.fit((np.random.default_rng(0).random((30, 8)) < 0.4) * 1.0, 2, 12, ranks=ranks, progress=False, clip=1.0,
            callback=lambda row: by_nccl.append(ranks.nccl is not None))
    return hashlib.sha256(vae.backend.to_host(vae.buffer.state)).hexdigest()

ranks = mv.ranks(shards=4, threads=1)
digest = train(ranks)
os.write(1, f"{digest} {all(by_nccl)} {len(replayed)} {cupy.cuda.runtime.getDevice()}\\n".encode())
if ranks.rank == 0:
    os.write(1, f"{train(World(4))} alone\\n".encode())
"""


def assert_bits_of_one(found, P, replayed=4):
    """What P processes of RANKS have printed: all the same digest, a GPU each, and steps captured with NCCL's calls."""
    assert found.returncode == 0, found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    assert len({digest for digest, *_ in lines}) == 1
    expected = [["True", str(replayed), str(rank)] for rank in range(P)]
    assert sorted(rest for _, *rest in lines) == [*expected, ["alone"]]


@pytest.fixture
def nccl():
    """NCCL is here; and where it waits for ever, this process ends, and the other steps have their time."""
    if not import_module("cupy.cuda.nccl").available:
        pytest.skip("CuPy finds no NCCL: pip install nvidia-nccl-cu12, or -cu13 for CUDA 13")
    faulthandler.dump_traceback_later(LIMIT, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def test_one_rank_trains_through_nccl_to_the_same_bits(nccl):
    """Two shards; what is not moved by NCCL is not in the gradient."""
    X, found = (np.random.default_rng(0).random((200, 64)) < 0.3).astype(np.float32), {}
    for way in ("uncaptured", "captured", "uncaptured by NCCL", "captured by NCCL"):
        backend = Backend("cupy")
        backend.capture = backend.capture and "un" not in way
        vae, world = mv.VAE(64, 8, (20,), backend=backend, seed=3), World(2)
        training = Training(vae, X, Options(epochs=4, batch_size=64, ranks=world, optimizer=mv.Adam(1e-3), clip=1.0))
        if "NCCL" in way:
            training.shards.nccl = DeviceSum(world, backend, vae.buffer.grad, training.shards.slices)
        training.run()
        assert world.nccl is None and (training.graphs is not None) == backend.capture
        found[way] = vae.backend.to_host(vae.buffer.data).tobytes()
    assert len(set(found.values())) == 1


def test_ranks_on_all_gpus_have_the_bits_of_one(nccl):
    devices = import_module("cupy").cuda.runtime.getDeviceCount()
    if devices < 2:
        pytest.skip("there is one GPU")
    P = 4 if devices >= 4 else 2
    assert_bits_of_one(runtime().run(P, "-c", RANKS, limit=LIMIT), P)
