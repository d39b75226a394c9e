"""A likelihood registered from outside (tests/student_t.py) goes all the way that minivae's own go."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import test_cli
from scipy.integrate import quad
from tolerances import SCIPY, assert_close

import minivae as mv
from minivae import kernels, likelihoods
from minivae.cli.plugin import load
from minivae.gradcheck.compare import examine
from minivae.gradcheck.ours import targets
from minivae.gradcheck.problem import Settings

PLUGIN = Path(__file__).parent / "student_t.py"


@pytest.fixture
def student_t():
    """The plugin's module, registered for one test."""
    load([PLUGIN])
    module = sys.modules["minivae_plugin_student_t"]
    yield module
    likelihoods.unregister_likelihood("student-t")
    del sys.modules["minivae_plugin_student_t"]


def data(n=300, D=6):
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 2)) @ rng.normal(size=(2, D)) + 0.3 * rng.standard_t(5, (n, D))).astype(np.float32)


def nll(backend, mean, logscale, x):
    """−ln p of each x, one feature a row."""
    out = np.stack([mean, logscale], axis=1)
    rows, d_out = np.empty(len(x)), np.empty_like(out)
    backend.ops.student_t(rows, d_out, np.zeros(1, np.int64), out, x[:, None], 1.0)
    return rows


@pytest.mark.parametrize("kind", ["fused", "reference"])
def test_it_is_the_density_that_scipy_has_and_is_normalised(student_t, kind):
    backend, rng = mv.Backend("numpy", kind, "float64"), np.random.default_rng(0)
    mean, logscale, x = rng.normal(size=50), rng.uniform(-3, 3, 50), 10 * rng.normal(size=50)
    expected = -scipy.stats.t.logpdf(x, 5, mean, np.exp(logscale))
    np.testing.assert_allclose(nll(backend, mean, logscale, x), expected, **SCIPY)

    def density(x):
        return float(np.exp(-nll(backend, np.array([0.7]), np.array([0.4]), np.array([x])))[0])

    assert quad(density, -np.inf, np.inf)[0] == pytest.approx(1, abs=1e-9)


