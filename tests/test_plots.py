"""The pictures a run leaves, read back: as pixels, or as the Figure that was saved."""

import numpy as np
import pytest
from tolerances import assert_sums

from minivae import plots
from minivae.errors import UsageError
from minivae.plots import curves, draw
from minivae.plots import rows as plots_rows
from minivae.training.history import History

pytest.importorskip("matplotlib")
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # as of a layout that was not applied

SHAPE = (3, 5)
rng = np.random.default_rng(0)
PICTURES = rng.random((14, 15))
MODEL = rng.random((14, 15))
TABLE = rng.normal(size=(24, 4)) * [1, 1e6, 1e-3, 0] + [0, 3e6, 5, 7]  # its last column is constant


@pytest.fixture
def figure(monkeypatch):
    """The last figure that was saved; it is saved as well."""
    saved, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), save(self, *a, **k)))
    return lambda: saved[-1]


def history(nll, kl=None, beta=None, validation=True, best=None):
    """A History of these values, one for each epoch; the validation's are 1 more."""
    n = len(nll)
    columns = zip(range(1, n + 1), nll, kl or [2.0 + k % 2 for k in range(n)], beta or [1.0] * n, strict=True)
    rows = [{"epoch": e, "nll": a, "kl": b, "elbo": -(a + b), "beta": w} for e, a, b, w in columns]
    for row in rows:
        held = (-(row["nll"] + row["kl"] + 1), row["nll"] + 1, row["kl"]) if validation else ("", "", "")
        row |= dict(zip(("val_elbo", "val_nll", "val_kl"), held, strict=True))
    return History(rows, best_epoch=best)


def small_pixels(path, factor):
    """One pixel of each square of `factor`, as bytes; the squares are checked to be of one grey."""
    pixels = np.round(255 * imread(path)[..., 0]).astype(int)
    small = pixels[::factor, ::factor]
    np.testing.assert_array_equal(pixels, small.repeat(factor, 0).repeat(factor, 1)[: len(pixels), : pixels.shape[1]])
    return small


def grey(X):
    return np.round(255 * X).astype(int)


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


# ---- curves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epochs", [1, 3, 9, 10, 40])
def test_few_epochs_have_markers_and_ticks_are_epochs(epochs, figure, tmp_path):
    plots.loss(history([100.0 - k for k in range(epochs)]), tmp_path / "x.png")
    for axes in figure().axes:
        drawn = [line for line in axes.lines if len(line.get_xdata()) == epochs]
        assert len(drawn) == 2
        assert {line.get_marker() for line in drawn} == ({"o"} if epochs < 10 else {""})
    first, last = figure().axes[-1].get_xlim()
    ticks = [tick for tick in figure().axes[-1].get_xticks() if first <= tick <= last]
    assert ticks
    assert all(tick == round(tick) and 1 <= tick <= epochs for tick in ticks)


def test_one_epoch_shows_a_blue_dot_in_every_panel(tmp_path):
    plots.loss(history([100.0], validation=False), tmp_path / "x.png")
    blue = np.abs(imread(tmp_path / "x.png")[..., :3] - to_rgb(draw.BLUE)).max(axis=2) < 0.02
    panels = np.array_split(blue[70:, 100:], 3)  # without the legend
    assert all(panel.sum() > 20 for panel in panels)


def test_each_run_of_epochs_below_beta_1_is_shaded(figure, tmp_path):
    plots.loss(history([50.0] * 12, beta=[0.4, 0.8, 1, 1, 1, 0.4, 0.8, 1, 1, 1, 0.4, 1]), tmp_path / "x.png")
    for axes in figure().axes:
        spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
        assert spans == [(0.5, 2.5), (5.5, 7.5), (10.5, 11.5)]
    assert [text for text in legend_of(figure()) if "β < 1" in text] == ["β < 1: the optimised loss is not a bound"]


def test_the_legend_names_every_line_and_the_best_epoch(figure, tmp_path):
    plots.loss(history([9.0, 8, 7, 8], best=3), tmp_path / "x.png")
    assert legend_of(figure()) == ["training", "validation", "best epoch on validation: 3"]
    for axes in figure().axes:
        assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == ":"] == [[3, 3]]


def test_a_huge_first_epoch_is_shown_and_the_later_ones_larger_in_an_inset(figure, tmp_path):
    nll = [5000.0] + [100 + 5 / k for k in range(1, 20)]
    plots.loss(history(nll), tmp_path / "x.png")
    total, reconstruction, kl = figure().axes
    for axes, value, least in ((total, 5003, 102), (reconstruction, 5001, 100)):
        low, high = axes.get_ylim()
        assert low < least and high > value
        (inset,) = axes.child_axes
        bottom, top = inset.get_ylim()
        assert least < bottom < least + 2 and top - bottom < 10
        assert [len(line.get_xdata()) for line in inset.lines] == [20, 20]
    assert not kl.child_axes


