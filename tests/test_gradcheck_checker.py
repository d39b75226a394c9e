"""The checker itself: the derivative it measures, what it calls wrong, what it suggests, and that it can be broken."""

import json
import sys

import numpy as np
import pytest

from minivae import UsageError, gradcheck
from minivae.console import plain
from minivae.gradcheck import compare
from minivae.gradcheck.compare import examine, relative_error
from minivae.gradcheck.numeric import Probe, step_for
from minivae.gradcheck.ours import mutations, targets
from minivae.gradcheck.problem import Problem, Settings
from minivae.gradcheck.user import problem_of
from minivae.testing import assert_gradients

RNG = np.random.default_rng(3)
X, W, b = RNG.normal(size=(5, 3)), RNG.normal(size=(3, 4)), RNG.normal(size=4)


class Relu:
    """A dense layer with ReLU, right."""

    def forward(self, X, W, b):
        self.X, self.W, self.A = X, W, X @ W + b
        return np.maximum(self.A, 0)

    def backward(self, dY):
        dA = dY * (self.A > 0)
        return dA @ self.W.T, self.X.T @ dA, dA.sum(axis=0)


def verdicts(report):
    return {tensor.name: tensor.verdict for result in report.results for tensor in result.tensors}


def codes(report):
    return [hint.code for hint in report.hints]


# ---- the measure of error -------------------------------------------------------------------------------------------


def test_error_is_relative_to_the_larger_and_to_the_tensors_scale():
    assert relative_error(1.001, 1.0, 1.0, 0.0, 1e-7) == pytest.approx(0.001 / 1.001)
    assert relative_error(0.0, 1e-9, 1.0, 0.0, 1e-7) == pytest.approx(1e-6)  # floor 10⁻³ of the largest
    assert relative_error(2e-3, 1e-3, 1.0, 0.0, 1e-7) == pytest.approx(0.5)
    assert relative_error(0.0, 1e-12, 0.0, 1e-12, 1e-7) == pytest.approx(1e-7)  # round-off alone is allowed, no more
    assert relative_error(0.0, 0.0, 0.0, 0.0, 1e-7) == 0.0


def test_a_tiny_wrong_gradient_does_not_pass_for_being_tiny():
    """'absolute or relative' lets a gradient of 1e-9 be anything."""
    report = gradcheck.check(lambda x: (1e-9 * float(x @ x), [3e-9 * x]), [np.arange(1.0, 5.0)])
    assert not report.ok and codes(report) == ["factor"]


def test_steps_are_powers_of_two_that_grow_with_the_entry():
    assert step_for(0.0) == step_for(-0.7) == 2.0**-10
    assert step_for(1000.0) == 2.0**-10 * 512


# ---- the derivative measured ----------------------------------------------------------------------------------------


def scalar_problem(f, x, gradient=None):
    gradient = gradient or (lambda x: np.zeros_like(x))
    forward, backward = (lambda xs: [np.array(f(xs[0]))]), (lambda xs, us: [gradient(xs[0])])
    return Problem("f", ("x",), [np.array(x, dtype=float)], forward, backward, [np.array(1.0)])


@pytest.mark.parametrize("x", [0.3, -2.0, 500.0, 1e-5])
def test_richardson_reaches_ten_digits(x):
    probe = Probe(scalar_problem(lambda x: np.exp(np.sin(x)).sum(), [x]), Settings())
    truth = np.exp(np.sin(x)) * np.cos(x)
    assert probe.known(0)[0].value == pytest.approx(truth, rel=2e-8 if abs(x) > 1 else 1e-10)


def test_a_step_that_leaves_the_domain_is_shortened():
    probe = Probe(scalar_problem(lambda x: np.log(x).sum(), [1e-4, 2.0]), Settings())
    assert probe.known(0)[0].kind == "smooth"
    assert probe.known(0)[0].value == pytest.approx(1e4, rel=1e-6)


@pytest.mark.parametrize("distance", [0.0, 1e-9, 1.6e-7, 1e-6])
def test_a_kink_at_the_point_is_found(distance):
    probe = Probe(scalar_problem(lambda x: np.maximum(x, 0).sum() + (x**2).sum(), [distance, 1.0, -1.0]), Settings())
    assert [slope.kind for slope in probe.known(0)] == ["kink", "smooth", "smooth"]


