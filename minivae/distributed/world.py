"""world: what processes that work together tell one another. `World` is one process alone, and the interface of all.

Every process runs the same program on the same data (`mpiexec -n 4 python script.py`) and calls the same methods in
the same order. A process is a *rank*, 0 … P − 1. Each method that speaks to the others says what every rank gets, and
results are the same on every rank, to the bit, for every P.

    blocks   for world.map: work that is dealt out, its results in order
    errors   with world.agreeing(): a mistake that one rank meets is the same UsageError on all
    files    world.first(read): rank 0 reads, all get what it read; rank 0 alone writes
    data     world.once_a_host(read): a rank of each host reads, and the arrays are mapped by all ranks of that host
    sums     world.sum(x): in the order of `tree.py`; its two halves, with something done to slices between them
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import UsageError
from . import tree
from .slices import Slices

if TYPE_CHECKING:
    from .shards import Shards

T = TypeVar("T")
R = TypeVar("R")


class AgreedError(UsageError):
    """A mistake that one rank met and that all raise: rank 0 alone prints it."""

    agreed = True


class _Problem:
    """What a rank that has failed tells the others in the place of its value."""

    def __init__(self, text: str, where: str):
        self.text, self.where = text, where


class World:
    """One process alone: rank 0 of 1.

    rank, size   this process, and how many there are: P
    host         the name of the machine
    shards       S, the parts that a training's batches are cut into; None: P for a new run, as recorded for a resumed
    """

    rank, size = 0, 1
    local_rank, local_size = 0, 1  # among the ranks of this host
    nccl: Any = None  # the sum by NCCL (`nccl.py`), while gradients cross by it

    def __init__(self, shards: int | None = None):
        self.shards = shards
        self.host = socket.gethostname()

    def __repr__(self) -> str:
        return f"rank {self.rank} of {self.size}, {self.host}"

    # ---- what all others are made of ----------------------------------------------------------------------------

    def _gathered(self, value: Any) -> list[Any]:
        """Every rank's value, in order of ranks."""
        return [value]

    def from_neighbour(self, value: T) -> T:
        """The value of the first rank of this host. Its ranks wait for one another, however long, and leave the CPU."""
        return value

    def numbers(self, x: np.ndarray) -> np.ndarray:
        """x (k,) float64 of every rank → (P, k)."""
        return x[None]

    def scatter(self, x: np.ndarray, slices: Slices) -> None:
        """This rank's own slice of x (n,) ← its sum over ranks, in the order of `tree.py`."""

    def gather(self, x: np.ndarray, slices: Slices) -> None:
        """x (n,) ← every rank's own slice of it."""

    def waiting(self) -> AbstractContextManager[None]:
        """Around what waits for the other ranks: too long a wait ends all."""
        return contextlib.nullcontext()

    def joined(self, part: np.ndarray, everywhere: bool = True) -> np.ndarray:
        """part (n, …) of every rank → all of them, one below the other in order of ranks.

        everywhere   False: rank 0 alone gets them, and the others their own part
        """
        return part

    # ---- made of those ------------------------------------------------------------------------------------------

    def sum(self, x: np.ndarray) -> None:
        """x (n,) ← its sum over ranks, in the order of `tree.py`."""
        slices = Slices(x.size, self.size, self.size, self.rank)
        self.scatter(x, slices)
        self.gather(x, slices)

    def all(self, value: T) -> list[T]:
        """Every rank's `value`, in order of ranks: something small, such as a text.

        Raises AgreedError where a rank has failed before it came here, in `agreeing`.
        """
        values = self._gathered(value)
        problems = [other for other in values if isinstance(other, _Problem)]
        if problems:
            first = problems[0]
            alike = len(problems) == self.size and all(other.text == first.text for other in problems)
            raise AgreedError(first.text if alike else first.where + first.text)
        return values

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This rank's share of the items: contiguous, in order of ranks, of sizes that differ by 1 at most."""
        n = len(items)
        return items[self.rank * n // self.size : (self.rank + 1) * n // self.size]

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """[function(item) for item in items], each item by one rank: results are small, arrays go by `joined`.

        A UsageError of `function` on one rank is raised by all.
        """
        results: list[R] = []
        with self.agreeing():
            results = [function(item) for item in self.mine(list(items))]
        return [result for part in self.all(results) for result in part]

    def first(self, function: Callable[[], T]) -> T:
        """function() of rank 0, which alone calls it; all get its result, or its error."""
        with self.agreeing(named=False):
            result = function() if self.rank == 0 else None
        return self.all(result)[0]  # type: ignore[return-value]

    def once_a_host(self, function: Callable[[], T]) -> T:
        """function() of the first rank of each host, which alone calls it; the ranks of the host get its result.

        Its arrays are mapped by all of them, read-only, from one file (`mapped.py`). Raises AgreedError where it fails
        on a host, with the name of the first such rank unless it fails on all hosts alike.
        """
        if self.size == 1:
            return function()
        self.all(None)  # a rank that has failed before says so here: its neighbours must not wait for it
        with self.agreeing():
            from .mapped import shared

            return shared(self, function)

    @contextlib.contextmanager
    def agreeing(self, named: bool = True) -> Iterator[None]:
        """Around what may fail on one rank: if it fails on any, all raise the same AgreedError, which names the rank.

        A user's mistakes, files' errors and a lack of memory count; anything else ends all ranks.
        """
        try:
            yield
        except AgreedError:
            raise
        except (UsageError, OSError, MemoryError) as error:
            if self.size == 1:
                raise
            self.all(_Problem(text_of(error), f"rank {self.rank} ({self.host}): " if named else ""))
        else:
            self.all(None)

    def same(self, what: str, value: T, advice: str = "start all with the same program, data and options") -> T:
        """The value, where every rank has the same; else AgreedError, which says what to do."""
        self.alike({what: value}, advice)
        return value

    def alike(self, facts: dict[str, Any], advice: str = "start all with the same program, data and options") -> None:
        """Raise AgreedError for the first of the facts, by their names, that a rank does not have as rank 0 has it."""
        if self.size == 1:
            return
        told = self.all((facts, self.host))
        first, its_host = told[0]
        for rank, (others, host) in enumerate(told):
            for what, value in first.items():
                if repr(other := others.get(what)) != repr(value):  # NaN is the same as NaN
                    raise AgreedError(
                        f"rank {rank} ({host}) has {other} as {what}, and rank 0 ({its_host}) {value}: {advice}"
                    )

    def begin(self, training: Any, recorded: int | None) -> Shards | None:
        """The shards of a training (`shards.py`); None where there is one, which is a training without ranks.

        recorded   the number of shards of the run to be resumed; None for a new one
        """
        shards = self.shards or recorded or self.size
        if not tree.fits(shards, self.size):
            raise UsageError(
                f"{shards} shards cannot be dealt out to {self.size} ranks: start {_either(tree.group_counts(shards))} "
                f"of them, or begin a run with --shards {self.size} (shards={self.size}) or {2 * self.size}"
            )
        if shards == 1:
            return None
        from .shards import Shards

        return Shards(self, shards, training)

    def complain(self, message: str) -> None:
        """A line on standard error that says which rank speaks, and where."""
        print(f"minivae: rank {self.rank} of {self.size} ({self.host}): {message}", file=sys.__stderr__, flush=True)

    def abort(self, status: int) -> None:
        """End all ranks at once, with this status."""


def _either(numbers: Sequence[int]) -> str:
    texts = [str(number) for number in numbers]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " or " + texts[-1]


def text_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file'}: {error.strerror}"
    return str(error) or type(error).__name__
