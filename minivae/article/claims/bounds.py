"""Consequences of eq. 12 and 7: the importance-weighted bound and two estimates of ln p(x), against exact values."""

from __future__ import annotations

import numpy as np

from ...evaluation.annealing import annealed
from ...objectives import WeightedTerms
from ...vae import VAE
from .. import bayes
from .claim import ROUNDING, Checks, above, at_least, at_most, claim, near
from .models import all_bits, float64_vae, linear_gaussian, perturbed, standard_error


@claim("iwae-one", (12,), "Eq. 12 with its KL sampled is the importance-weighted bound at K = 1, value and gradient.")
def iwae_one() -> Checks:
    """Without hidden layers the encoder's gradients are sums over rows; here the sampled KL's part is computed."""
    elbo, iwae = (perturbed(float64_vae(5, 2, (), objective=name)) for name in ("elbo", "iwae"))
    X, L = all_bits(5), 2
    B, eps = len(X), np.random.default_rng(27).standard_normal((len(X), 2))
    mean, logvar = elbo.encode(X)
    z = mean + np.exp(0.5 * logvar) * eps
    sampled_kl = 0.5 * (z**2 - eps**2 - logvar).sum(axis=1)
    terms = elbo.objective_and_grad(X, eps, beta=0.0)
    expected = {name: gradient.copy() for name, gradient in elbo.gradients.items()}
    dH = np.hstack([z, 0.5 * (z * eps * np.exp(0.5 * logvar) - 1)]) / B  # of the sampled KL, eq. 12's second term
    assert dH.shape == (B, 2 * L)
    expected["encoder.0.W"] += X.T @ dH
    expected["encoder.0.b"] += dH.sum(axis=0)
    found = iwae.objective_and_grad(X, eps)
    off = max(float(np.abs(iwae.gradients[name] - gradient).max()) for name, gradient in expected.items())
    return [
        at_most("|loss − eq. 12|", abs(found.loss - float((terms.nll_rows + sampled_kl).mean())), ROUNDING),
        at_most("largest error of a gradient", off, ROUNDING),
    ]


@claim("iwae-mean", (12, 13), "Both forms of 𝓛 agree on average: the sampled bound at K = 1 and the ELBO of eq. 13.")
def iwae_mean() -> Checks:
    vae, X = linear_gaussian(objective="iwae", rows=200)
    rng = np.random.default_rng(28)
    draws = np.array([vae.objective(X, rng.standard_normal((len(X), 2))).loss for _ in range(500)])
    exact = -float(bayes.LinearGaussian.of(vae).elbo(X, *vae.encode(X)).mean())
    return [near("mean loss, 500 draws of ε", draws.mean(), exact, standard_error(draws))]


@claim(
    "iwae-grows", (7, 12), "More samples inside the logarithm: the bound does not fall with K, and stays below ln p(x)."
)
def iwae_grows() -> Checks:
    """Differences of each row and draw, with their errors; the smaller sets of samples are parts of the larger ones."""
    vae, X = linear_gaussian(objective="iwae")
    exact = bayes.LinearGaussian.of(vae).log_px(X)
    eps, sizes = np.random.default_rng(29).standard_normal((64, len(X), 2)), (1, 2, 4, 16, 64)
    all_terms = [_weighted(vae, X, eps[:K]) for K in sizes]
    bounds = [terms.bound_rows for terms in all_terms]
    checks = []
    for K, next_K, low, high in zip(sizes, [*sizes[1:], 0], bounds, [*bounds[1:], exact], strict=True):
        rise = high - low
        label = f"from K = {K} to {next_K}" if next_K else f"from K = {K} to ln p(x)"
        checks.append(at_least(f"rise {label}", float(rise.mean()), -4 * standard_error(rise)))
    rise = bounds[-1] - bounds[0]
    checks.append(above(f"rise from K = 1 to {sizes[-1]}", float(rise.mean()), 4 * standard_error(rise)))
    w = np.exp(all_terms[-1].log_w - exact)  # E[w] = p(x), so ln of the mean is a bound
    checks.append(near("E[w]/p(x)", float(w.mean()), 1, standard_error(w.mean(axis=0))))
    return checks


@claim("importance-sampling", (4, 7), "ln p(x) by importance sampling is the exact ln p(x), within its error.")
def importance_sampling() -> Checks:
    vae, X = linear_gaussian(rows=100)
    exact = bayes.LinearGaussian.of(vae).log_px(X)
    found, error = vae.log_likelihood(X, 5000)
    return _against(found, error, exact, "K = 5000")


@claim("annealed", (7, 14), "Annealed importance sampling estimates it too, without using the encoder.")
def annealed_sampling() -> Checks:
    vae, X = linear_gaussian(rows=50)
    exact = bayes.LinearGaussian.of(vae).log_px(X)
    found = annealed(vae, X, temperatures=100, chains=32, leapfrog=5)
    importance, error = vae.log_likelihood(X, 5000)
    both = float(np.hypot(found.error, error).mean()) / np.sqrt(len(X))
    checks = _against(found.log_px, found.error, exact, "100 temperatures, 32 chains")
    checks.append(near("minus importance sampling's", float((found.log_px - importance).mean()), 0, float(both)))
    return checks


def _weighted(vae: VAE, X: np.ndarray, eps: np.ndarray) -> WeightedTerms:
    terms = vae.objective(X, eps)
    assert isinstance(terms, WeightedTerms)
    return terms


def _against(found: np.ndarray, error: np.ndarray, exact: np.ndarray, how: str) -> Checks:
    """The mean over rows with its error, from those of the rows; ln of a mean is low by error²/2 (Jensen)."""
    mean_error = float(np.sqrt((error**2).sum())) / len(exact)
    bias = float(0.5 * (error**2).mean())
    return [near(f"E[ln p(x)], {how}", float(found.mean()) + bias, float(exact.mean()), mean_error)]
