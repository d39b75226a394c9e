"""Chapter 9, exercise 3: z = μ + σ ε for S samples, and its gradient; ε is frozen.

minivae gradcheck exercises/sampling.py --reference exercises/reference/sampling.py
"""

import numpy as np

EPS = np.random.default_rng(0).normal(size=(5, 3, 2))


class Reparameterisation:
    def forward(self, mu, v):
        """mu, v (3, 2): means and log-variances → z (5, 3, 2), a sample for each row of EPS."""
        raise NotImplementedError("write forward here")

    def backward(self, dZ):
        """dZ (5, 3, 2) → dmu, dv (3, 2)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
