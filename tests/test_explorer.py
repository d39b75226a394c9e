"""The page of `minivae explore`, in a headless Chromium without a network: it decodes what `vae.decode` decodes."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import test_cli

import minivae as mv
from minivae.errors import UsageError
from minivae.export import explorer

pytest.importorskip("onnx")  # for the models of the tests of ONNX
from test_export import ACTIVATIONS, LIKELIHOODS, L, model, rows_for

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import check_book  # noqa: E402
import check_explorer  # noqa: E402


@pytest.fixture(scope="module")
def chromium():
    with check_book.chromium() as browser:
        yield browser or pytest.skip("there is no Chromium (apt install chromium) or no playwright")


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens the text of a page; at the end nothing may have been complained of."""
    heard, contexts = [], []

    def open_page(text, width=1280):
        contexts.append(chromium.new_context(offline=True, viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        heard.append(check_book.listen(page))
        file = tmp_path / f"{len(heard)}.html"
        file.write_text(text, encoding="utf-8")
        page.goto(file.as_uri())
        frame(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not any(heard), heard


def frame(page):
    """Wait until what was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def decoded(page, Z):
    return np.array(page.evaluate("(Z) => Z.map((z) => Array.from(explorer.decode(z)))", Z.tolist()))


def picture_model(latent=3):
    """Pictures (4, 5), and a model of them at random."""
    vae = mv.VAE(20, latent, (7,), likelihood="bernoulli", backend="numpy", seed=1)
    rng = np.random.default_rng(0)
    for view in vae.parameters.values():
        view[...] = rng.normal(size=view.shape)
    return vae, rng.random((30, 20)).astype("float32")


# ---- the decoder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_page_decodes_what_the_model_decodes(likelihood, dtype, opened):
    vae, rng = model(likelihood, dtype), np.random.default_rng(0)
    Z = rng.normal(size=(30, L)).astype(dtype)
    found, expected = decoded(opened(explorer.page(vae, rows_for(likelihood, 20, rng))), Z), vae.decode(Z)
    apart = np.abs(found - expected).max(axis=0)
    assert (apart <= 1e-5 * np.abs(expected).max(axis=0)).all(), apart


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_knows_every_activation(activation, opened):
    vae, rng = model("gaussian", activation=activation), np.random.default_rng(0)
    Z = rng.normal(size=(9, L))
    found, expected = decoded(opened(explorer.page(vae, rows_for("gaussian", 20, rng))), Z), vae.decode(Z)
    assert (np.abs(found - expected).max(axis=0) <= 1e-5 * np.abs(expected).max(axis=0)).all()


def test_half_is_half_the_size_and_decodes_with_three_digits(opened):
    vae, rng = mv.VAE(300, 5, (200,), likelihood="bernoulli", backend="numpy"), np.random.default_rng(0)
    for name, view in vae.parameters.items():
        view *= 3 if name.endswith("W") else 1
    X, Z = rng.random((5, 300)), rng.normal(size=(9, 5)).astype("float32")
    whole, half = explorer.page(vae, X), explorer.page(vae, X, half=True)
    weights = sum(view.size for name, view in vae.parameters.items() if name.startswith("decoder"))
    assert abs(len(whole) - len(half) - weights * 2 * 4 / 3) < 0.03 * weights * 2 * 4 / 3
    apart = np.abs(decoded(opened(half), Z) - vae.decode(Z)).max()
    assert 1e-6 < apart < 5e-3


def test_the_halves_are_those_of_ieee_754(opened):
    words = np.arange(1 << 16, dtype=np.uint16)
    finite = words[np.isfinite(words.view(np.float16))]
    vae, X = picture_model()
    found = opened(explorer.page(vae, X)).evaluate("(words) => Array.from(halves(words))", finite.tolist())
    np.testing.assert_array_equal(found, finite.view(np.float16).astype(np.float64))


# ---- what a reader does ----------------------------------------------------------------------------------------------


def pixels(page, figure):
    """The grey values that a picture shows."""
    script = """(id) => { const c = document.querySelector(`#${id} canvas`), copy = document.createElement("canvas");
      const pen = copy.getContext("2d", { willReadFrequently: true });
      pen.drawImage(c, 0, 0);
      return Array.from(pen.getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 === 0); }"""
    return np.array(page.evaluate(script, figure))


def test_a_row_shows_its_original_and_its_reconstruction(opened):
    vae, X = picture_model()
    page = opened(explorer.page(vae, X, np.arange(30) % 3, np.arange(100, 130), (4, 5)))
    for _ in range(4):
        page.get_by_role("button", name="Next row").click()
    frame(page)
    np.testing.assert_array_equal(pixels(page, "picture-original"), np.round(255 * X[4]))
    assert np.abs(pixels(page, "picture-decoded") - 255 * vae.reconstruct(X)[4]).max() <= 0.501
    assert page.locator("#picture-decoded figcaption").text_content() == "reconstruction of row 104 (1)"
    page.get_by_role("button", name="Prior mean").click()
    frame(page)
    assert np.abs(pixels(page, "picture-decoded") - 255 * vae.decode(np.zeros((1, 3)))[0]).max() <= 0.501
    assert page.locator("#about-row").text_content().startswith("z has left row 104")


def test_dragging_and_keys_move_z_in_the_two_dimensions_chosen(opened):
    vae, X = picture_model()
    page = opened(explorer.page(vae, X, shape=(4, 5)))
    page.locator("#across").select_option("2")
    page.locator("#up").select_option("0")
    page.get_by_role("button", name="Prior mean").click()
    box = page.locator("#map").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] - 30, steps=5)
    page.mouse.up()
    frame(page)
    z, unit = page.evaluate("[Array.from(explorer.z), unit]")
    np.testing.assert_allclose(z, [30 / unit, 0, 60 / unit], atol=1.01 / unit)
    assert np.abs(pixels(page, "picture-decoded") - 255 * vae.decode(np.array([z]))[0]).max() <= 0.501
    page.locator("#map").press("ArrowLeft")
    page.locator("#map").press("Shift+ArrowUp")
    moved = page.evaluate("Array.from(explorer.z)")
    np.testing.assert_allclose(moved, [z[0] + 0.5, 0, z[2] - 0.1], atol=1e-12)
    page.locator("#map").press("Enter")
    distance = np.linalg.norm(vae.encode(X)[0][:, [2, 0]] - [moved[2], moved[0]], axis=1)
    assert page.evaluate("explorer.state.row") == distance.argmin()


def test_a_touch_drags_and_a_click_takes_a_row(opened):
    vae, X = picture_model()
    page = opened(explorer.page(vae, X, shape=(4, 5)), width=390)
    row = 11
    x, y = page.evaluate("(row) => { const b = map.getBoundingClientRect(), [x, y] = pixel(at(code(row), row)); "
                         "return [b.left + x, b.top + y]; }", row)  # fmt: skip
    page.mouse.click(x, y)
    mean = vae.encode(X)[0]
    chosen = page.evaluate("explorer.state.row")
    across, up = page.evaluate("[explorer.state.across, explorer.state.up]")
    np.testing.assert_allclose(mean[chosen][[across, up]], mean[row][[across, up]], atol=0.2)
    assert page.evaluate("getComputedStyle(map).touchAction") == "none"


def test_sliders_stand_in_the_order_of_their_kl(opened):
    vae, X = picture_model()
    mean, logvar = (a.astype(np.float64) for a in vae.encode(X))
    kl = (0.5 * (mean**2 + np.exp(logvar) - logvar - 1)).mean(axis=0)
    page = opened(explorer.page(vae, X, shape=(4, 5)))
    names = page.locator(".slider span").all_text_contents()
    assert names == ["z" + "₁₂₃"[l] for l in np.argsort(-kl)]
    shares = [float(text.split()[0]) for text in page.locator(".slider small").all_text_contents()]
    np.testing.assert_allclose(shares, 100 * np.sort(kl)[::-1] / kl.sum(), atol=0.51)
    page.locator(".slider input").first.fill("1.5")
    frame(page)
    assert page.evaluate("Array.from(explorer.z)")[int(np.argmax(kl))] == 1.5


def test_the_way_between_two_rows_goes_through_their_means(opened):
    vae, X = picture_model()
    mean = vae.encode(X)[0].astype(np.float64)
    page = opened(explorer.page(vae, X, rows=np.arange(30) * 2, shape=(4, 5)))
    partner = np.argmax(((mean - mean[0]) ** 2).sum(axis=1))
    assert [page.locator(end).input_value() for end in ("#from", "#to")] == ["0", str(2 * partner)]
    page.locator("#from").fill("6")
    page.locator("#to").fill("20")
    for t in ("0", "0.25", "1"):
        page.locator("#way").fill(t)
        frame(page)
        expected = (1 - float(t)) * mean[3] + float(t) * mean[10]
        np.testing.assert_allclose(page.evaluate("Array.from(explorer.z)"), expected, atol=1e-6)
    page.locator("#from").fill("7")
    page.locator("#from").press("Tab")
    assert page.locator("#from-label").text_content() == "not in this page"
    page.locator("#from").fill("6")
    page.locator("#from").press("Tab")
    page.get_by_role("button", name="Play").click()
    page.wait_for_timeout(300)
    assert 0 < float(page.locator("#way").input_value()) < 1
    page.get_by_role("button", name="Stop").click()


def test_a_table_shows_values_in_its_units_beside_the_row(opened):
    vae, X = model("gaussian"), rows_for("gaussian", 40, np.random.default_rng(0))
    vae.columns = ("a", "b <i>", "c", "year", "e", "f")
    page = opened(explorer.page(vae, X))
    shown = [text.replace("−", "-") for text in page.locator(".column output").all_text_contents()]
    np.testing.assert_allclose([float(text) for text in shown], vae.reconstruct(X)[0], rtol=2e-3)
    assert page.locator(".column b").all_text_contents() == list(vae.columns)
    assert page.locator("#colour option").all_text_contents() == [*vae.columns, "none"]
    page.locator("#colour").select_option("3")
    low, high = (float(t) for t in re.split("[^0-9.−]+", page.locator("#legend").text_content().strip()))
    np.testing.assert_allclose([low, high], [X[:, 3].min(), X[:, 3].max()], rtol=1e-3)


@pytest.mark.parametrize("latent", [1, 2, 40])
@pytest.mark.parametrize("y", [None, "classes", "numbers", "texts"])
def test_any_number_of_dimensions_and_any_labels(latent, y, opened):
    vae, X = picture_model(latent)
    X = X[:1] if latent == 2 else X
    labels = {
        "classes": np.array(["</script><script>throw 1</script>", "b & c", "%s"])[np.arange(30) % 3],
        "numbers": np.linspace(0, 1, 30) ** 2,
        "texts": np.array([f"text {k}" for k in range(30)]),
    }
    page = opened(explorer.page(vae, X, None if y is None else labels[y][: len(X)], shape=(4, 5)))
    page.locator("#map").press("ArrowUp")
    frame(page)
    assert page.locator("#up").is_visible() == (latent > 1)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["pictures", "table"])
def test_axe_finds_nothing_serious(kind, width, opened):
    pytest.importorskip("axe_playwright_python")
    vae, X = (
        picture_model()
        if kind == "pictures"
        else (model("gaussian"), rows_for("gaussian", 40, np.random.default_rng(0)))
    )
    page = opened(explorer.page(vae, X, np.arange(len(X)) % 3, shape=(4, 5) if kind == "pictures" else None), width)
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)
        assert check_explorer.violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_page_of_an_mnist_model_takes_at_most_four_megabytes():
    vae = mv.VAE(784, 20, (500,), backend="numpy")
    text = explorer.page(
        vae, np.random.default_rng(0).random((10_000, 784), "float32"), np.arange(10_000) % 10, shape=(28, 28)
    )
    assert len(text.encode()) <= 4_000_000
    assert json.loads(text.split('id="model">')[1].split("</script>")[0])["rows"][-1] > 1000


def test_a_page_names_no_address_and_is_the_same_each_time():
    vae, X = picture_model()
    text = explorer.page(vae, X, shape=(4, 5))
    assert not re.search(r"https?:|src=|@import|url\(", text)
    assert text == explorer.page(vae, X, shape=(4, 5))


def test_what_is_too_large_says_how_large_and_what_helps(monkeypatch):
    vae, X = picture_model()
    monkeypatch.setattr(explorer, "MOST_BYTES", 900)
    with pytest.raises(UsageError, match=r"parameters would take 0 MB .* half=True \(--half\) halves it"):
        explorer.page(vae, X)
    explorer.page(vae, X, half=True)
    monkeypatch.setattr(explorer, "MOST_BYTES", 100)
    with pytest.raises(UsageError, match=r"the most is 0 MB$"):
        explorer.page(vae, X, half=True)


@pytest.mark.parametrize("X, options, said", [
    (np.full((3, 20), np.nan), {}, "NaN or infinite"),
    (np.zeros((3, 19)), {}, r"expected an array \(rows, 20\)"),
    (np.zeros((3, 20)), {"shape": (3, 5)}, "expected the pixels of a picture, 20 in all"),
    (np.zeros((3, 20)), {"most": 0}, "expected an integer of at least 1"),
    (np.array([["a"] * 20]), {}, "expected real numbers"),
])  # fmt: skip
def test_mistakes_are_one_sentence(X, options, said):
    with pytest.raises(UsageError, match=said):
        explorer.page(picture_model()[0], X, **options)


def test_a_missing_cell_is_named():
    vae = mv.VAE(3, 2, (4,), likelihood="gaussian", backend="numpy", missing=True)
    vae.columns = list("abc")
    with pytest.raises(UsageError, match=r"first in row 1, column 2 \(c\)"):
        explorer.page(vae, np.array([[0.0, 1, 2], [3, 4, np.nan]]))


def test_the_command_writes_the_page(tmp_path, opened):
    X = np.random.default_rng(0).random((60, 4, 5))
    np.savez(tmp_path / "x.npz", X=X, y=np.arange(60) % 2)
    minivae = partial(test_cli.minivae, cwd=tmp_path)
    options = ["--hidden", "4", "--latent", "2", "--epochs", "1", "--binarize", "dynamic"]
    assert minivae("train", "x.npz", "--out", "run", *options).returncode == 0
    done = minivae("explore", "run", "-o", "latent.html", "--rows", "5")
    assert done.returncode == 0 and "latent.html: 0.0" in done.stdout, done.stderr
    page = opened((tmp_path / "latent.html").read_text())
    assert page.evaluate("[N, D, L]") == [5, 20, 2] and page.title() == "The latent space of run"
    for arguments, said in (
        (["-o", "latent.html"], "exists: choose another name"),
        (["-o", "x.txt"], "expected a name that ends in .html"),
        (["-o", "gone/x.html"], "expected a file in a folder that exists"),
        (["-o", "y.html", "--rows", "0"], "expected an integer of at least 1"),
    ):
        found = minivae("explore", "run", *arguments)
        assert found.returncode == 2 and said in found.stderr and found.stderr.count("\n") == 1, found.stderr
