"""Starting is quick: imports, the help page, and the first training step, each in a fresh process.

Processor time, the least of a few tries: a busy machine changes it little. (`bench/bench_startup.py` times the same by
the clock.)
"""

import pytest

from minivae.bench import startup


def least(run, tries=3):
    return min(run().cpu for _ in range(tries))


def test_importing_minivae_costs_at_most_half_as_much_again_as_numpy():
    assert least(lambda: startup.import_of("minivae")) <= 1.5 * least(lambda: startup.import_of("numpy"))


def test_the_help_page_takes_at_most_four_tenths_of_a_second():
    assert least(startup.help_page) <= 0.4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("kernel-cache")


def test_a_first_training_compiles_and_makes_its_first_step_within_ten_seconds(cache, tmp_path):
    assert startup.first_step(tmp_path, cache).cpu <= 10
    assert list(cache.rglob("*.nbi"))


def test_the_next_training_makes_its_first_step_within_a_second_and_a_half(cache, tmp_path):
    startup.first_step(tmp_path, cache)  # compiles, where this test runs alone
    assert least(lambda: startup.first_step(tmp_path, cache)) <= 1.5
