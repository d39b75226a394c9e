"""Chapter 12, exercise 3: −ln of the mean of e^a over K, averaged over rows; its gradient is a softmax.

minivae gradcheck exercises/beyond.py --reference exercises/reference/beyond.py
"""

import numpy as np


class ImportanceBound:
    def forward(self, a):
        """a (5, 3): K rows → −ln of the mean of e^a over K, averaged over the columns, a number."""
        raise NotImplementedError("write forward here")

    def backward(self, dy):
        """dy, a number → da (5, 3)."""
        raise NotImplementedError("write backward here")

    @staticmethod
    def example_inputs(rng):
        return (rng.normal(size=(5, 3)),)
