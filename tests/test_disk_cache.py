"""Numba's cache on disk knows the loops that are specialised for a formula: a second process compiles nothing anew."""

import os
import subprocess
import sys

SCRIPT = """
import numpy as np, numba.core.caching as caching
from minivae import kernels
saved = []
save = caching.Cache.save_overload
caching.Cache.save_overload = lambda self, *a: (saved.append(self._name), save(self, *a))[1]
for name in ("bernoulli", "laplace", "dense_forward", "dense_backward", "binarize"):
    op = kernels.ops()[name]
    op.fused(*op.example(np.random.default_rng(0), "float32", 1, 3, 5, op.cases[1 if "dense" in name else 0]))
print(len(saved), *saved)
"""


def saved(folder):
    """How many compiled functions a process writes into this cache."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[0])


def test_a_second_process_compiles_no_specialised_loop(tmp_path):
    assert saved(tmp_path) >= 5
    assert saved(tmp_path) == 0
