"""theory: equations 1–14, the article's derivation. Nothing here is trained; `minivae.bayes` computes the values."""

from __future__ import annotations

from . import toys
from .equation import Equation

EXPECTATIONS, JOINT = "article.bayes.expectations", "article.bayes.joint:DiscreteJoint"
THEORY_TESTS = "tests/test_bayes_theory.py"
IDENTITY = f"{THEORY_TESTS}::test_every_side_of_the_identity_matches_loops_in_mpmath"

_E1 = "E[x] = ∫ x p(x) dx"
_E2 = """\
        n
E[x] ≈  Σ  xᵢ p(xᵢ) (xᵢ − xᵢ₋₁),     x₀ < x₁ < … < xₙ
       i=1"""
_E3 = """\
        1   n
E[x] ≈ ───  Σ  xᵢ,     xᵢ ~ p(x)
        n  i=1"""
_E4 = """\
                                  1   n
E_{x~p}[f(x)] = ∫ f(x) p(x) dx ≈ ───  Σ  f(xᵢ),     xᵢ ~ p(x)
                                  n  i=1"""
_E5 = """\
                    p(x)                  p(x)
KL(p‖q) = ∫ p(x) ln ──── dx = E_{x~p}[ ln ──── ]
                    q(x)                  q(x)"""
_E6 = "D_B(p, q) = −ln ∫ √( p(x) q(x) ) dx"

