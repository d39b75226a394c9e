"""Python and the command line take the same values with the same meaning, and a misspelt name is asked about."""

import copy
import pickle

import numpy as np
import pytest
from tolerances import assert_sums
from typer.main import get_command

import minivae as mv
from minivae.cli.app import app
from minivae.cli.runs import open_run
from minivae.errors import UsageError

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 4)) * [1, 10, 100, 1000] + 50


def fitted(likelihood="gaussian", rows=X, **options):
    vae = mv.VAE(4, 2, (5,), likelihood=likelihood, backend="numpy")
    vae.fit(rows, epochs=1, **options)
    return vae


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_a_scale_by_name_is_the_scale_fitted_to_the_rows(kind):
    given, named = fitted(scale=mv.Scale.fit(kind, X)), fitted(scale=kind, validation=X)
    np.testing.assert_array_equal(named.scale.factor, given.scale.factor)
    np.testing.assert_array_equal(named.scale.shift, given.scale.shift)
    assert named.scale.kind == kind


def test_auto_is_standard_for_real_numbers_and_none_for_others():
    bits, counts = (X - 50 > 0).astype("float32"), rng.poisson(3, (60, 4)).astype("float32")
    for likelihood in ("gaussian", "gaussian:shared", "gaussian:0.5", "laplace"):
        assert fitted(likelihood, scale="auto").scale.kind == "standard"
    for likelihood, rows in (("bernoulli", bits), ("continuous-bernoulli", bits), ("poisson", counts)):
        vae = fitted(likelihood, rows, scale="auto", binarize="auto")
        assert (vae.scale, vae.binarize) == (None, "none")
    assert fitted(rows=X / 1000, scale="none").scale is None


def test_a_weighted_scale_by_name_is_that_of_the_repeated_rows():
    weights = rng.integers(0, 3, 60)
    copies = np.repeat(X, weights, axis=0)
    assert_sums(fitted(scale="standard", weights=weights).scale.factor, copies.std(axis=0), of="sums")


DATA = {  # what "auto" has to look at → the likelihood, the scale and the binarisation that it means
    "table": (X, ("gaussian", "standard", "none")),
    "bits": ((X > 50).astype("uint8"), ("bernoulli", None, "none")),
    "pictures": (rng.random((60, 2, 2), dtype="float32"), ("bernoulli", None, "dynamic")),
    "fractions": (rng.random((60, 4), dtype="float32"), ("gaussian", "standard", "none")),
}


def chosen(vae):
    return vae.likelihood.name, None if vae.scale is None else vae.scale.kind, vae.binarize


@pytest.mark.parametrize("data", DATA)
def test_auto_in_python_trains_the_model_of_the_command_line(data, tmp_path):
    rows, expected = DATA[data]
    np.save(tmp_path / "X.npy", rows)
    options = ["--latent", "2", "--hidden", "5", "--epochs", "1", "--backend", "numpy"]
    app(["train", str(tmp_path / "X.npy"), "--out", str(tmp_path / "run"), *options], standalone_mode=False)
    trained = open_run(tmp_path / "run", "numpy").vae
    vae = mv.VAE(4, 2, (5,), likelihood="auto", backend="numpy")
    vae.fit(mv.load(tmp_path / "X.npy"), epochs=1, scale="auto", binarize="auto")
    assert chosen(trained) == chosen(vae) == expected
    assert trained.buffer.data.tobytes() == vae.buffer.data.tobytes()


def test_an_option_that_is_named_is_kept_and_counts_in_the_choice_of_the_others():
    bits, fractions = DATA["bits"][0], DATA["fractions"][0]
    for rows, scale, likelihood in ((bits, "minmax", "bernoulli"), (bits, "standard", "gaussian"),
                                    (fractions, mv.Scale.fit("minmax", X), "gaussian")):  # fmt: skip
        vae = fitted("auto", rows, scale=scale, binarize="auto")
        assert chosen(vae) == (likelihood, getattr(scale, "kind", scale), "none")
    assert chosen(fitted("auto", bits)) == ("bernoulli", None, "none")


def test_pictures_are_not_scaled_unless_that_is_asked_for(tmp_path):
    np.save(tmp_path / "X.npy", DATA["pictures"][0])
    pictures = mv.load(tmp_path / "X.npy")
    for asked, kind in (("auto", None), ("standard", "standard"), ("none", None)):
        vae = mv.VAE(4, 2, (5,), likelihood="gaussian:0.1", backend="numpy")
        vae.fit(pictures, epochs=1, scale=asked)
        assert chosen(vae) == ("gaussian:0.1", kind, "none")
    assert fitted("gaussian:0.1", pictures.X, scale="auto").scale.kind == "standard"  # an array (N, D) is a table


