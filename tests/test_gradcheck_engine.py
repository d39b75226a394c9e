"""minivae's own gradients are right: every op, layer, likelihood and model of the tables is found and checked.

The figures of the project: worst relative error ≤ 1e-7 by central differences, ≤ 1e-12 by complex-step.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from minivae import kernels, likelihoods
from minivae.backend import Backend
from minivae.gradcheck.compare import examine
from minivae.gradcheck.numeric import Probe
from minivae.gradcheck.ours import mistakes, mutations, parity, targets
from minivae.gradcheck.problem import Settings, with_backward
from minivae.kernels.dense import ACTIVATIONS

TARGETS = targets.walk()
KINDS = ("fused", "reference")
FIGURE = {"central": 1e-7, "directions": 1e-7, "complex": 1e-12}
THOROUGH = [  # parity holds the reference to the fused kernels, call by call: few directions for it, and slowly all
    pytest.param("fused", Settings(), id="fused"),
    pytest.param("reference", Settings(max_entries=16, directions=4), id="reference"),
    pytest.param("reference", Settings(), id="reference, every entry", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("kind, settings", THOROUGH)
@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_gradients_are_right(target, kind, settings):
    result = examine(targets.build(target, kind, seed=0), settings)
    assert result.ok, f"{[h.text for h in result.hints]} {[f.message for f in result.findings]}"
    for tensor in result.tensors:
        assert tensor.checked > 0 and tensor.error <= FIGURE[tensor.method], tensor


SEEDS = pytest.mark.parametrize(  # docs/gradients.md records the runs of a thousand
    "seeds",
    [
        pytest.param(range(1, 3), id="1-2"),
        pytest.param(range(3, 7), id="3-6", marks=pytest.mark.slow),
        pytest.param(range(7, 21), id="7-20", marks=pytest.mark.hours),
    ],
)


@SEEDS
@pytest.mark.parametrize("target", [t for t in TARGETS if not t.name.startswith("vae")], ids=lambda t: t.name)
def test_no_false_alarm_in_any_seed(target, seeds):
    for seed in seeds:  # each kind of kernel has half of them
        settings = Settings(seed=seed, max_entries=32, directions=4)
        result = examine(targets.build(target, KINDS[seed % len(KINDS)], seed), settings)
        assert result.ok, f"seed {seed}: {[h.text for h in result.hints]} {[f.message for f in result.findings]}"


@SEEDS
@pytest.mark.parametrize("target", [t for t in TARGETS if t.name.startswith("vae")], ids=lambda t: t.name)
def test_no_false_alarm_in_any_seed_of_whole_models(target, seeds):
    for seed in seeds:
        settings = Settings(seed=seed, max_entries=0, directions=1, behaviour=seed <= 5)
        result = examine(targets.build(target, "fused", seed), settings)
        assert result.ok, f"seed {seed}: {[h.text for h in result.hints]} {[f.message for f in result.findings]}"


def test_walk_finds_every_likelihood_activation_and_number_of_samples():
    names = {target.name for target in TARGETS}
    for likelihood, activation, samples in itertools.product(targets.EVERY_WAY, ACTIVATIONS, (1, 3)):
        assert f"vae.{likelihood}.{activation}.S{samples}" in names
    for likelihood, samples in itertools.product(targets.likelihood_names(), (1, 3)):
        assert f"vae.{likelihood}.tanh.S{samples}" in names
    for activation in ACTIVATIONS:
        assert {f"ops.dense.{activation}", f"layers.dense.{activation}", f"layers.mlp.{activation}"} <= names


def test_every_differentiated_op_is_called_by_a_target():
    """An op in a new file is called by some target, or its file is declared as not differentiated: never forgotten."""
    called = {call.op for call in parity.record()}
    of_targets = set()
    for target in TARGETS:
        backend = Backend("numpy", "reference", "float64")
        for op in kernels.op_names():
            setattr(backend.ops, op, _spy(of_targets, op, getattr(backend.ops, op)))
        problem = target.build(backend, np.random.default_rng(0), 2)
        problem.backward(problem.inputs, problem.upstream)
    for name, module in kernels.files().items():
        for op in module.OPS:
            assert op in called, f"{op}: parity.py runs nothing that calls it"
            assert op in of_targets or name in targets.NOT_DIFFERENTIATED, f"{op}: no gradient target calls it"


def _spy(seen, op, function):
    def call(*args):
        seen.add(op)
        return function(*args)

    return call


class Logistic(likelihoods.Likelihood):
    """A likelihood that is not ours, with a learned scale of its own: −ln of a logistic density."""

    name, is_density, noise = "logistic", True, "normal"
    factor = 1.0

    def parameters(self):
        return [("logscale", (self.features,))]

    def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
        B, D = X.shape
        s = self.backend_scale
        d = (out.reshape(-1, B, D) - X) * np.exp(-s)
        nll_rows.reshape(-1, B)[...] = (2 * np.log(2 * np.cosh(d / 2)) + s).sum(axis=2)
        w = weight if isinstance(weight, float) else weight.reshape(-1, B, 1)
        slope = np.tanh(d / 2)
        d_out.reshape(-1, B, D)[...] = self.factor * w * slope * np.exp(-s)
        next(iter(d_params.values()))[...] = (w * (1 - slope * d)).sum(axis=(0, 1))

    backend_scale = 0.0

    def draw(self, out, noise):
        return out + noise


def test_a_likelihood_added_to_the_table_is_found_and_checked(monkeypatch):
    monkeypatch.setitem(likelihoods.LIKELIHOODS, "logistic", Logistic)
    found = targets.select(["logistic"])
    assert {"likelihoods.logistic.rows", "vae.logistic.tanh.S3"} <= {t.name for t in found}
    target = next(t for t in found if t.name == "likelihoods.logistic.rows")
    right = examine(targets.build(target, "reference", 0), Settings(behaviour=False))
    assert next(t for t in right.tensors if t.name == "out").verdict == "ok"
    assert next(t for t in right.tensors if t.name == "logscale").verdict == "wrong"  # the forward ignores it
    monkeypatch.setattr(Logistic, "factor", 1.001)
    wrong = examine(targets.build(target, "reference", 0), Settings(behaviour=False))
    assert next(t for t in wrong.tensors if t.name == "out").verdict == "wrong"


# ---- proof that it can fail -----------------------------------------------------------------------------------------

MODELS = (
    "vae.bernoulli.iwae",
    "vae.gaussian.relu.S3",
    "vae.bernoulli.tanh.S1",
    "vae.gaussian.free_bits",
    "vae.gaussian:3.linear",
)
PLANTED = [t for t in TARGETS if t.name in MODELS or not t.name.startswith(("vae", "layers.sparse.blocks"))]


@pytest.mark.parametrize("target", PLANTED, ids=lambda t: t.name)
def test_every_planted_mistake_is_caught(target):
    settings = Settings(behaviour=False, max_entries=64)
    outcome = mutations.run([targets.build(target, "fused", 0)], settings)
    assert outcome.ok, [p for p in outcome.planted if not p.caught]
    assert len({p.mistake for p in outcome.planted}) >= 12
    assert "× 1.001" in {p.mistake for p in outcome.planted}


@pytest.mark.parametrize("kind", KINDS)
def test_each_mistake_of_a_product_by_non_zeros_is_caught(kind):
    (target,) = targets.select(["layers.sparse.blocks"])
    settings, problem, seen = Settings(behaviour=False, max_entries=64), targets.build(target, kind, 0), set()
    probe = Probe(problem, settings)
    for mistake, _, mutant in mistakes.mistakes(problem):
        if mistake in mistakes.OF_PRODUCTS:
            assert not examine(mutant, settings, probe).ok, mistake
            seen.add(mistake)
    assert seen == (set(mistakes.OF_PRODUCTS) if kind == "fused" else set())  # the reference takes the rows dense


# mistake → the diagnosis that it must lead to, somewhere among those given
DIAGNOSES = {
    "× 1.001": "factor",
    "× 2": "factor",
    "× ½": "factor",
    "× B: sum for mean": "factor",
    "× 1/B: mean for sum": "factor",
    "sign": "sign",
    "zero": "zero",
    "transposed": "transposed",
    "shifted by one": "order",
    "one entry × 1.01": "entries",
    "a constant added": "constant",
    "not written whole": "not-written",
    "stale buffer": "stale",
    "accumulated": "accumulated",
    "upstream ignored": "upstream-ignored",
    "input changed": "inputs",
    "KL dropped": "missing-term",
    "noise redrawn": "noise-redrawn",
    "bias sum missing": "missing-sum",
    "bias averaged": "factor",
    "bias not written": "not-written",
}


@pytest.mark.parametrize("name", ["layers.dense.tanh", "latent.beta", "vae.bernoulli.tanh.S1"])
def test_each_mistake_leads_to_its_diagnosis(name):
    (target,) = targets.select([name])
    problem = targets.build(target, "fused", 0)
    outcome = mutations.run([problem], Settings(behaviour=False))
    seen = set()
    for planted in outcome.planted:
        if planted.mistake in DIAGNOSES:
            assert DIAGNOSES[planted.mistake] in planted.hints, planted
            seen.add(planted.mistake)
    assert len(seen) >= 12


@pytest.mark.parametrize(
    "name, mistake",
    [
        ("likelihoods.continuous-bernoulli.rows", "normaliser dropped"),
        ("likelihoods.gaussian.rows", "½ of ln σ² dropped"),
    ],
)
def test_a_mistake_inside_a_likelihood_is_recognised(name, mistake):
    (target,) = targets.select([name])
    outcome = mutations.run([targets.build(target, "fused", 0)], Settings(behaviour=False))
    (planted,) = [p for p in outcome.planted if p.mistake == mistake]
    assert planted.caught and "known-mistake" in planted.hints


def test_factors_are_named_by_what_they_count():
    (target,) = targets.select(["vae.bernoulli.tanh.S3"])
    problem = targets.build(target, "fused", 0)
    settings = Settings(behaviour=False)
    probe = Probe(problem, settings)
    for factor, words in (
        (5.0, "B, the number of rows"),
        (1 / 7, "D, the number of features"),
        (3.0, "S, the samples"),
    ):
        mutant = with_backward(problem, mistakes.OF_GRADIENTS["sign"](problem, 0))
        mutant.backward = mistakes._scaled(factor)(problem, 0)
        result = examine(mutant, settings, probe)
        assert any(hint.code == "factor" and words in hint.text for hint in result.hints), result.hints


def test_what_depends_on_the_forward_alone_is_measured_once_for_all_mistakes():
    (target,) = targets.select(["likelihoods.laplace.mean"])
    problem, calls = targets.build(target, "fused", 0), []
    forward = problem.forward
    problem.forward = lambda inputs: calls.append(0) or forward(inputs)
    settings, counts = Settings(behaviour=False, max_entries=8), []  # so few that the wrong entries are looked for
    probe, mutants = Probe(problem, settings), [mutant for *_, mutant in mistakes.mistakes(problem)]
    for _ in range(2):
        calls.clear()
        hints = {hint.code for mutant in mutants for hint in examine(mutant, settings, probe).hints}
        assert {"entries", "missing-term", "constant"} <= hints
        counts.append(len(calls))
    assert counts[1] <= 10 * len(mutants) < 0.2 * counts[0]  # each calls the forward a few times for other tests


# ---- parity ---------------------------------------------------------------------------------------------------------


def test_parity_of_every_op_and_nothing_left_out():
    outcome = parity.run()
    assert outcome.exit_code == 0, [row for row in outcome.rows if row.verdict == "wrong"]
    cells = {(row.op, row.backend, row.kernels, row.dtype) for row in outcome.rows}
    assert cells == set(
        itertools.product(kernels.op_names(), ("numpy", "cupy"), ("reference", "fused"), ("float32", "float64"))
    )
    for row in outcome.rows:
        assert row.verdict in ("ok", "unavailable")
        assert (row.ulps is None) == (row.verdict == "unavailable")
        assert row.note or row.verdict == "ok"


def test_parity_finds_a_kernel_that_differs(monkeypatch):
    from minivae.kernels import bernoulli

    def off(nll_rows, d_logits, logits, X, weight):
        bernoulli.fused(nll_rows, d_logits, logits, X, weight)
        nll_rows *= 1 + 1e-3

    monkeypatch.setitem(bernoulli.OPS, "bernoulli", replace(bernoulli.OPS["bernoulli"], fused=off))
    wrong = {(row.op, row.kernels) for row in parity.run(("numpy",)).rows if row.verdict == "wrong"}
    assert wrong == {("bernoulli", "fused")}


def test_the_targets_run_on_a_device(monkeypatch):
    """Every family on the CuPy backend, through the stand-in that refuses hidden transfers."""
    import standin

    standin.install(monkeypatch)
    for name in ("ops.dense.silu", "ops.latent", "layers.mlp.tanh", "latent.free_bits", "likelihoods.gaussian.rows"):
        (target, *_) = targets.select([name])
        result = examine(targets.build(target, "reference", 0, "cupy"), Settings(max_entries=0, directions=2))
        assert result.ok, (name, result.hints)
    (target,) = targets.select(["vae.bernoulli.relu.S3"])
    assert examine(targets.build(target, "reference", 0, "cupy"), Settings(max_entries=0, directions=2)).ok
