"""Chapter 7, exercise 3: what an answer's forward has to give."""

import numpy as np
from scipy.special import log_expit

X = np.random.default_rng(0).integers(0, 2, (4, 3))


class CrossEntropy:
    def forward(self, logits):
        return -np.sum(X * log_expit(logits) + (1 - X) * log_expit(-logits))

    @staticmethod
    def example_inputs(rng):
        logits = rng.normal(size=X.shape)
        logits[0], logits[1] = 30, -30
        return (logits,)
