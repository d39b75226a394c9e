"""Threads and matrix products: shares that cover everything once, results that no number of threads changes."""

import ctypes.util
import os
import subprocess
import sys
import textwrap
import threading
import types

import numpy as np
import ops
import pytest
from ops import DTYPES
from threadpoolctl import threadpool_limits
from tolerances import assert_close

import minivae as mv
from minivae import backend, kernels
from minivae.kernels import _pool, _threads
from minivae.matmul import cpu as gemm
from minivae.matmul import mkl

OPS = kernels.load("numpy", "fused", np)
needs_pool = pytest.mark.skipif(not _pool.AVAILABLE, reason="no pool of threads on this system")


@pytest.fixture
def two_threads():
    before = _threads.most()
    assert kernels.limit_threads(2) == 2
    yield
    kernels.limit_threads(before)


def alone(op, *arguments):
    """The op on one thread."""
    before = _threads.most()
    kernels.limit_threads(1)
    try:
        getattr(OPS, op)(*arguments)
    finally:
        kernels.limit_threads(before)


@_threads.shared
def _range(found, n, unit, t, shares):
    found[0], found[1] = _threads.share(t, shares, n, unit)


@pytest.mark.parametrize("unit", [1, 16])
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 1009])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_shares_cover_everything_once_and_in_order(threads, n, unit):
    shares = [np.zeros(2, np.int64) for _ in range(threads)]
    for t, found in enumerate(shares):
        _range(found, n, unit, t, threads)
    assert [i for start, stop in shares for i in range(start, stop)] == list(range(n))
    assert all(start % unit == 0 or start == n for start, _ in shares)


@needs_pool
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op, case", ops.cases())
def test_two_threads_give_the_same_bits_as_one(two_threads, op, case, dtype):
    arguments = ops.example(op, case, dtype, (2, 211, 197))  # more than two grains, and no multiple of anything
    two = ops.after(getattr(OPS, op), arguments)
    one = ops.after(lambda *given: alone(op, *given), arguments)
    written = [i for i in ops.OPS[op].written if arguments[i] is not None]
    for i in written:
        np.testing.assert_array_equal(two[i], one[i])
    assert any(two[i].tobytes() != arguments[i].tobytes() for i in written), "the op wrote nothing"


# ---- matrix products --------------------------------------------------------------------------------------------


def _providers():
    found = []
    for name in ("numpy", "mkl"):
        try:
            found.append(pytest.param(gemm.choose(name), id=name))
        except mv.UsageError as error:
            found.append(pytest.param(None, id=name, marks=pytest.mark.skip(reason=str(error))))
    return found


SHAPES = [
    (1, 1, 1),
    (1, 50, 3),
    (3, 5, 7),
    (20, 784, 500),
    (127, 131, 137),
    (300, 31, 17),
    (521, 257, 263),
]


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=needs_pool)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("provider", _providers())
def test_a_product_is_the_product(provider, dtype, shape, threads):
    m, k, n = shape
    rng = np.random.default_rng(m)
    A, B = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
    expected = (A.astype(np.longdouble) @ B.astype(np.longdouble)).astype(dtype)
    before = _threads.most()
    kernels.limit_threads(threads)
    try:
        for a in (A, np.asfortranarray(A)):
            for b in (B, np.asfortranarray(B)):
                out = np.full((m, n), np.nan, dtype)
                provider.gemm(out, a, b)
                assert_close(out, expected, dtype, scale=np.sqrt(k))
    finally:
        kernels.limit_threads(before)


def test_a_product_neither_heeds_nor_changes_the_threads_of_numpys_blas():
    """k = 500 is more than OpenBLAS adds up at once, and its cut of k depends on its number of threads."""
    script = """
        import hashlib, numpy as np, minivae as mv
        from minivae.kernels import _threads; _threads.BEGIN = 0
        from threadpoolctl import ThreadpoolController
        backend, rng = mv.Backend("numpy", gemm="numpy"), np.random.default_rng(0)
        blas = ThreadpoolController().select(user_api="blas").lib_controllers
        A, B, out = (rng.random(shape, np.float32) for shape in ((300, 500), (500, 700), (300, 700)))
        found = set()
        for threads in (1, 2):
            for library in blas: library.set_num_threads(threads)
            backend.gemm(out, A, B)
            found.add(hashlib.sha256(out).hexdigest())
            assert [library.num_threads for library in blas] == len(blas) * [threads]
        assert len(found) == 1
        assert all("memfd" not in library.filepath and "/proc" not in library.filepath for library in blas)
    """
    if gemm.choose("numpy").own_threads:
        pytest.skip("NumPy's BLAS is called through numpy.dot here")
    assert_it_runs(script, MINIVAE_THREADS="2")