THEORY = (
    Equation(
        number=1,
        names=("expectation",),
        title="expectation",
        formula=_E1,
        words="The mean of x: every value weighted by its probability. Eq. 2 and eq. 3 compute this integral in two "
        "ways that are easily confused.",
        forward=(f"{EXPECTATIONS}:by_quadrature",),
        test=f"{THEORY_TESTS}::test_quadrature_matches_scipys_integral_of_a_skewed_density",
        toy=toys.expectation,
    ),
    Equation(
        number=2,
        names=("quadrature",),
        title="expectation by numerical integration",
        formula=_E2,
        words="We choose the points, so each is weighted by its density and by the length of its step.",
        forward=(f"{EXPECTATIONS}:by_quadrature",),
        test=f"{THEORY_TESTS}::test_quadrature_weighs_each_point_by_the_step_before_it",
        toy=toys.quadrature,
    ),
    Equation(
        number=3,
        names=("sampling",),
        title="expectation by sampling",
        formula=_E3,
        words="The points are drawn from the density: likely ones occur more often, which is already the weight. "
        "Multiplying by p(xᵢ) again is a mistake (`minivae.bayes.weighted_again`). The error falls as 1/√n.",
        forward=(f"{EXPECTATIONS}:by_sampling",),
        test=f"{THEORY_TESTS}::test_sampling_gives_the_mean_and_scipys_standard_error",
        toy=toys.sampling,
    ),
    Equation(
        number=4,
        names=("monte-carlo",),
        title="expectation of a function: Monte Carlo",
        formula=_E4,
        words="The same holds for any function of x. A loss that is an expectation can be estimated from samples "
        "alone, which is how a VAE is trained.",
        forward=(f"{EXPECTATIONS}:by_sampling",),
        test=f"{THEORY_TESTS}::test_the_standard_error_says_how_far_off_an_estimate_is",
        toy=toys.function,
    ),
    Equation(
        number=5,
        names=("kl-divergence", "relative-entropy"),
        title="Kullback–Leibler divergence",
        formula=_E5,
        words="A distance of q from p: never negative, 0 only if both are equal, infinite if q is 0 where p is not. It "
        "is an expectation under p, so samples of p are enough to estimate it (eq. 4).",
        forward=(
            "article.bayes.divergences:kl_discrete",
            "article.bayes.divergences:kl_sampled",
            "article.bayes.divergences:kl_gaussian",
        ),
        test=f"{THEORY_TESTS}::test_kl_of_probabilities_matches_scipy_both_ways",
        toy=toys.divergence,
    ),
    Equation(
        number=6,
        names=("bhattacharyya",),
        title="Bhattacharyya distance",
        formula=_E6,
        words="Symmetric, and infinite only if the supports of p and q are disjoint. But it is the logarithm of an "
        "integral, not the expectation of a logarithm: the unknown density of the data does not separate as in eq. 10.",
        forward=(
            "article.bayes.divergences:bhattacharyya_discrete",
            "article.bayes.divergences:bhattacharyya_gaussian",
        ),
        test=f"{THEORY_TESTS}::test_bhattacharyya_of_probabilities_matches_mpmath_and_is_symmetric",
        toy=toys.bhattacharyya,
    ),
    Equation(
        number=7,
        names=("marginal", "evidence"),
        title="the model of the data",
        formula="p(x) = ∫ p(x,z) dz = ∫ p(x|z) p(z) dz",
        words="A latent variable z describes x: first z is drawn from the prior, then x from the decoder. If the "
        "decoder is a network, the integral has no closed form; importance sampling estimates it.",
        forward=(f"{JOINT}.marginal", "evaluation.bounds:log_likelihood"),
        test=f"{THEORY_TESTS}::test_marginal_and_posterior_are_bayes_rule",
        toy=toys.marginal,
    ),
    Equation(
        number=8,
        names=("joint-kl", "joint"),
        title="KL of the joint distributions",
        formula="""\
                                  q(x,z)
KL(q(x,z) ‖ p(x,z)) = ∬ q(x,z) ln ────── dz dx
                                  p(x,z)

with q(x,z) = p̃(x) q(z|x)""",
        words="The article's starting point: make two joint distributions equal, that of data and encoder and that of "
        "prior and decoder. The following equations write this divergence in a form that can be computed.",
        forward=(f"{JOINT}.kl_joint",),
        test=IDENTITY,
        toy=toys.joint_kl,
    ),
    Equation(
        number=9,
        names=("nested-kl",),
        title="the same, expected over the data",
        formula="""\
                                           p̃(x) q(z|x)
KL(q(x,z) ‖ p(x,z)) = E_{x~p̃}[ ∫ q(z|x) ln ─────────── dz ]
                                             p(x,z)""",
        words="The data are known only as samples of x, so the outer integral becomes an expectation over the data, "
        "which eq. 4 estimates row by row.",
        forward=(f"{JOINT}.kl_nested",),
        test=IDENTITY,
        toy=toys.nested_kl,
    ),
    Equation(
        number=10,
        names=("constant", "entropy"),
        title="the constant that splits off",
        formula="E_{x~p̃}[ ∫ q(z|x) ln p̃(x) dz ] = E_{x~p̃}[ ln p̃(x) ]",
        words="The part of eq. 9 that does not depend on the model: minus the entropy of the data. The article says "
        "that it is negative, which holds for probabilities; a density may exceed 1, and it may be positive.",
        forward=(f"{JOINT}.entropy",),
        test=IDENTITY,
        toy=toys.constant,
    ),
    Equation(
        number=11,
        names=("loss", "floor"),
        title="the loss: KL without the constant",
        formula="𝓛 = KL(q(x,z) ‖ p(x,z)) − E_{x~p̃}[ ln p̃(x) ]",
        words="Minimising 𝓛 minimises the divergence of eq. 8. Since that is at least 0, 𝓛 is at least the entropy of "
        "the data. This is positive for discrete data, but may be negative for densities, which the article overlooks.",
        forward=(
            "article.bayes.joint:joint_identity",
            "article.bayes.floors:discrete_floor",
            "article.bayes.floors:density_loss",
        ),
        test=IDENTITY,
        toy=toys.difference,
    ),
    Equation(
        number=12,
        names=("sampled-kl",),
        title="the loss, in one expectation",
        formula="""\
                                            q(z|x)
𝓛 = E_{x~p̃}[ E_{z~q(z|x)}[ −ln p(x|z) + ln ──────── ] ]
                                             p(z)""",
        words="With the model written as decoder times prior, everything inside the expectation can be computed from "
        "a sample of z. The objective iwae with K = 1 is this estimator.",
        gradient="dz = (that of the reconstruction) + z/B;   dμ = dz;\nd ln σ² = ½ (σ ε dz − 1/B)",
        forward=(f"{JOINT}.loss", "objectives.iwae:IWAE.forward", "kernels.importance:forward_reference"),
        backward=("objectives.iwae:IWAE.backward_posterior", "kernels.importance:backward_reference"),
        test="tests/test_objectives.py::test_at_k_1_the_loss_is_eq_12_with_a_sampled_kl_to_the_last_digit",
        toy=toys.loss,
    ),
    Equation(
        number=13,
        names=("elbo", "objective"),
        title="the objective of a VAE",
        formula="𝓛 = E_{x~p̃}[ E_{z~q(z|x)}[ −ln p(x|z) ] + KL(q(z|x) ‖ p(z)) ]",
        words="The reconstruction term and the KL of the code from the prior. For discrete data either can be 0, but "
        "not both: they work against each other, and only their sum measures training. −𝓛 is the ELBO, a lower bound "
        "of the mean log likelihood of x.",
        forward=(f"{JOINT}.loss_parts", "model:Model.forward", "objectives.elbo:ELBO.forward"),
        backward=("model:Model.backward", "objectives.elbo:ELBO.backward_posterior"),
        test="tests/test_bayes_linear.py::test_the_linear_elbo_is_the_engines_objective",
        toy=toys.two_terms,
    ),
    Equation(
        number=14,
        names=("posterior", "exact-posterior"),
        title="the best posterior for a decoder",
        formula="""\
            p(x|z) p(z)
p(z|x) = ──────────────────
          ∫ p(x|z) p(z) dz""",
        words="Bayes' rule: the distribution that the encoder approximates, and the E-step of EM. The integral is not "
        "feasible in many dimensions, so a network is used instead; for L ≤ 2 it is computed on a grid.",
        forward=(f"{JOINT}.posterior", "article.bayes.posterior:exact_posterior"),
        test=f"{THEORY_TESTS}::test_marginal_and_posterior_are_bayes_rule",
        toy=toys.posterior,
    ),
)
