"""The objectives: the importance-weighted bound against torch, SciPy, exact answers; antithetic pairs; at the door."""

import numpy as np
import pytest
from scipy import special, stats
from test_vae import linear_gaussian, set_encoder
from tolerances import TORCH, assert_sums

import minivae as mv
from minivae.errors import UsageError
from minivae.evaluation.bounds import evaluate
from minivae.training.progress import Progress

RNG = np.random.default_rng(0)
D, L = 6, 3


def model(objective="iwae", samples=1, likelihood="bernoulli", **more):
    arguments = {"activation": "tanh", "backend": "numpy", "dtype": "float64", "seed": 2} | more
    return mv.VAE(D, L, (5,), likelihood=likelihood, objective=objective, samples=samples, **arguments)


def bits(B=4):
    return (RNG.random((B, D)) < 0.5).astype(float)


def scipy_log_w(vae, X, eps, beta=1.0):
    """ln p(x|z) + β [ln p(z) − ln q(z|x)] of a Bernoulli model, from its public face and SciPy."""
    mean, logvar = vae.encode(X)
    sigma = np.exp(0.5 * logvar)
    Z = mean + sigma * eps
    rho = np.stack([vae.decode(z) for z in Z])
    ratio = (stats.norm.logpdf(Z) - stats.norm.logpdf(Z, mean, sigma)).sum(axis=2)
    return stats.bernoulli.logpmf(X, rho).sum(axis=2) + beta * ratio


# ---- the importance-weighted bound ----------------------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 2, 7])
def test_the_bound_is_scipys_log_mean_of_the_weights(K):
    vae, X, eps = model(samples=K), bits(), RNG.normal(size=(K, 4, L))
    terms, log_w = vae.objective(X, eps), scipy_log_w(vae, X, eps)
    assert_sums(terms.log_w, log_w, of="model")
    assert_sums(terms.bound_rows, special.logsumexp(log_w, axis=0) - np.log(K), of="model")
    assert terms.loss == pytest.approx(-terms.bound_rows.mean(), rel=1e-14)


def test_at_k_1_the_loss_is_eq_12_with_a_sampled_kl_to_the_last_digit():
    vae, X, eps = model(), bits(), RNG.normal(size=(1, 4, L))
    terms = vae.objective(X, eps)
    np.testing.assert_array_equal(terms.bound_rows, terms.log_w[0])
    assert_sums(terms.bound_rows, scipy_log_w(vae, X, eps)[0], of="sums")


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian:0.7"])
@pytest.mark.parametrize("K, beta", [(1, 1.0), (1, 0.3), (5, 1.0), (5, 0.3)])
def test_the_gradient_is_what_torch_makes_of_the_formula(K, beta, likelihood):
    """Eq. 12 with a sampled KL at K = 1: torch differentiates ln (1/K) Σ w itself, through its own densities."""
    torch = pytest.importorskip("torch", reason="torch is a test-only dependency: pip install torch")
    vae, X, eps = model(samples=K, likelihood=likelihood), bits(), RNG.normal(size=(K, 4, L))
    terms = vae.objective_and_grad(X, eps, beta=beta)
    P = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in vae.parameters.items()}
    hidden = torch.tanh(torch.tensor(X) @ P["encoder.0.W"] + P["encoder.0.b"])
    H = hidden @ P["encoder.1.W"] + P["encoder.1.b"]
    posterior = torch.distributions.Normal(H[:, :L], torch.exp(0.5 * H[:, L:]))
    Z = posterior.mean + posterior.stddev * torch.tensor(eps)
    out = torch.tanh(Z @ P["decoder.0.W"] + P["decoder.0.b"]) @ P["decoder.1.W"] + P["decoder.1.b"]
    q = torch.distributions.Bernoulli(logits=out) if likelihood == "bernoulli" else torch.distributions.Normal(out, 0.7)
    ratio = torch.distributions.Normal(0.0, 1.0).log_prob(Z) - posterior.log_prob(Z)
    log_w = q.log_prob(torch.tensor(X)).sum(2) + beta * ratio.sum(2)
    loss = -(torch.logsumexp(log_w, 0) - np.log(K)).mean()
    loss.backward()
    assert terms.loss == pytest.approx(loss.item(), rel=1e-13)
    for name, gradient in vae.gradients.items():
        np.testing.assert_allclose(gradient, P[name].grad.numpy(), **TORCH, err_msg=name)


def test_at_k_1_the_mean_is_the_analytic_elbo():
    n = 20_000
    vae, X = model(), bits(B=1)
    eps, rows = RNG.normal(size=(1, n, L)), np.tile(X, (n, 1))
    bounds = vae.objective(rows, eps).bound_rows
    analytic = model("elbo").objective(rows, eps)
    gap = bounds - -(analytic.nll_rows + analytic.kl_rows)  # the same samples: only the KL's own noise is left
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(n)
    assert gap.std() > 0.01


