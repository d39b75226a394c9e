"""torch's code as a target of the checker, and torch.autograd.gradcheck as a second opinion on minivae's targets."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_gradcheck_command import run

from minivae import UsageError, gradcheck
from minivae.gradcheck import user
from minivae.gradcheck.compare import examine
from minivae.gradcheck.numeric import Probe
from minivae.gradcheck.ours import mistakes, targets
from minivae.gradcheck.problem import Settings, with_backward

torch = pytest.importorskip("torch", reason="torch is a test-only dependency: pip install torch")
F, nn = torch.nn.functional, torch.nn
torch.set_num_threads(1)


# ---- torch's own code -----------------------------------------------------------------------------------------------


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y, V, SQUARE = normal(3, 4), normal(3, 4, seed=1), normal(4, seed=2), normal(3, 3) + 3 * torch.eye(3)
IMAGE, KERNEL, QKV = normal(2, 2, 5, 5), normal(3, 2, 3, 3, seed=3), [normal(2, 3, 4, seed=s) for s in (4, 5, 6)]
LABELS, INDEX = torch.tensor([0, 3, 1]), torch.tensor([[0, 2], [1, 1], [3, 0]])

OPS = {
    "sigmoid": (torch.sigmoid, X),
    "tanh": (torch.tanh, X),
    "relu": (torch.relu, X),
    "gelu": (F.gelu, X),
    "silu": (F.silu, X),
    "softplus": (F.softplus, X),
    "elu": (F.elu, X),
    "mish": (F.mish, X),
    "hardswish": (F.hardswish, X),
    "glu": (F.glu, X),
    "prelu": (F.prelu, X, normal(1).abs()),
    "softmax": (lambda x: torch.softmax(x, -1), X),
    "log_softmax": (lambda x: torch.log_softmax(x, -1), X),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), X, V, V.cos()),
    "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), X, V, V.cos()),
    "group_norm": (lambda x: F.group_norm(x, 2), normal(2, 4, 3)),
    "instance_norm": (F.instance_norm, IMAGE),
    "rms_norm": (lambda x, w: F.rms_norm(x, (4,), w), X, V),
    "normalize": (F.normalize, X),
    "mse_loss": (F.mse_loss, X, Y),
    "cross_entropy": (F.cross_entropy, X, LABELS),
    "nll_loss": (lambda x, y: F.nll_loss(torch.log_softmax(x, 1), y), X, LABELS),
    "bce_with_logits": (F.binary_cross_entropy_with_logits, X, torch.sigmoid(Y)),
    "huber_loss": (F.huber_loss, X, Y),
    "kl_div": (lambda x, y: F.kl_div(torch.log_softmax(x, 1), torch.softmax(y, 1), reduction="sum"), X, Y),
    "gaussian_nll_loss": (F.gaussian_nll_loss, X, Y, X.abs() + 0.5),
    "cosine_similarity": (F.cosine_similarity, X, Y),
    "attention": (F.scaled_dot_product_attention, *QKV),
    "causal_attention": (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), *QKV),
    "linear": (F.linear, X, normal(2, 4), normal(2)),
    "bilinear": (F.bilinear, X, Y, normal(2, 4, 4)),
    "einsum": (lambda a, b: torch.einsum("ij,kj->ik", a, b), X, Y),
    "bmm": (torch.bmm, normal(2, 3, 4), normal(2, 4, 2)),
    "inverse": (torch.linalg.inv, SQUARE),
    "slogdet": (lambda a: torch.linalg.slogdet(a)[1], SQUARE),
    "conv1d": (F.conv1d, normal(2, 2, 6), normal(3, 2, 3), normal(3)),
    "conv2d": (lambda x, w: F.conv2d(x, w, stride=2, padding=1), IMAGE, KERNEL),
    "conv_transpose2d": (F.conv_transpose2d, normal(2, 3, 3, 3), KERNEL),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), IMAGE),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), IMAGE),
    "interpolate": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), IMAGE),
    "sum": (lambda x: x.sum(0), X),
    "mean": (torch.mean, X),
    "var": (lambda x: x.var(1), X),
    "prod": (lambda x: x.prod(1), X),
    "max": (lambda x: x.max(1), X),
    "cumsum": (lambda x: x.cumsum(1), X),
    "logsumexp": (lambda x: torch.logsumexp(x, 1), X),
    "norm": (torch.linalg.vector_norm, X),
    "median": (lambda x: x.median(1), X),
    "gather": (lambda x, i: x.gather(1, i), X, INDEX),
    "embedding": (lambda i, w: F.embedding(i, w), INDEX, normal(4, 3)),
    "index_select": (lambda x, i: x.index_select(1, i), X, LABELS),
    "scatter_add": (lambda x, i, y: x.scatter_add(1, i, y), X, INDEX, normal(3, 2)),
    "masked_fill": (lambda x: x.masked_fill(x > 0, 0.0), X),
    "sort": (lambda x: x.sort(1).values, X),
    "topk": (lambda x: x.topk(2)[0], X),
    "transpose": (lambda x: x.T, X),
    "split": (lambda x: x.split(2, 1), X),
    "slice": (lambda x: x[:, 1:3], X),
    "roll": (lambda x: x.roll(1, 0), X),
    "cat": (lambda x, y: torch.cat([x, y]), X, Y),
    "a dict": (lambda x: {"sum": x.sum(), "square": x * x}, X),
    "nn.Linear": (nn.Linear(4, 2), X),
    "nn.LSTM": (nn.LSTM(4, 2), normal(2, 3, 4)),
    "nn.TransformerEncoderLayer": (nn.TransformerEncoderLayer(2, 1, 2, dropout=0.0, batch_first=True), normal(2, 3, 2)),
}


@pytest.mark.parametrize("name", OPS)
def test_ops_of_torch_are_right(name):
    fn, *inputs = OPS[name]
    report = gradcheck.check(fn, inputs, name=name)
    assert report.ok, str(report)
    (result,) = report.results
    assert all(t.checked > 0 and t.verdict == "ok" and t.kinks == 0 for t in result.tensors)
    held = len(list(fn.parameters())) if isinstance(fn, nn.Module) else 0
    assert len(result.tensors) == sum(x.is_floating_point() for x in inputs) + held


def test_relu_at_zero_is_a_kink():
    """torch issue 114234: gradcheck compares the slope ½ of a central difference with the subgradient 0."""
    report = gradcheck.check(torch.relu, [torch.tensor([-1.0, 0.0, 2.0] * 4, dtype=torch.float64)])
    (tensor,) = report.results[0].tensors
    assert tensor.kinks == 4 and tensor.verdict == "kinks" and "kink" in report.hints[0].text
    report = gradcheck.check(torch.relu, [torch.tensor([-1.0, 0.0, 2.0, 3.0], dtype=torch.float64)])
    assert report.ok and report.results[0].tensors[0].kinks == 1


class Swish(torch.autograd.Function):
    """x σ(βx), written by hand; the tests below break it."""

    factor = 1.0

    @staticmethod
    def forward(context, x, beta):
        context.save_for_backward(x)
        context.beta = beta
        return x * torch.sigmoid(beta * x)

    @staticmethod
    def backward(context, dY):
        (x,) = context.saved_tensors
        s = torch.sigmoid(context.beta * x)
        return Swish.factor * dY * (s + context.beta * x * s * (1 - s)), None


@pytest.mark.parametrize("of", [Swish, Swish.apply, lambda x, beta: Swish.apply(x, beta)], ids=("class", "apply", "in"))
def test_an_autograd_function_is_recognised(of, monkeypatch):
    report = gradcheck.check(of, [X, 1.5])
    assert report.ok, str(report)
    assert [t.name for t in report.results[0].tensors] == ["x"]
    monkeypatch.setattr(Swish, "factor", 1.001)
    report = gradcheck.check(of, [X, 1.5])
    assert report.exit_code == 1 and "1.001" in report.hints[0].text


def test_the_report_points_at_the_line_of_backward():
    (result,) = gradcheck.check(Swish, [X, 1.5]).results
    lines = Path(result.file).read_text().splitlines()
    assert "staticmethod" in lines[result.line - 1] and "def backward" in lines[result.line]


def test_a_new_style_function_an_unbuilt_module_and_numpy_inputs():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x * x

        @staticmethod
        def setup_context(context, inputs, output):
            context.save_for_backward(*inputs)

        @staticmethod
        def backward(context, dY):
            return 2 * context.saved_tensors[0] * dY

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))
            self.register_buffer("shift", torch.ones(4))

        def forward(self, x):
            return Square.apply(x * self.scale) + self.shift

    for target, names in ((Square, ["x"]), (Module, ["x", "scale"]), (lambda x: x.exp() if helper(x) else x, ["x"])):
        report = gradcheck.check(target, [X.numpy()])
        assert report.ok and [t.name for t in report.results[0].tensors] == names


def helper(x):
    return torch.is_tensor(x)


def test_only_marked_tensors_are_differentiated_by():
    report = gradcheck.check(lambda x, y: x * y, [X.clone().requires_grad_(), Y])
    assert report.ok and [t.name for t in report.results[0].tensors] == ["x"]


def test_gradients_by_hand_of_tensors_without_autograd():
    class Affine:
        factor = 1.0

        def forward(self, x, w):
            self.x, self.w = x, w
            return x @ w

        def backward(self, dY):
            return dY @ self.w.T, self.factor * (self.x.T @ dY)

    class Wrong(Affine):
        factor = 1.01

    def loss(x, w):
        y = x @ w
        return 0.5 * (y * y).sum(), (y @ w.T, loss.factor * x.T @ y)

    W = normal(4, 2)
    assert gradcheck.check(Affine, [X, W]).ok and not gradcheck.check(Wrong, [X, W]).ok
    for loss.factor in (1.0, 1.01):
        report = gradcheck.check(loss, [X, W])
        assert report.ok == (loss.factor == 1.0), str(report)


def test_a_buffer_of_torch_that_is_not_written_is_found():
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return 2 * x

        @staticmethod
        def backward(context, dY):
            dX = torch.empty_like(dY)
            dX[:-1] = 2 * dY[:-1]
            return dX

    report = gradcheck.check(Half, [X])
    assert report.exit_code == 1 and report.hints[0].code == "not-written"


def frees_its_graph(x):
    loss = (x * x).sum()
    loss.backward(inputs=[x])
    return loss


class Once(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        return x * np.pi

    @staticmethod
    def backward(context, dY):
        raise ValueError("no such thing")


class Meta(nn.Module):
    def forward(self, x):
        return x.to("cuda:0" if not torch.cuda.is_available() else "cuda:99")


BAD = {
    "a graph that was not kept": (frees_its_graph, [X], "a graph was not kept"),
    "detached": (lambda x: x.detach() * 2, [X], "not connected to its inputs"),
    "no_grad": (torch.no_grad()(lambda x: x * 2), [X], "not connected to its inputs"),
    "integers": (lambda x: x * 2, [LABELS], "no inputs of floating point"),
    "integers come back": (lambda x: x.argmax(1), [X], "no array of real numbers"),
    "complex": (lambda x: x * 2, [X.to(torch.complex128)], "a complex number"),
    "raises": (Once, [X], "backward raised.*ValueError: no such thing"),
    "no such device": (Meta, [X], "CUDA|device"),
    "shapes": (torch.mm, [X, X], "cannot be multiplied"),
    "random": (lambda x: F.dropout(x, 0.5), [X], "non-deterministic"),
    "in place": (lambda x: x.mul_(2), [X], "changes its input"),
    "meta": (lambda x: x * 2, [torch.empty(3, 4, device="meta")], "input x cannot be made an array.*meta"),
    "empty": (lambda x: x * 2, [X[:0]], "it has no entries"),
    "returns None": (lambda x: None if torch.is_tensor(x) else x, [X], "no array of real numbers"),
    "float32 inside": (lambda x: x.float() * 2, [X], "rounds to float32"),
    "float32 weights": (lambda x: x @ torch.ones(4, 2), [X], "dtype"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_checked_is_one_clear_line(name):
    fn, inputs, message = BAD[name]
    with pytest.raises(UsageError, match=message) as caught:
        gradcheck.check(fn, inputs)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


# ---- few digits -----------------------------------------------------------------------------------------------------


class Affine(torch.autograd.Function):
    """y = tanh(x W + b), in whatever dtype comes; `factor` makes the gradients wrong."""

    factor = (1.0, 1.0, 1.0)

    @staticmethod
    def forward(context, x, W, b):
        y = torch.tanh(x @ W + b)
        context.save_for_backward(x, W, y)
        return y

    @staticmethod
    def backward(context, dY):
        x, W, y = context.saved_tensors
        dA = dY * (1 - y * y)
        grads = dA @ W.T, x.T @ dA, dA.sum(0)
        return tuple(g * f for g, f in zip(grads, Affine.factor, strict=True))


class Kernel(Affine):
    """The same as a kernel that has no float64."""

    @staticmethod
    def forward(context, x, W, b):
        if x.dtype == torch.float64:
            raise RuntimeError("kernel not implemented for Double")
        return Affine.forward(context, x, W, b)


def tanh_of_affine(x, W, b):
    return np.tanh(x @ W + b)


INPUTS = {"x": normal(6, 4), "W": normal(4, 5, seed=1), "b": normal(5, seed=2)}


@pytest.mark.parametrize("of", [Affine, Kernel], ids=["its own float64", "a reference"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_few_digits_hide_no_factor_of_a_twentieth(dtype, of, monkeypatch):
    inputs = {name: x.to(getattr(torch, dtype)) for name, x in INPUTS.items()}
    reference = tanh_of_affine if of is Kernel else None

    def check(seed=0):
        return gradcheck.check(of, inputs, reference=reference, seed=seed)

    for seed in range(3):
        report = check(seed)
        assert report.ok, str(report)
        (result,) = report.results
        assert of is Kernel or any(f.kind == dtype and f.verdict == "ok" for f in result.findings)
        assert of is Affine or [t.method for t in result.tensors] == [dtype] * 3
    for wrong in range(3):
        monkeypatch.setattr(Affine, "factor", tuple(1.05 if k == wrong else 1.0 for k in range(3)))
        report = check()
        assert report.exit_code == 1
        assert [t.verdict != "ok" for t in report.results[0].tensors] == [k == wrong for k in range(3)]


class Sum(torch.autograd.Function):
    """Rows plus a vector, whose gradient is summed one row at a time."""

    @staticmethod
    def forward(context, x, b):
        return x + b

    @staticmethod
    def backward(context, dY):
        db = torch.zeros_like(dY[0])
        for row in dY:
            db = db + row
        return dY, db


def test_an_error_that_only_few_digits_have_is_found():
    """In bfloat16 a sum of ones stops growing at 256."""
    x, b = normal(600, 1), normal(1)

    def loss(x, b):
        return Sum.apply(x, b).sum()

    for dtype, exit_code in ((None, 0), ("float32", 0), ("bfloat16", 1)):
        report = gradcheck.check(loss, [x, b], dtype=dtype, directions=2)
        assert report.exit_code == exit_code, str(report)
    (finding,) = [f for f in report.results[0].findings if f.verdict == "wrong"]
    assert finding.kind == "bfloat16" and finding.message.startswith("in bfloat16, b")


def test_without_float64_and_without_a_reference_one_line_says_what_to_do():
    with pytest.raises(UsageError, match=r"not implemented for Double.*float16 only: give --reference"):
        gradcheck.check(Kernel, [x.half() for x in INPUTS.values()])
    with pytest.raises(UsageError, match="expected float64, float32, float16, bfloat16"):
        gradcheck.check(Kernel, list(INPUTS.values()), dtype="half")


def test_another_function_than_the_references_is_found_in_few_digits():
    inputs = {name: x.half() for name, x in INPUTS.items()}
    report = gradcheck.check(Kernel, inputs, reference=lambda x, W, b: 1.1 * np.tanh(x @ W + b))
    assert report.exit_code == 1
    assert any(f.kind == "reference" and f.verdict == "wrong" for f in report.results[0].findings)


FILE = """
import torch
from torch.nn.functional import gelu