@pytest.mark.parametrize("at, right", [(0, True), (15, False)])
def test_the_inset_lies_where_the_peak_is_not(at, right, figure, tmp_path):
    nll = [100.0 + k % 2 for k in range(40)]
    nll[at * 2] = 9000.0
    plots.loss(history(nll, validation=False), tmp_path / "x.png")
    panel = figure().axes[0]
    box, whole = panel.child_axes[0].get_window_extent(), panel.get_window_extent()
    assert (box.x0 - whole.x0 > whole.x1 - box.x1) == right


@pytest.mark.parametrize(
    "values",
    [
        [44 * 0.95**k for k in range(30)],
        [5000.0, 100, 99, 98],
        [7.0] * 20,
        [0.0] * 20,
        [0.3, 0.1, 1e-4, 0, 1e-4, 0, 1e-4, 0],
        [105.2, *[100, 101] * 5],
    ],
    ids=["a plain decay", "four epochs", "one value", "zeros", "a tenth of a nat", "just outside"],
)
def test_there_is_no_inset_where_nothing_is_flattened(values):
    assert curves._limits([np.array(values)]) is None


@pytest.mark.parametrize("at", [0, 1, 20, 39])
@pytest.mark.parametrize("spike", [1e5, -1e5])
def test_a_spike_in_any_epoch_is_left_out_of_the_inset(at, spike):
    values = 100 + 20 / np.arange(1, 41)
    values[at] = spike
    low, high = curves._limits([values])
    assert 80 < low < high < 130


def test_several_runs_are_compared_by_name(figure, tmp_path):
    runs = {"a $x$": history([9.0, 8, 7], validation=False), "b": history([5.0, 4, 3, 2])}
    plots.compare(runs, tmp_path / "x.png")
    assert legend_of(figure()) == ["a $x$, training", "b, validation"]
    total = figure().axes[0]
    assert [list(line.get_ydata()) for line in total.lines] == [[11, 11, 9], [8, 8, 6, 6]]


