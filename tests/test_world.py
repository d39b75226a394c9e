"""What ranks tell one another: the tree of sums, dealt-out work, errors that all agree on, the launcher's variables."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from worlds import together

from minivae import device, environment
from minivae.distributed import mpi, tree
from minivae.distributed.world import AgreedError, World
from minivae.errors import UsageError
from minivae.kernels.add_up import BLOCK, fused


class Sum:
    """A term that remembers in which order it was added up."""

    def __init__(self, text):
        self.text = text

    def __add__(self, other):
        return Sum(f"({self.text}+{other.text})")


def names(n):
    return np.array([[Sum(f"t{i}")] for i in range(n)], object)


TWELVE = "((((t0+t1)+(t2+t3))+((t4+t5)+(t6+t7)))+((t8+t9)+(t10+t11)))"


def test_the_order_of_twelve_terms_is_the_one_that_is_written_down():
    assert tree.add_up(names(12))[0].text == TWELVE


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 8, 12, 16, 24])
def test_a_sum_has_one_order_for_every_number_of_groups_that_fits(n):
    whole = tree.add_up(names(n))[0].text
    for groups in tree.group_counts(n):
        own, terms, sums = n // groups, names(n), np.empty((groups, 1), object)
        for g in range(groups):
            branch = tree.Branch(own, terms[0], np)
            for _ in range(2):  # the second time begins anew
                for term in terms[g * own : (g + 1) * own]:
                    branch.add(term)
                sums[g] = branch.take()
        assert tree.add_up(sums)[0].text == whole, groups


def test_the_group_counts_are_those_that_fit():
    assert tree.group_counts(12) == [12, 6, 3, 1]
    assert tree.group_counts(8) == [8, 4, 2, 1]
    assert tree.group_counts(5) == [5, 1]
    for n in range(1, 40):
        assert tree.group_counts(n) == [g for g in range(n, 0, -1) if tree.fits(n, g)]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 8, 12])
def test_the_kernel_adds_up_blocks_in_the_order_of_the_tree(n):
    """Integers of 2²⁰ at the most, whose sums float32 holds: each term is counted once, in every block."""
    rng = np.random.default_rng(n)
    for terms in (rng.integers(-(2**20), 2**20, (n, 2 * BLOCK + 7)), rng.standard_normal((n, 2 * BLOCK + 7))):
        given = terms.astype(np.float32)
        kept, out = given.copy(), np.empty(given.shape[1], np.float32)
        fused(out, given)
        assert given.tobytes() == kept.tobytes()
        assert out.tobytes() == tree.add_up(kept).tobytes()
        if terms.dtype == np.int64:
            assert out.tolist() == terms.sum(axis=0).tolist()


# ---- what ranks tell one another ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3])
def test_work_that_is_dealt_out_comes_back_in_order(size):
    def work(world):
        done = []
        results = world.map(lambda x: done.append(x) or x * x, range(7))
        rows = world.joined(np.array(world.mine(np.arange(7.0)))[:, None])
        return done, results, rows

    ranks = together(size, work)
    assert [x for done, _, _ in ranks for x in done] == list(range(7))  # each once, in order
    for _, results, rows in ranks:
        assert results == [x * x for x in range(7)]
        assert rows[:, 0].tolist() == list(range(7))


def test_an_error_of_one_rank_is_raised_by_all_and_names_it():
    def fail(world):
        with pytest.raises(AgreedError) as caught, world.agreeing(), world.agreeing():
            if world.rank == 1:
                raise FileNotFoundError(2, "No such file or directory", "rows.npy")
        world.all("they go on together")
        return str(caught.value)

    assert set(together(3, fail)) == {"rank 1 (host1): rows.npy: No such file or directory"}


def test_an_error_that_all_make_alike_names_none():
    def fail(world):
        with pytest.raises(AgreedError) as caught, world.agreeing():
            raise UsageError("lr=-1: expected a number > 0")
        return str(caught.value)

    assert set(together(2, fail)) == {"lr=-1: expected a number > 0"}


def test_an_error_outside_of_dealt_work_meets_the_others_inside_of_it():
    def fail(world):
        with pytest.raises(AgreedError, match=re.escape("rank 0 (host0): bad rows")), world.agreeing():
            if world.rank == 0:
                raise UsageError("bad rows")
            world.map(abs, [1, 2, 3])
        return world.all(world.rank)

    assert together(2, fail) == [[0, 1], [0, 1]]


def test_rank_0_alone_reads_and_all_get_it():
    def read(world):
        asked = []
        value = world.first(lambda: asked.append(1) or "text")
        return value, len(asked)

    assert together(3, read) == [("text", 1), ("text", 0), ("text", 0)]


def test_what_should_be_alike_and_is_not_is_named():
    def compare(world):
        with pytest.raises(AgreedError) as caught:
            world.same("the seed", world.rank // 2)
        return str(caught.value)

    assert set(together(3, compare)) == {
        "rank 2 (host2) has 1 as the seed, and rank 0 (host0) 0: start all with the same program, data and options"
    }


def test_shards_that_do_not_fit_the_ranks_are_refused_with_the_numbers_that_would_do():
    def begin(world):
        with pytest.raises(UsageError) as caught:
            world.begin(None, None)
        return str(caught.value)

    assert together(4, begin, shards=6)[0] == (
        "6 shards cannot be dealt out to 4 ranks: start 6, 3 or 1 of them, or begin a run with --shards 4 (shards=4) "
        "or 8"
    )


# ---- the launcher ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_launcher(monkeypatch):
    for name in environment.READ:
        if name.startswith(("OMPI_", "PMI_", "SLURM_")):
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    "variables, size, rank",
    [
        ({}, 1, 0),
        ({"PMI_SIZE": "4", "PMI_RANK": "3"}, 4, 3),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, 2, 1),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_ID": "0", "SLURM_PROCID": "5"}, 8, 5),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, 1, 0),  # a batch script, before srun
        ({"PMI_SIZE": "nonsense"}, 1, 0),
    ],
)
def test_the_launchers_variables_are_understood(no_launcher, variables, size, rank):
    for name, value in variables.items():
        no_launcher.setenv(name, value)
    assert (environment.launched(), environment.launched_rank()) == (size, rank)


def test_without_a_launcher_there_is_one_rank_and_no_mpi4py(no_launcher):
    no_launcher.setitem(sys.modules, "mpi4py", None)  # importing it fails
    world = mpi.ranks()
    assert type(world) is World
    assert (world.rank, world.size) == (0, 1)


def test_a_launcher_without_mpi4py_is_told_what_to_install(no_launcher):
    no_launcher.setenv("PMI_SIZE", "2")
    no_launcher.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(UsageError, match=r"started 2 processes.*pip install \"mpi4py"):
        mpi.ranks()


@pytest.mark.parametrize("turn, devices, chosen", [(None, 2, []), (0, 2, [0]), (3, 2, [1]), (3, 1, [])])
def test_ranks_of_a_host_take_its_gpus_in_turn(monkeypatch, turn, devices, chosen):
    used = []
    cuda = SimpleNamespace(
        runtime=SimpleNamespace(getDeviceCount=lambda: devices, CUDARuntimeError=RuntimeError),
        Device=lambda number: SimpleNamespace(use=lambda: used.append(number)),
    )
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(device, "_turn", turn)
    device.cupy()
    assert used == chosen


def test_processors_are_divided_by_the_ranks_of_the_host(no_launcher):
    for name in ("MINIVAE_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        no_launcher.delenv(name, raising=False)
    no_launcher.setattr(environment.os, "cpu_count", lambda: 8)
    pinned = set(range(8))
    no_launcher.setattr(environment.os, "sched_getaffinity", lambda _: pinned, raising=False)
    try:
        environment.share_processors(4)
        assert environment.threads() == 2
        environment.share_processors(16)
        assert environment.threads() == 1
        environment.share_processors(4, threads=3)
        assert environment.threads() == 3
        pinned = {0, 1, 2}  # what the launcher has pinned is this rank's own
        environment.share_processors(4)
        assert environment.threads() == 3
    finally:
        environment.share_processors(1)


def test_a_wait_is_over_when_it_ends_in_an_error_and_a_wait_inside_another_does_not_end_that():
    watchdog = mpi.Watchdog(World(), 60)
    with pytest.raises(MemoryError), watchdog.waiting():
        since = watchdog.since
        with watchdog.waiting():
            assert watchdog.since >= since
        assert watchdog.since == since is not None
        raise MemoryError
    assert watchdog.since is None
