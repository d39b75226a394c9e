"""The model: its exact answers, its public face, and what it says at the door."""

import numpy as np
import pytest
from scipy import stats
from tolerances import assert_sums

import minivae as mv
from minivae.errors import UsageError

RNG = np.random.default_rng(0)


def linear_gaussian(L=2, D=5, sigma=0.7, rng=RNG, **more):
    """x = W z + b + σ n: a linear decoder, and what is known of it exactly."""
    vae = mv.VAE(D, L, (), "identity", f"gaussian:{sigma}", dtype="float64", backend="numpy", **more)
    W, b = 0.8 * rng.normal(size=(L, D)), rng.normal(size=D)
    vae.parameters["decoder.0.W"][...], vae.parameters["decoder.0.b"][...] = W, b
    marginal = stats.multivariate_normal(b, W.T @ W + sigma**2 * np.eye(D))
    precision = np.eye(L) + W @ W.T / sigma**2
    return vae, W, b, marginal, np.linalg.inv(precision)


def set_encoder(vae, W, b, covariance, sigma):
    """The exact posterior's mean, and the variances of a diagonal one."""
    L = vae.latent_dim
    vae.parameters["encoder.0.W"][...] = 0
    vae.parameters["encoder.0.W"][:, :L] = (covariance @ W / sigma**2).T
    vae.parameters["encoder.0.b"][:L] = -covariance @ W @ b / sigma**2
    vae.parameters["encoder.0.b"][L:] = np.log(np.diag(covariance))


def test_elbo_of_a_linear_gaussian_model_with_its_exact_posterior_is_the_marginal_likelihood():
    """L = 1: the posterior is in the family, so the bound is tight: E over ε by Gauss–Hermite, to 1e-10."""
    sigma = 0.7
    vae, W, b, marginal, covariance = linear_gaussian(L=1, sigma=sigma)
    set_encoder(vae, W, b, covariance, sigma)
    X = RNG.normal(size=(6, 5))
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    eps = np.broadcast_to(nodes[:, None, None], (20, 6, 1))
    terms = [vae.objective(X, eps[k]) for k in range(20)]
    nll = sum(w * t.nll_rows for w, t in zip(weights, terms, strict=True)) / weights.sum()
    assert_sums(-(nll + terms[0].kl_rows), marginal.logpdf(X), of="training", summed=1)


def test_importance_sampling_with_the_exact_posterior_has_no_error():
    sigma = 0.7
    vae, W, b, marginal, covariance = linear_gaussian(L=1, sigma=sigma)
    set_encoder(vae, W, b, covariance, sigma)
    X = RNG.normal(size=(6, 5))
    log_px, error = vae.log_likelihood(X, samples=7)
    assert_sums(log_px, marginal.logpdf(X), of="training", summed=1)
    assert (error < 1e-6).all()


def test_importance_sampling_finds_the_marginal_within_its_errors():
    sigma = 0.7
    vae, W, b, marginal, covariance = linear_gaussian(sigma=sigma)
    set_encoder(vae, W, b, covariance, sigma)
    X = marginal.rvs(50, random_state=0)
    log_px, error = vae.log_likelihood(X, samples=5000)
    z = (log_px - marginal.logpdf(X)) / error
    assert np.abs(z).max() < 5
    assert 0.6 < z.std() < 1.4
    elbo = vae.objective(X, RNG.normal(size=(2000, 50, 2))).elbo
    assert elbo < marginal.logpdf(X).mean()


def test_importance_sampling_streams_the_same_whatever_the_tile(monkeypatch):
    vae = linear_gaussian()[0]
    X, eps = RNG.normal(size=(9, 5)), RNG.normal(size=(40, 9, 2))
    whole = vae.log_likelihood(X, samples=40, eps=eps)
    monkeypatch.setattr("minivae.evaluation.tiles.TILE_ROWS", 9)
    monkeypatch.setattr("minivae.evaluation.bounds.IMPORTANCE_ROWS", 2)
    assert_sums(vae.log_likelihood(X, samples=40, eps=eps), whole, of="model")


