"""Chapter 7, exercise 3: the cross-entropy of logits, stable for any size of them."""

import numpy as np

X = np.random.default_rng(0).integers(0, 2, (4, 3))


class CrossEntropy:
    def forward(self, logits):
        self.logits = logits
        return np.sum(np.maximum(logits, 0) - logits * X + np.log1p(np.exp(-np.abs(logits))))

    def backward(self, dy):
        e = np.exp(-np.abs(self.logits))
        rho = np.where(self.logits >= 0, 1, e) / (1 + e)
        return dy * (rho - X)

    @staticmethod
    def example_inputs(rng):
        logits = rng.normal(size=X.shape)
        logits[0], logits[1] = 30, -30
        return (logits,)