@pytest.mark.parametrize("distance", [1.5e-3, 1e-3, 6.5e-4, 2e-4, 1e-5, -6.5e-4, -8e-6])
def test_a_kink_nearby_is_stepped_back_from(distance):
    probe = Probe(scalar_problem(lambda x: np.maximum(x, 0).sum() + (x**3).sum(), [distance]), Settings())
    probe.look_again(0, 0)
    slope = probe.known(0)[0]
    assert slope.kind == "smooth"
    assert slope.value == pytest.approx((distance > 0) + 3 * distance**2, abs=1e-6)


def test_kinks_anywhere_lead_to_the_true_slope_or_are_left_out():
    """2,000 kinks from 10⁻⁹ to 3·10⁻³ away, their jumps from 10⁻⁶ to 10: never a slope in which the kink is mixed."""
    rng = np.random.default_rng(0)
    left_out = 0
    for _ in range(2000):
        d, J = 10 ** rng.uniform(-9, -2.5) * rng.choice([-1, 1]), 10 ** rng.uniform(-6, 1) * rng.choice([-1, 1])
        c, f0 = rng.normal(size=3), 10 ** rng.uniform(-2, 2)

        def f(x, d=d, J=J, c=c, f0=f0):
            return float((f0 + c[0] * x + c[1] * x * x + c[2] * np.sin(3 * x) + J * np.maximum(x - d, 0)).sum())

        probe = Probe(scalar_problem(f, [0.0]), Settings())
        truth = c[0] + 3 * c[2] + J * (d < 0)
        slope = probe.known(0)[0]
        if relative_error(truth, slope.value, abs(truth), slope.noise, 1e-7) > 1e-7:
            slope = probe.look_again(0, 0)
        if slope.kind == "smooth":
            assert relative_error(truth, slope.value, abs(truth), slope.noise, 1e-7) <= 1e-7, (d, J, c, f0)
        else:
            assert abs(d) < 4e-6
            left_out += 1
    assert 0 < left_out < 1200


def test_a_smooth_bend_is_not_a_kink():
    probe = Probe(scalar_problem(lambda x: np.sqrt(1e-4 + x**2).sum(), np.linspace(-0.05, 0.05, 21)), Settings())
    for i in range(21):
        probe.look_again(0, i)
    assert {slope.kind for slope in probe.known(0)} == {"smooth"}


def test_complex_step_is_used_where_the_code_is_analytic_and_only_there():
    def report_of(f, g):
        return gradcheck.check(lambda x: (f(x).sum(), [g(x)]), [np.linspace(-1.2, 1.3, 7)]).results[0].tensors[0]

    smooth = report_of(lambda x: np.exp(x) * np.sin(x), lambda x: np.exp(x) * (np.sin(x) + np.cos(x)))
    assert smooth.method == "complex" and smooth.error < 1e-14
    absolute = report_of(lambda x: np.abs(x) ** 3, lambda x: 3 * x * np.abs(x))  # abs of a complex number is real
    assert absolute.method == "central" and absolute.verdict == "ok"
    wrong_branch = report_of(lambda x: x * x.real, lambda x: 2 * x)  # complex, finite, and wrong
    assert wrong_branch.method == "central" and wrong_branch.verdict == "ok"


# ---- kinks, large tensors, outputs ----------------------------------------------------------------------------------


def test_kinks_are_reported_apart_and_too_many_are_a_failure():
    def absolute(x):
        return np.abs(x).sum(), [np.sign(x)]

    few = gradcheck.check(absolute, [np.arange(12.0)])
    assert few.ok and few.results[0].tensors[0].kinks == 1 and few.results[0].tensors[0].checked == 11
    many = gradcheck.check(absolute, [np.array([0.0, 0.0, 1.0, 2.0])])
    assert not many.ok and verdicts(many) == {"x": "kinks"} and codes(many) == ["kinks"]
    assert gradcheck.check(absolute, [np.array([0.0, 1.0, 2.0, 3.0])]).ok  # one in four proves nothing
    assert not gradcheck.check(absolute, [np.array([0.0])]).ok  # nothing was checked


