"""minivae.bayes: the article's theory as functions that return numbers.

    import minivae as mv
    mv.bayes.joint_identity().residual                    # KL(joint) = 𝓛 + E[ln p̃(x)]: 4e-16
    mv.bayes.two_points_optimum(features=8).loss          # 1.127 nats, where ln 2 = 0.693 would be the floor
    mv.bayes.encoder_gaps(vae, X).amortisation            # loss of the network against the best Gaussian, per row

Reading order: expectations (eq. 1–4), divergences (5, 6), joint (7–14), drop_in (why 6 cannot replace 5), floors (11,
13), quadrature, posterior and gaps (14, 15: L ≤ 2), two_points (one bit of data), linear and ppca (everything in closed
form), weighing (19, 22: MSE or cross-entropy). Nats, float64, on the host.

The claims, which need no arguments:

    two_ways, sampling_rate, different_supports, joint_identity, no_drop_in, discrete_floor, density_loss,
    antagonists, small_encoder_gaps, two_points_optimum, two_points_by_vae, linear_vae_is_ppca
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Estimate": "expectations",
    "by_quadrature": "expectations",
    "by_sampling": "expectations",
    "weighted_again": "expectations",
    "two_ways": "expectations",
    "sampling_rate": "expectations",
    "kl_discrete": "divergences",
    "kl_sampled": "divergences",
    "kl_gaussian": "divergences",
    "bhattacharyya_discrete": "divergences",
    "bhattacharyya_gaussian": "divergences",
    "different_supports": "divergences",
    "DiscreteJoint": "joint",
    "joint_identity": "joint",
    "no_drop_in": "drop_in",
    "discrete_floor": "floors",
    "density_loss": "floors",
    "antagonists": "floors",
    "exact_posterior": "posterior",
    "encoder_gaps": "gaps",
    "small_encoder_gaps": "gaps",
    "two_points_optimum": "two_points",
    "two_points_by_vae": "two_points",
    "LinearGaussian": "linear",
    "PPCA": "ppca",
    "against_ppca": "ppca",
    "fit_linear_vae": "ppca",
    "linear_vae_is_ppca": "ppca",
    "balance": "weighing",
}

__all__ = list(_HOME)

if TYPE_CHECKING:
    from .divergences import (
        bhattacharyya_discrete,
        bhattacharyya_gaussian,
        different_supports,
        kl_discrete,
        kl_gaussian,
        kl_sampled,
    )
    from .drop_in import no_drop_in
    from .expectations import Estimate, by_quadrature, by_sampling, sampling_rate, two_ways, weighted_again
    from .floors import antagonists, density_loss, discrete_floor
    from .gaps import encoder_gaps, small_encoder_gaps
    from .joint import DiscreteJoint, joint_identity
    from .linear import LinearGaussian
    from .posterior import exact_posterior
    from .ppca import PPCA, against_ppca, fit_linear_vae, linear_vae_is_ppca
    from .two_points import two_points_by_vae, two_points_optimum
    from .weighing import balance


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minivae.bayes' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
