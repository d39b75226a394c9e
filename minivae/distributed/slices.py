"""slices: how a flat array is dealt out to ranks, each of which adds up, and updates, a slice of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

LINE = 16  # numbers: slices begin at multiples of it, which are cache lines, and 16 bytes are loaded at once


@dataclass(frozen=True)
class Slices:
    """n numbers in S units of whole cache lines, S/P of them a rank; the few that are left are the last rank's too.

    Units depend on S alone, so that what is found in each of them can be put together in one order for any P.

    unit    numbers of each unit; there may be none
    each    numbers of each rank's S/P units
    head    the units of all ranks
    rest    what is left
    own     what this rank adds up and updates: its units, and the last rank the rest as well
    units   the units of this rank
    """

    n: int
    shards: int
    size: int
    rank: int

    @cached_property
    def unit(self) -> int:
        return self.n // (LINE * self.shards) * LINE

    @cached_property
    def each(self) -> int:
        return self.shards // self.size * self.unit

    @cached_property
    def head(self) -> slice:
        return slice(0, self.shards * self.unit)

    @cached_property
    def rest(self) -> slice:
        return slice(self.shards * self.unit, self.n)

    @cached_property
    def own(self) -> slice:
        return slice(self.rank * self.each, self.n if self.rank == self.size - 1 else (self.rank + 1) * self.each)

    @cached_property
    def units(self) -> list[slice]:
        first = self.rank * self.each
        return [slice(first + k * self.unit, first + (k + 1) * self.unit) for k in range(self.shards // self.size)]
