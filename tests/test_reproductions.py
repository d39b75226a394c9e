"""The reproductions: each script runs in short, its protocol is the published one, and the page shows its results."""

import math
import re
from contextlib import nullcontext
from dataclasses import replace

import burda
import digits
import jaanli
import kingma
import numpy as np
import page
import paper
import pytest
import pythae
import scipy.stats
from tolerances import SCIPY, assert_sums

import minivae as mv

SCRIPTS = {script.NAME: script for script in page.SCRIPTS}
FEW = {"train": 7, "valid": 3, "test": 2}


@pytest.fixture
def made_up(monkeypatch):
    """Random grey rows instead of MNIST."""
    rng = np.random.default_rng(0)
    parts = [rng.random((300, digits.PIXELS), np.float32) for _ in digits.PARTS]
    monkeypatch.setattr(digits, "grey", lambda: digits.Digits(*parts, "made up"))


def bits(seed=0):
    rng = np.random.default_rng(seed)
    return digits.Digits(*(rng.integers(0, 2, (n, digits.PIXELS), np.uint8) for n in FEW.values()), "made up")


def assert_same(a, b):
    for part in digits.PARTS:
        np.testing.assert_array_equal(getattr(a, part), getattr(b, part))


# ---- what was published ---------------------------------------------------------------------------------------------


def test_published_numbers_are_those_of_their_sources():
    published = {line.key: line.published for script in page.SCRIPTS for line in script.LINES}
    # github.com/jaanli/variational-autoencoder, README: "Test ELBO estimate: -104.867  Test log p(x) estimate: -96.716"
    assert (published["elbo softplus 0"], published["ln p(x) 1000 exp 0"]) == ("−104.867", "−96.716")
    # github.com/clementchadebec/benchmark_VAE, examples/scripts/reproducibility, README: "NLL (200 IS) | 89.78 (0.01)"
    assert published["nll"] == "89.78"
    # arXiv 1509.00519, Table 1, MNIST, one stochastic layer: NLL, then active units, for k = 1, 5, 50
    assert [published[f"vae-{k} nll"] for k in (1, 5, 50)] == ["86.76", "86.47", "86.35"]
    assert [published[f"iwae-{k} nll"] for k in (1, 5, 50)] == ["86.76", "85.54", "84.78"]
    assert [published[f"vae-{k} active"] for k in (1, 5, 50)] == ["19", "20", "20"]
    assert [published[f"iwae-{k} active"] for k in (1, 5, 50)] == ["19", "22", "25"]


def test_the_staircase_of_burda_is_its_closed_form():
    assert burda.passes(burda.STAGES) == sum(3**i for i in range(8)) == 3280
    for done in (*range(130), 363, 364, 1092, 1093, 3279):
        stage = math.floor(math.log(2 * done + 1, 3) + 1e-9)  # done passes are over: (3^i − 1)/2 ≤ done
        for epochs in (burda.passes(3), burda.passes(8)):  # a prefix has the rates of the whole
            rate = burda.LR * burda.SCHEDULE.factor(done, epochs)
            assert rate == pytest.approx(1e-3 * 10 ** (-stage / 7), rel=1e-12)


def test_the_first_weights_of_jaanli_are_a_normal_cut_at_two():
    vae = jaanli.build(0, "exp", (64, 64), 5)
    W = vae.parameters["encoder.0.W"] * math.sqrt(784)
    assert np.abs(W).max() <= 2.00001
    assert scipy.stats.kstest(W.ravel(), scipy.stats.truncnorm(-2, 2).cdf).pvalue > 0.01
    assert not vae.parameters["encoder.0.b"].any()


def softplus_model():
    """A small model in float64 whose σ is softplus of the encoder's output, and rows and noise for it."""
    rng = np.random.default_rng(0)
    vae = jaanli.build(0, "softplus", (5,), 3, dtype="float64")
    for name in ("encoder.0.b", "encoder.1.b"):
        vae.parameters[name][...] = rng.standard_normal(vae.parameters[name].shape)
    return vae, bits().train.astype(np.float64), rng.standard_normal((1, 7, 3))


