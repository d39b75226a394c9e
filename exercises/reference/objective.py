"""Chapter 4, exercise 3: what an answer's forward has to give."""

import numpy as np

BETA, X = 4.0, 1.0


class BetaLoss:
    def forward(self, mu, v):
        variance = np.exp(v)
        loss = ((X - mu) ** 2 + variance) / 2  # E of (X − z)²/2 for z ~ N(mu, variance)
        kl = -np.log(np.sqrt(variance)) + (variance + mu**2) / 2 - 1 / 2  # KL(N(mu, variance) ‖ N(0, 1))
        return np.sum(loss) + BETA * np.sum(kl)

    @staticmethod
    def example_inputs(rng):
        return rng.normal(size=5), rng.normal(size=5)
