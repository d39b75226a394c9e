"""How the likelihood kernels take the weight of a row: a number, or an array (R,) or (S, B)."""

import numpy as np


def as_column(weight, B):
    """For the references: a number as it is, an array as (S, B, 1)."""
    return weight.reshape(-1, B, 1) if getattr(weight, "ndim", 0) else weight


def as_vector(weight, dtype):
    """A number or an array of row weights as a vector and the step to walk it with: (1,) and 0, or (R,) and 1."""
    vector = np.asarray(weight, dtype).reshape(-1)
    return vector, int(vector.size > 1)
