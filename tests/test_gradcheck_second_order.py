"""--hvp: a Hessian-vector product by hand, and the gradient of a framework's gradient."""

import numpy as np
import pytest

from minivae import UsageError, gradcheck

X, W = np.random.default_rng(0).normal(size=(3, 2)), np.random.default_rng(1).normal(size=(2, 4))


class Tanh:
    """tanh(X W): with A = X W, dA = (1 − Y²) dY; its derivative along V is by the product rule."""

    factor = 1.0

    def forward(self, X, W):
        self.X, self.W, self.Y = X, W, np.tanh(X @ W)
        return self.Y

    def backward(self, dY):
        dA = (1 - self.Y**2) * dY
        return dA @ self.W.T, self.X.T @ dA

    def hvp(self, dY, VX, VW):
        slope = 1 - self.Y**2
        dA, VA = slope * dY, VX @ self.W + self.X @ VW
        VdA = -2 * self.Y * slope * VA * dY
        return VdA @ self.W.T + dA @ VW.T, VX.T @ dA + self.factor * self.X.T @ VdA


class Wrong(Tanh):
    factor = 1.01


def cubes(x):
    return np.sum(x**3), (3 * x**2,)


def cubes_hvp(x, v):
    return (6 * x * v,)


def quartics(x):
    return np.sum(x**4), (4 * x**3,)


def quartics_hvp(x, v):
    return (6 * x**2 * v,)


@pytest.mark.parametrize("fn, inputs, wrong", [(Tanh, [X, W], ""), (Wrong, [X, W], "W"), (cubes, [X], "")])
def test_a_product_by_hand(fn, inputs, wrong):
    report = gradcheck.check(fn, inputs, hvp=True)
    second = [t for t in report.results[0].tensors if t.name.startswith("H V by ")]
    assert len(second) == len(inputs) == len(report.results[0].tensors) - len(inputs)
    assert [t.name for t in second if t.verdict != "ok"] == [f"H V by {wrong}"] * bool(wrong)
    assert all(t.checked == t.shape[0] * t.shape[1] for t in second)


def test_a_factor_in_it_is_named():
    report = gradcheck.check(quartics, [X], hvp=True)
    assert report.exit_code == 1 and "0.5 ×" in report.hints[0].text and gradcheck.check(quartics, [X]).ok


def test_code_without_it_is_told_what_to_write():
    with pytest.raises(UsageError, match="no second derivatives: write hvp"):
        gradcheck.check(lambda x: (np.sum(x), (np.ones_like(x),)), [X], hvp=True)


def test_the_gradient_of_an_autograd_function_is_differentiated_again():
    torch = pytest.importorskip("torch", reason="torch is a test-only dependency: pip install torch")

    def square(how):
        class Square(torch.autograd.Function):
            @staticmethod
            def forward(context, x, w):
                context.save_for_backward(x, w)
                return x * x * w

            @staticmethod
            def backward(context, dY):
                x, w = context.saved_tensors
                x = x.detach() if how == "detached" else x
                return 2 * x * w * dY, x * x * dY

        if how == "once":
            Square.backward = staticmethod(torch.autograd.function.once_differentiable(Square.backward))
        return Square

    inputs = [torch.from_numpy(X), torch.from_numpy(X + 1)]
    report = gradcheck.check(square("right"), inputs, hvp=True)
    assert report.ok, str(report)
    assert [t.name for t in report.results[0].tensors[2:]] == ["H V by x", "H V by w", "H V by dY"]
    assert gradcheck.check(square("detached"), inputs).ok
    report = gradcheck.check(square("detached"), inputs, hvp=True)
    assert [t.name for t in report.results[0].tensors if t.verdict == "wrong"] == ["H V by x"]
    with pytest.raises(UsageError, match=r"no path from its output.*@once_differentiable"):
        gradcheck.check(square("once"), inputs, hvp=True)
    assert gradcheck.check(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh()), inputs[:1], hvp=True).ok


def test_the_gradient_of_jax_is_differentiated_again():
    jax = pytest.importorskip("jax", reason="jax is a test-only dependency: pip install jax")
    was = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)

    @jax.custom_vjp
    def square(x):
        return x * x

    def wrong(x):
        return jax.lax.stop_gradient(x)

    try:
        for kept, exit_code in ((lambda x: x, 0), (wrong, 1)):
            square.defvjp(lambda x: (x * x, x), lambda x, dY, kept=kept: (2 * kept(x) * dY,))
            assert gradcheck.check(square, [X]).ok
            assert gradcheck.check(square, [X], hvp=True).exit_code == exit_code
    finally:
        jax.config.update("jax_enable_x64", was)
