"""The trace is of the code that trains: its arrays are the model's own, to the bit. It works where numbers do not."""

import json
import math

import numpy as np
import pytest
import standin
from tolerances import assert_sums

import minivae as mv
from minivae import likelihoods
from minivae.console import compact, quantity
from minivae.errors import UsageError
from minivae.gradcheck.ours.targets import likelihood_names
from minivae.likelihoods import real, unit
from minivae.trace.recorder import Held
from minivae.trace.steps import STEPS, equation_of

B, D, L, H = 6, 7, 3, 5
X = (np.random.default_rng(0).random((B, D)) < 0.5).astype(np.float32)


def model(objective="elbo", samples=1, likelihood="bernoulli", **more):
    arguments = {"backend": "numpy", "seed": 2, "hidden": (H,), "activation": "relu"} | more
    return mv.VAE(D, L, likelihood=likelihood, objective=objective, samples=samples, **arguments)


MODELS = [(name, *way) for name in likelihood_names() for way in (("elbo", 1), ("elbo", 2), ("iwae", 4))]
MODELS.remove(("gaussian:optimal", "iwae", 4))  # refused


@pytest.mark.filterwarnings("ignore:values that are all 0 or 1")
@pytest.mark.parametrize("likelihood, objective, samples", MODELS)
def test_its_gradients_and_terms_are_those_of_the_model_to_the_bit(likelihood, objective, samples):
    vae = model(objective, samples, likelihood)
    vae.train_step(X, mv.SGD(0.1))
    seen, terms = vae.trace(X, beta=0.7), vae.objective_and_grad(X, beta=0.7)
    assert (seen.terms.loss, seen.terms.nll, seen.terms.kl) == (terms.loss, terms.nll, terms.kl)
    for name, gradient in vae.gradients.items():
        place, _, tensor = name.rpartition(".")
        shown = f"{place}.d{tensor}" if place != "likelihood" else f"{vae.likelihood.name}.d_{tensor}"
        np.testing.assert_array_equal(seen[shown], gradient, err_msg=name)
    np.testing.assert_array_equal(seen["posterior.Z"], vae.posterior.Z)
    np.testing.assert_array_equal(seen["encoder.0.Y"], vae.encoder.layers[0].Y)
    assert seen[f"{vae.likelihood.name}.nll"].mean() == pytest.approx(terms.nll, rel=1e-6)


def test_steps_stand_in_the_order_they_run_with_their_equations():
    seen = model(activation="silu").trace(X)
    assert [(step.place, step.what, step.equation) for step in seen.steps] == [
        ("noise", "ε ~ N(0, I)", "eq. 23"),
        ("encoder.0", "X W", "eq. 15"),
        ("encoder.0", "Y = silu(XW + b)", "eq. 15"),
        ("encoder.1", "X W", "eq. 15"),
        ("encoder.1", "Y = XW + b", "eq. 15"),
        ("posterior", "z = μ + σ ⊙ ε, KL", "eq. 16, 23"),
        ("decoder.0", "X W", "eq. 17–19"),
        ("decoder.0", "Y = silu(XW + b)", "eq. 17–19"),
        ("decoder.1", "X W", "eq. 17–19"),
        ("decoder.1", "Y = XW + b", "eq. 17–19"),
        ("bernoulli", "−ln p(x|z), d_out", "eq. 17–19"),
        ("decoder.1", "dA = dY, db = Σ dA", "eq. 17–19"),
        ("decoder.1", "dW = Xᵀ dA", "eq. 17–19"),
        ("decoder.1", "dX = dA Wᵀ", "eq. 17–19"),
        ("decoder.0", "dA = dY ⊙ silu′, db = Σ dA", "eq. 17–19"),
        ("decoder.0", "dW = Xᵀ dA", "eq. 17–19"),
        ("decoder.0", "dX = dA Wᵀ", "eq. 17–19"),
        ("posterior", "dμ = Σ dz + k μ, dv likewise", "eq. 16, 23"),
        ("encoder.1", "dA = dY, db = Σ dA", "eq. 15"),
        ("encoder.1", "dW = Xᵀ dA", "eq. 15"),
        ("encoder.1", "dX = dA Wᵀ", "eq. 15"),
        ("encoder.0", "dA = dY ⊙ silu′, db = Σ dA", "eq. 15"),
        ("encoder.0", "dW = Xᵀ dA", "eq. 15"),
    ]
    assert [step.mirror for step in seen.steps] == [False] * 11 + [True] * 12
    assert [held.name for held in seen.given] == ["X", *model().parameters]


def test_iwae_evaluates_the_likelihood_again_in_the_backward_pass():
    steps = model("iwae", 2).trace(X).steps
    places = [(step.place, step.mirror) for step in steps if step.place in ("bernoulli", "objective", "posterior")]
    assert places == [
        ("posterior", False), ("bernoulli", False), ("objective", False), ("bernoulli", True), ("posterior", True),
    ]  # fmt: skip
    assert {step.equation for step in steps if step.place == "objective"} == {"eq. 12"}
    assert {step.equation for step in steps if step.place == "posterior" and step.mirror} == {"eq. 12"}


