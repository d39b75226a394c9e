"""Chapter 1, exercise 3: the sampled E[x²], and its gradient.

minivae gradcheck exercises/expectations.py --reference exercises/reference/expectations.py
"""

import numpy as np


class MeanSquare:
    def forward(self, x):
        """x (7,) → the mean of x², a number."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy, a number → dx (7,)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=7),)
