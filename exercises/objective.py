"""Chapter 4, exercise 3: E[½ (x − z)²] + β KL for one Gaussian latent, without sampling.

minivae gradcheck exercises/objective.py --reference exercises/reference/objective.py
"""

import numpy as np

BETA, X = 4.0, 1.0


class BetaLoss:
    def forward(self, mu, v):
        """mu, v (5,): mean and log-variance of each latent → the loss, a number."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy, a number → dmu, dv (5,)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=5), rng.normal(size=5)