def test_the_model_is_left_as_it_is():
    vae = model(likelihood="gaussian")
    vae.parameters["decoder.1.b"][D:] = -20  # clamped, and not to be counted
    vae.objective_and_grad(1 - X)
    kept = vae.buffer.grad.copy(), vae.posterior.Z.copy(), vae.buffer.data.copy()
    ops, gemm, forward = dict(vars(vae.backend.ops)), vae.backend.gemm, vae.encoder.layers[0].forward
    vae.trace(X)
    for now, before in zip((vae.buffer.grad, vae.posterior.Z, vae.buffer.data), kept, strict=True):
        np.testing.assert_array_equal(now, before)
    assert vars(vae.backend.ops) == ops
    assert vae.backend.gemm == gemm and vae.encoder.layers[0].forward == forward
    assert vae.likelihood.clamped[0] == 0
    assert vae.passes == 0


def test_shapes_bytes_and_flops_are_counted():
    seen = model("elbo", 2).trace(X)
    steps = {step.results[0].name: step for step in seen.steps}
    for name, (m, k, n) in {
        "encoder.0.XW": (B, D, H),
        "decoder.1.dW": (H, 2 * B, D),
        "decoder.0.dX": (2 * B, H, L),
    }.items():
        assert steps[name].flops == 2 * m * k * n
        assert steps[name].bytes == 4 * (m * k + k * n + m * n)
        assert steps[name].results[0].array.shape == (m, n)
    assert steps["encoder.0.Y"].flops == 2 * B * H
    assert steps["decoder.0.dA"].flops == 2 * (2 * B * H)  # relu′ and the sum
    assert steps["decoder.1.dA"].flops == 2 * B * D  # the sum
    assert steps["bernoulli.nll"].flops == 13 * 2 * B * D
    assert steps["bernoulli.nll"].bytes == 4 * (2 * B + 2 * 2 * B * D + B * D)
    assert all(step.flops and step.seconds > 0 for step in seen.steps)


def test_a_step_whose_flops_are_not_counted_is_traced_too(monkeypatch):
    class Cauchy(unit.Bernoulli):
        """A likelihood that calls none of minivae's ops."""

        name = "cauchy"

        def nll_and_grad(self, nll_rows, d_out, d_params, out, X, weight):
            delta = out.reshape(-1, *X.shape) - X
            nll_rows.reshape(-1, len(X))[...] = np.log(np.pi * (1 + delta**2)).sum(axis=2)
            d_out.reshape(delta.shape)[...] = weight * 2 * delta / (1 + delta**2)

    monkeypatch.setitem(likelihoods.LIKELIHOODS, "cauchy", Cauchy)
    monkeypatch.delitem(STEPS, "latent_forward")
    seen = model(likelihood="cauchy").trace(X)
    (step,) = (step for step in seen.steps if step.place == "cauchy")
    assert step.flops is None and step.equation == ""
    (step,) = (step for step in seen.steps if step.what == "latent_forward")
    assert step.place == "posterior" and step.results[0].name == "posterior.out"
    assert "—" in str(seen)


def test_statistics_are_numpys_of_the_finite_entries():
    x = np.array([[3.0, -4.0, np.nan], [0.0, np.inf, -np.inf]], np.float32)
    held = Held.of("x", x)
    assert (held.norm, held.smallest, held.largest, held.nonfinite) == (5.0, -4.0, 3.0, 3)
    assert Held.of("x", np.full(2, 3e200)).norm == pytest.approx(math.sqrt(2) * 3e200)
    assert Held.of("x", np.zeros(3)).norm == 0
    empty = Held.of("x", np.full(3, np.nan))
    assert math.isnan(empty.norm) and empty.nonfinite == 3
    assert empty.to_dict() == {
        "name": "x",
        "shape": [3],
        "norm": None,
        "smallest": None,
        "largest": None,
        "nonfinite": 3,
    }


@pytest.mark.parametrize("objective, samples", [("elbo", 1), ("iwae", 3)])
@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_a_model_that_holds_nan_is_traced_to_where_it_begins(objective, samples, kernels):
    vae = model(objective, samples, kernels=kernels)
    assert vae.trace(X).first_nonfinite is None
    vae.parameters["decoder.0.b"][1] = np.nan
    seen = vae.trace(X)
    assert seen.first_nonfinite.name == "decoder.0.b"
    assert "the first array with a NaN or an infinity: decoder.0.b, 1 of its 5 entries" in str(seen)
    assert np.isnan(seen["decoder.0.Y"]).sum() == samples * B
    text = json.dumps(seen.to_dict(), allow_nan=False)
    assert json.loads(text)["first_nonfinite"] == "decoder.0.b"
    assert json.loads(text)["loss"] is None


