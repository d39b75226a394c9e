"""Chapter 9, exercise 3: what an answer's forward has to give."""

import numpy as np

EPS = np.random.default_rng(0).normal(size=(5, 3, 2))


class Reparameterisation:
    def forward(self, mu, v):
        return np.stack([mu + np.sqrt(np.exp(v)) * eps for eps in EPS])

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