# ---- rows -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [None, 5])
def test_a_grid_is_pure_pixels_with_a_gap_on_every_side(columns, tmp_path):
    plots.grid(PICTURES, SHAPE, tmp_path / "x.png", columns)
    across = columns or 4
    lines = -(-14 // across)
    small = small_pixels(tmp_path / "x.png", round(900 / max(lines * 4 + 1, across * 6 + 1)))
    assert small.shape == (lines * 4 + 1, across * 6 + 1)
    for gaps in (small[::4], small[:, ::6]):
        assert (gaps == draw.GAP).all()
    for k, row in enumerate(PICTURES):
        top, left = k // across * 4 + 1, k % across * 6 + 1
        np.testing.assert_array_equal(small[top : top + 3, left : left + 5], grey(row).reshape(3, 5))


def test_reconstructions_say_what_they_are_and_keep_their_pixels(figure, tmp_path):
    """14 rows: two pairs of lines, twelve pictures to a line, under a title."""
    plots.reconstructions(PICTURES, MODEL, SHAPE, tmp_path / "x.png")
    factor = round(900 / 73)
    pixels = np.round(255 * imread(tmp_path / "x.png")[..., 0]).astype(int)
    assert pixels.shape[1] == 73 * factor
    pixels = pixels[-18 * factor :]
    small = pixels[::factor, ::factor]
    np.testing.assert_array_equal(pixels, small.repeat(factor, 0).repeat(factor, 1)[:, : pixels.shape[1]])
    for line, top in enumerate((1, 5, 10, 14)):
        part = (PICTURES, MODEL)[line % 2]
        for k, row in enumerate(part[line // 2 * 12 :][:12]):
            found = small[top : top + 3, 6 * k + 1 : 6 * k + 6]
            np.testing.assert_array_equal(found, grey(row).reshape(3, 5))
    (title,) = figure().texts
    assert "E[x|z] at the posterior mean" in title.get_text().replace("\n", " ")


@pytest.mark.parametrize("n, shape", [(1, (28, 28)), (1000, (8, 8)), (30, (1, 40)), (3, (400, 300))], ids=str)
def test_reconstructions_of_awkward_sizes_stay_within_bounds(n, shape, tmp_path):
    X = np.zeros((n, shape[0] * shape[1]))
    plots.reconstructions(X, X, shape, tmp_path / "x.png")
    height, width = imread(tmp_path / "x.png").shape[:2]
    assert height <= (1050 if n < 10 else plots_rows.TALL + 50)
    assert width < 2000


def maps(figure):
    return [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in figure.axes if axes.images]


def colour_bar(figure):
    return figure.axes[-1].get_xlabel()


def test_columns_of_any_unit_fill_the_colours(figure, tmp_path):
    """Each in units of its range in the data; a constant column is grey."""
    plots.reconstructions(TABLE, TABLE * 0.5, None, tmp_path / "x.png")
    data, model = maps(figure())
    assert_sums(data.min(axis=0)[:3], 0, of="model", summed=1)
    np.testing.assert_allclose(data.max(axis=0)[:3], 1)
    assert np.isnan(data[:, 3]).all()
    low, high = TABLE.min(axis=0), TABLE.max(axis=0)
    np.testing.assert_allclose(model[:, :3], ((TABLE * 0.5 - low) / np.where(high > low, high - low, 1))[:, :3])
    assert all(axes.images[0].get_clim() == (0, 1) for axes in figure().axes[:2])
    assert colour_bar(figure()).startswith("0 and 1: minimum and maximum of the column in these rows of the data")
    assert colour_bar(figure()).endswith("; grey: constant there")
    assert [axes.get_title(loc="left") for axes in figure().axes[:2]] == ["data", "model: E[x|z] at the posterior mean"]


def test_limits_are_the_range_that_the_colours_span(figure, tmp_path):
    limits = (np.array([-10.0, 0, 4, 6]), np.array([10.0, 1e7, 6, 8]))
    for picture in (lambda: plots.grid(TABLE, None, tmp_path / "x.png", limits=limits),
                    lambda: plots.reconstructions(TABLE, TABLE, None, tmp_path / "x.png", limits=limits)):  # fmt: skip
        picture()
        np.testing.assert_allclose(maps(figure())[0], (TABLE - limits[0]) / (limits[1] - limits[0]))
        assert colour_bar(figure()) == "0 and 1: minimum and maximum of the column in the data"


@pytest.mark.parametrize("n", [1, 2, 24])
def test_rows_and_columns_are_integers(n, figure, tmp_path):
    plots.grid(TABLE[:n], None, tmp_path / "x.png")
    axes = figure().axes[0]
    for ticks, (low, high) in (
        (axes.get_xticks(), sorted(axes.get_xlim())),
        (axes.get_yticks(), sorted(axes.get_ylim())),
    ):
        seen = [tick for tick in ticks if low <= tick <= high]
        assert seen
        assert all(tick == round(tick) for tick in seen)


def test_a_single_row_shows_its_numbers(figure, tmp_path):
    """It has no range of its own: its values share one scale, and stand in the cells."""
    plots.grid(np.array([[1.0, 2e6, 0.25]]), None, tmp_path / "x.png")
    assert [text.get_text() for text in figure().axes[0].texts] == ["1", "2e+06", "0.25"]
    assert colour_bar(figure()) == "value"
    np.testing.assert_array_equal(maps(figure())[0], [[1, 2e6, 0.25]])


# ---- the plane ------------------------------------------------------------------------------------------------------


class Plane:
    """A model whose pictures (2, 3) say where they are: the first line Φ(z₁), the second Φ(z₂)."""

    latent_dim = 2

    def decode(self, Z):
        from scipy.stats import norm

        return np.repeat(norm.cdf(Z), 3, axis=1)


def test_the_manifold_has_axes_that_say_where_its_pictures_are(figure, tmp_path):
    from scipy.stats import norm

    plots.manifold(Plane(), (2, 3), tmp_path / "x.png")
    axes = figure().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z₁", "z₂")
    pixels = np.round(255 * imread(tmp_path / "x.png")[..., 0]).astype(int)
    factor = round(900 / 81)
    height, width = 61 * factor, 81 * factor
    left, bottom = (round(edge) for edge in axes.bbox.min)  # in the file's own pixels, from below
    top = len(pixels) - bottom - height
    picture = pixels[top : top + height, left : left + width]
    small = picture[::factor, ::factor]
    inner = (slice(factor, -factor), slice(factor, -factor))  # ticks' ends may touch the border
    np.testing.assert_array_equal(picture[inner], small.repeat(factor, 0).repeat(factor, 1)[inner])
    middles = (np.arange(20) + 0.5) / 20
    np.testing.assert_array_equal(small[1::3, 1::4], np.tile(grey(middles), (20, 1)))
    np.testing.assert_array_equal(small[2::3, 1::4], np.tile(grey(middles[::-1])[:, None], (1, 20)))
    for axis in (axes.xaxis, axes.yaxis):
        names = [float(label.get_text().replace("−", "-")) for label in axis.get_ticklabels()]
        assert len(names) >= 5
        np.testing.assert_allclose(axis.get_ticklocs(), norm.cdf(names))  # Φ(z) of the side
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (0, 1))
    assert tuple(np.round(axes.bbox.size)) == (width, height)


def test_ten_classes_differ_in_colour_and_in_marker(figure, tmp_path):
    y = np.arange(50) % 10
    plots.latent(rng.normal(size=(50, 2)), y, tmp_path / "x.png")
    dots = figure().axes[0].collections
    assert len({tuple(dot.get_facecolor()[0]) for dot in dots}) == 10
    assert len({dot.get_paths()[0].vertices.tobytes() for dot in dots}) == 10
    assert legend_of(figure()) == [str(k) for k in range(10)]


def test_the_latent_plane_shows_each_row_in_its_class(figure, tmp_path):
    mean = rng.normal(size=(30, 2))
    y = np.array(["b", "a", "c"])[np.arange(30) % 3]
    plots.latent(mean, y, tmp_path / "x.png", rows="30 rows of the test part of t.npz")
    assert figure().axes[0].get_title(loc="left") == "posterior means of 30 rows of the test part of t.npz"
    for name, dots in zip(legend_of(figure()), figure().axes[0].collections, strict=True):
        np.testing.assert_allclose(dots.get_offsets(), mean[y == name])


# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("sight", SIGHT)
def test_no_two_colours_are_near_to_each_other_in_any_sight(sight):
    """ΔE (CIE 1976) of at least 23 between any two of the ten; 50 for the trichromat."""
    rgb = np.array([to_rgb(colour) for colour, _ in draw.TEN])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(SIGHT[sight]).T, 0, 1)
    xyz = seen @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1, 1.089])  # every one of them is light enough for the cube root
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    assert distance[~np.eye(10, dtype=bool)].min() >= (50 if sight == "normal" else 23)


