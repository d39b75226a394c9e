"""Chapter 5, exercise 3: what a linear-Gaussian row has of μ and W in its loss.

minivae gradcheck exercises/posterior.py --reference exercises/reference/posterior.py
"""

import numpy as np

SIGMA2 = 0.5
X = np.array([1.0, -0.5, 2.0])


class LinearRow:
    def forward(self, mu, W):
        """mu (2,), W (3, 2) → the loss, a number."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy, a number → dmu (2,), dW (3, 2)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=2), rng.normal(size=(3, 2))
