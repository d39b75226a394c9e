"""What a notebook, a script and who steps by hand are shown: reprs, clear messages."""

import json
import logging
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest

import minivae as mv
from minivae import console
from minivae.errors import UsageError, UsageWarning
from minivae.evaluation.latents import COLLAPSED

X = (np.random.default_rng(0).random((60, 12)) < 0.3).astype("float32")


def model(**options):
    return mv.VAE(12, 3, (8,), backend="numpy", **options)


# ---- reprs ----------------------------------------------------------------------------------------------------------


def objects():
    vae = model()
    digits = mv.Dataset("a <b>", X, None, None, None, np.arange(60), None, (3, 4), "")
    return {
        "VAE": (vae, "VAE(12-8-3, relu, bernoulli, elbo;"),
        "History": (vae.fit(X, epochs=3, progress=False), "History(3 epochs, last elbo="),
        "Dataset": (digits, "Dataset('a <b>': 60 × 12 float32, no test part, pictures of 3×4)"),
        "Scale": (mv.Scale.fit("standard", X), "Scale('standard', 12 columns)"),
        "Trace": (vae.trace(X), str(vae.trace(X))[:40]),
    }


@pytest.mark.parametrize("name", ["VAE", "History", "Dataset", "Scale", "Trace"])
def test_a_repr_is_short_and_its_html_well_formed(name):
    thing, start = objects()[name]
    assert repr(thing).startswith(start)
    assert name == "Trace" or len(repr(thing)) < 200
    page = ElementTree.fromstring(f"<div>{thing._repr_html_()}</div>")
    assert "".join(page.itertext()).strip()
    assert "object at 0x" not in repr(thing) + thing._repr_html_()


def test_the_curve_of_a_history_goes_through_its_values():
    history = model().fit(X, epochs=4, progress=False)
    page = ElementTree.fromstring(f"<div>{history._repr_html_()}</div>")
    places = np.array([place.split(",") for place in page.find(".//polyline").get("points").split()], float)
    loss = -np.array(history["elbo"])
    assert places.shape == (4, 2)
    np.testing.assert_allclose(np.diff(places[:, 0]), np.diff(places[:, 0])[0], atol=0.11)
    scaled = (loss - loss.min()) / np.ptp(loss)
    height = (places[:, 1].max() - places[:, 1]) / np.ptp(places[:, 1])
    np.testing.assert_allclose(height, scaled, atol=0.01)
    assert f"{loss.max():.4g}" in "".join(page.itertext())
    assert mv.History()._repr_html_().startswith("<table>") and console.html_curve("x", [1], [float("nan")]) == ""


# ---- progress -------------------------------------------------------------------------------------------------------


def test_a_notebook_shows_the_epochs_without_being_asked(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = "import minivae as mv, numpy as np\nvae = mv.VAE(12, 3, (8,), backend='numpy')\n"
    code += "history = vae.fit(np.eye(12, dtype='float32'), epochs=3)\nhistory"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("vae")])
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    first, second = (json.dumps(cell["outputs"], ensure_ascii=False) for cell in notebook.cells)
    assert "epoch 1/3" in first and "epoch 3/3" in first and "<svg" in first
    assert "VAE of 12 features" in second and "VAE(12-8-3" in second


# ---- collapse -------------------------------------------------------------------------------------------------------


def test_a_collapse_is_named_once_the_model_has_been_trained():
    with pytest.warns(UsageWarning, match=r"together is 0\.\d+ nats a row, under 0\.2: the posterior has"):
        history = model().fit(X, epochs=20, beta=50.0, optimizer=mv.Adam(1e-2), progress=False)
    assert history["kl"][-1] < COLLAPSED
    with warnings.catch_warnings():
        warnings.simplefilter("error", UsageWarning)
        early = model(init="normal:0.001").fit(X, epochs=2, progress=False)  # too few epochs to say so
        assert early["kl"][-1] < COLLAPSED
        history = model().fit(X, epochs=20, beta=0.1, optimizer=mv.Adam(1e-2), progress=False)
    assert history["kl"][-1] > COLLAPSED


def test_the_report_names_a_collapse_that_active_dimensions_hide():
    from minivae.cli.evaluate import _describe_report

    report = {"rate": 0.115, "distortion": 3.0, "mutual_information": 0.1, "mutual_information_rows": 10,
              "kl_dims": [0.06, 0.055], "variances": [0.02, 0.03], "active": [0, 1]}  # fmt: skip
    assert any(
        "collapsed all the same: the KL of all together is under 0.2" in line for line in _describe_report(report)
    )
    assert not any("collapsed" in line for line in _describe_report({**report, "rate": 1.0}))


# ---- by hand --------------------------------------------------------------------------------------------------------

F32 = np.float32
MISTAKES = {
    "encoder, width": (
        lambda v: v.encoder.forward(np.zeros((5, 11), F32)),
        r"X: expected float32 \(B, 12\); got float32 \(5, 11\)",
    ),
    "encoder, dtype": (lambda v: v.encoder.forward(np.zeros((5, 12))), r"X: expected float32 \(B, 12\); got float64"),
    "encoder, a list": (lambda v: v.encoder.forward([[0.0] * 12]), r"X: expected float32 \(B, 12\); got list"),
    "eps of two axes": (
        lambda v: v.posterior.forward(np.zeros((5, 6), F32), np.zeros((5, 3), F32)),
        r"eps: expected float32 \(S, 5, 3\); got float32 \(5, 3\)",
    ),
    "eps, width": (
        lambda v: v.posterior.forward(np.zeros((5, 6), F32), np.zeros((1, 5, 4), F32)),
        r"eps: expected float32 \(S, 5, 3\); got float32 \(1, 5, 4\)",
    ),
    "H, width": (
        lambda v: v.posterior.forward(np.zeros((5, 7), F32), np.zeros((1, 5, 3), F32)),
        r"H: expected float32 \(B, 6\); got float32 \(5, 7\)",
    ),
    "eps of other rows": (
        lambda v: v.posterior.forward(np.zeros((4, 6), F32), np.zeros((1, 5, 3), F32)),
        r"eps: expected float32 \(S, 4, 3\); got float32 \(1, 5, 3\)",
    ),
    "dZ": (
        lambda v: v.loss_fn.backward_posterior(np.zeros((5, 3), F32)),
        r"dZ: expected float32 \(60, 3\); got float32 \(5, 3\)",
    ),
    "dY": (lambda v: v.decoder.backward(np.zeros((60, 3), F32)), r"dY: expected float32 \(60, 12\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_by_hand_says_what_was_expected_and_what_came(name):
    vae = model()
    vae.objective_and_grad(X)
    step, said = MISTAKES[name]
    with pytest.raises(UsageError, match=said):
        step(vae)
    assert logging.getLogger("minivae").handlers == []
