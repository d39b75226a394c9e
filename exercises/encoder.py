"""Chapter 6, exercise 3: eq. 16 and its gradient.

minivae gradcheck exercises/encoder.py --reference exercises/reference/encoder.py
"""

import numpy as np


class GaussianKL:
    def forward(self, mu, v):
        """mu, v (3, 2): means and log-variances → the KL, summed over all, a number."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy, a number → dmu, dv (3, 2)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