def test_one_importance_sample_is_eq_12_with_a_sampled_kl():
    vae = linear_gaussian()[0]
    X, eps = RNG.normal(size=(9, 5)), RNG.normal(size=(1, 9, 2))
    mean, logvar = vae.encode(X)
    z = mean + np.exp(0.5 * logvar) * eps[0]
    gap = stats.norm.logpdf(z).sum(axis=1) - stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum(axis=1)
    log_px, error = vae.log_likelihood(X, samples=1, eps=eps)
    assert_sums(log_px, gap - vae.objective(X, eps).nll_rows, of="model")
    assert np.isnan(error).all()


def test_more_samples_average_the_reconstruction_and_leave_the_kl():
    vae = mv.VAE(6, 3, (5,), dtype="float64", backend="numpy")
    X, eps = (RNG.random((4, 6)) < 0.5).astype(float), RNG.normal(size=(3, 4, 3))
    together, alone = vae.objective(X, eps), [vae.objective(X, e) for e in eps]
    assert together.nll == pytest.approx(np.mean([terms.nll for terms in alone]), rel=1e-14)
    assert together.kl == alone[0].kl


def test_terms_add_up():
    vae = mv.VAE(6, 3, (5,), dtype="float64", backend="numpy")
    X = (RNG.random((4, 6)) < 0.5).astype(float)
    terms = vae.objective(X, beta=0.3)
    assert terms.loss == pytest.approx(terms.nll + 0.3 * terms.kl)
    assert terms.elbo == pytest.approx(-(terms.nll + terms.kl))
    assert terms.nll_rows.shape == terms.kl_rows.shape == (4,)
    held = vae.objective(X, beta=0.3, free_bits=10.0)
    assert held.loss == pytest.approx(held.nll + 0.3 * 3 * 10.0)
    for given in (terms, held):
        np.testing.assert_allclose(given.sums(), np.array([given.loss, given.nll, given.kl]) * 4)


def test_objective_changes_no_state_and_draws_the_same_noise_every_time():
    vae = mv.VAE(6, 3, (5,), backend="numpy")
    X = (RNG.random((4, 6)) < 0.5).astype(np.float32)
    before = vae.buffer.data.copy()
    first = vae.objective(X)
    vae.train_step(X, mv.SGD(1e-9))
    vae.buffer.data[...] = before
    assert vae.objective(X).loss == first.loss
    assert vae.objective_and_grad(X).loss == first.loss


def test_terms_of_objective_are_copies_and_those_of_train_step_views():
    vae = mv.VAE(6, 3, (5,), backend="numpy")
    X = (RNG.random((4, 6)) < 0.5).astype(np.float32)
    kept = vae.objective(X)
    loss = kept.loss
    step = vae.train_step(X, mv.SGD(0.1))
    copy, view = step.copy(), step.loss
    vae.train_step(1 - X, mv.SGD(0.1))
    assert kept.loss == loss
    assert copy.loss == view
    assert step.loss != view


def test_bare_steps_draw_fresh_noise_and_a_new_model_repeats_them():
    X = (RNG.random((4, 6)) < 0.5).astype(np.float32)
    losses = []
    for _ in range(2):
        vae = mv.VAE(6, 3, (5,), backend="numpy", seed=9)
        losses.append([vae.train_step(X, mv.SGD(1e-12)).loss for _ in range(3)])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 3


def test_a_rows_noise_goes_with_its_number_and_not_its_place():
    vae = mv.VAE(6, 3, (5,), backend="numpy", dtype="float64")
    X = (RNG.random((4, 6)) < 0.5).astype(float)
    order = np.array([2, 0, 3, 1])
    straight = vae.train_step(X, mv.SGD(1e-300), pass_=1).nll_rows.copy()
    shuffled = vae.train_step(X[order], mv.SGD(1e-300), rows=order, pass_=1).nll_rows
    assert_sums(shuffled, straight[order], of="sums")


def test_backward_overwrites_gradients():
    vae = mv.VAE(6, 3, (5,), backend="numpy", dtype="float64")
    X = (RNG.random((4, 6)) < 0.5).astype(float)
    vae.objective_and_grad(X)
    once = vae.buffer.grad.copy()
    vae.buffer.grad[...] = np.nan
    for grad in vae.gradients.values():
        grad[...] = np.nan
    vae.objective_and_grad(X)
    for name, grad in vae.gradients.items():
        np.testing.assert_array_equal(grad, vae.buffer.view(once, name))


