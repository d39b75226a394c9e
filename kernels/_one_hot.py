"""one_hot: where the ones of one-hot columns stand, by rows and by columns, for products by them (`_sparse.py`).

Shapes: B rows, J features, W columns: feature j of a row is 1 in column first_j + k step_j where it is the class k.
"""

from ._math import kernel


@kernel
def _list(at, ends, rows, column_ends, X, features, first, step, classes):
    (B, J), n = (X.shape[0], len(features)), 0
    starts, stops = column_ends[0, 0], column_ends[1, 0]
    stops[:] = 0
    for b in range(B):
        ends[0, 0, b] = n
        for j in range(J):
            x = X[b, features[j]]
            if x >= 0 and x < classes[j]:  # NaN is neither
                k = int(x)
                if k == x:
                    column = first[j] + k * step[j]
                    at[n] = column
                    stops[column] += 1
                    n += 1
        ends[1, 0, b] = n
    place = 0
    for column in range(len(stops)):
        starts[column] = place
        place += stops[column]
        stops[column] = starts[column]
    for b in range(B):
        for i in range(ends[0, 0, b], ends[1, 0, b]):
            rows[stops[at[i]]] = b
            stops[at[i]] += 1


def list_ones(at, ends, rows, column_ends, X, features, first, step, classes):
    """All four ← the places of the ones: the columns of each row, in the order of the features, and the rows of each.

    at, rows         (B·J,) int32
    ends             (2, 1, B) int64: the places of row b in `at` begin at ends[0, 0, b] and end before ends[1, 0, b]
    column_ends      (2, 1, W) int64: the same of the columns in `rows`
    X                (B, D); what is none of the classes 0 … K − 1, as NaN, has no 1
    features         (J,) int32: where they stand in X
    first, step, classes  (J,) int32; classes is K
    """
    _list(at, ends, rows, column_ends, X, features, first, step, classes)
