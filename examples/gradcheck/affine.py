"""A layer written for `minivae gradcheck`, and right: Y = X W + b.

    minivae gradcheck examples/gradcheck/affine.py:Affine

The protocol in one page. Everything that is differentiated is an input of `forward`, parameters too; `backward` takes
the gradient of the output and returns one gradient for each input, in the same order. What backward needs, forward
keeps on `self`. `example_inputs` says where to look; without it, give `--shapes 5x3,3x4,4`.

Exercise: write `backward` yourself before you look, from dY alone. Which sum is hidden in db, and why?
(b was added to every row, so every row sends its gradient back to it.)
"""

import numpy as np


class Affine:
    """Y = X W + b.    X (B, n_in), W (n_in, n_out), b (n_out,) → Y (B, n_out)"""

    def forward(self, X, W, b):
        self.X, self.W = X, W
        return X @ W + b

    def backward(self, dY):
        dX = dY @ self.W.T
        dW = self.X.T @ dY
        db = dY.sum(axis=0)
        return dX, dW, db

    @staticmethod
    def example_inputs(rng: np.random.Generator):
        return rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
