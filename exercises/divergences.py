"""Chapter 2, exercise 3: KL(p ‖ softmax(a)), whose gradient is q − p.

minivae gradcheck exercises/divergences.py --reference exercises/reference/divergences.py
"""

import numpy as np

P = np.array([0.5, 0.3, 0.15, 0.05])


class SoftmaxKL:
    def forward(self, a):
        """a (4,): logits of q → KL(P ‖ q), a number."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy, a number → da (4,)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=P.size),)