@pytest.mark.parametrize("missing", ["memfd_create", "the library", "a routine"])
def test_a_blas_that_cannot_be_copied_is_called_through_numpy(monkeypatch, missing):
    library = types.SimpleNamespace(internal_api="openblas", threading_layer="pthreads", version="0", filepath="")
    if missing == "memfd_create":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    elif missing == "the library":
        library.filepath = "/nowhere/libopenblas.so"
    else:
        library.filepath = ctypes.util.find_library("m")
    monkeypatch.setattr(gemm, "numpy_blas", lambda: library)
    provider, A, out = gemm._numpy.__wrapped__(), np.eye(3, dtype=np.float32), np.empty((3, 3), np.float32)
    assert provider.own_threads
    provider.gemm(out, A, A + A)
    assert (out == 2 * A).all()


TRAIN = """
    import hashlib, os, threading
    import numpy as np, minivae as mv
    from minivae.kernels import _threads; _threads.BEGIN = 0

    SIZES = ((784, 500, 128), (300, 200, 64), (784, 400, 20), (100, 700, 256))

    def trained(seed, steps=10):
        features, hidden, batch = SIZES[seed % len(SIZES)]
        X = (np.random.default_rng(seed).random((batch, features)) < 0.3).astype(np.float32)
        vae, adam = mv.VAE(features, 10, (hidden,), backend=mv.Backend("numpy", gemm="numpy"), seed=seed), mv.Adam()
        for _ in range(steps):
            vae.train_step(X, adam)
        return hashlib.sha256(b"".join(p.tobytes() for p in vae.parameters.values())).hexdigest()

    def at_once(*jobs):
        threads = [threading.Thread(target=job) for job in jobs]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
"""


@needs_pool
def test_a_training_in_another_thread_ends_in_the_same_bytes_while_others_limit_numpys_threads():
    """threadpoolctl obeys one thread alone, here the main thread."""
    script = """
        from threadpoolctl import threadpool_limits, threadpool_info
        alone, found, stop = trained(0), [], threading.Event()
        def limit():
            while not stop.is_set():
                with threadpool_limits(1, user_api="blas"): pass
        limiting = threading.Thread(target=limit)
        limiting.start()
        for _ in range(4):
            at_once(lambda: found.append(trained(0)))
            with threadpool_limits(1, user_api="blas"):
                at_once(lambda: found.append(trained(0)))
        stop.set()
        limiting.join()
        assert found == 8 * [alone], found
    """
    assert_it_runs(TRAIN + script, MINIVAE_THREADS="2", OPENBLAS_NUM_THREADS="2")


@needs_pool
def test_trainings_at_once_end_in_the_bytes_that_each_has_alone():
    script = """
        import faulthandler
        faulthandler.enable()
        alone, found = [trained(seed) for seed in range(4)], {}
        for threads in (4, 8):
            at_once(*(lambda i=i: found.setdefault(i, trained(i % 4)) for i in range(threads)))
            assert found == {i: alone[i % 4] for i in range(threads)}
            found.clear()
    """
    assert_it_runs(TRAIN + script, MINIVAE_THREADS="2", OPENBLAS_NUM_THREADS="2")


@needs_pool
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_ends_in_the_same_bytes_whatever_runs_beside_the_fork():
    script = """
        alone, stop = trained(0), threading.Event()
        def keep_training():
            while not stop.is_set(): trained(1, 1)
        def fork():
            for _ in range(4):
                child = os.fork()
                if child == 0:
                    os._exit(0 if trained(0) == alone else 1)
                statuses.append(os.waitpid(child, 0)[1])
            stop.set()
        statuses = []
        at_once(keep_training, fork)
        assert statuses == [0] * 4, statuses
    """
    assert_it_runs(TRAIN + script, MINIVAE_THREADS="2", OPENBLAS_NUM_THREADS="2")


