"""pytest_plugin: gradient checks in a pytest run. It is installed with minivae, and loads nothing until it is used.

    def test_my_layer(gradcheck):                            the fixture: raises AssertionError with the tables
        gradcheck(MyLayer, [X, W, b])

    @pytest.mark.gradcheck(MyLayer, inputs="5x3,3x4,4")      the mark: checks its targets before the test's own lines;
    def test_my_layer():                                     its other arguments are the fixture's defaults
        ...

`pytest --gradcheck-mutate` proves that these tests can fail: wrong gradients are planted in every target, and each has
to be caught; then the test runs again with one of them, and has to fail.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .report import Report

MARK = "gradcheck"
NOTHING = (
    "gradcheck: this test is marked and checks nothing. Name a target in the mark, @pytest.mark.gradcheck(MyLayer, …), "
    "or call the fixture, gradcheck(MyLayer)"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("minivae").addoption(
        "--gradcheck-mutate",
        action="store_true",
        help="plant wrong gradients in every gradient check: each must be caught, and the test must fail",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "gradcheck(*targets, inputs=None, tolerance=1e-7, seeds=1, **settings): check the gradients of these targets; "
        "inputs are arrays, shapes such as '5x3,4', or a function of a random generator (minivae)",
    )


class Checker:
    """The fixture `gradcheck`: checks a target, with the arguments of the test's mark as defaults."""

    def __init__(self, defaults: dict[str, Any], mutate: bool):
        self.defaults, self.mutate = defaults, mutate
        self.planting = False  # the second run of --gradcheck-mutate
        self.counts = {"checks": 0, "derivatives": 0, "planted": 0}

    def __call__(self, target: Any, inputs: Any = None, **settings: Any) -> Report | None:
        """Raise AssertionError, with the tables and what they suggest, if a gradient of `target` is wrong.

        inputs     arrays, or a dict by name; shapes such as "5x3,4"; a function of a random generator; None: the
                   mark's, or the target's `example_inputs`
        seeds      how many upstream gradients (and random inputs) to try
        settings   the other arguments of `minivae.gradcheck.check`

        Returns the last report. Raises UsageError where it cannot be checked at all.
        """
        __tracebackhide__ = True
        from ..errors import UsageError

        chosen = {**self.defaults, **settings}
        inputs = chosen.pop("inputs", None) if inputs is None else inputs
        seeds, first = max(chosen.pop("seeds", 1), 1), chosen.pop("seed", 0)
        report = None
        for seed in range(first, first + seeds):
            try:
                report = self._one(target, _arrays(inputs, seed), {**chosen, "seed": seed})
            except UsageError as error:
                raise UsageError(f"it cannot be checked: {error}") from None
        return report

    def _one(self, target: Any, inputs: Any, settings: dict[str, Any]) -> Report | None:
        __tracebackhide__ = True
        from .compare import check

        if self.planting:
            raise AssertionError(f"{getattr(target, '__name__', target)} with a wrong gradient")
        report = check(target, inputs, **settings)
        if not report.ok:
            raise AssertionError(f"wrong gradient (seed {settings['seed']})\n\n{report}")
        self.counts["checks"] += 1
        self.counts["derivatives"] += sum(tensor.checked for result in report.results for tensor in result.tensors)
        if self.mutate:
            self._plant(target, inputs, settings)
        return report

    def _plant(self, target: Any, inputs: Any, settings: dict[str, Any]) -> None:
        """Plant every wrong gradient that there is; AssertionError if one is not caught."""
        __tracebackhide__ = True
        from .ours import mutations
        from .problem import Settings
        from .user import problem_of

        code = {key: settings.pop(key) for key in ("name", "reference") if key in settings}
        chosen = Settings(**settings)
        problem = problem_of(target, inputs, code.get("name"), chosen, reference=code.get("reference"))
        planted = mutations.run([problem], chosen).planted
        self.counts["planted"] += len(planted)
        if missed := [f"{p.mistake} in {p.tensor}" for p in planted if not p.caught]:
            raise AssertionError(f"gradcheck would not notice these mistakes in {problem.title}: {', '.join(missed)}")


def _arrays(inputs: Any, seed: int) -> Any:
    """Return inputs as `check` takes them: of shapes and of a function, drawn with this seed."""
    import numpy as np

    from .user import parse_shapes

    rng = np.random.default_rng(seed)
    if isinstance(inputs, str):
        return [rng.normal(size=shape) for shape in parse_shapes(inputs)]
    return inputs(rng) if callable(inputs) else inputs


@pytest.fixture
def gradcheck(request: pytest.FixtureRequest) -> Checker:
    """Check hand-written gradients: gradcheck(MyLayer, [X, W, b]) raises AssertionError if one is wrong."""
    mark = request.node.get_closest_marker(MARK)
    return Checker(dict(mark.kwargs) if mark else {}, request.config.getoption("--gradcheck-mutate"))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Check the targets of the mark, run the test, and, if mistakes are planted, run it once more, to fail."""
    __tracebackhide__ = True
    mark, checker = pyfuncitem.get_closest_marker(MARK), pyfuncitem.funcargs.get("gradcheck")
    if mark is not None and not isinstance(checker, Checker):
        checker = Checker(dict(mark.kwargs), pyfuncitem.config.getoption("--gradcheck-mutate"))
    if not isinstance(checker, Checker):
        return (yield)
    for target in mark.args if mark is not None else ():
        checker(target)
    in_mark = checker.counts["checks"]
    done = yield
    if mark is not None and not checker.counts["checks"]:
        pytest.fail(NOTHING, pytrace=False)
    if checker.mutate and checker.counts["checks"] > in_mark:
        _fails_too(pyfuncitem, checker)
    pyfuncitem.user_properties.append((MARK, checker.counts))
    return done


def _fails_too(item: pytest.Function, checker: Checker) -> None:
    """Run a test's own lines with a wrong gradient in its first target: the test has to fail."""
    arguments = {name: item.funcargs[name] for name in inspect.signature(item.obj).parameters if name in item.funcargs}
    checker.planting = True
    try:
        item.obj(**arguments)
    except BaseException:  # whatever fails it: an assertion, pytest.fail
        return
    finally:
        checker.planting = False
    message = "gradcheck: this test passes with a wrong gradient, too: something in it catches the failure"
    pytest.fail(message, pytrace=False)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how much was checked, of all processes of pytest-xdist together."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    called = [report for report in reports if getattr(report, "when", "") == "call"]
    found = [value for report in called for name, value in report.user_properties if name == MARK]
    if found:
        total = {key: sum(counts[key] for counts in found) for key in found[0]}
        planted = f"; {total['planted']} planted mistakes, all caught" if total["planted"] else ""
        terminalreporter.write_line(f"gradcheck: {total['checks']} checks, {total['derivatives']} derivatives{planted}")
