"""The same functions, wrapped in torch.autograd.Function, pass torch.autograd.gradcheck: a second opinion on ours."""

import numpy as np
import pytest

from minivae.gradcheck.ours import mistakes, targets
from minivae.gradcheck.problem import with_backward

torch = pytest.importorskip("torch", reason="torch is a test-only dependency: pip install torch")


def as_torch(problem):
    """The problem as a torch function of its inputs: NumPy forward, NumPy backward."""

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(context, *inputs):
            context.save_for_backward(*inputs)
            outputs = problem.forward([x.detach().numpy().copy() for x in inputs])
            return tuple(torch.from_numpy(np.array(y)) for y in outputs)

        @staticmethod
        def backward(context, *upstream):
            inputs = [x.detach().numpy().copy() for x in context.saved_tensors]
            grads = problem.backward(inputs, [u.numpy().copy() for u in upstream])
            return tuple(None if g is None else torch.from_numpy(np.ascontiguousarray(g)) for g in grads)

    return Wrapped.apply


def passes(problem, fast):
    inputs = [torch.from_numpy(x.copy()).requires_grad_() for x in problem.inputs]
    return torch.autograd.gradcheck(
        as_torch(problem), inputs, eps=1e-6, atol=1e-6, rtol=1e-5, fast_mode=fast, raise_exception=False
    )


def wanted(target):
    """All but repetitions; and but the rows of gaussian:optimal, whose weights choose σ² too, so that torch, which asks
    for the gradient of one row at a time, would change the loss with them."""
    return not target.name.endswith((".blocks", ".far", ".mean", "gaussian:optimal.rows"))


@pytest.mark.parametrize("target", [t for t in targets.walk() if wanted(t)], ids=lambda t: t.name)
def test_torch_agrees(target):
    problem = targets.build(target, "fused", seed=0)
    if "latent.free_bits" in target.name or target.name == "latent.beta":
        problem = _with_fixed_weight(problem)
    assert passes(problem, fast=target.name.startswith("vae"))


def _with_fixed_weight(problem):
    """The posterior takes β as a number, not the upstream gradient of its KL: torch may vary that of z alone."""
    forward, kl = problem.forward, problem.parts["the KL"]
    ones = np.ones_like(problem.upstream[0])

    def value(inputs):
        return [np.array(float((ones * forward(inputs)[0]).sum() + kl(inputs)))]

    backward = problem.backward
    problem.forward = value
    problem.backward = lambda inputs, upstream: [upstream[0] * g for g in backward(inputs, [ones, np.array(1.0)])]
    problem.upstream = [np.array(1.0)]
    return problem


@pytest.mark.parametrize("name", ["layers.dense.tanh", "ops.latent", "vae.gaussian.tanh.S1"])
def test_torch_too_sees_a_wrong_one(name):
    (target,) = targets.select([name])
    problem = targets.build(target, "fused", seed=0)
    assert passes(problem, fast=False)
    for mistake in ("× 2", "sign"):
        mutant = with_backward(problem, mistakes.OF_GRADIENTS[mistake](problem, 0))
        assert not passes(mutant, fast=False)
