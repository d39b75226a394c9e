"""Benchmarks: `make bench`; `make smoke` runs each once. Every implementation is checked before it is timed."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def smoke(pytestconfig):
    """Whether each benchmark is run once, to see that it still works."""
    return pytestconfig.getoption("benchmark_disable")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
