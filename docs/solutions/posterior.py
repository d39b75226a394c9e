"""Chapter 5, exercise 3: what a linear-Gaussian row has of μ and W in its loss."""

import numpy as np

SIGMA2 = 0.5
X = np.array([1.0, -0.5, 2.0])


class LinearRow:
    def forward(self, mu, W):
        self.mu, self.W = mu, W
        self.error = X - W @ mu
        return 0.5 * (self.error @ self.error / SIGMA2 + mu @ mu)

    def backward(self, dy):
        dmu = -self.W.T @ self.error / SIGMA2 + self.mu
        dW = -np.outer(self.error, self.mu) / SIGMA2
        return dy * dmu, dy * dW

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=2), rng.normal(size=(3, 2))
