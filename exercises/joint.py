"""Chapter 3, exercise 3: −Σ q(x,z) ln p(x|z) for a decoder that is a table of logits.

minivae gradcheck exercises/joint.py --reference exercises/reference/joint.py
"""

import numpy as np

JOINT = np.random.default_rng(0).dirichlet(np.ones(12)).reshape(3, 4)  # q(x, z), a row for each z


class TableDecoder:
    def forward(self, A):
        """A (3, 4): logits of p(x|z), a row for each z → −Σ q(x, z) ln p(x|z), a number."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy, a number → dA (3, 4)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=JOINT.shape),)
