"""JAX's own code as a target of the checker."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from minivae import UsageError, gradcheck
from minivae.gradcheck import user

jax = pytest.importorskip("jax", reason="jax is a test-only dependency: pip install jax")
jnp, lax = jax.numpy, jax.lax

RNG = np.random.default_rng(0)
X, Y, V = RNG.normal(size=(3, 4)), RNG.normal(size=(3, 4)), RNG.normal(size=4)
IMAGE, KERNEL = RNG.normal(size=(1, 2, 5, 5)), RNG.normal(size=(2, 2, 3, 3))
SQUARE, LABELS = RNG.normal(size=(3, 3)) + 3 * np.eye(3), np.array([0, 3, 1])


@pytest.fixture(autouse=True)
def _float64():
    was = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", was)


def layer_norm(x, w, b):
    return w * (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-5) + b


def attention(q, k, v):
    return jax.nn.softmax(q @ k.T / 2) @ v


def cross_entropy(x, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(x), labels[:, None], 1).mean()


OPS = {
    "sigmoid": (jax.nn.sigmoid, X),
    "relu": (jax.nn.relu, X),
    "gelu": (jax.nn.gelu, X),
    "silu": (jax.nn.silu, X),
    "softplus": (jax.nn.softplus, X),
    "softmax": (jax.nn.softmax, X),
    "logsumexp": (lambda x: jax.nn.logsumexp(x, 1), X),
    "layer_norm": (layer_norm, X, V, V[::-1].copy()),
    "attention": (attention, X, Y, X - Y),
    "cross_entropy": (cross_entropy, X, LABELS),
    "jit": (jax.jit(cross_entropy), X, LABELS),
    "conv": (lambda x, w: lax.conv_general_dilated(x, w, (1, 1), "SAME"), IMAGE, KERNEL),
    "max_pool": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"), IMAGE),
    "einsum": (lambda a, b: jnp.einsum("ij,kj->ik", a, b), X, Y),
    "inverse": (jnp.linalg.inv, SQUARE),
    "cholesky": (lambda a: jnp.linalg.cholesky(a @ a.T + jnp.eye(3)), SQUARE),
    "cumsum": (lambda x: jnp.cumsum(x, 1), X),
    "sort": (lambda x: jnp.sort(x, 1), X),
    "gather": (lambda x, i: x[:, i], X, LABELS),
    "scatter": (lambda x, v: x.at[1].add(v), X, V),
    "where": (lambda x, y: jnp.where(x > y, x * y, y), X, Y),
    "scan": (lambda x: lax.scan(lambda h, row: (jnp.tanh(h + row), h), jnp.zeros(4), x), X),
    "while": (lambda x: lax.fori_loop(0, 3, lambda i, h: h * x[i], x[0]), X),
    "a dict": (lambda x: {"sum": x.sum(), "at": jnp.argmax(x)}, X),
}


@pytest.mark.parametrize("name", OPS)
def test_ops_of_jax_are_right(name):
    fn, *inputs = OPS[name]
    report = gradcheck.check(fn, [jnp.asarray(x) for x in inputs], name=name)
    assert report.ok, str(report)
    tensors = report.results[0].tensors
    assert len(tensors) == sum(x.dtype.kind == "f" for x in inputs)
    assert all(t.checked > 0 and t.verdict == "ok" for t in tensors)


@jax.custom_vjp
def swish(x, beta):
    return x * jax.nn.sigmoid(beta * x)


FACTOR = {"swish": 1.0, "softplus": 1.0}


def swish_backward(kept, dY):
    x, beta = kept
    s = jax.nn.sigmoid(beta * x)
    return FACTOR["swish"] * dY * (s + beta * x * s * (1 - s)), (dY * x * x * s * (1 - s)).sum()


swish.defvjp(lambda x, beta: (swish(x, beta), (x, beta)), swish_backward)


@jax.custom_jvp
def softplus(x):
    return jnp.log1p(jnp.exp(x))


softplus.defjvp(lambda x, t: (softplus(*x), FACTOR["softplus"] * t[0] * jax.nn.sigmoid(x[0])))


@pytest.mark.parametrize("fn, inputs", [(swish, [X, np.array(1.5)]), (softplus, [X])], ids=("vjp", "jvp"))
def test_custom_gradients_are_recognised_without_arrays_of_jax(fn, inputs, monkeypatch):
    for target in (fn, lambda *xs: fn(*xs) + helper(xs[0])):
        assert gradcheck.check(target, inputs).ok
        monkeypatch.setitem(FACTOR, fn.__name__, 1.001)
        report = gradcheck.check(target, inputs)
        assert report.exit_code == 1 and (target is not fn or "1.001" in report.hints[0].text)
        monkeypatch.setitem(FACTOR, fn.__name__, 1.0)


def helper(x):
    return jnp.sin(x)


def test_the_report_points_at_the_line_of_backward():
    (result,) = gradcheck.check(swish, [X, np.array(1.5)]).results
    assert Path(result.file).read_text().splitlines()[result.line - 1].startswith("def swish_backward")


def bad_count(x):
    return x * 2


bad_count = jax.custom_vjp(bad_count)
bad_count.defvjp(lambda x: (x * 2, None), lambda kept, dY: (dY, dY))

BAD = {
    "integers": (lambda x: x * 2, [LABELS], "no inputs of floating point"),
    "integers come back": (lambda x: jnp.argmax(x), [X], "no array of real numbers"),
    "too many gradients": (bad_count, [X], "backward raised"),
    "not traceable": (lambda x: x * float(x[0, 0]), [X], "cannot trace"),
    "returns None": (lambda x: jnp.zeros(1) is None or None, [X], "no array of real numbers"),
    "shapes": (lambda x: x @ jnp.ones((3, 3)), [X], "forward raised"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_checked_is_one_clear_line(name):
    fn, inputs, message = BAD[name]
    with pytest.raises(UsageError, match=message) as caught:
        gradcheck.check(fn, [jnp.asarray(x) for x in inputs])
    assert "\n" not in str(caught.value)


FILE = """
import functools
import jax
import jax.numpy as jnp