def test_sparse_rows_and_missing_cells_choose_too():
    sparse = pytest.importorskip("scipy.sparse")
    bits, holes = DATA["bits"][0].astype("float32"), np.where(rng.random(X.shape) < 0.2, np.nan, X)
    assert chosen(fitted("auto", sparse.csr_matrix(bits), scale="auto")) == ("bernoulli", None, "none")
    assert chosen(fitted("auto", sparse.csr_matrix(2 * bits), scale="auto")) == ("gaussian", "maxabs", "none")
    vae = mv.VAE(4, 2, (5,), likelihood="auto", backend="numpy", missing=True)
    vae.fit(holes, epochs=1, scale="auto", binarize="auto")
    assert chosen(vae) == ("gaussian", "standard", "none")


def test_the_first_fit_chooses_and_the_second_goes_on():
    vae = fitted("auto", DATA["bits"][0])
    weights = vae.parameters["decoder.1.W"]
    vae.fit(DATA["fractions"][0], epochs=1)
    assert vae.likelihood.name == "bernoulli" and vae.parameters["decoder.1.W"] is weights


@pytest.mark.parametrize(
    "ask",
    [
        lambda vae: vae.encode(X), lambda vae: vae.sample(2), lambda vae: vae.objective(X), lambda vae: vae.parameters,
        lambda vae: vae.log_likelihood(X), lambda vae: vae.save("model.safetensors"), lambda vae: vae.trace(X),
        lambda vae: vae.train_step(X, mv.Adam()), lambda vae: vae.likelihood, lambda vae: vae.gradients,
    ],
)  # fmt: skip
def test_what_is_asked_before_fit_has_chosen_is_one_line(ask):
    vae = mv.VAE(4, likelihood="auto", backend="numpy")
    with pytest.raises(UsageError, match="likelihood='auto' is chosen when `fit` sees the data: call fit first") as why:
        ask(vae)
    assert "\n" not in str(why.value)


def test_a_model_that_awaits_its_likelihood_can_be_shown_and_copied():
    vae = mv.VAE(4, 2, (5,), likelihood="auto", backend="numpy", seed=3)
    assert repr(vae).startswith("VAE(4-5-2, relu, auto, elbo; chosen by fit; numpy")
    assert not hasattr(vae, "likelihood") and "auto" in vae._repr_html_()
    vae.columns = ["a", "b", "c", "d"]
    results = []
    for each in (vae, copy.deepcopy(vae), pickle.loads(pickle.dumps(vae))):
        each.fit(X, epochs=1, scale="auto")
        results.append((each.config(), each.columns, each.buffer.data.tobytes()))
    assert results[0] == results[1] == results[2]
    with pytest.raises(AttributeError, match="'VAE' object has no attribute 'likelihod'"):
        vae.likelihod  # noqa: B018


@pytest.mark.parametrize("option", ["scale", "binarize"])
def test_one_table_of_values_for_both(option, tmp_path):
    """An unknown value is answered with the same list by `fit` and the command, and help names all of it."""
    np.save(tmp_path / "X.npy", X)
    answers = []
    for call in (
        lambda: fitted(**{option: "max"}),
        lambda: app(["train", str(tmp_path / "X.npy"), "--out", str(tmp_path / "run"), f"--{option}", "max"],
                    standalone_mode=False),
    ):  # fmt: skip
        with pytest.raises(UsageError) as why:
            call()
        answers.append(str(why.value))
    assert answers[0] == answers[1] and answers[0].startswith(f"{option}='max': expected one of auto, none")
    [parameter] = [each for each in get_command(app).commands["train"].params if each.name == option]
    for value in answers[0].partition("one of ")[2].split(", "):
        assert value in parameter.help
    assert parameter.default == "auto"


@pytest.mark.parametrize(
    "name, meant",
    [
        ("gausian", "gaussian"), ("Gaussian:0.5", "gaussian:0.5"), ("mse", "gaussian:1"), ("bernouli", "bernoulli"),
        ("poison", "poisson"), ("BCE", "bernoulli"), ("negative_binomial", "negative-binomial"),
    ],
)  # fmt: skip
def test_a_misspelt_likelihood_is_asked_about(name, meant):
    with pytest.raises(UsageError, match=f"likelihood='{name}': did you mean '{meant}'\\? expected one of"):
        mv.VAE(4, likelihood=name, backend="numpy")


def test_a_name_like_no_other_is_not_guessed_at():
    with pytest.raises(UsageError, match="likelihood='zzz': expected one of"):
        mv.VAE(4, likelihood="zzz", backend="numpy")


def test_an_unknown_scale_is_named():
    with pytest.raises(UsageError, match="'max'"):
        fitted(scale="max")


def test_every_option_of_train_stands_in_a_panel_of_its_help():
    panels = {each.name: each.rich_help_panel for each in get_command(app).commands["train"].params}
    assert {name for name, panel in panels.items() if panel is None} <= {"data", "help", "plugin"}
    assert len({panel for panel in panels.values() if panel}) >= 6
