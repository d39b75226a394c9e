"""The data's units: a model scales and thresholds what it takes and undoes it in what it gives, everywhere and once.

The oracle is a second model without a scale, with the same parameters, that is given rows scaled by hand.
"""

import copy

import numpy as np
import pytest
from tolerances import assert_sums

import minivae as mv
from minivae import checks
from minivae.errors import UsageError
from minivae.evaluation.annealing import annealed, enclose
from minivae.evaluation.bounds import evaluate
from minivae.evaluation.latents import usage

RNG = np.random.default_rng(0)
N, D, L = 30, 5, 2
SHIFT, FACTOR = np.array([100.0, -3.0, 0.0, 1.0, 7.0]), np.array([20.0, 0.5, 1.0, 3.0, 0.1])
SCALED = RNG.normal(size=(N, D))
X = SCALED * FACTOR + SHIFT
SCALED = (X - SHIFT) / FACTOR
JACOBIAN = float(np.log(FACTOR).sum())
AIS = {"temperatures": 4, "chains": 3, "leapfrog": 2}


def scale():
    return mv.Scale("standard", SHIFT, FACTOR)


def pair(likelihood="gaussian", **more):
    """(a model with a scale, one without), with the same parameters."""
    models = [mv.VAE(D, L, (6,), likelihood=likelihood, backend="numpy", dtype="float64", **more) for _ in range(2)]
    for vae in models:
        vae.buffer.data[...] += 0.1 * np.random.default_rng(1).normal(size=vae.buffer.data.shape)
    models[0].scale = scale()
    return models


