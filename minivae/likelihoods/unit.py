"""Likelihoods of values in [0, 1], by the names that they had when both were in this file."""

from .bernoulli import Bernoulli
from .continuous_bernoulli import ContinuousBernoulli

__all__ = ["Bernoulli", "ContinuousBernoulli"]