class Swish(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(context, dY):
        s = torch.sigmoid(*context.saved_tensors)
        return dY * s * (1 + context.saved_tensors[0] * (1 - s))

def plain(x):
    return torch.sin(x)

def without_its_name(x):
    return x * x

def of_two(x, y):
    return torch.sin(x) * y

def with_its_own(x, y):
    return torch.sin(x) * y

with_its_own.example_inputs = lambda rng: [torch.ones(2), torch.ones(2)]

def shape(x):
    return torch.numel(x)

class Layer(torch.nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(width))

    def forward(self, x):
        return plain(x) * self.w

class OfWidth(Layer):
    def __init__(self, width):
        super().__init__(width)

built = OfWidth(3)
linear = torch.nn.Linear(3, 2)

def _helper(x):
    raise ValueError

def example_inputs(rng):
    return [torch.from_numpy(rng.normal(size=(2, 3)))]
"""
RIGHT = ["Swish", "plain", "without_its_name", "with_its_own", "Layer", "built", "linear"]


def test_the_command_line_checks_all_that_is_of_torch_in_a_file(tmp_path):
    path = tmp_path / "kernels.py"
    path.write_text(FILE)
    code, out = run(path, "--json")
    data = json.loads(out)
    assert code == 0 and [target["name"] for target in data["targets"]] == RIGHT
    assert [t["name"] for t in data["targets"][4]["tensors"]] == ["x", "w"]
    left_out = {failure["name"].rpartition(":")[2]: failure["message"] for failure in data["left_out"]}
    assert left_out.keys() == {"of_two", "shape", "OfWidth"} and not data["failures"]
    assert "missing a required argument: 'y'. Name it alone with its own --shapes" in left_out["of_two"]
    assert "no array of real numbers" in left_out["shape"]
    assert "cannot be built without arguments" in left_out["OfWidth"] and "Build one in the file" in left_out["OfWidth"]
    code, out = run(f"{path}:plain", "--dtype", "bfloat16", "--hvp", "--json")
    assert code == 0 and len(json.loads(out)["targets"][0]["tensors"]) == 3
    assert run(f"{path}:plain", "--dtype", "half")[0] == 2


def test_a_file_is_not_right_if_nothing_in_it_is_checked_or_something_raises(tmp_path):
    path = tmp_path / "kernels.py"
    path.write_text("import torch\ndef plain(x):\n    return torch.sin(x)\n")
    code, out = run(path)
    assert code == 2 and "plain: no inputs: give --shapes" in " ".join(out.split())
    assert run(path, "--shapes", "2x3")[0] == 0
    path.write_text(path.read_text() + "def other(x):\n    return torch.sin(x) + torch.ones(4, 4)\n")
    code, out = run(path, "--shapes", "2x3", "--json")
    assert code == 2 and len(json.loads(out)["targets"]) == 1
    (failure,) = json.loads(out)["failures"]
    assert "other: forward raised" in failure["message"]


def as_function(problem):
    """A problem of ours as a torch.autograd.Function, its arrays the tensors' own memory."""

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(context, *inputs):
            context.save_for_backward(*inputs)
            return tuple(torch.from_numpy(y) for y in problem.forward([x.detach().numpy() for x in inputs]))

        @staticmethod
        def backward(context, *upstream):
            inputs = [x.detach().numpy() for x in context.saved_tensors]
            grads = problem.backward(inputs, [u.numpy() for u in upstream])
            return tuple(None if g is None else torch.from_numpy(g) for g in grads)

    return Function


WITH_EVERY_MISTAKE = [
    "ops.dense.tanh",
    "ops.latent",
    "layers.dense.relu",
    "likelihoods.continuous-bernoulli.rows",
    "likelihoods.gaussian.rows",
    "likelihoods.gaussian:shared.rows",
    "ops.importance",
]


def mutants(target, unwanted=()):
    """The problem of a target as an autograd.Function, its mistakes but those unwanted, and what each report is."""
    settings, problem = Settings(behaviour=False), targets.build(target, "reference", 0)

    def of_torch(problem):
        given = dict(zip(problem.names, problem.inputs, strict=True))
        made = user.problem_of(as_function(problem), given, target.name, settings)
        made.upstream = [u.copy() for u in problem.upstream]  # some targets hold for weights of their own alone
        return made

    right = of_torch(problem)
    probe = Probe(right, settings)
    assert examine(right, settings, probe).ok, target.name
    for mistake, tensor, mutant in mistakes.mistakes(problem):
        if mistake not in unwanted:
            yield mistake, tensor, examine(of_torch(mutant), settings, probe)


def test_every_mistake_of_ours_is_caught_in_an_autograd_function():
    """Every mistake at every tensor of the first target, and once in one of the others."""
    seen = set()
    for target in targets.select(WITH_EVERY_MISTAKE):
        for mistake, tensor, result in mutants(target, () if target.name == WITH_EVERY_MISTAKE[0] else seen):
            seen.add(mistake)
            assert not result.ok, (target.name, mistake, tensor)
    assert seen == {*mistakes.OF_GRADIENTS, *mistakes.OF_OPS}


@pytest.mark.hours
@pytest.mark.parametrize("target", targets.walk(), ids=lambda target: target.name)
def test_every_mistake_in_every_target_is_caught_in_an_autograd_function(target):
    caught = {(mistake, tensor): not result.ok for mistake, tensor, result in mutants(target)}
    print(f"{sum(caught.values())} of {len(caught)} caught in {target.name}")  # with -s
    assert caught and all(caught.values()), [planted for planted, found in caught.items() if not found]


# ---- torch.autograd.gradcheck on minivae's targets -------------------------------------------------------------------


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
    return not target.name.endswith((".blocks", ".far", ".mean", "gaussian:optimal.rows", "gaussian:optimal.missing"))


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
