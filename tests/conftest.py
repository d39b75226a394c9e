"""What all tests share: where real MNIST is, and a cache of compiled kernels that knows when their source changes."""

import hashlib
import os
import sys
from pathlib import Path

# Before NumPy is imported, here and in the processes that tests start: small products gain nothing from a second
# thread, and beside another busy process two spinning threads of OpenBLAS make a step ten times slower.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

# Numba's cache looks at the file of the kernel alone: without this, a change to `_math.py` would go untested.
_source = b"".join(path.read_bytes() for path in sorted((ROOT / "kernels").glob("*.py")))
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / ".numba-cache" / hashlib.sha256(_source).hexdigest()[:16])


def _mnist_folder():
    for folder in (os.environ.get("MINIVAE_DATA"), ROOT.parent / "shared" / "data"):
        if folder and (Path(folder) / "mnist" / "train-images-idx3-ubyte.gz").exists():
            return Path(folder)
    return None


def pytest_collection_modifyitems(items):
    if _mnist_folder() is None:
        skip = pytest.mark.skip(reason="real MNIST is not here: set MINIVAE_DATA to the folder that holds mnist/")
        for item in items:
            if "mnist" in item.keywords:
                item.add_marker(skip)


@pytest.fixture
def mnist_env(monkeypatch):
    """$MINIVAE_DATA pointing at real MNIST (for tests marked `mnist`)."""
    monkeypatch.setenv("MINIVAE_DATA", str(_mnist_folder()))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("MINIVAE_BACKEND", raising=False)