@needs_pool
@pytest.mark.parametrize("how", ["spawn", pytest.param("loky", marks=pytest.mark.slow)])
def test_another_process_ends_in_the_same_bytes(how, tmp_path):
    start = {
        "spawn": "multiprocessing.get_context('spawn').Pool(2).map(trained, range(4))",
        "loky": "joblib.Parallel(2)(joblib.delayed(trained)(seed) for seed in range(4))",
    }
    module = pytest.importorskip("joblib") and tmp_path / "training.py"
    module.write_text(textwrap.dedent(TRAIN))
    script = f"""
        import sys, multiprocessing, joblib
        sys.path.insert(0, {str(tmp_path)!r})
        from training import trained
        if __name__ == "__main__":
            assert {start[how]} == [trained(seed) for seed in range(4)]
    """
    (tmp_path / "main.py").write_text(textwrap.dedent(script))
    assert_it_runs(
        f"import runpy; runpy.run_path({str(tmp_path / 'main.py')!r}, run_name='__main__')",
        MINIVAE_THREADS="2",
        OPENBLAS_NUM_THREADS="2",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )


def assert_it_runs(script, **environment):
    parts = script.partition(TRAIN)
    program = textwrap.dedent(parts[1]) + textwrap.dedent(parts[2] or parts[0])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


