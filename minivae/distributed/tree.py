"""tree: a sum whose order is fixed, however many processes take part in it.

n terms are added in pairs, the pairs in pairs, for as long as their number is even; what is left, an odd number of
them, is added one after the other. n = 12:

    ((t₀+t₁) + (t₂+t₃))  +  ((t₄+t₅) + (t₆+t₇))  +  ((t₈+t₉) + (t₁₀+t₁₁))

A group of 2ʲ terms in their place, 2ʲ a divisor of n, is a branch of the tree: a process adds up its own group by
`Branch`, and `add_up` adds the groups. Floating-point sums depend on their order, and this is always the same one.
"""

from __future__ import annotations

from typing import Any

from ..backend import Array


def halvings(n: int) -> int:
    """How often n can be halved."""
    return (n & -n).bit_length() - 1


def fits(terms: int, groups: int) -> bool:
    """Whether so many groups, of equal sizes, are branches of the tree of so many terms."""
    return groups == 1 or (terms % groups == 0 and (terms // groups).bit_count() == 1)


def group_counts(terms: int) -> list[int]:
    """The numbers of groups that fit, from the largest down to 1: terms, terms/2, terms/4 … and 1."""
    return sorted({terms >> k for k in range(halvings(terms) + 1)} | {1}, reverse=True)


def add_up(terms: Array) -> Array:
    """terms (n, m) → their sum (m,) in the tree's order: `terms[0]`, overwritten as the others are."""
    n, step = terms.shape[0], 1
    while n // step % 2 == 0:
        for i in range(0, n, 2 * step):
            terms[i] += terms[i + step]
        step *= 2
    for i in range(step, n, step):
        terms[0] += terms[i]
    return terms[0]


class Branch:
    """The sum of n terms that come one by one; it holds one array for each level of the tree."""

    def __init__(self, n: int, like: Array, xp: Any):
        self.levels = halvings(n)
        self.held = [xp.empty_like(like) for _ in range(self.levels)]
        self.total = xp.zeros_like(like)
        self.seen = 0

    def add(self, term: Array) -> None:
        """Add the next term, which may be overwritten afterwards."""
        level, carry = 0, term
        while level < self.levels and self.seen >> level & 1:
            self.held[level] += carry
            level, carry = level + 1, self.held[level]
        if level < self.levels:
            self.held[level][...] = carry
        elif self.seen >> level:
            self.total += carry
        else:
            self.total[...] = carry
        self.seen += 1

    def take(self) -> Array:
        """The sum of all n terms, until the next `add`; the next term is the first again."""
        self.seen = 0
        return self.total
