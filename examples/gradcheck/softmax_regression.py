"""A classic mistake to find: softmax regression with its loss, as a function that returns (value, gradients).

    minivae gradcheck examples/gradcheck/softmax_regression.py:loss

The value is a mean over rows. Run the command: it says that something is wrong, by which factor, and what that factor
is. The mistake is one missing division, it trains (with a learning rate that is 5 times too large), and no test of the
accuracy will ever find it.

Exercise: mend `loss` until the command exits with 0. Then break it in a way of your own, and see what the checker says.
"""

import numpy as np

LABELS = np.array([0, 2, 1, 1, 3])  # not an input: integers have no derivatives


def loss(X, W, b):
    """−mean_i ln softmax(X W + b)[i, label_i] and its gradients by X, W and b."""
    A = X @ W + b
    A = A - A.max(axis=1, keepdims=True)  # the same softmax, and no overflow
    P = np.exp(A)
    P /= P.sum(axis=1, keepdims=True)
    rows, labels = np.arange(len(X)), LABELS[: len(X)]
    value = -np.log(P[rows, labels]).mean()

    dA = P.copy()
    dA[rows, labels] -= 1
    # ← here
    return value, (dA @ W.T, X.T @ dA, dA.sum(axis=0))


def example_inputs(rng: np.random.Generator):
    return rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