BYTES = """
    import hashlib, numpy as np, minivae as mv
    X = (np.random.default_rng(0).random((400, 30)) < 0.3) * 1.0
    vae = mv.VAE(30, 4, (16,), activation="sigmoid", init="he", backend=mv.Backend("numpy", dtype="float64"))
    vae.fit(X, epochs=4, batch_size=100, optimizer=mv.SGD(1e-3))
    print(hashlib.sha256(vae.buffer.state.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_kernels_from_the_disk_give_the_bits_of_those_compiled_here_and_one_line_tells_of_compiling(tmp_path):
    program, cache = textwrap.dedent(BYTES), {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, said = assert_it_runs(program, **cache)
    assert said.count("\n") == 1 and said.startswith("compiling kernels for this machine, once")
    assert assert_it_runs(program, **cache) == (first, "")
    kept = list(tmp_path.rglob("sgd.*.nb?"))
    for file in kept:
        file.unlink()
    silent = "import logging; logging.getLogger('minivae').setLevel(logging.ERROR)\n"
    assert assert_it_runs(silent + program, **cache) == (first, "")
    assert kept and all(file.exists() for file in kept)  # compiled again


# ---- users' mistakes --------------------------------------------------------------------------------------------


def test_an_unknown_provider_is_an_error():
    with pytest.raises(mv.UsageError, match="gemm='blis': expected one of numpy, mkl, auto"):
        mv.Backend("numpy", gemm="blis")


def test_the_environment_chooses_the_provider_where_no_argument_does(monkeypatch):
    monkeypatch.setenv("MINIVAE_GEMM", "numpy")
    assert mv.Backend("numpy").provider.name == "numpy"
    monkeypatch.setenv("MINIVAE_GEMM", "fast")
    with pytest.raises(mv.UsageError, match=r"gemm='fast' \(from \$MINIVAE_GEMM\)"):
        mv.Backend("numpy")
    assert mv.Backend("numpy", gemm="numpy").provider.name == "numpy"


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD", ""])
def test_auto_takes_mkl_where_it_is_installed_and_the_processor_is_intels(monkeypatch, vendor):
    monkeypatch.delenv("MINIVAE_GEMM", raising=False)
    monkeypatch.setattr(mkl, "vendor", lambda: vendor)
    taken = mkl.library() is not None and _pool.AVAILABLE and vendor == "GenuineIntel"
    assert mv.Backend("numpy").provider.name == ("mkl" if taken else "numpy")
    monkeypatch.setattr(mkl, "library", lambda: None)
    assert mv.Backend("numpy").provider.name == "numpy"


@pytest.mark.parametrize("vendor", ["GenuineIntel", "AuthenticAMD"])
def test_the_vendor_is_what_the_processor_says(monkeypatch, tmp_path, vendor):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Intel or AMD\n")
    monkeypatch.setattr(mkl, "CPUINFO", cpuinfo)
    assert mkl.vendor() == vendor
    monkeypatch.setattr(mkl, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(mkl.platform, "processor", lambda: f"x86_64 Family 6 Model 143 Stepping 8, {vendor}")
    assert mkl.vendor() == vendor


def test_mkl_that_is_not_there_is_an_error_that_says_what_to_install(monkeypatch):
    gemm._mkl.cache_clear()
    monkeypatch.setattr(mkl, "library", lambda: None)
    with pytest.raises(mv.UsageError, match=r"pip install mkl .*, or use gemm='numpy'"):
        mv.Backend("numpy", gemm="mkl")
    monkeypatch.setattr(mkl.platform, "machine", lambda: "aarch64")
    with pytest.raises(mv.UsageError, match="for x86-64 processors, and this is aarch64"):
        mv.Backend("numpy", gemm="mkl")


@pytest.fixture
def counted():
    """How many threads a process with the environment as it is would use."""
    before = _threads.most()
    yield backend.threads.__wrapped__
    kernels.limit_threads(before)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "9" * 5000, "1025", "٣٣٣٣٣"])
def test_a_wrong_number_of_threads_is_an_error(monkeypatch, text, counted):
    monkeypatch.setenv("MINIVAE_THREADS", text)
    with pytest.raises(mv.UsageError, match=r"^MINIVAE_THREADS='.*': expected an integer from 1 to 1024$") as raised:
        counted()
    assert len(str(raised.value)) < 100


@needs_pool
def test_the_environment_sets_the_number_of_threads(monkeypatch, counted):
    for name in ("MINIVAE_THREADS", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(40)), raising=False)
    for name, text, number in (
        ("OTHER", "1", 40),
        ("NUMBA_NUM_THREADS", "30", 30),
        ("OMP_NUM_THREADS", "20,4", 20),
        ("OPENBLAS_NUM_THREADS", "25", 25),
        ("OPENBLAS_NUM_THREADS", "many", 30),
        ("OPENBLAS_NUM_THREADS", "99", 30),
        ("MINIVAE_THREADS", "50", 50),
    ):
        monkeypatch.setenv(name, text)
        assert counted() == number == _threads.most()


def test_the_number_of_threads_stays_what_it_was_first(monkeypatch):
    first = mv.Backend("numpy").threads
    monkeypatch.setenv("MINIVAE_THREADS", str(first + 1))
    with threadpool_limits(1):
        assert mv.Backend("numpy").threads == backend.threads() == first


STEP = """
    import numpy as np, minivae as mv
    try:
        vae = mv.VAE(10, 2, (8,), backend=mv.Backend("numpy"))
        print(vae.train_step(np.ones((4, 10), np.float32), mv.Adam()).loss)
    except mv.UsageError as error:
        print(error)
"""
OPS_ALONE = """
    import numpy as np, minivae as mv
    from minivae.kernels import _threads; _threads.BEGIN = 0
    for _ in range(2): backend = mv.Backend("numpy")
    out, nll = np.ones((40, 10000), np.float32), np.empty(40, np.float32)
    backend.ops.bernoulli(nll, np.empty_like(out), out, out, 1.0)
    out, product = out[:, :30].copy(), np.empty((40, 40), np.float32)
    backend.gemm(product, out, out.T)
    print(nll.sum() + product.sum())
