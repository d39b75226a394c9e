"""The mixed likelihood: each column of a table under the distribution of its kind, with SciPy as the oracle."""

import hostcuda
import numpy as np
import pytest
import standin
from scipy import special, stats
from tolerances import assert_sums

import minivae as mv
from minivae.evaluation.bounds import evaluate
from minivae.evaluation.columns import explain, reconstruction
from minivae.evaluation.passes import nll_and_grad
from minivae.inputs import as_batch
from minivae.likelihoods.mixed import parse, spec_of

RNG = np.random.default_rng(3)
N, D, S = 50, 9, 2
NAME = "mixed:real=0,3;positive=4;count=2,7;poisson=5;binary=1;categorical:3=8;ordinal:4=6"
X = np.column_stack([
    RNG.normal(40, 9, N), RNG.integers(0, 2, N), RNG.poisson(4, N), RNG.normal(-1, 0.1, N), RNG.lognormal(3, 1, N),
    RNG.poisson(2, N), RNG.integers(0, 4, N), RNG.negative_binomial(2, 0.2, N), RNG.integers(0, 3, N),
]).astype(float)  # fmt: skip
GAPS = RNG.random((N, D)) < 0.25
HOLES = np.where(GAPS, np.nan, X)


def model(name=NAME, **more):
    more = {"backend": "numpy", "dtype": "float64", "seed": 4} | more
    return mv.VAE(D, 3, (8,), "tanh", name, **more)


def fill(vae):
    """Random learned tensors of the likelihood."""
    for name, view in vae.parameters.items():
        if name.startswith("likelihood."):
            view[...] = RNG.normal(size=view.shape)


def cells(vae, out, X):
    """−ln p of each cell (R, D) by SciPy, one decoder output row for each row of X, in the model's units."""
    nll, start = np.empty(X.shape), 0
    for part in vae.likelihood.parts:
        columns, kind = list(part.columns), part.key.partition(":")[0]
        n, width, x = len(columns), part.likelihood.width, X[:, columns]
        own, start = out[:, start : start + width], start + width
        if kind == "real":
            logp = stats.norm.logpdf(x, own[:, :n], np.exp(0.5 * own[:, n:]))
        elif kind == "positive":
            logp = stats.lognorm.logpdf(x, np.exp(0.5 * own[:, n:]), scale=np.exp(own[:, :n]))
        elif kind == "count":
            theta = np.exp(vae.parameters["likelihood.count.logtheta"])
            logp = stats.nbinom.logpmf(x, theta, theta / (theta + np.exp(own)))
        elif kind == "poisson":
            logp = stats.poisson.logpmf(x, np.exp(own))
        elif kind == "binary":
            logp = stats.bernoulli.logpmf(x, special.expit(own))
        elif kind == "categorical":
            logp = np.take_along_axis(special.log_softmax(own, axis=1), x.astype(int), axis=1)
        else:
            logp = np.log(
                ordinal(own, vae.parameters[f"likelihood.{part.key}.steps"])[np.arange(len(x)), x[:, 0].astype(int)]
            )
        nll[:, columns] = -logp.reshape(len(x), n)
    return nll


def ordinal(eta, steps):
    """P(x = k), (R, K), of one feature, by SciPy's logistic distribution."""
    c = np.cumsum(np.concatenate([steps[:1], np.exp(steps[1:])]), axis=0)[:, 0]
    return np.diff(stats.logistic.cdf(np.concatenate([[-np.inf], c, [np.inf]]) - eta), axis=1)


@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("gaps", [False, True])
def test_the_nll_is_the_sum_of_scipys_over_the_observed_cells(gaps, kernels):
    vae = model(missing=gaps, kernels=kernels)
    fill(vae)
    out = RNG.normal(size=(N, vae.likelihood.width))
    expected = cells(vae, out, X / np.array([10, 1, 1, 1, 10, 1, 1, 1, 1]))
    given = (HOLES if gaps else X) / np.array([10, 1, 1, 1, 10, 1, 1, 1, 1])
    nll, _ = nll_and_grad(vae, out, as_batch(vae, given), 1.0)
    assert_sums(nll, np.where(GAPS & gaps, 0, expected).sum(axis=1), "sums", np.abs(expected).sum(axis=1))


