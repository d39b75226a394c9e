"""Optimisers: against torch.optim, fused against reference, subnormals flushed; schedules against torch's; clipping."""

import math

import numpy as np
import pytest
from tolerances import TORCH, assert_close, assert_sums

import minivae as mv
from minivae import kernels
from minivae.backend import Backend
from minivae.errors import UsageError
from minivae.training import schedules
from minivae.training.options import OPTIMIZERS, Options, make_optimizer

N = 1009
STEPS = 25

CASES = {
    "sgd": (lambda: mv.SGD(0.1), "SGD", {"lr": 0.1}),
    "sgd decay": (lambda: mv.SGD(0.1, weight_decay=0.1), "SGD", {"lr": 0.1, "weight_decay": 0.1}),
    "momentum": (lambda: mv.SGD(0.1, 0.9, weight_decay=0.1), "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "nesterov": (lambda: mv.SGD(0.1, 0.9, True), "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adagrad": (lambda: mv.Adagrad(0.1, weight_decay=0.1), "Adagrad", {"lr": 0.1, "weight_decay": 0.1}),
    "rmsprop": (lambda: mv.RMSprop(0.1, weight_decay=0.1), "RMSprop", {"lr": 0.1, "weight_decay": 0.1}),
    "rmsprop momentum": (
        lambda: mv.RMSprop(0.1, 0.9, momentum=0.5),
        "RMSprop",
        {"lr": 0.1, "alpha": 0.9, "momentum": 0.5},
    ),
    "adam": (lambda: mv.Adam(0.1), "Adam", {"lr": 0.1}),
    "adam decay": (lambda: mv.Adam(0.1, weight_decay=0.1), "Adam", {"lr": 0.1, "weight_decay": 0.1}),
    "adamw": (lambda: mv.AdamW(0.1, weight_decay=0.1), "AdamW", {"lr": 0.1, "weight_decay": 0.1}),
}


def gradients():
    rng = np.random.default_rng(0)
    return [rng.normal(size=N) * 10.0 ** rng.integers(-3, 2) for _ in range(STEPS)]


def ours(make, kind, dtype="float64"):
    backend, optimizer = Backend("numpy", kind, dtype), make()
    P = np.random.default_rng(1).normal(size=N).astype(dtype)
    for G in gradients():
        optimizer.update(P, G.astype(dtype), backend)
    return P


@pytest.mark.parametrize("kind", ["fused", "reference"])
@pytest.mark.parametrize("case", CASES)
def test_optimiser_matches_torch(case, kind):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    make, name, options = CASES[case]
    P = torch.tensor(np.random.default_rng(1).normal(size=N), requires_grad=True)
    optimizer = getattr(torch.optim, name)([P], **options)
    for G in gradients():
        P.grad = torch.tensor(G)
        optimizer.step()
    np.testing.assert_allclose(ours(make, kind), P.detach().numpy(), **TORCH)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES)
def test_fused_optimiser_equals_reference(case, dtype):
    make = CASES[case][0]
    assert_close(ours(make, "fused", dtype), ours(make, "reference", dtype), dtype, scale=STEPS)


def test_adam_by_hand():
    """One step from zero moments moves by lr·g/(|g| + ε): the sign of the gradient, whatever its size."""
    P = np.zeros(3)
    mv.Adam(0.1).update(P, np.array([5.0, -1e-3, 0]), Backend("numpy", dtype="float64"))
    np.testing.assert_allclose(P, [-0.1, 0.1, 0], rtol=1e-4)


# Every moment decays by 0.9 a step here, and so past 1e-38 within 900.
DECAYING = {
    "momentum": lambda: mv.SGD(0.1, 0.9),
    "rmsprop": lambda: mv.RMSprop(0.1, rho=0.9),
    "rmsprop momentum": lambda: mv.RMSprop(0.1, rho=0.9, momentum=0.9),
    "adam": lambda: mv.Adam(0.1, beta2=0.9),
    "adamw": lambda: mv.AdamW(0.1, beta2=0.9),
}


@pytest.mark.parametrize("kind", ["fused", "reference"])
@pytest.mark.parametrize("case", DECAYING)
def test_moments_never_become_subnormal(case, kind):
    """Gradients that stop: the moments decay to 0 and not into subnormals, on which a step takes twice as long."""
    backend, optimizer = Backend("numpy", kind, "float32"), DECAYING[case]()
    P, G = np.ones(64, np.float32), np.full(64, 1e-3, np.float32)
    for step in range(1200):
        optimizer.update(P, G if step < 3 else np.zeros_like(G), backend)
        for name, state in optimizer.state.items():
            assert not ((state != 0) & (np.abs(state) < np.finfo(np.float32).tiny)).any(), name
    assert all((state == 0).all() for state in optimizer.state.values())