"""


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("NUMBA_NUM_THREADS", "0", "NUMBA_NUM_THREADS=0: Numba expects a number of at least 1"),
        ("NUMBA_NUM_THREADS", "-3", "NUMBA_NUM_THREADS=-3: Numba expects a number of at least 1"),
        ("NUMBA_DISABLE_JIT", "1", "NUMBA_DISABLE_JIT is set, and Numba then compiles nothing"),
    ],
)
def test_a_variable_that_keeps_numba_from_compiling_is_one_line(name, text, said):
    out, err = assert_it_runs(STEP, **{name: text})
    assert out.startswith(said) and out.count("\n") == 1
    assert err == ""


@pytest.mark.parametrize(
    "environment",
    [{"NUMBA_CPU_NAME": "generic"}, {"NUMBA_THREADING_LAYER": "workqueue"}, {"NUMBA_NUM_THREADS": "1"}],
    ids=str,
)
def test_it_runs_with_any_processor_and_pool_of_numbas(environment):
    """Nothing of Numba's own pool, OpenMP's or another, is used. Another processor has its kernels compiled anew."""
    program = OPS_ALONE if "NUMBA_CPU_NAME" in environment else STEP
    out, err = assert_it_runs(program, MINIVAE_THREADS="2", **environment)
    assert float(out) > 0 and err == ""


def test_a_folder_that_cannot_be_written_to_costs_one_warning():
    script = """
        from numba.core import caching
        class ReadOnly:
            @classmethod
            def from_function(cls, function, file): return None
        for kind in vars(caching).values():
            if hasattr(kind, "_locator_classes"): kind._locator_classes = [ReadOnly]
    """
    out, err = assert_it_runs(textwrap.dedent(script) + textwrap.dedent(OPS_ALONE))
    assert float(out) > 0
    assert err.count("Warning") == err.count("compiled kernels are not kept for the next process") == 1


@_threads.shared
def _how_many(seen, t, shares):
    first, last = _threads.share(t, shares, shares, 1)
    for i in range(first, last):
        seen[i] = shares


@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")
@needs_pool
def test_little_work_is_one_share(two_threads):
    for elements, expected in ((1, [1, 0, 0, 0]), (3 * _threads.GRAIN, [3, 3, 3, 0]), (99 * _threads.GRAIN, [4] * 4)):
        seen = np.zeros(4, np.int64)
        _threads.run(_how_many, elements, seen)
        assert seen.tolist() == expected


@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")
@needs_pool
def test_the_pool_begins_once_there_was_as_much_work_as_that_takes(two_threads, monkeypatch):
    for name, value in (("_running", None), ("_alone", 0), ("BEGIN", 10)):
        monkeypatch.setattr(_threads, name, value)
    for begun in (False, False, True, True):
        seen = np.zeros(4, np.int64)
        _threads.run(_how_many, 4 * _threads.GRAIN, seen)
        assert seen.tolist() == [4] * 4 and (_threads._running is not None) == begun
    _threads._running.stop()


@_threads.shared
def _count(counts, total, ones, t, shares):
    first, last = _threads.share(t, shares, shares, 1)
    for i in range(first, last):
        for one in ones:
            counts[i] += one
            _threads.add(total, one)


def place(threads, cores):
    """Let threads run on these cores alone, if any: on a busy machine a thread that is woken stays beside its waker."""
    if cores:
        for thread in threads:
            os.sched_setaffinity(thread, cores)


@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")
@needs_pool
@pytest.mark.parametrize("callers, most, work", [(1, 64, 20_000), (8, 64, 20_000), (1, 2**18, 1)])
def test_every_share_is_computed_once_whoever_calls(callers, most, work):
    """Eight threads of Python's ask at once: one has the workers, the others compute their shares themselves."""
    before, rounds, failures = _threads.most(), 40, []
    kernels.limit_threads(4)
    pool, ones = _threads._start(), np.ones(work, np.int64)
    workers = [thread.native_id for thread in pool.threads]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    place(workers, cores[1:])

    def ask(seed):
        place([0], cores[:1])
        for shares in np.random.default_rng(seed).integers(1, most + 1, rounds):
            counts, total = np.zeros(most, np.int64), np.zeros(1, np.int64)
            pool.words[_pool.ALONE_UNTIL] = 0  # the workers are asked again, however long they were waited for
            _threads.run(_count, shares * _threads.GRAIN, counts, total, ones, per_thread=most // 4)
            if (counts != work * (np.arange(most) < shares)).any() or total[0] != work * shares:
                failures.append((counts, total))

    try:
        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        place(workers, cores)
        kernels.limit_threads(before)
    assert not failures