def test_an_overflow_on_the_way_is_found_where_it_happens():
    vae = model(hidden=(H, H))
    vae.parameters["encoder.1.W"][...] = 3e38
    vae.parameters["encoder.0.b"][...] = 3.0
    assert vae.trace(X).first_nonfinite.name == "encoder.1.XW"


def test_the_table_has_a_row_for_every_array_and_fits_the_terminal():
    from rich.console import Console

    seen = model("iwae", 2).trace(X)
    for width, formulas in ((80, False), (120, True)):
        console = Console(width=width, color_system=None)
        with console.capture() as capture:
            console.print(seen.render(width))
        lines = capture.get().splitlines()
        assert max(map(len, lines)) <= width
        assert "NaN, ∞" in capture.get()
        assert ("Y = relu(XW + b)" in capture.get()) == formulas
        for held in [*seen.given, *(held for step in seen.steps for held in step.results)]:
            assert any(line.split()[:1] == [held.name] for line in lines), held.name
        assert f"loss {seen.terms.loss:.3f}" in capture.get()


def test_a_row_of_the_table_holds_its_numbers_in_their_columns_and_the_last_line_their_totals():
    seen = model().trace(X)
    (step,) = (step for step in seen.steps if step.results[0].name == "encoder.0.XW")
    XW = seen["encoder.0.XW"].astype(float)
    numbers = {"bytes": quantity(4 * (B * D + D * H + B * H)), "flop": quantity(2 * B * D * H)}
    numbers |= {"time": quantity(step.seconds) + "s", "norm": compact(np.linalg.norm(XW))}
    numbers |= {"min": compact(XW.min()), "max": compact(XW.max())}
    lines = str(seen).splitlines()
    header = next(line for line in lines if "formula" in line)
    row = next(line for line in lines if line.split()[:1] == ["encoder.0.XW"])
    for name, shown in numbers.items():
        assert row[: header.index(name) + len(name)].endswith(f" {shown}"), name
    seconds, flops = (sum(getattr(step, name) for step in seen.steps) for name in ("seconds", "flops"))
    assert f"{len(seen.steps)} steps, {quantity(seconds)}s, {quantity(flops)} FLOP; numpy" in str(seen)


def test_json_has_every_step_and_array():
    seen = model().trace(X)
    held = json.loads(json.dumps(seen.to_dict(), allow_nan=False))
    assert (held["rows"], held["loss"]) == (B, seen.terms.loss)
    assert [step["place"] for step in held["steps"]] == [step.place for step in seen.steps]
    assert held["steps"][1]["results"][0]["shape"] == [B, H]
    assert held["steps"][1]["results"][0]["norm"] == pytest.approx(np.linalg.norm(seen["encoder.0.XW"]), rel=1e-6)


def test_given_noise_is_not_a_step():
    seen = model().trace(X, eps=np.zeros((B, L), np.float32))
    assert seen.steps[0].place == "encoder.0"
    np.testing.assert_array_equal(seen["posterior.Z"][0], seen["encoder.1.Y"][:, :L])


def test_an_unknown_array_is_named_with_those_there_are():
    with pytest.raises(KeyError, match=r"no array 'encoder\.9\.Y': there are X, encoder\.0\.W"):
        model().trace(X)["encoder.9.Y"]


def test_mistakes_are_those_of_the_objective():
    with pytest.raises(UsageError, match=r"expected \(6, 3\)"):
        model().trace(X, eps=np.zeros((B, 2)))
    with pytest.raises(UsageError, match="free_bits"):
        model("iwae", 2).trace(X, free_bits=1.0)


def test_equations_are_read_from_docstrings():
    assert equation_of(unit.Bernoulli) == "eq. 17–19"
    assert equation_of(real.Gaussian) == "eq. 20–21"
    assert equation_of(real.GaussianFixed) == "eq. 22"
    assert equation_of(type("C", (), {})) == ""


@pytest.mark.parametrize(
    "x, shown", [(0.0, "0"), (1234.0, "1.23k"), (2.1e-5, "21µ"), (7.0, "7"), (3e9, "3G"), (5e-10, "0.5n")]
)
def test_quantities_have_a_prefix(x, shown):
    assert quantity(x) == shown


@pytest.mark.parametrize(
    "x, shown",
    [(0.0, "0"), (-248.3, "-248"), (5220.0, "5.2e3"), (-0.0077, "-7.7e-3"), (math.nan, "—"), (1e38, "1.0e38")],
)
def test_values_are_short(x, shown):
    assert compact(x) == shown


def test_a_trace_on_the_device_equals_numpys(monkeypatch):
    standin.install(monkeypatch)
    seen = [
        model("iwae", 2, backend=name, kernels="reference", dtype="float64").trace(X.astype(float))
        for name in ("cupy", "numpy")
    ]
    assert seen[0].arrays.keys() == seen[1].arrays.keys()
    for name in seen[0].arrays:
        assert isinstance(seen[0][name], np.ndarray)
        assert_sums(seen[0][name], seen[1][name], of="training", err_msg=name)