def plain(x):
    return jnp.sin(x)

compiled = jax.jit(plain)

@jax.custom_vjp
def sine(x):
    return jnp.sin(x)

def sine_fwd(x):
    return sine(x), (jnp.cos(x),)

def sine_bwd(kept, dY):
    return (kept[0] * dY,)

sine.defvjp(sine_fwd, sine_bwd)

@jax.custom_jvp
def other(x):
    return jnp.sin(x)

@other.defjvp
def other_jvp(xs, tangents):
    return jnp.sin(xs[0]), jnp.cos(xs[0]) * tangents[0]
"""


def test_all_that_is_of_jax_in_a_file_is_found_and_no_rule(tmp_path):
    path = tmp_path / "functions_of_jax.py"
    path.write_text(FILE)
    names = user.checkable(str(path))
    assert names == ["plain", "compiled", "sine", "other"]
    for name in names:
        code = user.load(f"{path}:{name}")
        assert gradcheck.check(code, [X]).ok
        assert user.is_by_hand(code) == (name in ("sine", "other"))


def test_without_float64_one_line_says_how_to_turn_it_on():
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(UsageError, match=r'jax.config.update\("jax_enable_x64", True\).*JAX_ENABLE_X64=1'):
        gradcheck.check(jax.nn.sigmoid, [jnp.ones(3)])


def test_no_framework_is_imported_for_code_of_numpy():
    script = """
import sys
import numpy as np
from minivae import gradcheck
assert gradcheck.check(lambda x: (np.sum(x * x), (2 * x,)), [np.ones(3)]).ok
print([name for name in ("torch", "jax", "numba") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "[]", done.stderr