@pytest.mark.parametrize("kind", ["real", "positive", "count", "poisson", "binary", "categorical:5", "ordinal:5"])
def test_the_probabilities_of_one_column_add_up_to_one(kind):
    vae = mv.VAE(1, 2, (), likelihood=f"mixed:{kind}=0", backend="numpy", dtype="float64")
    fill(vae)
    out = RNG.normal(size=(1, vae.likelihood.width))
    if kind in ("real", "positive"):
        edges = np.linspace(-60, 60, 601)
        nodes, weights = np.polynomial.legendre.leggauss(20)
        half = np.diff(edges)[:, None] / 2
        x, dx = (edges[:-1, None] + half + half * nodes).ravel(), (half * weights).ravel()
        x, dx = (np.exp(x), dx * np.exp(x)) if kind == "positive" else (x, dx)
    else:
        classes = {"count": 4000, "poisson": 200, "binary": 2}.get(kind, 5)
        x, dx = np.arange(float(classes)), np.ones(classes)
    nll, _ = nll_and_grad(vae, np.repeat(out, len(x), axis=0), as_batch(vae, x.reshape(-1, 1)), 1.0)
    assert (np.exp(-nll) * dx).sum() == pytest.approx(1, abs=1e-9)


def test_the_ordinal_block_is_statsmodels_ordered_model():
    """ln p of fitted parameters, and at its maximum our gradient is 0."""
    ordered = pytest.importorskip("statsmodels.miscmodels.ordinal_model").OrderedModel
    z = RNG.normal(size=(400, 1))
    y = np.digitize(1.5 * z[:, 0] + RNG.logistic(size=400), [-1.0, 0.5, 2.0])
    fitted = ordered(y, z, distr="logit").fit(method="bfgs", disp=False, gtol=1e-10)
    vae = mv.VAE(1, 1, (), likelihood="mixed:ordinal:4=0", backend="numpy", dtype="float64")
    vae.parameters["likelihood.ordinal:4.steps"][...] = fitted.params[1:].reshape(3, 1)
    nll, d_out = nll_and_grad(vae, z * fitted.params[0], as_batch(vae, y.reshape(-1, 1).astype(float)), 1.0)
    assert_sums(nll.sum(), -fitted.llf, "model")
    gradient = [(d_out * z).sum(), *vae.scratch_d_params["ordinal:4.steps"].ravel()]
    assert np.abs(gradient).max() < 1e-3


@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_what_stands_in_a_missing_cell_changes_no_bit_and_a_mask_of_ones_none(kernels):
    vae = model(missing=True, kernels=kernels)
    fill(vae)
    out, found = RNG.normal(size=(S * N, vae.likelihood.width)), []
    for under in (0.0, 1e30, np.nan):
        rows = as_batch(vae, HOLES)
        object.__setattr__(rows, "X", np.where(GAPS, under, X))
        nll, d_out = nll_and_grad(vae, out, rows, 0.5)
        found.append((nll.copy(), d_out.copy(), *(d.copy() for d in vae.scratch_d_params.values())))
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    whole, plain = nll_and_grad(vae, out, as_batch(vae, X), 0.5)[0].copy(), model(kernels=kernels)
    plain.buffer.state[-vae.buffer.state.size + vae.buffer.offsets["likelihood.count.logtheta"] :] = vae.buffer.state[
        vae.buffer.offsets["likelihood.count.logtheta"] :
    ]
    np.testing.assert_array_equal(nll_and_grad(plain, out, as_batch(plain, X), 0.5)[0], whole)


def test_ln_p_is_in_the_datas_units_whatever_the_scale():
    vae = model(missing=True)
    fill(vae)
    vae.scale = mv.Scale.fit("standard", HOLES, missing=True, columns=vae.likelihood.scales)
    assert [d for d in range(D) if vae.scale.factor[d] != 1] == [0, 3, 4] and vae.scale.shift[4] == 0
    eps = RNG.normal(size=(1, N, 3))
    mean, logvar = vae.encode(HOLES)
    out = vae.decoder.forward(mean + np.exp(0.5 * logvar) * eps[0])
    expected = np.where(GAPS, 0, cells(vae, out, vae.scale.apply(X, np.float64)) + np.log(vae.scale.factor)).sum(axis=1)
    gap = 0.5 * (eps[0] ** 2 - (mean + np.exp(0.5 * logvar) * eps[0]) ** 2 + logvar).sum(axis=1)
    found, _ = vae.log_likelihood(HOLES, samples=1, eps=eps)
    assert_sums(found, gap - expected, "model")


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_a_table_trains_saves_draws_and_is_explained(tmp_path, objective):
    vae = model(missing=True, objective=objective, samples=2)
    before = evaluate(vae, HOLES).elbo
    history = vae.fit(HOLES, epochs=40, batch_size=25, scale="auto", optimizer=mv.Adam(1e-2), progress=False)
    assert np.isfinite(history["elbo"]).all() and evaluate(vae, HOLES).elbo > before + 1
    vae.save(tmp_path / "model.safetensors")
    again = mv.VAE.load(tmp_path / "model.safetensors", backend="numpy")
    rows = again.sample(500, draw=True)
    np.testing.assert_array_equal(rows, vae.sample(500, draw=True))
    for part in vae.likelihood.parts:
        part.likelihood.check(rows[:, list(part.columns)])
    assert set(np.unique(again.reconstruct(HOLES)[:, [1, 6, 8]])) <= {0.0, 1.0, 2.0, 3.0}
    assert_sums(explain(vae, HOLES[:6]).sum(axis=1), -vae.log_likelihood(HOLES[:6], samples=100)[0], "model")
    by_column = reconstruction(vae, HOLES)
    assert_sums(np.sum(by_column * (~GAPS).mean(axis=0)), evaluate(vae, HOLES).nll, "model", np.abs(by_column).sum())
    assert vae.trace(HOLES).terms.loss == vae.objective(HOLES).loss


