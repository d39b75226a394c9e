"""Numba's cache on disk knows the loops that are specialised for a formula: a second process compiles nothing anew.

It loads a function into the module of the name that it was compiled in: a file that minivae has run can be imported.
"""

import contextlib
import gc
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba import njit
from numba.core import event
from numba.core.errors import TypingError

from minivae.bench import race_call
from minivae.cli import plugin
from minivae.gradcheck import user
from minivae.gradcheck.import_file import import_file

SCRIPT = """
import numpy as np, numba.core.caching as caching
import minivae as mv
from minivae import kernels
from minivae.evaluation import importance_kernel, tiles
saved = []
save = caching.Cache.save_overload
caching.Cache.save_overload = lambda self, *a: (saved.append(self._name), save(self, *a))[1]
for name in ("bernoulli", "laplace", "dense_forward", "dense_backward", "binarize"):
    op = kernels.ops()[name]
    op.fused(*op.example(np.random.default_rng(0), "float32", 1, 3, 5, op.cases[1 if "dense" in name else 0]))
gemm = mv.Backend("numpy", gemm="numpy")
mv.VAE(5, 2, (3,), backend=gemm).log_likelihood(np.zeros((2, 5)), tiles.LEAST_SAMPLES)
optimal = kernels.ops()["gaussian_optimal"]
given = optimal.example(np.random.default_rng(0), "float64", 2, 200, 264, "row weights")
optimal.fused(*given)
by_tiles = hasattr(gemm.gemm, "address")
assert by_tiles == bool(importance_kernel.tiles.cache_info().currsize)
print(by_tiles, given[2][0].hex(), *saved)
"""


def saved(folder):
    """The names of the compiled functions that a process writes into this cache, and what it found.

    That is whether it needs `relu_tiles`, and a sum over rows by a function that another kernel calls.
    """
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    by_tiles, total, *names = done.stdout.split()
    return names, (by_tiles == "True", total)


@pytest.mark.slow
def test_a_second_process_compiles_no_specialised_loop(tmp_path):
    names, found = saved(tmp_path)
    assert len(names) >= 5 and any("relu_tiles" in name for name in names) == found[0]
    assert saved(tmp_path) == ([], found)  # to the bit: code that is loaded is the code that was compiled


PLAIN = """
from numba import njit

@njit(cache=True)
def call(x):
    return x + 1
"""
SPECIALISED = """
import numpy as np
from minivae.kernels._likelihood import one_output
from minivae.kernels._math import point

@point
def formula(y, x):
    return y * x + 1, x

launch = one_output(formula)

def call(x):
    nll = np.zeros(1)
    launch(nll, np.zeros((1, 1)), np.ones((1, 1)), np.full((1, 1), x), 1.0)
    return nll[0]
"""
RUN = {
    "plugin": lambda path: plugin.load([path]),
    "gradcheck": lambda path: user.load(f"{path}:call"),
    "race": lambda path: race_call.load(f"{path}:call", own_folder=False),
}


def run_and_import(folder, run_first):
    """Let each command run its file of this turn, import that of the other, and call what is compiled in each."""
    sys.path.append(folder)
    for command, run in RUN.items():
        for turn in (True, False):
            path = f"{folder}/{command}_{turn}.py"
            run(Path(path)) if turn == run_first else importlib.import_module(f"{command}_{turn}")
            (module,) = {id(m): m for m in sys.modules.values() if getattr(m, "__file__", "") == path}.values()
            assert module.call(1.0) == 2.0
    # a name of its own in each process
    assert import_file(Path(folder, "of-an-op.py"), f"of_an_op_{run_first}").call(1.0) == 2.0


def test_a_file_can_be_imported_after_a_command_has_run_it_and_the_reverse(tmp_path):
    for name in [f"{command}_{turn}" for command in RUN for turn in (True, False)]:
        (tmp_path / f"{name}.py").write_text(PLAIN)
    (tmp_path / "of-an-op.py").write_text(SPECIALISED)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)}
    for turn in (True, False):
        script = f"import test_disk_cache; test_disk_cache.run_and_import({str(tmp_path)!r}, {turn})"
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr


def forget(path):
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == str(path):
            del sys.modules[name]


def test_a_file_that_bears_the_name_of_another_module_does_not_replace_it(tmp_path):
    for name in ("queue", "wave"):  # wave is imported by nothing
        path = tmp_path / f"{name}.py"
        path.write_text("def call(x):\n    return x + 1\n")
        for run in RUN.values():
            run(path)
            assert getattr(sys.modules.get(name), "__file__", None) != str(path)
            forget(path)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("function", [lambda x: x + 1, lambda x: x.unknown], ids=["compiles", "does not"])
def test_the_collector_rests_while_a_kernel_is_compiled(function, enabled):
    class Compilation(event.Listener):
        def on_start(self, event):
            found.append(gc.isenabled())

        def on_end(self, event):
            found.append(gc.isenabled())

    importlib.import_module("minivae.kernels._cache")  # which stops it
    found, listener, before = [], Compilation(), gc.isenabled()
    event.register("numba:compile", listener)
    try:
        (gc.enable if enabled else gc.disable)()
        with contextlib.suppress(TypingError):
            njit(function)(1)
        assert found == [False, False] and gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
        event.unregister("numba:compile", listener)
