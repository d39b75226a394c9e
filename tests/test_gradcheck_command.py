"""`minivae gradcheck`: its tables, its JSON, its exit codes, and one clear line for every mistake."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from minivae import UsageError
from minivae.cli.gradcheck import gradcheck as command
from minivae.gradcheck import sweep, user
from minivae.gradcheck.ours import targets
from minivae.gradcheck.problem import Settings

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "gradcheck"

app = typer.Typer()
app.command()(command)


def run(*args):
    """(exit code, what was printed) of `minivae gradcheck …`; a UsageError is exit 2 and its message, as in cli.py."""
    result = CliRunner(env={"COLUMNS": "100"}).invoke(app, [str(arg) for arg in args])
    if isinstance(result.exception, UsageError):
        return 2, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


LAYER = """
import numpy as np

class Affine:
    def forward(self, X, W, b):
        self.X, self.W = X, W
        return X @ W + b
    def backward(self, dY):
        return dY @ self.W.T, self.X.T @ dY, dY.sum(axis=0)

class Few(Affine):
    def backward(self, dY):
        return super().backward(dY)[:2]

class NaNs(Affine):
    def forward(self, X, W, b):
        return np.log(-super().forward(X, W, b) ** 2)

class Integers(Affine):
    @staticmethod
    def example_inputs(rng):
        return np.arange(15).reshape(5, 3), np.ones((3, 4), int), np.arange(4)

class Noisy(Affine):
    rng = np.random.default_rng(0)
    def forward(self, X, W, b):
        return super().forward(X, W, b) + self.rng.normal()

class Raises(Affine):
    def backward(self, dY):
        return self.missing

class Needs(Affine):
    def __init__(self, width):
        pass

class Complex(Affine):
    def backward(self, dY):
        return tuple(g + 0j for g in super().backward(dY))

class NoReturn(Affine):
    def forward(self, X, W, b):
        super().forward(X, W, b)

class NoInputs(Affine):
    @staticmethod
    def example_inputs(rng):
        rng.normal(size=3)

class Strings(Affine):
    @staticmethod
    def example_inputs(rng):
        return np.array(["a"]), np.ones((3, 4)), np.ones(4)

def double(x):
    return 2 * x

def double_backward(x):
    return 2 * x

