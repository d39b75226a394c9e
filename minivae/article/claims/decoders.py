"""p(x|z): Bernoulli and Gaussian (eq. 17–22); all likelihoods are normalised and their gradients are right."""

from __future__ import annotations

import math

import numpy as np

from ... import likelihoods
from ...evaluation.passes import nll_of
from ...gradcheck.compare import examine_all
from ...gradcheck.ours.builds import S, vae
from ...gradcheck.ours.targets import Target, build, likelihood_names, select
from ...gradcheck.problem import Settings
from ...inputs import as_batch
from ...objectives import OBJECTIVES
from ...vae import VAE
from .. import bayes
from .claim import INTEGRAL, ROUNDING, Check, Checks, above, at_most, claim, equals
from .models import all_bits, float64_vae, perturbed

OUT = np.random.default_rng(17).normal(size=(5, 14)) * 2  # raw outputs of a decoder: 5 rows, D = 7


def _nll(name: str, out: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Compute the engine's −ln p(x|z), (R,), for raw outputs (R, width) and data (R, D)."""
    return _nll_of(float64_vae(X.shape[1], 1, (), likelihood=name), out, X)


def _nll_of(vae: VAE, out: np.ndarray, X: np.ndarray) -> np.ndarray:
    nll = nll_of(vae, np.ascontiguousarray(out), as_batch(vae, np.ascontiguousarray(X)))
    return nll.copy()


def _worst(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error, relative for numbers above 1, absolute below."""
    return float((np.abs(found - expected) / np.maximum(1, np.abs(expected))).max())


@claim(
    "bernoulli",
    (17, 18),
    "The Bernoulli decoder: each feature is 0 or 1, with probability ρ(z) = sigmoid of a network.",
)
def bernoulli() -> Checks:
    X = all_bits(7)
    total = np.exp(-_nll("bernoulli", np.repeat(OUT[:1, :7], len(X), axis=0), X)).sum()
    rho = perturbed(float64_vae(7)).decode(np.random.default_rng(18).normal(size=(500, 2)) * 3)
    return [
        equals("Σ p(x|z) over all 128 rows of 7 bits", total, 1),
        above("smallest ρ(z) of 500 draws", float(rho.min()), 0),
        above("1 − largest", float(1 - rho.max()), 0),
    ]


@claim("cross-entropy", (19,), "−ln p(x|z) is then the cross-entropy.")
def cross_entropy() -> Checks:
    from scipy.stats import bernoulli as scipys

    X, logits = all_bits(7)[[0, 17, 64, 99, 127]], OUT[:, :7]
    expected = -scipys.logpmf(X, 1 / (1 + np.exp(-logits))).sum(axis=1)
    return [at_most("largest error against SciPy", _worst(_nll("bernoulli", logits, X), expected), ROUNDING)]


@claim("gaussian", (20, 21), "The Gaussian decoder: ½‖(x−μ)/σ‖² + (D/2) ln 2π + ½ Σ ln σ², both from the network.")
def gaussian() -> Checks:
    from scipy.stats import norm

    X = np.random.default_rng(20).normal(size=(5, 7))
    expected = -norm.logpdf(X, OUT[:, :7], np.exp(0.5 * OUT[:, 7:])).sum(axis=1)
    return [at_most("largest error against SciPy", _worst(_nll("gaussian", OUT, X), expected), ROUNDING)]


@claim("squared-error", (22,), "With σ fixed it is the squared error over 2σ², and a constant: the MSE loss.")
def squared_error() -> Checks:
    from scipy.stats import norm

    X, mean, sigma = np.random.default_rng(22).normal(size=(5, 7)), OUT[:, :7], 0.3
    nll = _nll(f"gaussian:{sigma}", mean, X)
    rest = nll - ((X - mean) ** 2).sum(axis=1) / (2 * sigma**2)
    return [
        at_most("largest error against SciPy", _worst(nll, -norm.logpdf(X, mean, sigma).sum(axis=1)), ROUNDING),
        at_most("nll minus the error/2σ² differs between rows by", float(np.ptp(rest)), 1e-11),
    ]


@claim("balance", (19, 22), "The likelihood decides between MSE and cross-entropy, and the KL's weight: σ² = w D/2.")
def balance() -> Checks:
    D, w, kl = 7, 0.03, np.array([0.3, 1.0, 2.0, 0.1, 4.0])
    found, X = bayes.balance(D, weight=w), np.random.default_rng(23).normal(size=(5, D))
    loss = ((X - OUT[:, :D]) ** 2).mean(axis=1) + w * kl
    nll = _nll(found.likelihood, OUT[:, :D], X)
    best = float(((X - OUT[:, :D]) ** 2).mean())
    tried = [_nll(f"gaussian:{math.sqrt(best * f)!r}", OUT[:, :D], X).mean() for f in (0.99, 1, 1.01)]
    return [
        at_most(
            "scale · (mean MSE + w KL) + constant against 𝓛",
            _worst(found.scale * loss + found.constant, nll + kl),
            ROUNDING,
        ),
        equals("σ²", found.sigma2, w * D / 2),
        above("rise of 𝓛 when σ² differs from the mean squared error", min(tried[0], tried[2]) - tried[1], 0),
    ]


# ---- every likelihood -----------------------------------------------------------------------------------------------

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
COUNTS = 4000.0


def _panels(low: float, high: float, panels: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre points of 16 a panel and their weights; a kink in the middle lies between two panels."""
    edges = np.linspace(low, high, panels + 1)
    half = 0.5 * np.diff(edges)[:, None]
    points = 0.5 * (edges[1:] + edges[:-1])[:, None] + half * NODES
    return points.ravel(), (half * WEIGHTS).ravel()


def real_line(mean: float) -> tuple[np.ndarray, np.ndarray]:
    """60 on either side of the mean, about 20 times the largest scale used."""
    points, weights = _panels(-60, 60, 600)
    return mean + points, weights


def unit_interval(mean: float) -> tuple[np.ndarray, np.ndarray]:
    return _panels(0, 1, 20)


def counts(mean: float) -> tuple[np.ndarray, np.ndarray]:
    x = np.arange(COUNTS)
    return x, np.ones_like(x)


def integers(values: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(float(values)), np.ones(values)


# Likelihood.domain → (mean, outputs of the decoder) → points and weights of the sum or integral over one feature.
SUPPORTS = {
    "binary": lambda mean, width: integers(2),
    "unit": lambda mean, width: unit_interval(mean),
    "real": lambda mean, width: real_line(mean),
    "classes": lambda mean, width: integers(width),
    "counts": lambda mean, width: counts(mean),
}


def examples() -> dict[str, str]:
    """Return {form in LIKELIHOODS: an example of it}, such as "gaussian:σ" → "gaussian:3"."""
    return dict(zip(likelihoods.LIKELIHOODS, likelihood_names(), strict=True))


def total_mass(name: str, seeds: int = 5) -> float:
    """Return the ∫ or Σ of p(x|z) over one feature that is farthest from 1, for several outputs and parameters."""
    totals = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, 26])
        vae = float64_vae(1, 1, (), likelihood=name)
        for own, view in vae.parameters.items():
            if own.startswith("likelihood."):
                view[...] = 0.5 * rng.normal(size=view.shape)
        raw = np.clip(rng.normal(size=(1, vae.likelihood.width)), -2, 2)
        mean = float(vae.likelihood.mean(raw)[0, 0])
        points, weights = SUPPORTS[vae.likelihood.domain](mean, vae.likelihood.width)
        nll = _nll_of(vae, np.repeat(raw, len(points), axis=0), points[:, None])
        totals.append(float(weights @ np.exp(-nll)))
    return max(totals, key=lambda total: abs(total - 1) if math.isfinite(total) else math.inf)


@claim("normalised", (17, 20), "p(x|z) has to be normalised and easy to compute; few are. All of minivae's are.")
def normalised() -> Checks:
    return [
        at_most(f"|∫ or Σ p(x|z) − 1|, {name}", abs(total_mass(name) - 1), INTEGRAL) for name in examples().values()
    ]


@claim(
    "gradients", (13, 16, 19, 21, 22), "Every hand-written gradient is the slope of its loss, whatever the likelihood."
)
def gradients() -> Checks:
    checks, settings = [], Settings(tolerance=1e-7, behaviour=False)
    groups = {"the posterior and the bound": select(["ops.latent", "ops.importance"])}
    for form, name in examples().items():
        # closed-form parameters are fitted to equally weighted samples, but the importance-weighted bound weights them
        objectives = ["elbo"] if likelihoods.LIKELIHOODS[form].closed_form else list(OBJECTIVES)
        models = [Target(f"vae.{name}.{o}", vae(name, "tanh", S, objective=o)) for o in objectives]
        groups[name] = [*select([f"likelihoods.{name}"]), *models]
    for label, targets in groups.items():
        report = examine_all([build(target, "fused", 0) for target in targets], settings)
        checks.append(
            Check(f"worst relative error, {label}", report.worst_error, f"≤ {settings.tolerance:g}", report.ok)
        )
    return checks
