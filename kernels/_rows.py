"""How the fused likelihood kernels take the weight of a row."""

import numpy as np


def as_vector(weight, dtype):
    """A number or an array of row weights as a vector and the step to walk it with: (1,) and 0, or (R,) and 1."""
    vector = np.asarray(weight, dtype).reshape(-1)
    return vector, int(vector.size > 1)