constant = 3
"""


@pytest.fixture
def layer(tmp_path):
    path = tmp_path / "my_layer.py"
    path.write_text(LAYER)
    (tmp_path / "nothing.py").write_text("x = 1")
    (tmp_path / "empty").mkdir()
    return path


# ---- ours -----------------------------------------------------------------------------------------------------------


def test_some_of_minivaes_targets_in_detail():
    code, out = run("dense.relu", "likelihoods.bernoulli.mean")
    assert code == 0
    assert "ops.dense" in out and "likelihoods" in out and "right" in out and "poisoned buffers" in out


def test_one_target_shows_every_tensor():
    code, out = run("vae.gaussian.relu.S3", "--kernels", "fused", "--worst", 2)
    assert code == 0
    for tensor in ("enc.0.W", "enc.1.b", "dec.0.W", "dec.1.b"):
        assert tensor in out
    assert out.count("[") > 8  # the worst places


def test_json_is_the_documented_schema():
    code, out = run("latent.beta", "--json")
    data = json.loads(out)
    assert code == data["exit_code"] == 0
    assert set(data) == {
        "schema",
        "kind",
        "ok",
        "exit_code",
        "worst_error",
        "settings",
        "failures",
        "left_out",
        "seconds",
        "targets",
    }
    assert [t["kernels"] for t in data["targets"]] == ["fused", "reference"]
    assert data["schema"] == 1
    documented = (ROOT / "docs" / "gradients.md").read_text()
    for part in (data, data["settings"], data["targets"][0], data["targets"][0]["tensors"][0]):
        for key in part:
            assert f"`{key}`" in documented, f"docs/gradients.md does not say what {key} is"


@pytest.mark.parametrize("name", ["gaussian:shared", "likelihoods.gaussian:optimal", "vae.categorical:9.tanh"])
def test_a_likelihood_with_a_colon_is_no_code_of_the_users(name):
    code, out = run("--list", name)
    assert code == 0 and out.split() and all(name in line for line in out.split())


def test_list():
    code, out = run("--list", "likelihoods.bernoulli")
    assert code == 0 and out.split() == [f"likelihoods.bernoulli.{kind}" for kind in ("mean", "rows", "far", "missing")]


def test_mutate_parity_and_seeds_as_json():
    code, out = run("layers.dense.tanh", "--mutate", "--json")
    data = json.loads(out)
    assert code == 0 and data["kind"] == "mutate" and data["planted"] == data["caught"] > 30
    code, out = run("latent.beta", "--seeds", 3, "--json")
    data = json.loads(out)
    assert code == 0 and data["kind"] == "seeds" and [t["checks"] for t in data["targets"]] == [3, 3]


def test_mutate_and_seeds_as_tables():
    code, out = run("latent.beta", "--mutate", "--kernels", "fused")
    assert code == 0 and "KL dropped" in out and "planted mistakes caught" in out
    code, out = run("latent.beta", "--seeds", 2)
    assert code == 0 and "0 of 4 checks failed" in out


@pytest.mark.slow
def test_parity_as_a_table():
    code, out = run("--parity")
    assert code == 0 and "dense_backward" in out and "cupy fused: unavailable" in out


# ---- the U-curve ----------------------------------------------------------------------------------------------------


def test_sweep_is_a_u_and_its_picture_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "curve.png"
    code, out = run("ops.dense.tanh", "--kernels", "reference", "--sweep", "-o", picture)
    assert code == 0 and "richardson" not in out.splitlines()[0] and "step h" in out
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert run("ops.dense.tanh", "--sweep", "-o", picture)[0] == 2  # exists
    assert run("ops.dense.tanh", "--sweep", "-o", picture, "--force")[0] == 0
    assert "no folder" in run("ops.dense.tanh", "--sweep", "-o", tmp_path / "none" / "c.png")[1]


def test_the_curve_falls_and_rises_as_theory_says():
    target, _ = targets.select(["ops.dense.tanh"])
    curve = sweep.run(targets.build(target, "reference", 0), Settings())
    central = np.array(curve.errors["central"])
    assert central[4] / central[6] == pytest.approx(16, rel=0.3)  # ~ h²
    assert central[40] / central[30] > 100  # ~ 1/h
    assert 2.0**-24 < curve.best("central") < 2.0**-10 and min(curve.errors["richardson"]) < 1e-12
    assert max(curve.errors["complex"][30:]) < 1e-15  # no round-off arm


def test_sweep_without_matplotlib_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, message = run("ops.latent", "--sweep", "-o", tmp_path / "curve.png")
    assert code == 2 and "pip install matplotlib" in message


# ---- the user's own code --------------------------------------------------------------------------------------------


def test_the_right_example_passes_and_the_wrong_one_is_diagnosed():
    assert run(f"{EXAMPLES / 'affine.py'}:Affine")[0] == 0
    code, out = run(f"{EXAMPLES / 'softmax_regression.py'}:loss")
    assert code == 1 and "analytic = 5 × numeric" in out and "X.shape[0]" in out


def test_the_mended_example_is_right(tmp_path):
    mended = (EXAMPLES / "softmax_regression.py").read_text().replace("# ← here", "dA /= len(X)")
    (tmp_path / "mended.py").write_text(mended)
    assert run(f"{tmp_path / 'mended.py'}:loss")[0] == 0


def test_shapes_and_modules(layer, monkeypatch):
    assert run(f"{layer}:Affine", "--shapes", "5x3,3x4,4")[0] == 0
    monkeypatch.chdir(layer.parent)
    assert run("my_layer:Affine", "--shapes", "2x3,3x4,4", "--float32")[0] == 0
    sys.modules.pop("my_layer", None)


def test_shapes_of_scalars():
    assert user.parse_shapes("5x3,4,scalar,()") == [(5, 3), (4,), (), ()]


MISTAKES = [
    (["nothing"], "no target 'nothing'"),
    (["{folder}/nothing.py"], "nothing to check in it"),
    (["{folder}/empty"], "there is no .py file in this folder"),
    (["{folder}/absent.py"], "no such file"),
    (["{path}:Affine", "--timeout", "0"], "expected a number of seconds above 0"),
    (["{path}:Affine", "--csv", "{folder}/none/grades.csv"], "there is no folder"),
    (["{path}:Affine", "--csv", "{path}"], "--force overwrites it"),
    (["dense", "--csv", "grades.csv"], "--csv is for your own code"),
    (["dense", "--reference", "{path}:Affine"], "--reference is for your own code"),
    (["{path}:Affine", "--reference", "{path}:constant", "--shapes", "5x3,3x4,4"], "expected a class with forward"),
    (["{path}:Nope"], "has no 'Nope'"),
    (["{folder}/absent.py:A"], "no such file"),
    (["no_such_package.module:f"], "No module named 'no_such_package'"),
    (["{path}:Affine"], "no inputs"),
    (["{path}:Affine", "--shapes", "5x3,3x4"], "missing 1 required positional argument: 'b'"),
    (["{path}:Affine", "--shapes", "5x3,2x4,4"], "raised for shapes (5, 3), (2, 4), (4,)"),
    (["{path}:Affine", "--shapes", "5×3"], "expected shapes with x inside"),
    (["{path}:Affine", "--shapes", "0x3,3x4,4"], "expected shapes with x inside"),
    (["{path}:Few", "--shapes", "5x3,3x4,4"], "returned 2 gradients for the 3 inputs"),
    (["{path}:NaNs", "--shapes", "5x3,3x4,4"], "finite"),
    (["{path}:Integers"], "no inputs of floating point"),
    (["{path}:Noisy", "--shapes", "5x3,3x4,4"], "non-deterministic"),
    (["{path}:NoReturn", "--shapes", "5x3,3x4,4"], "forward returned None: its return is missing"),
    (["{path}:NoInputs"], "example_inputs returned None"),
    (["{path}:Strings"], "input X holds dtype <U1"),
    (["{path}:double", "--shapes", "3"], "backward(x) has to take dY"),
    (["{path}:Affine", "--reference", "{path}:double", "--shapes", "5x3,3x4,4"], "double (the reference)"),
    (["{path}:Raises", "--shapes", "5x3,3x4,4"], "(my_layer.py, line"),
    (["{path}:Needs", "--shapes", "5x3,3x4,4"], "cannot be built without arguments"),
    (["{path}:Complex", "--shapes", "5x3,3x4,4"], "expected real numbers"),
    (["{path}:constant", "--shapes", "3"], "expected forward and backward, or a function"),
    (["dense", "--shapes", "5x3"], "--shapes is for your own code"),
    (["dense", "--kernels", "fast"], "expected fused, reference or both"),
    (["dense", "--tolerance", "2"], "expected a relative error"),
    (["dense", "--worst", "0"], "expected an integer of at least 1"),
    (["dense", "--sweep", "--parity"], "one at a time"),
    (["dense", "-o", "curve.png"], "-o goes with --sweep"),
    (["dense", "--backend", "tpu"], "expected one of numpy, cupy, auto"),
]


@pytest.mark.parametrize("args, words", MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_mistakes_are_one_line_and_exit_2(layer, args, words):
    code, message = run(*[arg.format(path=layer, folder=layer.parent) for arg in args])
    assert code == 2 and words in message and "\n" not in message.strip(), message


@pytest.mark.parametrize(
    "source, words",
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing' (broken.py, line 1)"),
        ("def f(:", "SyntaxError"),
        ("x = 1\nraise SystemError('so')", "SystemError: so (broken.py, line 2)"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path, source, words):
    (tmp_path / "broken.py").write_text(source)
    code, message = run(f"{tmp_path / 'broken.py'}:f")
    assert code == 2 and "cannot be imported" in message and words in message


def test_importing_the_command_loads_nothing_heavy():
    heavy = "{'numpy', 'numba', 'scipy', 'matplotlib'}"
    code = f"import sys, minivae.cli.gradcheck; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"
