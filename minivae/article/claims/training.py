"""Claims about training: the loss as its indicator, one sample a step, and the optimum of a linear VAE."""

from __future__ import annotations

import numpy as np

from ...optim import Adam
from ...training.schedules import Schedule
from ...vae import VAE
from .. import bayes
from ..bayes.quadrature import ExactModel
from .claim import ERRORS, Checks, above, at_least, at_most, below, claim, equals
from .models import bumps, float64_vae, standard_error

ROWS, FEATURES, BATCH, IMPORTANCE = 512, 16, 64, 500


def _train(vae: VAE, X: np.ndarray, epochs: int, beta: float = 1.0, lr: float = 5e-3, fall: bool = False) -> VAE:
    """Train `epochs` more passes over X in batches with new noise; fall: the learning rate falls to 0 by a cosine."""
    optimizer, cosine, rows = Adam(lr), Schedule("cosine"), np.arange(len(X), dtype=np.uint32)
    first, batches = vae.passes, range(0, len(X), BATCH)
    for epoch in range(epochs):
        order = np.random.default_rng([first + epoch, vae.seed]).permutation(len(X))
        for step, start in enumerate(batches):
            if fall:
                optimizer.lr = lr * cosine.factor(epoch * len(batches) + step, epochs * len(batches))
            part = order[start : start + BATCH]
            vae.train_step(X[part], optimizer, rows=rows[part], beta=beta, pass_=first + epoch)
    vae.passes = first + epochs
    return vae


@claim(
    "no-single-term",
    (13,),
    "Neither term alone shows how good a model is: each can be reduced by increasing the other.",
)
def no_single_term() -> Checks:
    """Train on the same rows with KL weights ¼, 1 and 4: each term is smallest at one end, 𝓛 in the middle."""
    X, found = bumps(ROWS), []
    for beta in (0.25, 1.0, 4.0):
        vae = _train(float64_vae(FEATURES, 2, (32,)), X, 60, beta)
        model_terms = _terms(vae, X)
        found.append((*model_terms, sum(model_terms)))
    nll, kl, loss = np.array(found).T
    return [
        above("smaller rise of E[−ln p(x|z)], from weight ¼ to 1 to 4", float(np.diff(nll).min()), 0),
        below("smaller fall of the KL", float(np.diff(kl).max()), 0),
        above("smaller 𝓛 at the ends minus 𝓛 at weight 1", float(min(loss[0], loss[2]) - loss[1]), 0),
    ]


def _terms(vae: VAE, X: np.ndarray) -> tuple[float, float]:
    model = ExactModel(vae)
    nll, kl, _ = model.losses(X[:64], model.encode(X[:64]), model.coarse)
    return float(nll.mean()), float(kl.mean())


@claim("one-indicator", (13,), "The smaller 𝓛 the better the model: one number shows how far training has come.")
def one_indicator() -> Checks:
    """Compare 𝓛 of held-out rows during training with their ln p(x): do they order pairs of moments in the same way?

    Only pairs count whose ln p(x) differ by more than 4 standard errors over rows.
    """
    X, held_out = bumps(ROWS), bumps(200, seed=1)
    vae, losses, log_px = float64_vae(FEATURES, 2, (32,)), [], []
    eps = np.random.default_rng(30).standard_normal((64, len(held_out), 2))
    for epochs in (0, 2, 2, 4, 8, 16, 32):
        _train(vae, X, epochs)
        terms = vae.objective(held_out, eps)
        losses.append(terms.nll_rows + terms.kl_rows)
        log_px.append(vae.log_likelihood(held_out, IMPORTANCE)[0])
    agree, pairs = 0, 0
    for i in range(len(losses)):
        for j in range(i):
            gained = log_px[i] - log_px[j]
            if abs(gained.mean()) > 4 * standard_error(gained):
                pairs += 1
                agree += (losses[i] - losses[j]).mean() * gained.mean() < 0
    gained = log_px[-1] - log_px[0]
    slack = np.array([loss + exact for loss, exact in zip(losses, log_px, strict=True)]).mean(axis=1)
    correlation = np.corrcoef([row.mean() for row in losses], [row.mean() for row in log_px])[0, 1]
    return [
        above("ln p(x) gained by training, nats", float(gained.mean()), 4 * standard_error(gained)),
        at_least("pairs of moments that ln p(x) distinguishes", pairs, 10),
        equals("share of them that 𝓛 orders in the same way", agree / max(pairs, 1), 1),
        at_least("smallest mean of ln p(x) + 𝓛: 𝓛 bounds it", float(slack.min()), 0),
        below("correlation of 𝓛 and ln p(x)", float(correlation), 0),
    ]


@claim(
    "one-sample-suffices",
    (24,),
    "One sample is enough with many epochs, because every epoch draws new noise.",
    loose="it is a matter of degree: more samples do help, but less as the number of epochs grows",
)
def one_sample_suffices() -> Checks:
    """Train linear models, whose best 𝓛 is known without sampling; the learning rate falls to 0 by a cosine.

    The gain of eight samples shrinks with the number of epochs, until it is below the spread between seeds.
    """
    X = np.random.default_rng(31).standard_normal((300, 6)) * [2.0, 1.2, 0.5, 0.45, 0.4, 0.35] + 1.0
    sigma = float(np.sqrt(bayes.PPCA.fit(X, 2).sigma2))

    def above_optimum(samples: int, epochs: int, seeds: int) -> np.ndarray:
        models = [
            float64_vae(6, 2, (), likelihood=f"gaussian:{sigma!r}", samples=samples, seed=seed) for seed in range(seeds)
        ]
        return np.array([bayes.against_ppca(_train(vae, X, epochs, lr=0.02, fall=True), X).gap for vae in models])

    few = above_optimum(1, 40, 32) - above_optimum(8, 40, 32)  # now and then a seed is stuck: hence the median
    one = above_optimum(1, 320, 8)
    many = one - above_optimum(8, 320, 8)
    most = float(many.mean()) + ERRORS * standard_error(many)
    return [
        above("gain from 8 samples after 40 epochs, nats, above that after 320", float(np.median(few)), most),
        below("… after 320, below the spread between seeds", float(many.mean()), float(one.std(ddof=1))),
    ]


@claim("ppca", (13, 22), "𝓛 leads to the maximum likelihood: a linear VAE becomes probabilistic PCA.")
def ppca() -> Checks:
    checks = []
    for name in (None, "gaussian:shared"):
        found, label = bayes.linear_vae_is_ppca(name), "σ learned" if name else "σ given"
        checks += [
            at_least(f"E[ln p(x)] of the optimum minus ELBO, {label}", found.gap, -1e-9),
            at_most("… the same, nats", found.gap, 1e-3),
            at_most("angle of the subspaces, degrees", found.angle, 1),
        ]
        if name:
            checks.append(at_most("relative error of σ²", abs(found.sigma2 / found.sigma2_optimum - 1), 0.01))
    return checks
