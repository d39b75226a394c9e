"""Chapter 8, exercise 3: what an answer's forward has to give."""

import numpy as np
from scipy.stats import norm

X = np.random.default_rng(1).normal(size=(4, 3))


class GaussianNLL:
    def forward(self, m, s):
        return -np.sum(norm.logpdf(X, m, np.exp(s / 2)))

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=X.shape), rng.normal(size=X.shape)