@pytest.mark.parametrize("kind", [str, bytes])
def test_labels_that_are_no_words_are_drawn_as_they_are(figure, tmp_path, kind):
    """TeX's mathematics, control characters, bytes that are no UTF-8, and "_…", which Matplotlib leaves out."""
    labels = [r"$\frac{$", "\x1b[31m", "a\nb", "x" * 5000, "\udcff", "_a"]
    y = np.array([label.encode("utf-8", "surrogateescape") if kind is bytes else label for label in labels])
    name = "a$\\foo$\udcff\n.npz"
    plots.latent(rng.normal(size=(60, 2)), y[np.arange(60) % 6], tmp_path / "x.png", rows=f"60 rows of {name}")
    assert figure().axes[0].get_title(loc="left") == r"posterior means of 60 rows of a$\foo$\xff\n.npz"
    shown = {text.strip("\u200b") for text in legend_of(figure())}
    assert shown == {r"$\frac{$", r"\x1b[31m", r"a\nb", "x" * 39 + "…", r"\xff", "_a"}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [1, 5])
def test_a_table_of_constants_is_drawn_without_a_warning(tmp_path, n):
    X = np.tile([1.0, 2.0, 3.0], (n, 1))
    for limits in (None, (X.min(axis=0), X.max(axis=0))):
        plots.grid(X, None, tmp_path / "grid.png", limits=limits)
        plots.reconstructions(X, X + 0.5, None, tmp_path / "two.png", limits=limits)
        for picture in ("grid.png", "two.png"):
            assert imread(tmp_path / picture).std() > 0
            (tmp_path / picture).unlink()


def test_a_collapsed_posterior_looks_collapsed(figure, tmp_path):
    """It is never zoomed onto: the plane reaches from −3.3 to 3.3 at least, with the prior's circles."""
    plots.latent(rng.normal(size=(50, 2)) * 0.02 + 0.2, None, tmp_path / "x.png")
    axes = figure().axes[0]
    assert axes.get_xlim() == axes.get_ylim() == (-3.3, 3.3)
    assert [patch.get_radius() for patch in axes.patches] == [1, 2, 3]
    plots.latent(np.array([[9.0, 0], [0, 0]]), None, tmp_path / "x.png")
    assert figure().axes[0].get_xlim()[1] > 9


def test_a_class_is_named_at_its_centre(figure, tmp_path):
    mean = np.concatenate([rng.normal(size=(20, 3)), rng.normal(size=(20, 3)) + [5, 0, -3]])
    plots.latent(mean, np.repeat(["a", "b"], 20), tmp_path / "x.png", dims=(2, 0))
    axes = figure().axes[0]
    places = {text.get_text(): text.get_position() for text in axes.texts}
    for name, some in (("a", mean[:20]), ("b", mean[20:])):
        np.testing.assert_allclose(places[name], np.median(some[:, [2, 0]], axis=0))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z₃", "z₁")