def test_the_bound_does_not_fall_with_k_and_stays_below_the_marginal():
    """A linear-Gaussian model with an encoder that is not its posterior; errors over rows that are paired."""
    sigma, Ks, n = 0.7, (1, 2, 5, 20, 100), 400
    vae, W, b, marginal, covariance = linear_gaussian(sigma=sigma, rng=np.random.default_rng(5), objective="iwae")
    set_encoder(vae, W, b, covariance, sigma)
    vae.parameters["encoder.0.b"][2:] += 0.8
    X = marginal.rvs(n, random_state=0)
    bounds = [vae.objective(X, np.random.default_rng(K).normal(size=(K, n, 2))).bound_rows for K in Ks]
    for lower, higher in zip(bounds, [*bounds[1:], marginal.logpdf(X)], strict=True):
        rise = higher - lower
        assert rise.mean() > -4 * rise.std() / np.sqrt(n)
    assert bounds[-1].mean() > bounds[0].mean() + 0.1


def test_with_the_exact_posterior_the_bound_is_the_marginal_for_every_k():
    sigma = 0.7
    vae, W, b, marginal, covariance = linear_gaussian(L=1, sigma=sigma, rng=np.random.default_rng(5), objective="iwae")
    set_encoder(vae, W, b, covariance, sigma)
    X = RNG.normal(size=(6, 5))
    for K in (1, 3, 8):
        terms = vae.objective_and_grad(X, RNG.normal(size=(K, 6, 1)))
        assert_sums(terms.bound_rows, marginal.logpdf(X), of="training", summed=1)
        assert_sums(vae.loss_fn.weight, 1 / (6 * K), of="training")


def test_elbo_nll_and_kl_of_the_terms_are_those_of_eq_13():
    X, eps = bits(), RNG.normal(size=(5, 4, L))
    ours, plain = model(samples=5).objective(X, eps), model("elbo", 5).objective(X, eps)
    assert (ours.elbo, ours.nll, ours.kl) == (plain.elbo, plain.nll, plain.kl)
    np.testing.assert_allclose(ours.sums(), 4 * np.array([ours.loss, ours.nll, ours.kl]))


def test_terms_of_a_step_are_views_and_their_copies_are_not():
    vae, X = model(samples=3), bits()
    step = vae.train_step(X, mv.SGD(0.1))
    kept, names = step.copy(), ("log_w", "bound_rows", "nll_rows", "kl_rows", "kl_dims")
    before = {name: getattr(step, name).copy() for name in names}
    vae.train_step(1 - X, mv.SGD(0.1))
    for name in names:
        np.testing.assert_array_equal(getattr(kept, name), before[name])
        assert (getattr(step, name) != before[name]).any()
    assert kept.loss != step.loss


def test_weights_stay_finite_where_the_losses_are_huge():
    vae, X = model(samples=4, likelihood="gaussian:0.001", dtype="float32"), 30 * RNG.normal(size=(4, D))
    terms = vae.objective_and_grad(X)
    assert terms.loss > 1e6
    assert np.isfinite(vae.buffer.grad).all()
    assert_sums(vae.loss_fn.weight.sum(axis=0), 1 / 4, dtype="float32")


def test_clamped_log_variances_are_counted_once_a_step():
    counts = []
    for objective in ("elbo", "iwae"):
        vae = model(objective, 3, "gaussian")
        vae.parameters["decoder.1.b"][D:] = -20
        vae.train_step(RNG.normal(size=(4, D)), mv.SGD(1e-9))
        counts.append(int(vae.likelihood.clamped[0]))
    assert counts == [3 * 4 * D] * 2


# ---- training with it -----------------------------------------------------------------------------------------------

DATA = (RNG.random((90, D)) < [0.1, 0.9, 0.5, 0.2, 0.5, 0.7]).astype(np.float32)


def fit(vae, **options):
    return vae.fit(DATA, **{"epochs": 3, "batch_size": 30, "progress": False} | options)


def test_fit_lowers_the_loss_and_validates_by_the_bound():
    vae = model(samples=5, dtype="float32")
    history = fit(vae, epochs=30, optimizer=mv.Adam(1e-2), validation=DATA[:30])
    assert history["loss"][-1] < history["loss"][0] - 0.5
    assert history["bound"][-1] == "yes"
    assert history.best_epoch == int(np.argmax(history["val_iwae"])) + 1
    result = evaluate(vae, DATA[:30])
    assert result.iwae == result.bound == history["val_iwae"][history.best_epoch - 1] > result.elbo
    assert fit(model("elbo"), validation=DATA[:30])["val_iwae"] == [""] * 3
    assert "iwae" not in evaluate(model("elbo"), DATA).to_dict()


def test_a_tempered_ratio_is_not_a_bound_for_more_than_one_sample():
    assert fit(model(samples=2), beta=2.0)["bound"] == ["no"] * 3
    assert fit(model(samples=1), beta=2.0)["bound"] == ["yes"] * 3
    assert fit(model(samples=2), beta=mv.Beta(1, warmup=1))["bound"] == ["no", "yes", "yes"]


