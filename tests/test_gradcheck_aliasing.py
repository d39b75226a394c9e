"""Outputs that are views or reused buffers, and inputs and dY that are changed: the checker keeps no memory of the
code's. Every op of the engine is checked in both forms, right and with each planted mistake.
"""

import numpy as np
import pytest

from minivae import gradcheck
from minivae.gradcheck import problem as problem_module
from minivae.gradcheck.ours import mutations, targets
from minivae.gradcheck.problem import Settings
from minivae.gradcheck.user import problem_of

X = np.random.default_rng(3).normal(size=(4, 6))


def layer(forward, backward):
    """A layer of two functions of (self, …)."""
    return type("Layer", (), {"forward": forward, "backward": backward})


def kept(forward):
    def run(self, x):
        self.shape = x.shape
        return forward(x)

    return run


def padded(self, d):
    out = np.zeros(self.shape)
    out[:, :2] = d
    return out


def _into_buffer(self, x):
    self.y = getattr(self, "y", None) if np.shape(getattr(self, "y", None)) == x.shape else np.zeros_like(x)
    np.sin(x, out=self.y)
    self.x = x
    return self.y


def _side_by_side(self, d):
    first, second = d
    return np.concatenate([first, second], axis=1)


VIEWS = {
    "identity": layer(lambda self, x: x, lambda self, d: d),
    "transposed": layer(lambda self, x: x.T, lambda self, d: d.T),
    "reshaped": layer(kept(lambda x: x.reshape(-1)), lambda self, d: d.reshape(self.shape)),
    "sliced": layer(kept(lambda x: x[:, :2]), padded),
    "split": layer(lambda self, x: (x[:, :1], x[:, 1:]), _side_by_side),
    "buffer": layer(_into_buffer, lambda self, d: d * np.cos(self.x)),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_or_a_reused_buffer_is_right_and_its_zero_gradient_wrong(name):
    assert gradcheck.check(VIEWS[name], [X]).ok
    zero = type("Zero", (VIEWS[name],), {"backward": lambda self, d: np.zeros_like(X)})
    assert [hint.code for hint in gradcheck.check(zero, [X]).hints] == ["zero"]


# ---- the ops of the engine ------------------------------------------------------------------------------------------


class _Op:
    """One of the engine's ops as a layer that returns, and passes back, memory that the next call overwrites.

    views   the outputs are strided views of one buffer; else each output has a buffer of its own
    """

    def __init__(self, problem, views):
        self.problem, self.views, self.buffers = problem, views, {}

    def _kept(self, role, arrays):
        out = []
        for i, y in enumerate(arrays):
            y = np.asarray(y)
            key = (role, i, y.shape, y.dtype)
            if key not in self.buffers:
                wide = np.empty((*y.shape, 2), y.dtype)
                self.buffers[key] = wide[..., 1] if self.views else np.ascontiguousarray(wide[..., 0])
            self.buffers[key][...] = y
            out.append(self.buffers[key])
        return out

    def forward(self, *inputs):
        self.inputs = list(inputs)
        outputs = self._kept("outputs", self.problem.forward(self.inputs))
        return outputs if len(outputs) > 1 else outputs[0]

    def backward(self, dY):
        dY = [np.array(d) for d in (dY if isinstance(dY, tuple) else (dY,))]
        return self._kept("gradients", self.problem.backward([np.array(x) for x in self.inputs], dY))


OPS = [
    t
    for t in targets.walk()
    if t.name.startswith(("ops.", "latent", "likelihoods")) and not t.name.endswith((".blocks", ".far", ".rows"))
]


@pytest.mark.parametrize("views", [True, False], ids=["views", "buffers"])
@pytest.mark.parametrize("target", OPS, ids=lambda target: target.name)
def test_every_op_in_both_forms_is_right_and_each_planted_mistake_caught(target, views):
    op = targets.build(target, "fused", 0)
    settings = Settings(behaviour=False, complex_step=False, max_entries=64)
    problem = problem_of(_Op(op, views), op.inputs, target.name, settings)
    problem.upstream, problem.sizes = op.upstream, op.sizes  # gaussian:optimal chooses its σ² by the weights
    outcome = mutations.run([problem], settings)
    assert outcome.exit_code == 0, [p.mistake for p in outcome.planted if not p.caught]
    assert len(outcome.planted) > 10


def test_without_the_copies_the_checker_is_fooled(monkeypatch):
    """The test above can fail: the checker without its one place that copies passes zeros of a reused buffer."""
    monkeypatch.setattr(problem_module, "_fresh", lambda function: function)
    zero = type("Zero", (VIEWS["buffer"],), {"backward": lambda self, d: np.zeros_like(X)})
    assert [hint.code for hint in gradcheck.check(zero, [X]).hints] != ["zero"]
    assert not gradcheck.check(VIEWS["buffer"], [X]).ok


# ---- what is the caller's -------------------------------------------------------------------------------------------


def _clipped_in_place(self, x):
    np.maximum(x, 0, out=x)  # the same again in a second call
    self.positive = x > 0
    return x.copy()


def _scaled_in_place(self, d):
    d *= 2
    return d


def verdict(report, kind):
    return next(f.verdict for result in report.results for f in result.findings if f.kind == kind)


def test_a_forward_that_changes_its_input_once_is_found():
    report = gradcheck.check(layer(_clipped_in_place, lambda self, d: d * self.positive), [X])
    assert verdict(report, "inputs") == "wrong" and not report.ok


def test_a_backward_that_overwrites_its_dY_is_a_finding():
    report = gradcheck.check(layer(lambda self, x: 2 * x, _scaled_in_place), [X])
    assert verdict(report, "upstream") == "wrong" and report.exit_code == 1
    assert [t.verdict for t in report.results[0].tensors] == ["ok"]
    assert verdict(gradcheck.check(layer(lambda self, x: 2 * x, lambda self, d: 2 * d), [X]), "upstream") == "ok"


def test_the_arrays_handed_in_stay_as_they_are():
    before = X.copy()
    gradcheck.check(layer(_clipped_in_place, _scaled_in_place), [X])
    assert np.array_equal(X, before)
