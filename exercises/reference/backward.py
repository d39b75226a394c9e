"""Chapter 10, exercise 3: what an answer's forward has to give."""

import numpy as np


class DenseTanh:
    def forward(self, X, W, b):
        return np.tanh(np.einsum("ni,io->no", X, W) + b)

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