def test_parameters_are_named_and_shaped_as_documented():
    vae = mv.VAE(784, 20, (500, 30), likelihood="gaussian", backend="numpy")
    shapes = {name: view.shape for name, view in vae.parameters.items()}
    assert shapes == {
        "encoder.0.W": (784, 500), "encoder.0.b": (500,), "encoder.1.W": (500, 30), "encoder.1.b": (30,),
        "encoder.2.W": (30, 40), "encoder.2.b": (40,), "decoder.0.W": (20, 30), "decoder.0.b": (30,),
        "decoder.1.W": (30, 500), "decoder.1.b": (500,), "decoder.2.W": (500, 1568), "decoder.2.b": (1568,),
    }  # fmt: skip
    assert vae.gradients.keys() == vae.parameters.keys()
    for view in vae.parameters.values():
        assert view.ctypes.data % 64 == 0
        assert np.shares_memory(view, vae.buffer.data)


@pytest.mark.parametrize("name", ["parameters", "gradients", "seed"])
def test_what_a_model_computes_with_is_not_replaced_in_silence(name):
    with pytest.raises(AttributeError):
        setattr(mv.VAE(4, 2, (3,)), name, {})


@pytest.mark.parametrize(
    "init, spread", [("glorot", np.sqrt(2 / 700)), ("he", np.sqrt(2 / 300)), ("normal:0.05", 0.05)]
)
def test_initialisations_have_their_spread(init, spread):
    W = mv.VAE(300, 2, (400,), init=init, backend="numpy").parameters["encoder.0.W"]
    assert W.std() == pytest.approx(spread, rel=0.02)
    assert abs(W.mean()) < 4 * spread / np.sqrt(W.size)
    if init == "glorot":
        assert np.abs(W).max() <= np.sqrt(6 / 700)


def test_seeds_and_dtypes_of_the_initialisation():
    single = mv.VAE(30, 2, (40,), backend="numpy", seed=1).parameters
    double = mv.VAE(30, 2, (40,), backend="numpy", seed=1, dtype="float64").parameters
    other = mv.VAE(30, 2, (40,), backend="numpy", seed=2).parameters
    assert not np.array_equal(single["encoder.0.W"], other["encoder.0.W"])
    for name in single:
        np.testing.assert_allclose(single[name], double[name], atol=1e-7)


def test_using_the_model_streams_in_batches(monkeypatch):
    vae = mv.VAE(6, 3, (5,), backend="numpy", dtype="float64")
    X, Z = RNG.random((10, 6)), RNG.normal(size=(10, 3))
    uses = {
        "encode": lambda: vae.encode(X)[0],
        "decode": lambda: vae.decode(Z),
        "draw": lambda: vae.decode(Z, draw=True),
        "reconstruct": lambda: vae.reconstruct(X),
        "sample": lambda: vae.sample(10, seed=1, draw=True),
    }
    whole = {name: use() for name, use in uses.items()}
    monkeypatch.setattr("minivae.evaluation.passes.BATCH_ROWS", 3)
    for name, use in uses.items():
        assert_sums(use(), whole[name], of="sums", err_msg=name)


def test_samples_of_a_seed_repeat_and_seeds_differ():
    vae = mv.VAE(6, 3, (5,), backend="numpy")
    np.testing.assert_array_equal(vae.sample(4, seed=1), vae.sample(4, seed=1))
    assert not np.array_equal(vae.sample(4, seed=1), vae.sample(4, seed=2))
    assert set(np.unique(vae.sample(4, seed=1, draw=True))) <= {0, 1}


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float16", "float64"])
def test_x_of_any_real_dtype_gives_the_same_terms(dtype):
    vae = mv.VAE(6, 3, (5,), backend="numpy")
    X = RNG.random((4, 6)) < 0.5
    assert vae.objective(X.astype(dtype)).loss == vae.objective(X.astype(np.float32)).loss
    assert vae.objective(np.asfortranarray(X.astype(np.float32))).loss == vae.objective(X.astype(np.float32)).loss