class Square:
    """A model of L = 3 whose pictures (1, 3) are Φ of their z."""

    latent_dim = 3

    def decode(self, Z):
        from scipy.stats import norm

        return norm.cdf(Z)

    def encode(self, X):
        from scipy.stats import norm

        return norm.ppf(X), None


def middles(path, height, width, left, bottom, lines, columns):
    """The grey values of pictures (1, 3) on `lines` × `columns`, from a file."""
    pixels = np.round(255 * imread(path)[..., 0]).astype(int)
    factor = round(900 / max(height, width))
    picture = pixels[len(pixels) - bottom - height * factor : len(pixels) - bottom, left : left + width * factor]
    small = picture[factor // 2 :: factor, factor // 2 :: factor]
    return small[1::2].reshape(lines, -1)[:, 1:].reshape(lines, columns, 4)[:, :, :3]


def test_a_traverse_moves_one_dimension_at_a_time(tmp_path):
    from scipy.stats import norm

    plots.traverse(Square(), (1, 3), tmp_path / "x.png", z=[0.5, -0.5, 1.0], dims=[2, 0], reach=2.0, steps=5)
    found = middles(tmp_path / "x.png", 2 * 2 + 1, 5 * 4 + 1, 52, 34, 2, 5)
    for line, moved in enumerate((2, 0)):
        for k, value in enumerate((-2, -1, 0, 1, 2)):
            z = [0.5, -0.5, 1.0]
            z[moved] = value
            np.testing.assert_allclose(found[line, k], grey(norm.cdf(z)), atol=1)


def test_an_interpolation_goes_from_row_to_row(tmp_path):
    from scipy.stats import norm

    X, Y = np.array([[0.1, 0.2, 0.9], [0.5, 0.5, 0.5]]), np.array([[0.6, 0.2, 0.3], [0.9, 0.1, 0.2]])
    plots.interpolate(Square(), X, Y, (1, 3), tmp_path / "x.png", steps=5)
    found = middles(tmp_path / "x.png", 2 * 2 + 1, 7 * 4 + 1, 0, 30, 2, 7)
    np.testing.assert_allclose(found[:, [0, 1]], grey(X)[:, None].repeat(2, 1), atol=1)
    np.testing.assert_allclose(found[:, [5, 6]], grey(Y)[:, None].repeat(2, 1), atol=1)
    np.testing.assert_allclose(found[:, 3], grey(norm.cdf((norm.ppf(X) + norm.ppf(Y)) / 2)), atol=1)


def test_a_manifold_of_two_chosen_dimensions_and_a_range(figure, tmp_path):
    from scipy.stats import norm

    plots.manifold(Square(), (1, 3), tmp_path / "x.png", dims=(2, 0), reach=2.0, size=5, z=[0, 0.7, 0])
    axes = figure().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("z₃", "z₁")
    found = middles(tmp_path / "x.png", 5 * 2 + 1, 5 * 4 + 1, 64, 58, 5, 5)
    for line, up in enumerate((2, 1, 0, -1, -2)):
        for k, across in enumerate((-2, -1, 0, 1, 2)):
            np.testing.assert_allclose(found[line, k], grey(norm.cdf([up, 0.7, across])), atol=1)
    at = dict(zip((text.get_text() for text in axes.get_xticklabels()), axes.get_xticks(), strict=True))
    np.testing.assert_allclose([at["−2"], at["0"], at["2"]], [0.1, 0.5, 0.9])  # the middles of pictures


@pytest.mark.parametrize("dims", [(0, 0), (0, 3), (-1, 0), (1,)])
def test_dimensions_that_are_not_there_are_one_sentence(dims):
    with pytest.raises(UsageError, match="expected two different ones of 3"):
        plots.manifold(Square(), (1, 3), dims=dims)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_picture_has_any_format_and_the_same_bytes_each_time(kind, tmp_path):
    made = []
    for _ in range(2):
        plots.latent(TABLE[:, :2] / [1, 1e6], None, tmp_path / f"x.{kind}")
        made.append((tmp_path / f"x.{kind}").read_bytes())
    assert made[0] == made[1]
    assert made[0].startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])
    with pytest.raises(UsageError, match=r"expected a name that ends in \.png, \.svg, \.pdf"):
        plots.latent(TABLE[:, :2], None, tmp_path / "x.gif")
