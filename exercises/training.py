"""Chapter 11, exercise 3: Adam's first step as a function of the gradient.

minivae gradcheck exercises/training.py --reference exercises/reference/training.py
"""

import numpy as np

LR, EPSILON = 0.5, 0.1


class FirstAdamStep:
    def forward(self, g):
        """g (6,): gradients → Adam's first step for each (6,)."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy (6,) → dg (6,)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=6),)
