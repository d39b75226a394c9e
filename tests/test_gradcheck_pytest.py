"""minivae's pytest plugin: the fixture, the mark, --gradcheck-mutate, alone and under pytest-xdist."""

import importlib
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "minivae.gradcheck.pytest_plugin"
LOADED = [] if entry_points(group="pytest11", name="minivae") else ["-p", PLUGIN]

LAYERS = """
import numpy as np
import pytest

class Affine:
    def forward(self, X, W):
        self.X, self.W = X, W
        return X @ W

    def backward(self, dY):
        return dY @ self.W.T, self.X.T @ dY

class Wrong(Affine):
    def backward(self, dY):
        return dY @ self.W.T, 2 * self.X.T @ dY

X, W = np.random.default_rng(0).normal(size=(3, 2)), np.eye(2, 4)
"""


@pytest.fixture
def run(pytester):
    def run(tests, *options, process=False):
        pytester.makepyfile(test_layers=LAYERS + tests)
        go = pytester.runpytest_subprocess if process else pytester.runpytest_inprocess
        return go(*LOADED, "-p", "no:cacheprovider", *options)

    return run


FIXTURE = """
def test_right(gradcheck):
    report = gradcheck(Affine, [X, W], seeds=2)
    assert report.ok

def test_wrong(gradcheck):
    gradcheck(Wrong, [X, W])
"""


def test_a_failure_shows_the_table_the_diagnosis_and_the_line_of_the_test(run):
    result = run(FIXTURE)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*gradcheck(Wrong, ?X, W?)", "*wrong gradient (seed 0)", "*tensor*shape*checked*error*"]
    )
    result.stdout.fnmatch_lines(["*Wrong is wrong, and what that suggests:*", "*analytic = 2 × numeric*"])
    assert "compare.py" not in result.stdout.str()  # no frames of the checker's
    result.stdout.fnmatch_lines(["gradcheck: 2 checks, 28 derivatives"])


def test_the_mark_checks_its_targets_and_gives_the_fixture_its_defaults(run):
    result = run("""
@pytest.mark.gradcheck(Affine, inputs="5x3,3x4")
def test_right():
    pass

@pytest.mark.gradcheck(Affine, Wrong, inputs=lambda rng: list(rng.normal(size=(2, 3, 3))), tolerance=1e-8)
def test_wrong():
    raise SystemExit("the test's own lines come after the mark's check")

@pytest.mark.gradcheck(inputs={"X": X, "weights": W}, seed=7)
def test_defaults(gradcheck):
    report = gradcheck(Affine, max_entries=3)
    assert report.settings.seed == 7 and report.settings.max_entries == 3
    assert [t.name for t in report.results[0].tensors] == ["X", "weights"]
""")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["FAILED *::test_wrong - AssertionError: wrong gradient*"])


@pytest.mark.parametrize(
    "test, message",
    [
        ("@pytest.mark.gradcheck(inputs=[X, W])\ndef test_it():\n    pass", "*is marked and checks nothing*"),
        ("def test_it(gradcheck):\n    gradcheck(Affine, [X])", "*it cannot be checked: *missing 1 required*"),
        ("def test_it(gradcheck):\n    gradcheck(Affine, '3xa')", "*it cannot be checked: *expected shapes*"),
        ("def test_it(gradcheck):\n    gradcheck(Affine, [X, W], tolerence=1)", "*no setting tolerence*"),
        ("def test_it(gradcheck):\n    gradcheck(7, [X, W])", "*expected forward and backward*"),
    ],
)
def test_a_mistake_in_the_test_is_one_clear_line(run, test, message):
    result = run(test)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])
    assert "minivae/gradcheck" not in result.stdout.str()


MUTATED = """
@pytest.mark.gradcheck(Affine, inputs=[X, W])
def test_by_mark():
    pass

def test_by_fixture(gradcheck):
    gradcheck(Affine, [X, W])

def test_swallows_it(gradcheck):
    try:
        gradcheck(Affine, [X, W])
    except AssertionError:
        pass

def test_is_blind(gradcheck):
    gradcheck(Affine, [X, W], tolerance=0.3)

def test_other():
    pass
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_mutate_proves_that_the_tests_can_fail(run, options):
    if options:
        pytest.importorskip("xdist")
    run(MUTATED, *options, process=bool(options)).assert_outcomes(passed=5)
    result = run(MUTATED, "--gradcheck-mutate", *options, process=bool(options))
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines_random(
        [
            "*passes with a wrong gradient, too*",
            "*would not notice these mistakes in Affine: × 1.001 in X*",
        ]
    )
    result.stdout.re_match_lines([r"gradcheck: \d checks, \d+ derivatives; \d\d+ planted mistakes, all caught"])


def test_right_and_wrong_are_told_apart_under_xdist(run):
    pytest.importorskip("xdist")
    result = run(FIXTURE, "-n", "2", process=True)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*analytic = 2 × numeric*", "gradcheck: 2 checks, 28 derivatives"])


def test_the_package_declares_the_plugin_and_it_costs_a_run_nothing(pytester):
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    module = importlib.import_module(project["project"]["entry-points"]["pytest11"]["minivae"])
    assert module.__name__ == PLUGIN
    pytester.makepyfile("import sys\ndef test_it():\n    assert not {'numpy', 'numba', 'rich'} & set(sys.modules)")
    pytester.runpytest_subprocess(*LOADED, "-p", "no:cacheprovider").assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess(*LOADED, "--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.gradcheck(*"])