def test_softplus_of_the_encoders_output_is_the_posteriors_deviation():
    vae, X, _ = softplus_model()
    p = vae.parameters
    hidden = np.maximum(X @ p["encoder.0.W"] + p["encoder.0.b"], 0)
    out = hidden @ p["encoder.1.W"] + p["encoder.1.b"]
    mean, logvar = vae.encode(X)
    np.testing.assert_allclose(mean, out[:, :3], **SCIPY)
    assert_sums(np.exp(logvar / 2), np.log1p(np.exp(out[:, 3:])), of="model")


def test_the_gradient_passes_through_softplus():
    vae, X, eps = softplus_model()
    vae.objective_and_grad(X, eps)
    b, gradient = vae.parameters["encoder.1.b"], vae.gradients["encoder.1.b"].copy()
    for i, h in ((i, 1e-5) for i in range(6)):
        losses = []
        for step in (h, -2 * h):
            b[i] += step
            losses.append(vae.objective(X, eps).loss)
        b[i] += h
        assert gradient[i] == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-6)


def test_a_very_negative_output_leaves_softplus_finite():
    vae, X, eps = softplus_model()
    vae.parameters["encoder.1.b"][3:] = -1e4
    assert np.isfinite(vae.objective_and_grad(X, eps).loss)
    assert all(np.isfinite(gradient).all() for gradient in vae.gradients.values())