def test_an_input_on_which_nothing_depends_is_named():
    report = gradcheck.check(lambda x, c: (float(x @ x), [2 * x, 0 * c]), [b, b + 1])
    assert report.exit_code == 1 and verdicts(report) == {"x": "ok", "c": "flat"}
    assert [hint.code for hint in report.hints] == ["independent"] and report.hints[0].text.startswith("c: ")
    assert gradcheck.check(lambda x, c: (float(x @ x), [2 * x, None]), [b, b + 1]).ok
    assert codes(gradcheck.check(lambda x, c: (float(x @ x), [2 * x, c]), [b, b + 1])) == ["independent"]


def test_a_stationary_point_proves_nothing():
    report = gradcheck.check(lambda x: (float(((x - b) ** 2).sum()), [7 * (x - b)]), [b])
    assert not report.ok and codes(report) == ["stationary"]


def test_a_batch_whose_single_row_has_no_slope_is_right():
    """x − its mean over rows: with one row it is 0 for every x."""

    class Centred:
        def forward(self, X):
            return X - X.mean(axis=0)

        def backward(self, dY):
            return dY - dY.mean(axis=0)

    assert gradcheck.check(Centred, [X]).ok


def test_the_reference_is_compared_first_and_at_a_second_point():
    class Tanh:
        def forward(self, X):
            self.Y = np.tanh(X)
            return self.Y

        def backward(self, dY):
            return dY * (1 - self.Y**2)

    assert gradcheck.check(Tanh, [X], reference=np.tanh).ok
    report = gradcheck.check(Tanh, [X], reference=np.sin)
    assert not report.ok and verdicts(report) == {"X": "ok"} and "forward is not that of sin" in str(report)
    there = np.tanh(X)
    report = gradcheck.check(Tanh, [X], reference=lambda X: there)  # the same numbers, at these inputs alone
    assert not report.ok
    assert "returns shape (5, 3), and <lambda> (5,)" in str(gradcheck.check(Tanh, [X], reference=lambda X: X.sum(1)))


def test_large_tensors_are_checked_along_directions_and_the_wrong_entry_is_named():
    W = np.random.default_rng(0).normal(size=(80, 60))

    def squares(W, factor=1.001):
        G = 2 * W
        G[37, 11] *= factor
        return float((W * W).sum()), [G]

    tensor = gradcheck.check(squares, [W], directions=9).results[0].tensors[0]
    assert (tensor.method, tensor.checked, tensor.verdict) == ("directions", 9, "wrong")
    assert tensor.worst[0].index == "[37, 11]"
    assert gradcheck.check(lambda W: squares(W, 1.0), [W]).ok


def test_several_outputs_and_inputs_without_gradient():
    class Two:
        def forward(self, x, c):
            self.x, self.c = x, c
            return x * c, np.sin(x)

        def backward(self, dY):
            return dY[0] * self.c + dY[1] * np.cos(self.x), None

    report = gradcheck.check(Two, [X, 1 + X**2])
    assert report.ok and verdicts(report) == {"x": "ok", "c": "none"}
    assert "backward returned None for c, though the outputs depend on it" in str(report)
    assert not gradcheck.check(Two, [X, 1 + X**2], reference=Two).ok  # an answer must give every gradient

    class Forgets(Two):
        def backward(self, dY):
            return dY[0] * self.c, None

    hint = gradcheck.check(Forgets, [X, 1 + X**2]).hints[0]
    assert hint.code == "missing-term" and "output 1 is missing" in hint.text


def test_a_pair_of_functions_and_integers_passed_through():
    table, labels = np.random.default_rng(0).normal(size=(5, 3)), np.array([0, 3, 3, 1])

    def gather(table, labels):
        return table[labels]

    def gather_backward(table, labels, dY):
        out = np.zeros_like(table)
        np.add.at(out, labels, dY)
        return out

    report = gradcheck.check((gather, gather_backward), [table, labels])
    assert report.ok and verdicts(report) == {"table": "ok"}
    assert "labels holds integers (int64)" in str(report)
    twice_wrong = (gather, lambda table, labels, dY: dY[:1].repeat(5, axis=0))
    assert not gradcheck.check(twice_wrong, [table, labels]).ok


