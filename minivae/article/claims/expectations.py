"""Numerical integration against sampling (eq. 1–4)."""

from __future__ import annotations

import math

import numpy as np

from .. import bayes
from .claim import Checks, above, claim, equals, near

MEAN, STD = 1.5, 0.5


@claim("quadrature", (1, 2), "E[x] = ∫ x p(x) dx is a sum over representative points, each weighed by p.")
def quadrature() -> Checks:
    return [equals("E[x] of N(1.5, ½²) from 100 points", bayes.two_ways(MEAN, STD).quadrature, MEAN)]


@claim("plain-mean", (3,), "E[x] is the plain mean of samples xᵢ ~ p.")
def plain_mean() -> Checks:
    found = bayes.two_ways(MEAN, STD).sampled
    return [near(f"mean of {found.n:,} samples", found.value, MEAN, found.error)]


@claim("weighed-once", (3,), "The samples already hold p: multiplying by p(xᵢ) again is wrong.")
def weighed_once() -> Checks:
    found = bayes.two_ways(MEAN, STD)
    again = found.weighted_again
    return [
        near("mean of xᵢ p(xᵢ), which goes to ∫ x p²", again.value, found.weighted_again_limit, again.error),
        above("its distance from E[x], in standard errors", abs(again.value - MEAN) / again.error, 4),
    ]


@claim("expectation", (4,), "E[f(x)] is the mean of f(xᵢ), xᵢ ~ p: the basis of Monte Carlo.")
def expectation() -> Checks:
    drawn = MEAN + STD * np.random.default_rng(4).standard_normal(100_000)
    checks = []
    for name, f, exact in (
        ("x²", np.square, MEAN**2 + STD**2),
        ("cos x", np.cos, math.exp(-0.5 * STD**2) * math.cos(MEAN)),
    ):
        found = bayes.by_sampling(drawn, f)
        checks.append(near(f"E[{name}]", found.value, exact, found.error))
    return checks


@claim("rate", (3, 4), "The error of sampling falls as n^(−½).")
def rate() -> Checks:
    found = bayes.sampling_rate()
    return [near("exponent, n from 16 to 4096", found.exponent, -0.5, found.exponent_error)]
