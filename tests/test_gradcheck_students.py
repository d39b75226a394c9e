"""The diagnoses, on layers as students write them (students.py): 5 right, 24 wrong, and what is said of each."""

import numpy as np
import pytest
import students

from minivae import gradcheck
from minivae.gradcheck import sweep
from minivae.gradcheck.problem import Settings
from minivae.gradcheck.user import problem_of

SAID = {  # the diagnosis of each wrong layer: its code, and words of its text
    "TanhForgot": ("path", "the derivative of `self.Y = np.tanh(self.A)`", "is taken for 1, as if it were left out"),
    "TanhHalfForgot": ("path", "W: the derivative of `self.Y = np.tanh(self.A)`"),
    "TanhOfInput": ("path", "is taken for 1 − x²"),
    "TanhNotSquared": ("path", "is taken for 1 − y"),
    "TanhKeepdims": ("keepdims", "(1, 4) for (4,): summed with keepdims=True"),
    "TanhSwapped": ("order", "returned in each other's place"),
    "SoftmaxNoSum": ("path", "the path through `s = e.sum(axis=1, keepdims=True)`", "is missing"),
    "SoftmaxDiagonal": ("path", "each input moves the other outputs too"),
    "SoftmaxWrongAxis": ("unknown", "no simple pattern"),
    "CrossEntropyForgetsUpstream": ("upstream-ignored", "backward ignores its dY"),
    "CrossEntropySum": ("factor", "5 is Z.shape[0]"),
    "CrossEntropyNoLabel": (
        "path",
        "the second operand of np.subtract in `return np.mean(lse - picked)`",
        "is missing",
    ),
    "NormNoMean": ("path", "the path through `mu = X.mean(axis=1, keepdims=True)`", "is missing"),
    "NormNoVariance": ("path", "the path through `self.inv = 1 / np.sqrt(var + 1e-5)`", "is missing"),
    "NormConstants": ("path", "`mu = X.mean", "`var = (self.centred**2).mean", "both for constants"),
    "NormVarianceTwice": ("path", "`self.inv = 1 / np.sqrt(var + 1e-5)`", "is counted twice"),
    "NormVarianceSign": ("path", "`self.inv = 1 / np.sqrt(var + 1e-5)`", "has the wrong sign"),
    "NormNoGain": ("path", "np.multiply in `return gain * self.Xh + bias`", "second operand is taken for 1"),
    "NormGainOfCentred": ("path", "the value of `self.centred = X - mu`", "stands where the other operand belongs"),
    "GRUNoOldState": ("path", "`return (1 - self.z) * h + self.z * self.c`", "is missing"),
    "GRUNoSigmoid": ("path", "`self.r = sigmoid(self.xh @ Wr)`", "is taken for 1"),
    "GRUNoReset": ("path", "the second operand of `rh = self.r * h`", "is missing"),
    "GRUResetForgotten": ("path", "the derivative of `rh = self.r * h`", "is taken for 1"),
    "GRUSwapped": ("order", "returned in Wr's place"),
}


def test_every_wrong_layer_has_its_line():
    assert set(SAID) == {cls.__name__ for cls in students.WRONG} and len(SAID) == 24
    assert sum(code == "unknown" for code, *_ in SAID.values()) <= 2


@pytest.mark.parametrize("layer", students.RIGHT, ids=lambda cls: cls.__name__)
def test_a_right_layer_is_right(layer):
    report = gradcheck.check(layer)
    assert report.ok, str(report)


@pytest.mark.parametrize("layer", students.WRONG, ids=lambda cls: cls.__name__)
def test_what_is_said_of_a_wrong_layer(layer):
    code, *words = SAID[layer.__name__]
    report = gradcheck.check(layer)
    assert report.exit_code == 1
    assert {hint.code for hint in report.hints} == {code}
    texts = [hint.text for hint in report.hints]
    assert any(all(word in text for word in words) for text in texts), texts


# ---- code that records no steps, as compiled code and other frameworks do -------------------------------------------


def hidden(layer):
    """The layer, its forward behind a copy that NumPy's subclasses do not pass."""

    class Hidden(layer):
        def forward(self, *inputs):
            return layer.forward(self, *[np.array(x) for x in inputs])

    return Hidden


ALONG = {
    "NormNoMean": "what a sum or mean over axis 1 contributes",
    "NormNoVariance": "what the variance over axis 1 contributes",
    "NormVarianceTwice": "what the variance over axis 1 contributes",
    "NormVarianceSign": "what the variance over axis 1 contributes",
    "NormConstants": "what mean and variance over axis 1 contributes",
    "SoftmaxDiagonal": "each input moves the other outputs too",
}


@pytest.mark.parametrize("name", ALONG)
def test_the_difference_alone_tells_which_sum_is_missing(name):
    report = gradcheck.check(hidden(getattr(students, name)))
    assert [hint.code for hint in report.hints] == ["path"] and ALONG[name] in report.hints[0].text


def test_a_missing_sum_of_exponentials_and_of_squares():
    x = np.random.default_rng(1).normal(size=(3, 6))

    class LogSoftmax:
        def forward(self, X):
            self.X = np.array(X)
            return self.X - np.log(np.exp(self.X).sum(axis=1, keepdims=True))

        def backward(self, dY):
            return dY

    class Unit:
        def forward(self, X):
            X = np.array(X)
            self.norm = np.sqrt((X**2).sum(axis=1, keepdims=True))
            return X / self.norm

        def backward(self, dY):
            return dY / self.norm

    for layer, words in ((LogSoftmax, "exponentials"), (Unit, "a sum of squares over axis 1")):
        report = gradcheck.check(layer, [x])
        assert [hint.code for hint in report.hints] == ["path"] and words in report.hints[0].text, report.hints


# ---- factors, and the curve -----------------------------------------------------------------------------------------


def test_a_factor_near_one_is_not_printed_as_one():
    x = np.arange(1.0, 5.0)
    (hint,) = gradcheck.check(lambda x: (float(x @ x), [2 * (1 + 1e-6) * x]), [x]).hints
    assert hint.code == "factor" and "analytic = 1.000001 × numeric" in hint.text
    (hint,) = gradcheck.check(lambda x: (float(x @ x), [-2 * (1 + 1e-5) * x]), [x]).hints
    assert hint.code == "factor" and "analytic = -1.00001 × numeric" in hint.text


@pytest.mark.parametrize("complex_step", [True, False])
def test_the_curve_is_against_the_best_slope_and_names_the_backward_as_wrong(complex_step):
    settings = Settings(complex_step=complex_step)
    curves = [
        sweep.run(problem_of(layer, None, None, settings), settings) for layer in (students.Tanh, students.TanhForgot)
    ]
    for curve in curves:
        assert min(curve.errors["richardson"]) < 1e-11 and min(curve.errors["central"]) < 1e-9
    right, wrong = curves
    assert right.exit_code == 0 and right.backward < 1e-7
    assert wrong.exit_code == 1 and wrong.backward > 0.1
