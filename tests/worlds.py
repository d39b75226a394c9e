"""Ranks that are threads of one process, for the logic of `minivae/distributed/` without MPI."""

import copy
import threading

import numpy as np

from minivae.distributed import tree
from minivae.distributed.world import World

PATIENCE = 300  # seconds that a thread waits for the others before the test fails


class Threads(World):
    """One of `size` threads that share `slots` and meet at `barrier`."""

    def __init__(self, rank, size, barrier, slots, shards=None, hosts=1):
        super().__init__(shards)
        self.rank, self.size, self.host = rank, size, f"host{rank}"
        self.local_size = size // hosts
        self.local_rank = rank % self.local_size
        self.barrier, self.slots, self.calls = barrier, slots, 0

    def _gathered(self, value):
        self.calls += 1
        self.slots[self.rank] = value
        self.barrier.wait()
        values = copy.deepcopy(self.slots)  # as messages between processes are
        self.barrier.wait()
        return values

    def from_neighbour(self, value):
        return self._gathered(value)[self.rank - self.local_rank]

    def numbers(self, x):
        return np.stack(self._gathered(x.copy()))

    def scatter(self, x, slices):
        total = tree.add_up(np.stack(self._gathered(x.copy())))
        x[x != 0] = np.nan  # what others own must not be used; gaps between tensors stay 0
        x[slices.own] = total[slices.own]

    def gather(self, x, slices):
        x[...] = np.concatenate(self._gathered(x[slices.own].copy()))

    def joined(self, part, everywhere=True):
        whole = np.concatenate(self._gathered(part))
        return whole if everywhere or self.rank == 0 else part


def together(size, function, shards=None, hosts=1):
    """[function(world) for each of `size` ranks], run together; the first exception, if any, is raised.

    hosts   that the ranks are dealt out to, as many to each
    """
    barrier, slots = threading.Barrier(size, timeout=PATIENCE), [None] * size
    results, errors = [None] * size, []

    def run(rank):
        try:
            results[rank] = function(Threads(rank, size, barrier, slots, shards, hosts))
        except BaseException as error:
            errors.append((rank, error))
            if not getattr(error, "agreed", False):  # as the hook does for processes
                barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        broken = [pair for pair in sorted(errors, key=lambda pair: pair[0])
                  if not isinstance(pair[1], threading.BrokenBarrierError)]  # fmt: skip
        assert broken, "the ranks waited for one another for too long"
        raise broken[0][1]
    return results