def test_two_outputs_may_take_their_gradients_apart():
    class SinCos:
        def forward(self, x):
            self.x = x
            return np.sin(x), np.cos(x)

        def backward(self, ds, dc):
            return ds * np.cos(self.x) - dc * np.sin(self.x)

    assert gradcheck.check(SinCos, [X]).ok


def test_inputs_by_name_and_instances():
    report = gradcheck.check(Relu(), {"X": X, "weights": W, "bias": b})
    assert report.ok and list(verdicts(report)) == ["X", "weights", "bias"]


# ---- diagnoses, each by the mistake that causes it ------------------------------------------------------------------


class Wrong(Relu):
    """Relu with one change of its gradients."""

    change = staticmethod(lambda self, dY, grads: grads)

    def backward(self, dY):
        return type(self).change(self, dY, super().backward(dY))


def with_change(change):
    return type("Changed", (Wrong,), {"change": staticmethod(change)})


def _second(change):
    return lambda self, dY, g: (g[0], change(g[1]), g[2])


MISTAKES = {
    "factor": _second(lambda G: 1.001 * G),
    "sign": _second(lambda G: -G),
    "zero": _second(lambda G: 0 * G),
    "transposed": _second(lambda G: G.T),
    "order": lambda self, dY, g: (g[0], np.roll(g[1], 1, axis=0), g[2]),
    "missing-sum": lambda self, dY, g: (g[0], g[1], dY * (self.A > 0)),
    "entries": _second(lambda G: np.where(np.arange(12).reshape(3, 4) == 7, 3.0, G)),
    "upstream-ignored": lambda self, dY, g: Relu.backward(self, np.ones_like(dY)),
    "constant": _second(lambda G: G + 0.25),
    "shape": _second(lambda G: G.ravel()),
    "not-written": _second(lambda G: np.empty_like(G)),
}


@pytest.mark.parametrize("code", MISTAKES)
def test_diagnosis(code):
    report = gradcheck.check(with_change(MISTAKES[code]), [X, W, b])
    assert report.exit_code == 1 and verdicts(report)["W" if code != "missing-sum" else "b"] == "wrong"
    assert code in codes(report), report.hints
    assert code != "factor" or "1.001" in report.hints[0].text


@pytest.mark.parametrize(
    "factor, words", [(5.0, "5 is X.shape[0]"), (1 / 5, "1/5, and 5 is X.shape[0]"), (2.0, "½"), (0.5, "½ too many")]
)
def test_factors_are_explained(factor, words):
    report = gradcheck.check(with_change(_second(lambda G: factor * G)), [X, W, b])
    assert codes(report) == ["factor"] and words in report.hints[0].text


def test_last_row_only_is_a_missing_sum():
    report = gradcheck.check(with_change(lambda self, dY, g: (g[0], g[1], (dY * (self.A > 0))[-1])), [X, W, b])
    assert codes(report) == ["missing-sum"] and "row 4 alone" in report.hints[0].text


def test_swapped_gradients():
    def product(x, y):
        return float(x @ y**2), [2 * x * y, y**2]

    assert set(codes(gradcheck.check(product, [b, b + 3]))) == {"order"}


def test_mask_left_out():
    def clamp(x):
        return float(np.clip(x, -1, 1).sum()), [np.ones_like(x)]

    assert codes(gradcheck.check(clamp, [np.array([-2.0, -0.5, 0.3, 1.7, 0.1])])) == ["mask"]


def test_noise_redrawn_in_the_backward_accumulated_and_stale():
    class Dropout:
        rng = np.random.default_rng(0)

        def forward(self, X):
            self.mask = np.random.default_rng(1).random(X.shape) < 0.5
            return X * self.mask

        def backward(self, dY):
            return [dY * (self.rng.random(dY.shape) < 0.5)]

    assert codes(gradcheck.check(Dropout, [X])) == ["noise-redrawn"]

    class Accumulates(Relu):
        total = 0.0

        def backward(self, dY):
            dX, dW, db = super().backward(dY)
            self.total = self.total + dW
            return dX, self.total, db

    assert codes(gradcheck.check(Accumulates, [X, W, b])) == ["accumulated"]

    class Stale(Relu):
        kept = None

        def backward(self, dY):
            dX, dW, db = super().backward(dY)
            self.kept = dW if self.kept is None else self.kept
            return dX, self.kept, db

    assert codes(gradcheck.check(Stale, [X, W, b])) == ["stale"]


