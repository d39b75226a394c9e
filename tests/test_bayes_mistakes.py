"""A mistake in a call of `minivae.bayes` raises one clear sentence: what was expected, what came."""

import numpy as np
import pytest
from bayes_models import linear_vae, small_vae
from scipy import stats

import minivae as mv
from minivae import bayes
from minivae.errors import UsageError


def named(vae, name):
    """The model, its likelihood called something else."""
    vae.likelihood.name = name
    return vae


def plane(D):
    """200 correlated rows of D features."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(200, D)) @ rng.normal(size=(D, D)) + rng.normal(size=D)


# fmt: off
MISTAKES = {  # the call → its message
    'kl_sampled([[1], [1, 2]], np.log, np.log)': "samples: expected an array of real",
    'kl_sampled(np.ones((3, 2, 2)), np.log, np.log)': "in 1 dimension",
    'kl_gaussian([0, 0], [[1], [1, 2]], [0, 0], [1, 1])': "expected an array of real",
    'kl_gaussian([0, 0], [[1, 5], [0, 1]], [0, 0], [1, 1])': "it is not symmetric",
    'sampling_rate(sizes=5)': r"sizes=5: expected at least two numbers of samples",
    'discrete_floor(seed=-1)': "seed=-1",
    'by_quadrature(np.exp, [1, 0])': "points: expected at least two, each larger",
    'by_quadrature(np.exp, [1.0])': "points: expected at least two",
    'by_sampling([])': "samples: expected an array of real numbers in 1 dim",
    'by_sampling([1.0, np.nan])': "samples: expected finite numbers",
    'by_sampling(["1"])': "samples: expected an array of real numbers",
    'kl_discrete([[1], [0, 1]], [1])': "p: expected an array of real numbers",
    'two_ways(std=0)': "std=0: expected a standard deviation > 0",
    'sampling_rate(sizes=[8, 8.5])': r"sizes\[1\]=8.5: expected an integer",
    'by_sampling([1.0, 2.0], lambda x: x[:1])': r"a number for each of \(2,\) points; got \(1,\)",
    'sampling_rate(sizes=[8, 8])': "sizes: expected at least two different",
    'kl_discrete([1.5, -0.5], [0.5, 0.5])': "p: expected probabilities ≥ 0; the smallest is -0.5",
    'kl_discrete([0.5, 0.5], [0.5, 0.48])': "q: expected probabilities whose sum is 1; got 0.98",
    'bhattacharyya_discrete([1.0], [0.5, 0.5])': r"one shape; got p \(1,\), q \(2,\)",
    'kl_gaussian([0], [0], [0], [1])': "cov_p: expected variances σ² > 0",
    'bhattacharyya_gaussian([0, 0], [1, 1], [0, 0], [[1, 0.5], [0.2, 1]])':
        "cov_q: expected variances σ² > 0, or a symmetric",
    'kl_gaussian([0, 0], [[1, 2], [2, 1]], [0, 0], [1, 1])': "smallest is -1",
    'kl_gaussian([0, 0], [1], [0, 0], [1, 1])': "cov_p: expected 2 variances",
    'kl_gaussian([0, 0], [1, 1], [0], [1, 1])': "one shape",
    'kl_sampled([2.0], stats.uniform.logpdf, stats.norm.logpdf)': "samples: expected draws from p",
    'DiscreteJoint([0.5, 0.5], [[1], [1]], [[0.5, 0.5]], [0.5, 0.5])':
        r"expected an encoder \(2, 2\) and a decoder \(2, 2\); got \(2, 1\)",
    'DiscreteJoint([1.0], [[0.5, 0.4]], [[1], [1]], [0.5, 0.5])':
        "encoder: expected probabilities whose sum in each row is 1; got 0.9",
    'joint_identity(3)': "toy: expected a DiscreteJoint",
    'density_loss(std=-1)': "std=-1: expected a standard deviation > 0",
    'density_loss(explained=1.0)': r"explained=1.0: expected a share in \[0, 1\)",
    'balance(3, weight=0)': "weight=0: expected a number > 0",
    'balance(3, sigma=-1.0)': "sigma=-1.0: expected a number > 0",
    'balance(3, weight=1, sigma=1)': "exactly one of weight=, sigma= and mse=",
    'balance(3)': "exactly one of",
    'balance(0, weight=1)': "features=0",
    'balance(3, weight=1, error="rms")': "error='rms': expected one of mean, sum, half-sum",
    'exact_posterior(linear_vae(3), np.zeros((1, 5)))': "L ≤ 2; for more dimensions .* vae.log_likelihood",
    'encoder_gaps(linear_vae(3), np.zeros((1, 5)))': "latent_dim=3",
    'exact_posterior(3, np.zeros((1, 5)))': "vae: expected a mv.VAE; got 3",
    'exact_posterior(linear_vae(1), np.zeros((1, 4)))': r"expected an array \(rows, 5\)",
    'exact_posterior(small_vae(), np.full((1, 5), 2.0))': "range from 2 to 2",
    'exact_posterior(linear_vae(1), np.full((1, 5), 99.0))': r"row 0: .* beyond \|z\| = 10; give a larger reach=",
    'exact_posterior(linear_vae(1), np.zeros((1, 5)), reach=0)': "reach=0: expected",
    'two_points_optimum(0)': "features=0",
    'exact_posterior(linear_vae(1), np.zeros((1, 5)), points=2)': "points=2: expected an integer",
    'fit_linear_vae(mv.VAE(6, 2, (), likelihood="gaussian:0.4", objective="iwae"), np.zeros((5, 6)))':
        "objective='iwae': expected 'elbo'",
    'LinearGaussian([[1.0]], [0.0], 0.0)': "sigma2=0.0: expected a variance σ² > 0",
    'LinearGaussian([[1.0]], [0.0, 1.0], 1.0)': r"expected W \(D, L\) and b \(D,\)",
    'LinearGaussian([[1.0]], [0.0], 1.0).elbo([[0.0, 1.0]], [[0.0]], [[0.0]])': "X: expected an array",
    'LinearGaussian([[1.0]], [0.0], 1.0).elbo(np.zeros((2, 1)), [[0.0]], [[0.0]])':
        r"one shape; got mean \(1, 1\), logvar \(1, 1\), latents \(2, 1\)",
    'LinearGaussian.of(small_vae("gaussian:0.5"))': r"hidden=\(7,\).*expected a linear model",
    'LinearGaussian.of(mv.VAE(3, 1, (), backend="numpy"))': "expected a linear model",
    'LinearGaussian.of(named(linear_vae(1), "laplace"))': "'laplace': expected a linear",
    'LinearGaussian.of(mv.VAE(3, 1, (), likelihood="gaussian", backend="numpy"))': "a Gaussian of one σ",
    'PPCA.fit(plane(6), 6)': "latent_dim=6: expected fewer than the 6 features",
    'PPCA.fit(plane(2) @ np.ones((2, 4)), 1)': "lie in 1 dimensions",
    'fit_linear_vae(linear_vae(1), np.zeros((3, 5)), steps=0)': "steps=0",
}
# fmt: on


@pytest.mark.parametrize("call", MISTAKES)
def test_a_mistake_is_one_clear_sentence(call):
    names = {"np": np, "stats": stats, "mv": mv, "linear_vae": linear_vae, "small_vae": small_vae}
    with pytest.raises(UsageError, match=MISTAKES[call]) as caught:
        eval(call, {**names, "named": named, "plane": plane, **{name: getattr(bayes, name) for name in bayes.__all__}})
    assert "\n" not in str(caught.value)
