"""Tables as people have them: a frame with a column of every kind, and gaps."""

import numpy as np


def people(n):
    """n rows, pandas' own dtypes among them."""
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": np.exp(rng.normal(10, 1, n)),
            "children": pd.array(np.where(rng.random(n) < 0.1, None, rng.poisson(1.5, n)), dtype="Int64"),
            "job": pd.Categorical(rng.choice(["a", "b", "c"], n), categories=["c", "a", "b", "never"]),
            "school": pd.Categorical(rng.choice(["low", "high"], n), categories=["low", "mid", "high"], ordered=True),
            "member": rng.random(n) < 0.3,
            "height": rng.normal(170, 10, n).astype(np.float32),
            "town": rng.choice(["x", "y, y", 'z"', "ü"], n),
            "grade": rng.choice([2, 3, 4], n),
        }
    )
    frame.loc[3, "income"], frame.loc[[4, 7], "town"], frame.loc[9, "job"] = np.nan, None, None
    return frame
