"""weighing: the article's question, 'MSE or cross-entropy, and how should the two terms be weighed?' (eq. 19, 22).

To minimise squared error + w · KL is to choose a σ. With one fixed σ (eq. 22),

    −ln p(x|z) + KL = ‖x − m‖²/2σ² + (D/2) ln 2πσ² + KL
                    = scale · (squared error + w · KL) + constant,    scale = 1/w

    squared error        σ²        error=
    ‖x − m‖²/D           w D/2     "mean"
    ‖x − m‖²             w/2       "sum"
    ½ ‖x − m‖²           w         "half-sum"

So the weight is the expected distance of x from m. The likelihood is largest for σ² = the mean squared error. For
binary data, cross-entropy (eq. 19) has no σ: w ≠ 1 (in sums over features) means β ≠ 1, which is not a likelihood.

The KL is a sum over latent dimensions and a mean over rows; averaging it over L too divides w by L.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ... import checks
from ...errors import UsageError

# The squared error in the loss is ‖x − m‖² / divisor(D); weight w then means σ² = w · divisor(D)/2.
DIVISORS = {"mean": lambda D: float(D), "sum": lambda D: 1.0, "half-sum": lambda D: 2.0}


@dataclass(frozen=True)
class Balance:
    """One balance of squared error and KL, as a weight and as a variance.

    weight     w of 'squared error + w · KL'
    sigma2     σ² of the equivalent Gaussian
    features, error   D, and the reduction of the squared error
    scale, constant   −ln p(x|z) + KL = scale · (squared error + w · KL) + constant, in nats
    beta       the KL's weight under a Bernoulli decoder and the same w (eq. 19); a likelihood only if 1
    """

    weight: float
    sigma2: float
    features: int
    error: str
    scale: float
    constant: float
    beta: float

    @property
    def sigma(self) -> float:
        return math.sqrt(self.sigma2)

    @property
    def likelihood(self) -> str:
        """The likelihood's name, for `mv.VAE(likelihood=…)`."""
        return f"gaussian:{self.sigma!r}"


def balance(
    features: int,
    weight: float | None = None,
    sigma: float | None = None,
    mse: float | None = None,
    error: str = "mean",
) -> Balance:
    """Convert the weight of 'squared error + weight · KL' to σ, and back (eq. 22).

    features   D
    one of     weight: w > 0; sigma: σ > 0 of the Gaussian; mse: the mean squared error of a reconstruction, > 0, whose
               likelihood is largest for σ² = mse
    error      the reduction of the squared error over features: "mean", "sum" or "half-sum"
    """
    D = checks.integer("features", features)
    if error not in DIVISORS:
        raise UsageError(f"error={error!r}: expected one of {', '.join(DIVISORS)}")
    given = {"weight": weight, "sigma": sigma, "mse": mse}
    if sum(value is not None for value in given.values()) != 1:
        raise UsageError("balance: expected exactly one of weight=, sigma= and mse=; the others follow from it")
    name, value = next((name, value) for name, value in given.items() if value is not None)
    value = checks.positive(name, value)
    half = DIVISORS[error](D) / 2
    sigma2 = {"weight": value * half, "sigma": value**2, "mse": value}[name]
    constant = 0.5 * D * math.log(2 * math.pi * sigma2)
    w = sigma2 / half
    return Balance(w, sigma2, D, error, 1 / w, constant, w * (D if error == "mean" else 1.0))
