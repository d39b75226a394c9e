"""Chapter 10, exercise 3: a dense layer with tanh.

minivae gradcheck exercises/backward.py --reference exercises/reference/backward.py
"""

import numpy as np


class DenseTanh:
    def forward(self, X, W, b):
        """X (5, 3), W (3, 4), b (4,) → tanh(X W + b) (5, 4)."""
        raise NotImplementedError("write forward here")

    def backward(self, dY):
        """dY (5, 4) → dX, dW, db."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