# ---- behaviour beside the numbers -----------------------------------------------------------------------------------


def findings(report):
    return {f.kind: f.verdict for result in report.results for f in result.findings}


def test_what_is_tried_beside_the_numbers():
    assert findings(gradcheck.check(Relu, [X, W, b])) == dict.fromkeys(
        ("inputs", "upstream", "deterministic", "whole", "non-contiguous", "one-row"), "ok"
    )


def test_changed_inputs_are_wrong():
    class InForward(Relu):
        def forward(self, X, W, b):
            X *= 2
            return super().forward(X, W, b)

    class InBackward(Relu):
        def backward(self, dY):
            grads = super().backward(dY)
            self.W[...] = 0
            return grads

    for layer in (InForward, InBackward):
        assert findings(gradcheck.check(layer, [X, W, b]))["inputs"] == "wrong"


def test_ignored_strides_and_a_squeezed_row_are_wrong():
    class Flat(Relu):
        def backward(self, dY):
            dX, dW, db = super().backward(dY)
            return dX, dW + (self.X.ravel(order="K")[0] - self.X.ravel()[0]) + self._order(), db

        def _order(self):
            return 0.0 if self.X.flags.c_contiguous else 1.0

    assert findings(gradcheck.check(Flat, [X, W, b]))["non-contiguous"] == "wrong"

    class OneRow(Relu):
        def backward(self, dY):
            dX, dW, db = super().backward(dY)
            return dX, dW, db if len(dY) > 1 else 2 * db

    assert findings(gradcheck.check(OneRow, [X, W, b]))["one-row"] == "wrong"


# ---- a checker that is broken must be found out ---------------------------------------------------------------------


def _absolute_or_relative(a, n, largest, noise, tolerance):
    return min(abs(a - n), relative_error(a, n, largest, noise, tolerance))


