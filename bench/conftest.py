"""Benchmarks: `make bench`; `make smoke` runs each once. Every implementation is checked before it is timed."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def smoke(pytestconfig):
    """Whether each benchmark runs only once, to check that it works."""
    return pytestconfig.getoption("benchmark_disable")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