@pytest.mark.parametrize("kind", ["positive", "ordinal:5", "categorical:5", "real", "binary"])
def test_draws_have_the_moments_of_the_probabilities(kind):
    vae = mv.VAE(1, 2, (), likelihood=f"mixed:{kind}=0", backend="numpy", dtype="float64")
    fill(vae)
    (part,), out = vae.likelihood.parts, 0.5 * RNG.normal(size=(1, vae.likelihood.width))
    x = vae.likelihood.draw(np.repeat(out, 40000, axis=0), RNG.random((40000, 1)))
    assert x.mean() == pytest.approx(part.likelihood.mean(out)[0, 0], abs=5 * x.std() / 200)
    if not kind.startswith(("positive", "real")):
        assert vae.likelihood.mean(out)[0, 0] == np.bincount(x[:, 0].astype(int)).argmax()


def test_names_and_blocks_are_one():
    blocks = parse(NAME.partition(":")[2], D)
    assert spec_of(blocks) == NAME
    columns = mv.Columns.infer({"age": [1.5, 2.5, -3.0] * 3, "job": ["a", "b", "c"] * 3, "sex": [0, 1, 1] * 3})
    vae = mv.VAE(3, 2, (4,), likelihood=columns, backend="numpy")
    assert vae.likelihood.name == "mixed:real=0;categorical:3=1;binary=2"
    assert vae.encoder.layers[0].n_in == 1 + 3 + 1


@pytest.mark.parametrize(
    "mistake, words",
    [
        (lambda: model("mixed:real=0-7"), "each of 9 columns"),
        (lambda: model("mixed:real=0-8;binary=8"), "each of 9 columns"),
        (lambda: model("mixed:real=0-9"), "column 9 of 9"),
        (lambda: model("mixed:real=0-3;real=4-8"), "each kind once"),
        (lambda: model("mixed:integer=0-8"), "'integer' is no block; expected real, positive"),
        (lambda: model("mixed:ordinal=0-8"), "with the number of classes"),
        (lambda: model("mixed:"), "expected blocks of columns"),
        (lambda: model("mixed:ordinal:1=0-8"), "number of classes from 2"),
        (lambda: model().fit(np.where(np.arange(D) == 4, 0, X)), "column 4: 'positive' explains numbers > 0"),
        (lambda: model().fit(np.where(np.arange(D) == 2, -1, X)), "column 2: .*explains counts"),
        (lambda: model().fit(np.where(np.arange(D) == 6, 4, X), scale="standard"), "column 6: .*take 'ordinal:5'"),
        (lambda: model().fit(X, scale=mv.Scale.fit("standard", X)), "changes counts or classes"),
    ],
)
def test_mistakes_get_one_line(mistake, words):
    with pytest.raises(mv.UsageError, match=words) as refused:
        mistake()
    assert "\n" not in str(refused.value)


@pytest.mark.skipif(hostcuda.compiler() is None, reason="g++ is not here to compile the CUDA sources")
def test_on_a_device_captured_or_not_training_is_the_cpus(monkeypatch):
    standin.install(monkeypatch, nvmath=True)
    found = []
    for backend, capture in (("cupy", True), ("cupy", False), ("numpy", False)):
        vae = model(missing=True, backend=backend)
        vae.backend.capture = capture
        found.append(
            vae.fit(HOLES / np.array([10, 1, 1, 1, 1, 1, 1, 1, 1]), epochs=2, batch_size=20, progress=False)["loss"]
        )
    assert found[0] == found[1]
    assert_sums(found[0], found[2], "training")
