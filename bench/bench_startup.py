"""Starting: `import minivae` against `import numpy`, `minivae --help`, and `minivae train` to the end of its first
step, on an empty kernel cache and on a filled one. Fresh processes; seconds by the clock, processor time in extra_info.
"""

import pytest

from minivae.bench import startup


def _show(benchmark, run, rounds):
    spent = []
    benchmark.group = "start-up"
    benchmark.pedantic(lambda: spent.append(run()), rounds=rounds)
    benchmark.extra_info["processor_seconds"] = min(one.cpu for one in spent)


@pytest.mark.parametrize("module", ["numpy", "minivae"])
def bench_import(benchmark, module):
    _show(benchmark, lambda: startup.import_of(module), 20)


def bench_help(benchmark):
    _show(benchmark, startup.help_page, 20)


@pytest.mark.parametrize("cache", ["empty", "filled"])
def bench_first_step(benchmark, cache, tmp_path_factory, tmp_path):
    """`filled` is filled by the first round of `empty`, which compiles once a round."""
    kept = tmp_path_factory.getbasetemp() / "kernel-cache"
    empty = iter([kept, tmp_path / "second", tmp_path / "third"])
    if cache == "empty":
        _show(benchmark, lambda: startup.first_step(tmp_path, next(empty)), 3)
    else:
        _show(benchmark, lambda: startup.first_step(tmp_path, kept), 10)