def test_encode_takes_rows_in_the_datas_units():
    vae, plain = pair()
    for ours, theirs in zip(vae.encode(X), plain.encode(SCALED), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("draw", [False, True])
@pytest.mark.parametrize("device", [False, True])
def test_decoded_rows_are_in_the_datas_units(draw, device):
    vae, plain = pair()
    Z = RNG.normal(size=(7, L))
    for ours, theirs in (
        (vae.decode(Z, draw, device), plain.decode(Z, draw, device)),
        (vae.sample(7, draw=draw, device=device), plain.sample(7, draw=draw, device=device)),
        (vae.reconstruct(X, device), plain.reconstruct(SCALED, device)),
    ):
        assert ours.dtype == np.float64
        assert_sums(ours, theirs * FACTOR + SHIFT, summed=np.abs(theirs * FACTOR) + np.abs(SHIFT))


def test_the_terms_of_a_pass_are_those_of_the_scaled_data():
    vae, plain = pair()
    for ours, theirs in (
        (vae.objective(X), plain.objective(SCALED)),
        (vae.objective_and_grad(X), plain.objective_and_grad(SCALED)),
        (vae.train_step(X, mv.Adam()), plain.train_step(SCALED, mv.Adam())),
        (vae.trace(X).terms, plain.trace(SCALED).terms),
    ):
        assert ours.loss == theirs.loss
        np.testing.assert_array_equal(ours.nll_rows, theirs.nll_rows)
    np.testing.assert_array_equal(vae.buffer.data, plain.buffer.data)


def test_evaluation_scales_and_adds_the_jacobian():
    vae, plain = pair()
    ours, theirs = evaluate(vae, X), evaluate(plain, SCALED)
    assert ours.kl == theirs.kl
    for found, scaled in (
        (-ours.nll, -theirs.nll),
        (-usage(vae, X).distortion, -usage(plain, SCALED).distortion),
        (vae.log_likelihood(X, 20)[0], plain.log_likelihood(SCALED, 20)[0]),
        (annealed(vae, X[:4], **AIS).log_px, annealed(plain, SCALED[:4], **AIS).log_px),
        (enclose(vae, 3, **AIS).lower, enclose(plain, 3, **AIS).lower),
    ):
        assert_sums(found, scaled - JACOBIAN, summed=np.abs(scaled) + abs(JACOBIAN))


def test_a_scale_that_is_given_as_well_is_applied_once():
    vae, _ = pair()
    assert evaluate(vae, X, scale=scale()) == evaluate(vae, X)


def test_fit_keeps_its_scale_with_the_model(tmp_path):
    vae, plain = pair()
    vae.scale = None
    history = vae.fit(X, 3, 7, scale=scale(), validation=X[:9], run=tmp_path / "r", progress=False)
    other = plain.fit(SCALED, 3, 7, validation=SCALED[:9], progress=False)
    np.testing.assert_array_equal(vae.buffer.data, plain.buffer.data)
    nll = np.array(other["nll"])
    assert_sums(history["nll"], nll + JACOBIAN, "sums", summed=np.abs(nll) + abs(JACOBIAN))
    assert vae.scale.kind == "standard"
    vae.save(tmp_path / "m")
    for path in ("m", "r/model.safetensors"):
        loaded = mv.VAE.load(tmp_path / path, backend="numpy")
        np.testing.assert_array_equal(loaded.encode(X)[0], plain.encode(SCALED)[0])


def test_a_second_fit_continues_in_the_models_units():
    vae, plain = pair()
    vae.fit(X, 1, 7, progress=False)
    plain.fit(SCALED, 1, 7, progress=False)
    np.testing.assert_array_equal(vae.buffer.data, plain.buffer.data)
    assert vae.scale is not None


def test_a_model_without_a_scale_gives_what_it_takes_and_its_own_dtype():
    vae = mv.VAE(D, L, (6,), likelihood="gaussian", backend="numpy")
    assert vae.scale is None and vae.reconstruct(X).dtype == np.float32
    vae.scale = mv.Scale.fit("none", X)
    assert vae.scale is None


# ---- binarisation ---------------------------------------------------------------------------------------------------

GREY = RNG.random((N, D))
BITS = (GREY >= 0.5).astype(float)


@pytest.mark.filterwarnings("ignore::minivae.UsageWarning")
def test_a_threshold_applies_to_every_pass():
    vae, plain = (mv.VAE(D, L, (6,), backend="numpy", dtype="float64") for _ in range(2))
    vae.binarize, given = "threshold", GREY.copy()
    np.testing.assert_array_equal(vae.encode(given)[0], plain.encode(BITS)[0])
    np.testing.assert_array_equal(vae.reconstruct(given), plain.reconstruct(BITS))
    assert vae.objective(given).loss == plain.objective(BITS).loss
    assert evaluate(vae, given) == evaluate(plain, BITS)
    np.testing.assert_array_equal(vae.log_likelihood(given, 5)[0], plain.log_likelihood(BITS, 5)[0])
    vae.train_step(given, mv.SGD(0.1))
    plain.train_step(BITS, mv.SGD(0.1))
    np.testing.assert_array_equal(vae.buffer.data, plain.buffer.data)
    np.testing.assert_array_equal(given, GREY)  # the caller's array is left alone


@pytest.mark.filterwarnings("ignore::minivae.UsageWarning")
@pytest.mark.parametrize("how", ["static", "dynamic"])
def test_a_draw_is_made_in_scoring_and_never_in_encode(how):
    vae, plain = (mv.VAE(D, L, (6,), backend="numpy", dtype="float64") for _ in range(2))
    vae.binarize = how
    np.testing.assert_array_equal(vae.encode(GREY)[0], plain.encode(GREY)[0])
    assert evaluate(vae, GREY) == evaluate(plain, GREY, binarize=how) != evaluate(plain, GREY)
    drawn = GREY.copy()
    plain.noise.binarize(drawn, "evaluation", np.arange(N), 1)
    np.testing.assert_array_equal(vae.log_likelihood(GREY, 5)[0], plain.log_likelihood(drawn, 5)[0])


def test_fit_keeps_its_binarisation_with_the_model(tmp_path):
    vae = mv.VAE(D, L, (6,), backend="numpy")
    vae.fit(GREY, 1, binarize="dynamic", progress=False)
    vae.save(tmp_path / "m")
    assert mv.VAE.load(tmp_path / "m", backend="numpy").binarize == "dynamic"


def test_a_probability_has_no_jacobian():
    """Bernoulli of minmax-scaled 0/1 data: nats are those of the bits."""
    vae, plain = (mv.VAE(D, L, (6,), backend="numpy", dtype="float64") for _ in range(2))
    vae.scale = mv.Scale.fit("minmax", 40 * BITS)
    assert evaluate(vae, 40 * BITS) == evaluate(plain, BITS)


# ---- at the door ----------------------------------------------------------------------------------------------------


def _broken(x, value, at):
    x = np.array(x, np.float32)
    x[at] = value
    return x


DOORS = {
    "encode": ("X", lambda v, x: v.encode(x)),
    "reconstruct": ("X", lambda v, x: v.reconstruct(x)),
    "objective": ("X", lambda v, x: v.objective(x)),
    "objective_and_grad": ("X", lambda v, x: v.objective_and_grad(x)),
    "train_step": ("X", lambda v, x: v.train_step(x, mv.Adam())),
    "trace": ("X", lambda v, x: v.trace(x)),
    "fit": ("X", lambda v, x: v.fit(x, 1, progress=False)),
    "validation": ("validation", lambda v, x: v.fit(X, 1, validation=x, progress=False)),
    "log_likelihood": ("X", lambda v, x: v.log_likelihood(x, 2)),
    "evaluate": ("X", evaluate),
    "annealed": ("X", lambda v, x: annealed(v, x, **AIS)),
    "usage": ("X", usage),
}


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("door", DOORS)
def test_rows_that_are_not_finite_are_refused_and_nothing_changes(door, value, scaled):
    vae = pair()[not scaled]
    name, call = DOORS[door]
    before = vae.buffer.state.copy(), vae.buffer.grad.copy(), vae.passes
    with pytest.raises(UsageError, match=rf"{name}: 1 of .* NaN or infinite, the first in row 17, column 3:"):
        call(vae, _broken(X, value, (17, 3)))
    for now, then in zip((vae.buffer.state, vae.buffer.grad, vae.passes), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("cells", [[np.inf, -np.inf], [np.nan, np.inf], [3e38, np.inf]])
def test_cells_are_counted_that_a_sum_would_hide(cells):
    x = np.full((3, 4), 3e38, np.float32)  # the sum is infinite, and no cell is
    assert checks.finite("X", x) is x
    x[1, :2] = cells
    with pytest.raises(UsageError, match=rf"X: {np.sum(~np.isfinite(cells))} of 12 values are NaN or infinite"):
        checks.finite("X", x)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_codes_and_noise_that_are_not_finite_are_refused(value):
    vae, _ = pair()
    with pytest.raises(UsageError, match=r"Z: 1 of 14 .* row 6, column 1"):
        vae.decode(_broken(np.zeros((7, L)), value, (6, 1)))
    for call in (vae.objective, vae.objective_and_grad, lambda x, eps: vae.train_step(x, mv.Adam(), eps=eps)):
        with pytest.raises(UsageError, match=f"eps: 1 of {3 * N * L} .* sample 2, row 4, column 1"):
            call(X, eps=_broken(np.zeros((3, N, L)), value, (2, 4, 1)))
    with pytest.raises(UsageError, match="eps: 1 of"):
        vae.log_likelihood(X, 3, eps=_broken(np.zeros((3, N, L)), value, (2, 4, 1)))


def test_a_row_of_a_later_block_has_its_number_in_the_whole_and_its_columns_name():
    vae, _ = pair()
    vae.columns = ["age", "height", "dose", "weight", "x"]
    rows = np.tile(X, (50, 1))
    with pytest.raises(UsageError, match=r"row 1313, column 1 \(height\)"):
        vae.encode(_broken(rows, np.nan, (1313, 1)))


def test_finite_values_whose_sum_overflows_are_taken():
    vae = mv.VAE(D, L, (6,), likelihood="gaussian", backend="numpy")
    mean, _ = vae.encode(np.full((4, D), 3e38, np.float32) * np.array([1, 1, -1, -1, 0], np.float32))
    assert mean.shape == (4, L)


MISTAKES = {
    "scale of other data": (lambda v: setattr(v, "scale", mv.Scale.fit("minmax", X[:, :3])), "for 5 features.* to 3"),
    "scale by name": (lambda v: setattr(v, "scale", "minmax"), "scale='minmax': expected a mv.Scale"),
    "binarisation": (lambda v: setattr(v, "binarize", "yes"), "binarize='yes': expected one of none, threshold"),
    "binarisation by a list": (lambda v: setattr(v, "binarize", ["none"]), "expected one of none, threshold"),
    "too few names": (lambda v: setattr(v, "columns", ["a"]), "expected 5 names"),
    "names in one string": (lambda v: setattr(v, "columns", "abcde"), "expected 5 names"),
    "names that are none": (lambda v: setattr(v, "columns", range(5)), "expected 5 names"),
    "a scale that holds NaN": (lambda v: mv.Scale("standard", np.full(5, np.nan), np.ones(5)), "column 0"),
    "a scale that divides by 0": (
        lambda v: mv.Scale("standard", np.zeros(2), np.array([1, 0])),
        "0 and 0 for column 1",
    ),
    "a scale of two widths": (lambda v: mv.Scale("standard", np.zeros(5), np.ones(4)), r"shapes \(5,\) and \(4,\)"),
    "a scale's arguments exchanged": (lambda v: mv.Scale.fit(X, "standard"), "scale=array.* expected one of none"),
    "the theory's tools": (lambda v: mv.bayes.exact_posterior(v, X), "a model without a scale"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_clear_line(mistake):
    vae, _ = pair()
    call, match = MISTAKES[mistake]
    with pytest.raises(UsageError, match=match) as caught:
        call(vae)
    assert "\n" not in str(caught.value)
    assert vae.scale.kind == "standard" and vae.binarize == "none" and vae.columns is None


@pytest.mark.parametrize("damage", ["arrays gone", "wrong width", "unknown kind", "unknown binarisation", "names"])
def test_a_damaged_scale_of_a_file_is_named(tmp_path, damage):
    from minivae.training.checkpoint import describe, write

    held = copy.copy(describe(pair()[0]))
    if damage == "arrays gone":
        held.tensors = {name: x for name, x in held.tensors.items() if name != "scale.factor"}
    elif damage == "wrong width":
        held.tensors |= {f"scale.{key}": np.ones(3) for key in ("shift", "factor")}
    else:
        key, value = {
            "unknown kind": ("scale", "log"), "unknown binarisation": ("binarize", 3), "names": ("columns", 5),
        }[damage]  # fmt: skip
        held.extra |= {key: value}
    write(tmp_path / "m", held)
    with pytest.raises(UsageError, match=r"m: "):
        mv.VAE.load(tmp_path / "m", backend="numpy")