BROKEN = {
    "absolute or relative": (compare, "relative_error", _absolute_or_relative),
    "never wrong": (compare, "relative_error", lambda *a: 0.0),
    "nan is smaller": (compare, "relative_error", lambda *a: float("nan")),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_checker_lets_planted_mistakes_pass(monkeypatch, broken):
    """--mutate is the tester's test: it must exit with 1 when the comparison is spoiled."""
    monkeypatch.setattr(*BROKEN[broken])
    (target,) = targets.select(["vae.bernoulli.tanh.S1"])
    problem = targets.build(target, "fused", 0)
    if broken == "absolute or relative":  # which passes small gradients only
        small = 1e-9
        forward, backward = problem.forward, problem.backward
        problem.forward = lambda xs: [small * y for y in forward(xs)]
        problem.backward = lambda xs, us: [small * g for g in backward(xs, us)]
        problem.parts = {}
    outcome = mutations.run([problem], Settings(behaviour=False))
    assert outcome.exit_code == 1
    missed = {p.mistake for p in outcome.planted if not p.caught}
    assert {"× 1.001", "× 2", "sign"} <= missed


# ---- what cannot be checked -----------------------------------------------------------------------------------------


def _returns(value):
    return lambda x: value


class FewGradients(Relu):
    def backward(self, dY):
        return super().backward(dY)[:2]


class Noisy(Relu):
    rng = np.random.default_rng(0)

    def forward(self, X, W, b):
        return super().forward(X, W, b) + self.rng.normal()


class Single(Relu):
    def forward(self, X, W, b):
        return super().forward(X, W, b).astype(np.float32)


CANNOT = [
    (lambda i: (0.0, [None]), [X.astype(int)], "i holds integers (int64)"),
    (Relu, [X, W[:2], b], "shapes"),
    (Relu, [X, W], "missing 1 required positional argument"),
    (FewGradients, [X, W, b], "returned 2 gradients for the 3 inputs X, W, b"),
    (Noisy, [X, W, b], "non-deterministic"),
    (Single, [X, W, b], "float32"),
    (Relu, [np.full((5, 3), np.nan), W, b], "not finite"),
    (lambda x: (np.log(x).sum(), [1 / x]), [np.array([-1.0, 2.0])], "nan"),
    (lambda x: x.sum(), [b], "expected (value, gradients)"),
    (lambda x: (x, [x]), [b], "returns a number"),
    (Relu, None, "no inputs"),
    (Relu, [], "nothing to differentiate"),
    (Relu, [np.zeros((0, 3)), W, b], "no entries"),
    (42, [b], "expected forward and backward"),
]


@pytest.mark.parametrize("fn, inputs, words", CANNOT, ids=[words for *_, words in CANNOT])
def test_what_cannot_be_checked_says_why_in_one_line(fn, inputs, words):
    with pytest.raises(UsageError) as error:
        gradcheck.check(fn, inputs)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_unknown_settings_are_refused():
    with pytest.raises(UsageError, match="tolerance"):
        gradcheck.check(Relu, [X, W, b], tolerence=1e-3)


# ---- the report -----------------------------------------------------------------------------------------------------


def test_report_as_text_and_as_json():
    report = gradcheck.check(with_change(MISTAKES["factor"]), [X, W, b], name="mine")
    text = str(report)
    assert "mine" in text and "1.001 × numeric" in text and "wrong" in text
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (data["schema"], data["kind"], data["ok"], data["exit_code"]) == (1, "check", False, 1)
    (target,) = data["targets"]
    assert set(target) == {"name", "kernels", "ok", "file", "line", "seconds", "tensors", "findings"}
    tensor = target["tensors"][1]
    assert set(tensor) == {
        "name", "shape", "checked", "kinks", "method", "tolerance", "verdict", "error", "worst", "hints",
    }  # fmt: skip
    assert set(tensor["worst"][0]) == {"index", "analytic", "numeric", "error", "step"}
    assert tensor["hints"][0]["code"] == "factor"


def test_numbers_that_are_not_finite_become_null_in_json():
    report = gradcheck.check(with_change(MISTAKES["not-written"]), [X, W, b])
    json.dumps(report.to_json(), allow_nan=False)
    assert plain(float("inf")) is None and plain(1.0) == 1.0


def test_assert_gradients():
    report = assert_gradients(Relu, [X, W, b], seeds=3)
    assert report.ok
    with pytest.raises(AssertionError, match=r"1\.001 × numeric"):
        assert_gradients(with_change(MISTAKES["factor"]), [X, W, b])


def test_user_arrays_on_a_device(monkeypatch):
    """CuPy arrays in, CuPy arrays out: the user's code never sees a NumPy array, nor the checker a device array."""
    import standin

    standin.install(monkeypatch)
    cupy = sys.modules["cupy"]
    monkeypatch.setattr(standin.DeviceArray, "__module__", "cupy")

    class Scale:
        def forward(self, x, y):
            assert isinstance(x, standin.DeviceArray)
            self.x, self.y = x, y
            return x * y

        def backward(self, dY):
            return dY * self.y, dY * self.x

    report = gradcheck.check(Scale, [cupy.asarray(X), cupy.asarray(X + 2)])
    assert report.ok, report.hints


def test_examine_reuses_a_probe():
    (target,) = targets.select(["ops.latent"])
    problem = targets.build(target, "fused", 0)
    settings = Settings(behaviour=False)
    probe = Probe(problem, settings)
    examine(problem, settings, probe)
    calls = []
    forward = problem.forward
    problem.forward = lambda xs: calls.append(1) or forward(xs)
    examine(problem, settings, probe)
    assert len(calls) <= 4  # the same value twice; no derivative is measured again


def test_code_that_refuses_inputs_outside_its_domain_can_be_checked():
    def entropy(p):
        if (p <= 0).any() or (p >= 1).any():
            raise ValueError("not probabilities")
        return float(-(p * np.log(p)).sum()), [-np.log(p) - 1]

    assert gradcheck.check(entropy, [np.array([1e-4, 0.3, 1 - 1e-5])]).ok


def test_float32_finds_code_that_loses_digits_only_there():
    class Loses(Relu):
        def backward(self, dY):
            dX, dW, db = super().backward(dY)
            return dX, dW.astype(np.float16).astype(dW.dtype) if dW.dtype == np.float32 else dW, db

    for layer, verdict in ((Relu, "ok"), (Loses, "wrong")):
        problem = problem_of(layer, [X, W, b], None, Settings(), dtype="float32")
        (finding,) = [f for f in examine(problem, Settings()).findings if f.kind == "float32"]
        assert finding.verdict == verdict