def test_with_a_neutral_cell_it_takes_masks(student_t):
    class WithGaps(student_t.StudentT):
        neutral = 0.0, 0.0  # mean and ln scale, and x at the mean

        def neutral_nll(self):
            return -float(scipy.stats.t.logpdf(0, 5))

    rng, S, B, D = np.random.default_rng(0), 2, 4, 3
    likelihood = WithGaps(mv.Backend("numpy", "reference", "float64"), D)
    out, x, mask = rng.normal(size=(S * B, 2 * D)), rng.normal(size=(B, D)), rng.integers(0, 2, (B, D)).astype(np.uint8)
    x[mask == 0] = np.nan
    rows, d_out = np.empty(S * B), np.empty_like(out)
    likelihood.over(mask)(rows, d_out, likelihood.destinations({}), out, x, 1.0)
    cells = -scipy.stats.t.logpdf(np.tile(x, (S, 1)), 5, out[:, :D], np.exp(out[:, D:]))
    np.testing.assert_allclose(rows, np.nansum(cells, axis=1), **SCIPY)
    hidden = np.tile(np.tile(mask == 0, 2), (S, 1))
    assert (d_out[hidden] == 0).all() and (d_out[~hidden] != 0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", kernels.files()["laplace"].OPS["laplace"].cases)
def test_its_kernel_equals_its_reference(student_t, case, dtype):
    op = kernels.ops()["student_t"]
    for shape in ((1, 1, 1), (3, 17, 31)):
        given = op.example(np.random.default_rng(0), dtype, *shape, case)
        mine, right = ([x.copy() if isinstance(x, np.ndarray) else x for x in given] for _ in range(2))
        op.fused(*mine)
        op.reference(np, *right)
        for i in op.written:
            assert_close(mine[i], right[i], dtype, op.scale(*given))


def test_its_gradients_are_right(student_t):
    chosen = targets.select(["student-t"])
    assert {t.name for t in chosen} >= {"likelihoods.student-t.rows", "vae.student-t.tanh.S3"}
    for target in chosen:
        for kind in ("fused", "reference"):
            result = examine(targets.build(target, kind, 0), Settings())
            assert result.ok, (target.name, result.hints)


def test_it_trains_saves_and_loads(student_t, tmp_path):
    X = data()
    vae = mv.VAE(6, 2, (16,), likelihood="student-t", backend="numpy")
    history = vae.fit(X, epochs=30, batch_size=50, optimizer=mv.Adam(0.01))
    assert history["loss"][-1] < history["loss"][0] - 1
    vae.save(tmp_path / "model.safetensors")
    again = mv.VAE.load(tmp_path / "model.safetensors")
    assert type(again.likelihood) is student_t.StudentT
    np.testing.assert_array_equal(again.sample(5, draw=True), vae.sample(5, draw=True))


def test_without_it_a_model_is_one_line_that_says_what_to_do(student_t, tmp_path):
    mv.VAE(6, 2, (16,), likelihood="student-t", backend="numpy").save(tmp_path / "model.safetensors")
    script = "import sys, minivae as mv\ntry: mv.VAE.load(sys.argv[1])\nexcept mv.UsageError as error: print(error)"
    command = [sys.executable, "-c", script, tmp_path / "model.safetensors"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=600).stdout
    assert said.count("\n") == 1
    assert "'student-t'" in said and "mv.register_likelihood" in said and "--plugin FILE.py" in said


def minivae(*arguments, plugin=True, run=test_cli.minivae):
    more = ["--plugin", PLUGIN] if plugin else []
    return run(*arguments, *more)


@pytest.fixture
def forgotten():
    """Remove the plugin that a command has loaded from this process."""
    yield
    likelihoods.unregister_likelihood("student-t")
    del sys.modules["minivae_plugin_student_t"]


def test_the_command_line_knows_it_by_its_file(tmp_path, forgotten):
    np.save(tmp_path / "data.npy", data())
    run = tmp_path / "run"
    options = ["--likelihood", "student-t", "--epochs", 2, "--hidden", "8", "--latent", 2, "--backend", "numpy"]
    done = minivae("train", tmp_path / "data.npy", "--out", run, *options, run=test_cli.in_a_process)
    assert done.returncode == 0, done.stderr
    assert "student-t" in done.stdout
    scored = minivae("evaluate", run, "--json")
    assert np.isfinite(json.loads(scored.stdout)["elbo"]), scored.stderr
    drawn = minivae("sample", run, "-n", 3, "--draw", "-o", tmp_path / "drawn.npy")
    assert drawn.returncode == 0 and np.load(tmp_path / "drawn.npy").shape == (3, 6), drawn.stderr
    checked = minivae("gradcheck", "likelihoods.student-t")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    without = minivae("evaluate", run, plugin=False, run=test_cli.in_a_process)
    assert without.returncode == 2 and without.stderr.count("\n") == 1
    assert "'student-t'" in without.stderr and "--plugin FILE.py" in without.stderr


def test_users_mistakes_are_one_sentence(student_t, tmp_path):
    register, StudentT, op = mv.register_likelihood, student_t.StudentT, student_t.OP
    for arguments, match in (
        (("Student T", StudentT, op), "expected lower-case letters"),
        (("bernoulli", StudentT, op), "minivae has one of that name"),
        (("dense-forward", StudentT, op), "minivae has one of that name"),
        (("cauchy", StudentT, op), "StudentT.name to be the same name"),
        (("student-t", object, op), "subclass of minivae.likelihoods.Likelihood"),
        (("student-t", StudentT, None), "expected a minivae.kernels.Op"),
    ):
        with pytest.raises(mv.UsageError, match=match):
            register(*arguments)
    broken = tmp_path / "broken.py"
    broken.write_text("1/0")
    with pytest.raises(mv.UsageError, match=r"broken\.py: it raises ZeroDivisionError: division by zero"):
        load([broken])
    with pytest.raises(mv.UsageError, match="expected a Python file"):
        load([tmp_path / "none.py"])


def test_a_backend_made_before_it_says_so():
    backend = mv.Backend("numpy")
    load([PLUGIN])
    try:
        with pytest.raises(mv.UsageError, match="registered after this Backend was made"):
            mv.VAE(6, 2, likelihood="student-t", backend=backend)
    finally:
        likelihoods.unregister_likelihood("student-t")
        del sys.modules["minivae_plugin_student_t"]
