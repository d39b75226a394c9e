"""objectives: what is minimised. The turn of the chain: from the decoder's raw outputs to a loss, and back to them.

    elbo   𝓛 = E_rows[ (1/S) Σ_s −ln p(x|z_s) + β Σ_l max(KL_l, free bits) ]                      (eq. 13, 23)
    iwae   𝓛 = E_rows[ −ln (1/S) Σ_s w_s ],   ln w_s = ln p(x|z_s) + β [ln p(z_s) − ln q(z_s|x)]  (eq. 12 at S = 1)

They differ in each sample's weight in the backward pass (1/(B·S), or the softmax of its ln w, over B), and in the KL:
analytic (eq. 16), or estimated from the samples. The rest of the model is the same.

Shapes: S samples, B rows, L latent dimensions; out (S·B, width). Nats.
"""

from __future__ import annotations

from .. import checks
from .elbo import ELBO, Terms
from .iwae import IWAE, WeightedTerms

__all__ = ["ELBO", "IWAE", "OBJECTIVES", "Terms", "WeightedTerms", "find"]

# How each is asked for: name → class. A new objective is a class here and a row; gradient checks walk the table.
OBJECTIVES: dict[str, type[ELBO]] = {"elbo": ELBO, "iwae": IWAE}


def find(name: str) -> type[ELBO]:
    """The objective called `name`."""
    return OBJECTIVES[checks.choice("objective", name, tuple(OBJECTIVES))]
