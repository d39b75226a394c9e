"""Evaluation by several ranks: the bits of one process, whatever their number; one rank's mistake is everyone's."""

import numpy as np
import pytest
from worlds import together

import minivae as mv
from minivae.errors import UsageError
from minivae.evaluation import bounds, latents
from minivae.evaluation.annealing import annealed, enclose
from minivae.evaluation.columns import explain
from minivae.training import batches

RNG = np.random.default_rng(0)
X = (RNG.random((9500, 12)) < 0.3).astype(np.float32)  # ten blocks of 1024 rows
GREY = RNG.random((9500, 12)).astype(np.float32)


def model(objective="elbo", **more):
    return mv.VAE(12, 3, (8,), backend="numpy", objective=objective, seed=1, **more)


MEASURES = {
    "evaluate": lambda vae, ranks: bounds.evaluate(vae, X, ranks=ranks),
    # a sum of few float32 numbers is exact in float64, in any order
    "evaluate in float64": lambda vae, ranks: bounds.evaluate(model(dtype="float64"), X, ranks=ranks),
    "usage in float64": lambda vae, ranks: latents.usage(model(dtype="float64"), X, ranks=ranks),
    "static": lambda vae, ranks: bounds.evaluate(vae, GREY, binarize="static", ranks=ranks),
    "log_likelihood": lambda vae, ranks: bounds.log_likelihood(vae, X[:300], 20, ranks=ranks),
    "annealed": lambda vae, ranks: annealed(vae, X[:300], 3, 16, 2, ranks=ranks),
    "enclose": lambda vae, ranks: enclose(vae, 300, 3, 16, 2, ranks=ranks),
    "usage": lambda vae, ranks: latents.usage(vae, X, ranks=ranks),
    "explain": lambda vae, ranks: explain(vae, X[:300], 10, ranks=ranks),
    "encode": lambda vae, ranks: latents.encode(vae, X, ranks),
}


def bits(found):
    found = vars(found) if hasattr(found, "__dict__") else found
    values = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else [found]
    return [np.asarray(value).tobytes() for value in values]


@pytest.mark.parametrize("name", MEASURES)
def test_the_bits_of_one_process(name):
    measure = MEASURES[name]
    alone = bits(measure(model(), None))
    for P in (1, 2, 3):
        for rank, found in enumerate(together(P, lambda ranks: bits(measure(model(), ranks)))):
            assert found == alone, f"rank {rank} of {P}"


def test_the_importance_weighted_bound_of_ranks():
    vae = lambda: model("iwae", samples=3)  # noqa: E731
    alone = bounds.evaluate(vae(), X)
    assert alone.iwae is not None
    assert together(2, lambda ranks: bounds.evaluate(vae(), X, ranks=ranks)) == [alone, alone]


def test_encode_is_that_of_the_model():
    for found, expected in zip(latents.encode(model(), X), model().encode(X), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_more_ranks_than_blocks():
    """The fourth rank has no rows: it takes part all the same."""
    alone = bits(bounds.log_likelihood(model(), X[:150], 10))  # three blocks
    assert together(4, lambda ranks: bits(bounds.log_likelihood(model(), X[:150], 10, ranks=ranks))) == [alone] * 4


def test_each_block_is_the_work_of_one_rank(monkeypatch):
    """Work falls as 1/P: no rank computes another's rows."""
    rows = {P: [0] * P for P in (1, 2, 4)}
    for P in rows:

        def measure(ranks, P=P):
            vae = model()
            forward = vae.encoder.forward
            vae.encoder.forward = lambda A: rows[P].__setitem__(ranks.rank, rows[P][ranks.rank] + len(A)) or forward(A)
            bounds.log_likelihood(vae, X[:512], 10, ranks=ranks)

        together(P, measure)
    assert rows == {1: [512], 2: [256] * 2, 4: [128] * 4}


def test_a_mistake_that_one_rank_meets_is_raised_by_all():
    """The eps of the last block are bad, and the last rank alone looks at them."""
    eps = np.zeros((5, 300, 3), np.float32)
    eps[0, 290, 1] = np.nan
    errors = []

    def measure(ranks):
        with pytest.raises(UsageError) as caught:
            bounds.log_likelihood(model(), X[:300], 5, eps=eps, ranks=ranks)
        errors.append(str(caught.value))

    together(2, measure)
    assert len(set(errors)) == 1 and errors[0].startswith("rank 1 (host1): eps")


@pytest.mark.parametrize("name", ("evaluate", "log_likelihood", "annealed", "usage", "explain"))
def test_a_row_that_one_rank_looks_at_is_everyones_mistake(name, monkeypatch):
    """A NaN in the last block of rows: the last rank alone checks it, and the message has its number."""
    bad = X.copy()
    bad[9400 if name in ("evaluate", "usage") else 290, 5] = np.nan
    monkeypatch.setattr(batches, "CHECK_ROWS", 100)
    monkeypatch.setitem(globals(), "X", bad)
    errors = []

    def measure(ranks):
        with pytest.raises(UsageError) as caught:
            MEASURES[name](model(), ranks)
        errors.append(str(caught.value))

    together(2, measure)
    assert len(set(errors)) == 1 and errors[0].startswith("rank 1 (host1): X")
    assert "9400" in errors[0] or "290" in errors[0]