@pytest.mark.parametrize("kind", ["fused", "reference"])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clipping_matches_torch(kind, max_norm):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    G = np.random.default_rng(0).normal(size=N)
    P = torch.zeros(N, dtype=torch.float64, requires_grad=True)
    P.grad = torch.tensor(G)
    expected_norm = torch.nn.utils.clip_grad_norm_([P], max_norm)
    norm = np.empty(1)
    kernels.load("numpy", kind, np).clip_norm(G, norm, max_norm)
    assert norm[0] == pytest.approx(float(expected_norm), rel=1e-13)
    np.testing.assert_allclose(G, P.grad.numpy(), **TORCH)


@pytest.mark.parametrize("kind", ["fused", "reference"])
def test_clipping_a_nan_leaves_a_nan(kind):
    G, norm = np.array([1.0, np.nan, 2.0]), np.empty(1)
    kernels.load("numpy", kind, np).clip_norm(G, norm, 1.0)
    assert np.isnan(norm[0])
    assert np.isnan(G).all()


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: mv.Adam(0.0), "lr=0.0"),
        (lambda: mv.Adam(float("nan")), "lr=nan"),
        (lambda: mv.Adam(beta1=1.0), "beta1=1.0"),
        (lambda: mv.SGD(momentum=-0.1), "momentum=-0.1"),
        (lambda: mv.SGD(nesterov=True), "momentum > 0"),
        (lambda: mv.AdamW(weight_decay=-1), "weight_decay=-1"),
        (lambda: make_optimizer("adma", 0.1), "expected one of sgd"),
        (lambda: make_optimizer("adam", 0.1, momentum=0.9), "adam has none"),
    ],
)
def test_mistakes_get_one_clear_line(make, match):
    with pytest.raises(UsageError, match=match):
        make()


def test_an_optimizer_serves_one_model():
    """Another model of the same shape would go on with the first one's moments."""
    optimizer, backend = mv.Adam(), Backend("numpy", dtype="float64")
    optimizer.update(np.zeros(3), np.ones(3), backend)
    with pytest.raises(UsageError, match="another model"):
        optimizer.update(np.zeros(3), np.ones(3), backend)


def test_optimisers_are_made_by_name():
    assert make_optimizer("nesterov", 0.1).momentum == 0.9
    assert make_optimizer("rmsprop", 0.1, momentum=0.3).momentum == 0.3
    assert make_optimizer("adamw", 0.1).weight_decay == 0.01
    assert {type(make_optimizer(name, 0.1)) for name in OPTIMIZERS} == set(OPTIMIZERS.values())


# ---- schedules ------------------------------------------------------------------------------------------------------


def torch_factors(make, epochs):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    factors = []
    for _ in range(epochs):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


@pytest.mark.parametrize(
    "text, make",
    [
        ("cosine", lambda s, o: s.CosineAnnealingLR(o, 12)),
        ("milestones:3,7:0.5", lambda s, o: s.MultiStepLR(o, [3, 7], 0.5)),
        ("constant", lambda s, o: s.ConstantLR(o, 1.0)),
        ("warmup:4", lambda s, o: s.LambdaLR(o, lambda t: min(1, t / 4))),
    ],
)
def test_schedule_matches_torch(text, make):
    schedule = Options(schedule=text).schedule
    assert_sums([schedule.factor(t, 12) for t in range(12)], torch_factors(make, 12), of="model")


def test_warmup_joins_cosine():
    schedule = schedules.parse("warmup:2+cosine")
    assert [schedule.factor(t, 10) for t in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-15)
    assert [schedule.factor(t, 2) for t in (0, 1, 1.5)] == [0, 0.5, 0.75], "a warm-up as long as the training is a ramp"


def test_beta_warms_up_and_cycles():
    warm, cyclic = mv.Beta(2.0, warmup=4), mv.Beta(1.0, cycle=4)
    assert [warm(t) for t in (0, 1, 4, 9)] == [0, 0.5, 2, 2]
    assert [cyclic(t) for t in (0, 1, 2, 3.9, 4, 5)] == [0, 0.5, 1, 1, 0, 0.5]
    assert [warm.finished(3), warm.finished(4), mv.Beta().finished(0)] == [False, True, True]


@pytest.mark.parametrize(
    "text",
    [
        "cos",
        "cosine:3",
        "milestones:",
        "milestones:5,2",
        "warmup:-1",
        "warmup:inf",
        "milestones:3:0",
        "",
        "+",
        "cosine+milestones:1",
        "milestones:nan",
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(text):
    with pytest.raises(UsageError, match="expected constant, cosine"):
        schedules.parse(text)


@pytest.mark.parametrize(
    "options", [{"shape": "cosin"}, {"warmup": -1}, {"shape": "milestones"}, {"milestones": (3,)}, {"gamma": 0}]
)
def test_a_schedule_made_by_hand_is_checked_too(options):
    with pytest.raises(UsageError):
        mv.Schedule(**options)


@pytest.mark.parametrize("options", [{"beta": -1}, {"warmup": math.inf}, {"warmup": 2, "cycle": 3}])
def test_a_beta_that_makes_no_sense_is_refused(options):
    with pytest.raises(UsageError):
        mv.Beta(**options)