X46 = np.zeros((4, 6), np.float32)
MISTAKES = {
    "X of another width": (lambda v: v.objective(np.zeros((4, 7))), r"\(rows, 6\).*got shape \(4, 7\)"),
    "X with one dimension": (lambda v: v.objective(np.zeros(6)), r"\(rows, 6\)"),
    "X that is a list": (lambda v: v.objective([[0] * 6]), "got list"),
    "no rows": (lambda v: v.encode(np.zeros((0, 6))), "at least one row"),
    "complex X": (lambda v: v.encode(X46.astype(complex)), "real numbers"),
    "text": (lambda v: v.encode(X46.astype(str)), "real numbers"),
    "X outside the domain": (lambda v: v.objective(X46 + 2), "gaussian"),
    "eps of another shape": (lambda v: v.objective(X46, eps=np.zeros((4, 2))), r"expected \(4, 3\).*got \(4, 2\)"),
    "rows of another length": (lambda v: v.train_step(X46, mv.SGD(), rows=np.arange(3)), r"rows: expected"),
    "Z of another width": (lambda v: v.decode(np.zeros((4, 6))), r"Z: expected an array \(rows, 3\)"),
    "Z that is a list": (lambda v: v.decode([[0, 0, 0]]), "got list"),
    "no samples": (lambda v: v.sample(0), "n=0: expected"),
    "no importance samples": (lambda v: v.log_likelihood(X46, samples=0), "samples=0"),
    "latent_dim": (lambda v: mv.VAE(6, 0), "latent_dim=0"),
    "features": (lambda v: mv.VAE(6.0), "features=6.0"),
    "hidden": (lambda v: mv.VAE(6, hidden=(5, -1)), r"hidden\[1\]=-1"),
    "hidden a number": (lambda v: mv.VAE(6, hidden=32), "a tuple of widths"),
    "likelihood a class": (lambda v: mv.VAE(6, likelihood=int), "likelihood: expected its name"),
    "a data frame": (lambda v: v.encode(Frame()), r"got Frame; its .to_numpy\(\) is one"),
    "activation": (lambda v: mv.VAE(6, activation="swish"), "identity, relu"),
    "objective": (lambda v: mv.VAE(6, objective="elob"), "elbo"),
    "init": (lambda v: mv.VAE(6, init="normal:x"), "glorot"),
    "beta of text": (lambda v: v.objective(X46, beta="1"), "beta='1': expected a number ≥ 0"),
    "beta NaN": (lambda v: v.objective_and_grad(X46, beta=np.nan), "beta=nan"),
    "beta below 0": (lambda v: v.train_step(X46, mv.SGD(), beta=-1), "beta=-1"),
    "free bits of text": (lambda v: v.objective(X46, free_bits="x"), "free_bits='x'"),
    "free bits below 0": (
        lambda v: v.train_step(X46, mv.SGD(), free_bits=-1),
        "free_bits=-1: expected a number",
    ),
    "free bits of fit": (lambda v: v.fit(X46, free_bits=-1), "free_bits=-1: expected a number"),
    "optimizer a name": (lambda v: v.train_step(X46, "adam"), "optimizer='adam': expected an optimizer, such as"),
    "optimizer a class": (lambda v: v.train_step(X46, mv.Adam), "expected an optimizer, such as mv.Adam"),
    "NaN": (
        lambda v: v.objective(np.full((4, 6), np.nan)),
        "X: 24 of 24 values are NaN or inf.* row 0, column 0",
    ),
    "another model's optimizer": (lambda v: _two_models(), "another model"),
}


class Frame:
    """Something that is not an array and can make one."""

    def to_numpy(self):
        return X46


def _two_models():
    optimizer = mv.Adam()
    mv.VAE(6, 3, (5,), backend="numpy").train_step(X46, optimizer)
    mv.VAE(6, 3, (50,), backend="numpy").train_step(X46, optimizer)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_clear_line(mistake):
    action, match = MISTAKES[mistake]
    with pytest.raises(UsageError, match=match) as caught:
        action(mv.VAE(6, 3, (5,), backend="numpy"))
    assert "\n" not in str(caught.value)