def test_the_first_weights_and_biases_of_pythae_are_uniform_to_one_over_the_root():
    vae = pythae.build(0, 1, 64, 5)
    for name, fan in (("encoder.0.W", 784), ("decoder.1.b", 64)):
        x = vae.parameters[name].ravel() * math.sqrt(fan)
        assert scipy.stats.kstest(x, scipy.stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_burda_begins_at_the_mean_of_every_pixel():
    mean = np.linspace(0, 1, 784)
    vae = burda.build("iwae-5", 0, mean, hidden=8, latent=3)
    for name, W in vae.parameters.items():
        if name.endswith(".W"):
            W[...] = 0
    np.testing.assert_allclose(vae.decode(np.zeros((1, 3)))[0], np.clip(mean, 0.001, 0.999), rtol=1e-4)
    assert (vae.loss_fn.name, vae.samples) == ("iwae", 5)


def test_the_step_of_kingma_is_the_one_with_the_best_first_pass(monkeypatch):
    scores = dict(zip(kingma.STEPS, (-300.0, -200.0, -250.0), strict=True))
    monkeypatch.setattr(mv.VAE, "fit", lambda self, X, optimizer, **_: {"elbo": [scores[optimizer.lr]]})
    assert kingma.choose_step(3, 0, np.zeros((200, 784)), 4) == kingma.STEPS[1]


# ---- the digits -----------------------------------------------------------------------------------------------------


def as_amat(folder, some):
    for part in digits.PARTS:
        np.savetxt(folder / f"binarized_mnist_{part}.amat", getattr(some, part), fmt="%d")


def test_the_same_digits_come_from_amat_and_from_packed_and_unpacked_npz(tmp_path):
    some = bits()
    as_amat(tmp_path, some)
    digits.pack(some, tmp_path / "packed.npz")
    np.savez(tmp_path / "plain.npz", **{part: getattr(some, part).reshape(-1, 28, 28) for part in digits.PARTS})
    for place in (tmp_path, tmp_path / "packed.npz", tmp_path / "plain.npz"):
        read = digits.read(str(place), FEW)
        assert read.name == digits.LAROCHELLE and read.train.dtype == np.uint8
        assert_same(read, some)


def test_a_packed_byte_holds_its_first_pixel_in_the_highest_bit(tmp_path):
    some = bits()
    some.train[0, :8] = (1, 0, 0, 0, 0, 0, 1, 0)
    digits.pack(some, tmp_path / "packed.npz")
    assert np.load(tmp_path / "packed.npz")["train"][0, 0] == 0b10000010


def test_a_draw_has_the_grey_of_its_pixels():
    grey = np.broadcast_to(np.linspace(0, 1, 11, dtype=np.float32), (20_000, 11))
    drawn = digits.draw(grey, 0)
    assert not drawn[:, 0].any() and drawn[:, -1].all()
    spread = np.sqrt(grey[0] * (1 - grey[0]) / len(grey))
    assert (np.abs(drawn.mean(axis=0) - grey[0]) <= 4 * spread).all()
    assert (digits.draw(grey, 1) != drawn).any()


@pytest.mark.mnist
def test_mnist_is_cut_into_the_parts_of_the_papers(mnist_env):
    grey = digits.grey()
    assert {part: len(getattr(grey, part)) for part in digits.PARTS} == digits.ROWS
    mnist = mv.load("mnist")
    np.testing.assert_array_equal(np.concatenate([grey.train, grey.valid]), mnist.X)
    np.testing.assert_array_equal(grey.test, mnist.X_test)


# ---- running, and resuming ------------------------------------------------------------------------------------------


def figures(folder, name):
    return [
        (f.key, f.ours, f.error, f.estimator, f.reached) for f in paper.Result.read(folder / f"{name}.json").figures
    ]


def run_counted(monkeypatch, script, folder, **stops):
    """Run a script in short; (calls of step, of log_likelihood). Call number `stops[name]` is a Ctrl-C."""
    calls = {"step": 0, "log_likelihood": 0}

    def counted(name, method):
        def call(*args, **options):
            if calls[name] + 1 == stops.get(name):
                raise KeyboardInterrupt
            calls[name] += 1
            return method(*args, **options)

        return call

    with monkeypatch.context() as patch:
        for name in calls:
            patch.setattr(mv.VAE, name, counted(name, getattr(mv.VAE, name)))
        with pytest.raises(KeyboardInterrupt) if stops else nullcontext():
            script.main(["--quick", "--runs", str(folder)])
    return np.array(list(calls.values()))


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_interrupted_script_resumes_and_computes_nothing_twice(made_up, monkeypatch, tmp_path, name):
    script, straight, broken = SCRIPTS[name], tmp_path / "straight", tmp_path / "broken"
    monkeypatch.setattr(paper, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(paper, "BLOCK", 120)
    stops = [{"step": 13}] if name == "kingma" else [{"step": 4}, {"log_likelihood": 2}]
    once = run_counted(monkeypatch, script, straight)
    parts = [run_counted(monkeypatch, script, broken, **stop) for stop in (*stops, {})]
    assert figures(broken, name) == figures(straight, name)
    assert any(ours is not None for _, ours, *_ in figures(straight, name))
    np.testing.assert_array_equal(sum(parts), once)


def test_an_estimate_of_another_model_or_other_rows_is_not_taken_up(tmp_path):
    vae, X = mv.VAE(784, 2, (4,)), bits().train
    first, _ = paper.log_likelihood(vae, X, 3, tmp_path)
    np.testing.assert_array_equal(paper.log_likelihood(vae, X, 3, tmp_path)[0], first)
    other, _ = paper.log_likelihood(vae, 1 - X, 3, tmp_path)
    np.testing.assert_array_equal(other, vae.log_likelihood(1 - X, 3)[0])
    vae.parameters["decoder.1.b"][...] = 1
    changed, _ = paper.log_likelihood(vae, 1 - X, 3, tmp_path)
    np.testing.assert_array_equal(changed, vae.log_likelihood(1 - X, 3)[0])


def test_blocks_of_an_estimate_share_no_noise(monkeypatch, tmp_path):
    monkeypatch.setattr(paper, "BLOCK", 3)
    vae, X = mv.VAE(784, 2, (4,)), bits().train
    in_blocks, _ = paper.log_likelihood(vae, X, 5, tmp_path)
    np.testing.assert_allclose(in_blocks, vae.log_likelihood(X, 5)[0], atol=1e-3)  # with other noise: 0.1 apart


def test_the_elbo_of_each_row_is_below_its_likelihood_and_averages_to_the_objective():
    vae, X = mv.VAE(784, 2, (4,)), bits().train
    rows = paper.elbo(vae, X, 400)
    assert rows.shape == (7,)
    terms = vae.objective(X, eps=np.random.default_rng(5).standard_normal((400, 7, 2), np.float32))
    assert rows.mean() == pytest.approx(terms.elbo, rel=1e-3)
    assert (rows <= vae.log_likelihood(X, 500)[0] + 0.2).all()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_quick_run_says_when_and_how_and_that_it_is_not_a_reproduction(made_up, tmp_path, name):
    SCRIPTS[name].main(["--quick", "--runs", str(tmp_path)])
    result = paper.Result.read(tmp_path / f"{name}.json")
    measured = [figure for figure in result.figures if figure.ours is not None]
    assert result.quick and measured
    for figure in measured:
        assert not figure.complete and figure.seconds > 0 and figure.machine
        assert figure.command == f"python reproductions/{name}.py --quick"
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT.*", figure.date)


def test_lines_and_curves_of_other_data_or_another_protocol_are_not_taken_up(made_up, tmp_path):
    place = ["--quick", "--runs", str(tmp_path)]
    kingma.main(place)
    file = tmp_path / "kingma.json"
    whole = paper.Result.read(file)
    added = replace(whole, figures=[*whole.figures, replace(LINE, ours=1.0)], curves={**whole.curves, "more": [[1.0]]})
    for change, kept in (({}, True), ({"data": "others"}, False), ({"protocol": ["another"]}, False)):
        replace(added, **change).write(file)
        kingma.main([*place, "--latents", "3"])
        again = paper.Result.read(file)
        assert (LINE.key in [figure.key for figure in again.figures]) == kept
        assert ("more" in again.curves) == kept


def test_no_two_parts_of_the_digits_are_drawn_alike(monkeypatch):
    half = np.full((50, digits.PIXELS), 0.5, np.float32)
    monkeypatch.setattr(digits, "grey", lambda: digits.Digits(half, half, half, "half"))
    drawn = digits.binary()
    for one, other in ((drawn.train, drawn.valid), (drawn.valid, drawn.test), (drawn.train, drawn.test)):
        assert 0.45 < (one == other).mean() < 0.55


# ---- tables and the page --------------------------------------------------------------------------------------------

LINE = paper.Figure("a", "test ELBO", "−1.5")


def test_a_line_is_the_mean_of_its_rows_and_the_standard_error():
    rows, errors = np.array([-1.0, -2.0, -4.0, -7.0]), np.array([0.3, 0.0, 0.4, 0.0])
    line = paper.measured(LINE, rows, errors, reached="in full", complete=True)
    assert line.ours == -3.5
    assert line.error == pytest.approx(scipy.stats.sem(rows))
    assert line.estimator == pytest.approx(0.5 / 4)


def test_a_table_says_which_lines_were_run_in_full_in_part_or_not():
    full = paper.measured(LINE, np.array([-1.0, -2.0]), reached="10 passes", complete=True, seconds=90.0)
    part = paper.measured(LINE, np.array([-1.0, -2.0]), reached="3 of 10 passes")
    assert paper.lines([full, part, LINE]) == [
        ["test ELBO", "−1.5", "−1.50", "+0.00", "0.50", "–", "10 passes", "1.5 min"],
        ["test ELBO", "−1.5", "−1.50", "+0.00", "0.50", "–", "3 of 10 passes: a part", "–"],
        ["test ELBO", "−1.5", "–", "–", "–", "–", "not run", "–"],
    ]
    shown = paper.show(paper.Result("x", "A title", "a source", ["how"], ["what else"], "digits", figures=[full, LINE]))
    lines = shown.splitlines()
    assert len({line.index("−1.5") for line in lines if line.startswith("test")}) == 1  # in columns
    assert "protocol    how" in lines and "different   what else" in lines


def test_the_page_has_every_line_of_every_result():
    text = page.markdown()
    for path in paper.RESULTS.glob("*.json"):
        result = paper.Result.read(path)
        assert f"## {result.title}" in text
        assert all("| " + " | ".join(line) + " |" in text for line in paper.lines(result.figures))


def test_no_result_of_a_quick_run_is_kept():
    for path in paper.RESULTS.glob("*.json"):
        assert not paper.Result.read(path).quick, path


def test_the_docs_show_the_figures_of_imputation_that_are_kept():
    pytest.importorskip("pandas")
    import imputation

    assert imputation.page() in (imputation.RESULTS.parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