def test_the_objective_is_kept_with_the_model_and_a_resumed_run_must_agree(tmp_path):
    fit(model(samples=4, antithetic=True, dtype="float32"), run=tmp_path / "r")
    loaded = mv.VAE.load(tmp_path / "r/model.safetensors", backend="numpy")
    assert (loaded.loss_fn.name, loaded.samples, loaded.antithetic) == ("iwae", 4, True)
    for change in ({"objective": "elbo"}, {"antithetic": False}, {"samples": 2}):
        other = model(**{"samples": 4, "antithetic": True, "dtype": "float32"} | change)
        with pytest.raises(UsageError, match=f"begun with model {next(iter(change))}"):
            fit(other, run=tmp_path / "r", resume=True, epochs=4)


def test_the_bound_of_scaled_data_is_in_their_own_units():
    data = RNG.normal(size=(40, D)) * np.arange(1, D + 1) + 5
    scaled = {unit: mv.Scale.fit("standard", unit * data) for unit in (1, 1000)}
    bounds = [
        evaluate(model(samples=3, likelihood="gaussian"), unit * data, scale=s).iwae for unit, s in scaled.items()
    ]
    assert bounds[0] - bounds[1] == pytest.approx(D * np.log(1000), rel=1e-9)


def test_the_loss_is_shown_if_it_differs_from_nll_plus_kl(capsys):
    history = fit(model(samples=3), epochs=1, progress=True)
    assert f"epoch 1/1  loss {history['loss'][0]:.2f}  elbo {history['elbo'][0]:.2f}" in capsys.readouterr().err
    history = fit(model("elbo"), epochs=1, progress=True)
    assert f"epoch 1/1  elbo {history['elbo'][0]:.2f}" in capsys.readouterr().err


def test_the_live_line_tells_the_loss_so_far(monkeypatch):
    told, progress = [], Progress()
    monkeypatch.setattr(type(progress.live), "shown", True)
    monkeypatch.setattr(progress.live, "start", lambda text: None)
    monkeypatch.setattr(progress.live, "update", told.append)
    monkeypatch.setattr("minivae.training.progress.REFRESH_SECONDS", 0.0)
    history = fit(model(samples=3), epochs=1, progress=progress)
    assert f"epoch 1/1  3/3  loss {history['loss'][0]:.2f}  elbo {history['elbo'][0]:.2f}" in told[-1]


# ---- antithetic pairs -----------------------------------------------------------------------------------------------


def test_antithetic_noise_comes_in_pairs_that_cancel():
    vae = model("elbo", 6, antithetic=True)
    eps = vae.epsilon(None, 5, "posterior", None, 1)
    np.testing.assert_array_equal(eps[3:], -eps[:3])
    plain = model("elbo", 3).epsilon(None, 5, "posterior", None, 1)
    np.testing.assert_array_equal(eps[:3], plain)


def test_antithetic_pairs_make_the_mean_of_a_linear_decoder_exact():
    """What is odd in ε cancels: the mean output over a pair is the output at the mean."""
    vae = mv.VAE(D, L, (), "identity", "gaussian:1", samples=2, antithetic=True, backend="numpy", dtype="float64")
    X = RNG.normal(size=(4, D))
    vae.objective(X)
    Z = vae.posterior.Z.copy()
    assert_sums(vae.decode(Z[0]) + vae.decode(Z[1]), 2 * vae.reconstruct(X), of="sums", summed=1)


def test_antithetic_pairs_lower_the_variance_and_keep_the_mean_of_the_elbo():
    X, n = bits(B=1), 4000
    rows = np.tile(X, (n, 1))
    nll = {kind: model("elbo", 2, antithetic=kind).objective(rows).nll_rows for kind in (False, True)}
    error = np.sqrt((nll[False].var() + nll[True].var()) / n)
    assert abs(nll[True].mean() - nll[False].mean()) < 4 * error
    assert nll[True].var() < 0.7 * nll[False].var()


# ---- at the door ----------------------------------------------------------------------------------------------------

X4 = np.zeros((4, D))
MISTAKES = {
    "free bits in a step": (lambda: model().train_step(X4, mv.SGD(), free_bits=0.1), "free_bits=0.1 with objective"),
    "free bits": (lambda: model().objective(X4, free_bits=0.1), "or take objective 'elbo'"),
    "free bits in fit": (lambda: model().fit(X4, free_bits=0.1), "free_bits=0.1"),
    "an odd number of pairs": (lambda: model(samples=3, antithetic=True), "samples=3 with antithetic=True.*even"),
    "antithetic by word": (lambda: model(antithetic="no"), "True or False"),
    "objective": (lambda: model("iwea"), "objective='iwea': expected one of elbo, iwae"),
    "objective a class": (lambda: model(int), "objective: expected its name"),
    "no samples": (lambda: model(samples=0), "samples=0: expected an integer of at least 1"),
    "σ² of the batch": (
        lambda: mv.VAE(D, 2, (), likelihood="gaussian:optimal", objective="iwae"),
        "take 'gaussian:shared'",
    ),
    "eps": (lambda: model(samples=3).objective(X4, eps=np.zeros((3, 4, 2))), r"eps: expected \(4, 3\), or \(S, 4, 3\)"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_get_one_clear_line(mistake):
    action, match = MISTAKES[mistake]
    with pytest.raises(UsageError, match=match) as caught:
        action()
    assert "\n" not in str(caught.value)
