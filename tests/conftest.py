"""What all tests share: one thread each, one cache of compiled kernels, the folder of real MNIST, a GPU if any."""

import gc
import os
import signal
import sys
from pathlib import Path

# Set before NumPy is imported, for this process and those that tests start. One test runs on each core, so each keeps
# to one thread; a test that needs two asks for them.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MINIVAE_THREADS", "1")

import numba_cache
import numpy as np
import pytest
from numba.core.caching import NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

gc.disable()  # until all is imported and collected, which stays to the end

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

# A shell's background job and nohup start their children with these ignored, and the tests' own children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("SIGHUP", "SIGTERM"):
    if hasattr(signal, _name) and signal.getsignal(getattr(signal, _name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, _name), signal.SIG_DFL)

os.environ["NUMBA_CACHE_DIR"] = str(numba_cache.folder())


def _compile_once(compile_kernel):
    """One worker compiles a kernel, and another that wants it waits, and finds it in the cache."""
    held = set()

    def compile_or_wait(self, signature):
        name = self.py_func.__qualname__
        if isinstance(self._cache, NullCache) or name in held:
            return compile_kernel(self, signature)
        folder = Path(os.environ["NUMBA_CACHE_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
        with global_compiler_lock, open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held.add(name)
            try:
                return compile_kernel(self, signature)
            finally:
                held.discard(name)
                fcntl.flock(lock, fcntl.LOCK_UN)

    return compile_or_wait


if "PYTEST_XDIST_WORKER" in os.environ and fcntl:
    Dispatcher.compile = _compile_once(Dispatcher.compile)


def _mnist_folder():
    for folder in (os.environ.get("MINIVAE_DATA"), ROOT.parent / "shared" / "data"):
        if folder and (Path(folder) / "mnist" / "train-images-idx3-ubyte.gz").exists():
            return Path(folder)
    return None


def pytest_addoption(parser):
    parser.addoption("--require-gpu", action="store_true", help="fail, instead of skipping, where no GPU answers")


def why_no_gpu():
    """Why tests marked `gpu` cannot run here; "" where they can."""
    from minivae.backend import Backend
    from minivae.errors import UsageError

    try:
        Backend("cupy")
    except UsageError as error:
        return str(error)
    return ""


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and (reason := why_no_gpu()):
        pytest.skip(reason)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if (
        report.when == "setup"
        and report.skipped
        and item.get_closest_marker("gpu")
        and item.config.getoption("--require-gpu")
    ):
        report.outcome, report.longrepr = "failed", f"--require-gpu: {report.longrepr[2]}"


drawn = {}  # module → what its RNG has come to when all is imported


def pytest_collection_finish(session):
    from minivae.kernels import _threads

    _threads.BEGIN = 0  # tests of two threads have them from the first work on
    for module in {getattr(item, "module", None) for item in session.items}:
        if isinstance(rng := getattr(module, "RNG", None), np.random.Generator):
            drawn[module] = rng.bit_generator.state
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _the_same_draws(request):
    """A test draws the same from its module's RNG, whatever ran before it in this process."""
    if request.module in drawn:
        request.module.RNG.bit_generator.state = drawn[request.module]


def pytest_collection_modifyitems(items):
    if _mnist_folder() is None:
        skip = pytest.mark.skip(reason="real MNIST is not here: set MINIVAE_DATA to the folder that holds mnist/")
        for item in items:
            if item.get_closest_marker("mnist"):
                item.add_marker(skip)


@pytest.fixture
def mnist_env(monkeypatch):
    """$MINIVAE_DATA pointing at real MNIST (for tests marked `mnist`)."""
    monkeypatch.setenv("MINIVAE_DATA", str(_mnist_folder()))


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("MINIVAE_BACKEND", raising=False)
