"""Benchmarks: `make bench`; `make smoke` runs each once. Every implementation is checked before it is timed."""

import numpy as np
import pytest
from racing import Races


def pytest_collect_file(parent, file_path):
    if file_path.name.startswith("bench_") and file_path.suffix == ".py":
        return pytest.Module.from_parent(parent, path=file_path)
    return None


@pytest.fixture(scope="session")
def smoke(pytestconfig):
    """Whether each benchmark is run once, to see that it still works."""
    return pytestconfig.getoption("benchmark_disable")


@pytest.fixture(scope="session")
def races(smoke):
    return Races(smoke)


@pytest.fixture
def rng():
    return np.random.default_rng(0)
