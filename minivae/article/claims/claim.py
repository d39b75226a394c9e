"""claim: a claim, and the rules for its measurements.

The function of a claim returns checks: a number, the rule for it, and whether the rule holds. The rule for an estimate
is a number of its standard errors, which are estimated too; that for an identity is the rounding of float64. NaN
violates every rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

ERRORS = 4.0  # standard errors allowed: a right estimate exceeds them once in 16,000 times, and the seeds are fixed
ROUNDING = 1e-12  # sums of a few hundred float64 terms of order 1 to 10
INTEGRAL = 1e-9  # accuracy of the numerical integrals over z and over x


@dataclass(frozen=True)
class Check:
    """One measurement: `what`, its value, the rule in words, and whether it holds."""

    what: str
    value: float
    rule: str
    holds: bool


Checks = list[Check]


@dataclass(frozen=True)
class Claim:
    """A claim of the article.

    name        for --only; chapter: the file it is in
    equations   their numbers; () for a claim in prose
    sentence    the claim
    measure     the function that measures it
    loose       "" if the article is right as written; otherwise the correction, which is then measured
    """

    name: str
    chapter: str
    equations: tuple[int, ...]
    sentence: str
    measure: Callable[[], Checks]
    loose: str = ""


CLAIMS: dict[str, Claim] = {}  # by name, in the order of imports; `verify.claims` returns them in the article's order


def claim(
    name: str, equations: tuple[int, ...], sentence: str, loose: str = ""
) -> Callable[[Callable[[], Checks]], Callable[[], Checks]]:
    """Register the decorated function as the next claim."""

    def enter(measure: Callable[[], Checks]) -> Callable[[], Checks]:
        if name in CLAIMS:
            raise ValueError(f"two claims are called {name!r}")
        CLAIMS[name] = Claim(name, measure.__module__.rpartition(".")[2], equations, sentence, measure, loose)
        return measure

    return enter


# ---- the rules ------------------------------------------------------------------------------------------------------


def equals(what: str, value: float, expected: float, tolerance: float = ROUNDING) -> Check:
    """|value − expected| ≤ tolerance; ∞ equals ∞."""
    holds = value == expected or abs(value - expected) <= tolerance
    return Check(what, float(value), f"= {expected:.6g} to {tolerance:.0e}", bool(holds))


def near(what: str, value: float, expected: float, error: float, k: float = ERRORS) -> Check:
    """|value − expected| ≤ k standard errors."""
    return Check(
        what, float(value), f"= {expected:.5g} ± {k:g} × {error:.2g}", bool(abs(value - expected) <= k * error)
    )


def at_most(what: str, value: float, limit: float) -> Check:
    return Check(what, float(value), f"≤ {limit:.4g}", bool(value <= limit))


def at_least(what: str, value: float, limit: float) -> Check:
    return Check(what, float(value), f"≥ {limit:.4g}", bool(value >= limit))


def below(what: str, value: float, limit: float) -> Check:
    return Check(what, float(value), f"< {limit:.4g}", bool(value < limit))


def above(what: str, value: float, limit: float) -> Check:
    return Check(what, float(value), f"> {limit:.4g}", bool(value > limit))


def infinite(what: str, value: float) -> Check:
    return Check(what, float(value), "= ∞", value == math.inf)
