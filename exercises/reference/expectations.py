"""Chapter 1, exercise 3: what an answer's forward has to give."""

import numpy as np


class MeanSquare:
    def forward(self, x):
        return x @ x / x.size

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=7),)
