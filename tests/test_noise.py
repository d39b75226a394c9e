"""Philox against the published known answers; moments, tails, and independence of what is made from its bits."""

import numpy as np
import pytest
from scipy import stats
from tolerances import NORMAL_ULPS

from minivae import kernels
from minivae.backend import Backend
from minivae.datasets.order import permutation, stable_order
from minivae.errors import UsageError
from minivae.kernels.noise import philox_reference
from minivae.noise import STREAMS, Noise

FUSED = kernels.load("numpy", "fused", np)
REFERENCE = kernels.load("numpy", "reference", np)

# Random123's kat_vectors, philox 4 32 10: counter, key, answer.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _words(text):
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize("counter, key, answer", KNOWN_ANSWERS)
def test_philox_gives_the_published_known_answers(counter, key, answer):
    counter = [np.array([word], np.uint64) for word in _words(counter)]
    assert [int(word[0]) for word in philox_reference(np, counter, _words(key))] == _words(answer)


@pytest.mark.parametrize("ops", [REFERENCE, FUSED], ids=["reference", "fused"])
def test_bits_op_lays_out_counter_and_key_as_documented(ops):
    """[stream << 24 | block, sample, row, pass], key low word first; fused = reference does the rest."""
    stream, sample, row, pass_, seed, block = 7, 3, 2**32 - 5, 9, 0x0123456789ABCDEF, 2
    counter = [np.array([word], np.uint64) for word in (stream << 24 | block, sample, row, pass_)]
    expected = philox_reference(np, counter, (0x89ABCDEF, 0x01234567))
    out = np.empty((1, 1, 4 * block + 4), np.uint32)
    ops.bits(out, np.array([row]), stream, sample, pass_, seed)
    assert out[0, 0, -4:].tolist() == [int(word[0]) for word in expected]


@pytest.mark.parametrize("D", [1, 2, 3, 4, 5, 7, 97])
@pytest.mark.parametrize(
    "op, dtype", [("bits", "uint32")] + [(op, t) for op in ("uniform", "normal") for t in ("float32", "float64")]
)
def test_fused_equals_reference(op, dtype, D):
    where = (np.array([5, 0, 2**32 - 1, 77]), 3, 2**31, 2**32 - 4, 2**64 - 3)
    fused, reference = np.empty((3, 4, D), dtype), np.empty((3, 4, D), dtype)
    getattr(FUSED, op)(fused, *where)
    getattr(REFERENCE, op)(reference, *where)
    if op == "normal":
        assert (np.abs(fused - reference) <= NORMAL_ULPS[dtype] * np.spacing(np.abs(reference))).all()
    else:
        np.testing.assert_array_equal(fused, reference)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_binarize_fused_equals_reference_bit_for_bit(dtype):
    X = np.random.default_rng(0).random((13, 97)).astype(dtype)
    fused, reference = X.copy(), X.copy()
    where = (np.arange(13), STREAMS["binarise"], 0, 1, 7)
    FUSED.binarize(fused, *where)
    REFERENCE.binarize(reference, *where)
    np.testing.assert_array_equal(fused, reference)
    assert set(np.unique(fused)) == {0, 1}


def test_bits_do_not_depend_on_the_batch():
    noise = Noise(Backend("numpy"), seed=3)
    whole, part = np.empty((2, 50, 9), np.float32), np.empty((1, 10, 9), np.float32)
    noise.normal(whole, "posterior", np.arange(50), pass_=4)
    noise.normal(part, "posterior", np.arange(20, 30), pass_=4, sample=1)
    np.testing.assert_array_equal(whole[1:, 20:30], part)


def test_float64_normals_round_to_the_float32_ones():
    single, double = np.empty((1, 100, 20), np.float32), np.empty((1, 100, 20))
    for out in (single, double):
        FUSED.normal(out, np.arange(100), 4, 0, 0, 1)
    np.testing.assert_array_equal(double.astype(np.float32), single)


def _draws(kind, n=200_000, **changed):
    where = {"stream": 4, "sample": 0, "pass_": 0, "seed": 11} | changed
    out = np.empty((1, n // 50, 50))
    getattr(FUSED, kind)(out, np.arange(n // 50), *where.values())
    return out.ravel()


def test_uniforms_are_uniform():
    U = _draws("uniform")
    assert U.min() >= 0
    assert U.max() < 1
    assert stats.kstest(U, "uniform").pvalue > 1e-3
    assert np.array_equal(U, np.round(U * 2**24) / 2**24)


def test_normals_have_the_moments_of_a_standard_normal():
    Z = _draws("normal")
    n = Z.size
    assert abs(Z.mean()) < 4 / np.sqrt(n)
    assert abs(Z.var() - 1) < 4 * np.sqrt(2 / n)
    assert abs(stats.skew(Z)) < 4 * np.sqrt(6 / n)
    assert abs(stats.kurtosis(Z)) < 4 * np.sqrt(24 / n)
    assert stats.kstest(Z, "norm").pvalue > 1e-3


@pytest.mark.parametrize("threshold", [2.0, 3.0, 4.0])
def test_normal_tails_hold_as_much_as_they_should(threshold):
    n = 2_000_000
    Z = np.abs(_draws("normal", n))
    expected = n * 2 * stats.norm.sf(threshold)
    assert abs((threshold < Z).sum() - expected) < 4 * np.sqrt(expected)


def test_largest_normal_is_the_documented_one():
    assert np.abs(_draws("normal", 2_000_000)).max() <= np.sqrt(-2 * np.log(2.0**-25)) < 5.89


def test_bernoulli_draws_have_their_means():
    p = np.linspace(0, 1, 11)
    X = np.tile(p, (20_000, 1))
    FUSED.binarize(X, np.arange(20_000), 3, 0, 1, 5)
    assert (np.abs(X.mean(axis=0) - p) <= 4 * np.sqrt(p * (1 - p) / 20_000)).all()


@pytest.mark.parametrize(
    "changed", [{"stream": 5}, {"pass_": 1}, {"sample": 1}, {"seed": 12}], ids=lambda change: next(iter(change))
)
def test_streams_passes_samples_and_seeds_are_independent(changed):
    first, second = _draws("normal"), _draws("normal", **changed)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(first.size)
    assert abs(np.corrcoef(first**2, second**2)[0, 1]) < 4 / np.sqrt(first.size)


def test_neighbouring_dims_and_rows_are_independent():
    Z = _draws("normal").reshape(-1, 50)
    n = Z.size
    assert abs((Z[:, 1:] * Z[:, :-1]).mean()) < 4 / np.sqrt(n)
    assert abs((Z[1:] * Z[:-1]).mean()) < 4 / np.sqrt(n)
    assert abs(((Z[:, ::2] ** 2 - 1) * (Z[:, 1::2] ** 2 - 1)).mean()) < 4 * 2 / np.sqrt(n / 2)  # a Box–Muller pair


def test_permutation_holds_every_row_once_and_changes_with_the_pass():
    first, second = permutation(0, 1000, "shuffle", 1), permutation(0, 1000, "shuffle", 2)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert (first == second).mean() < 0.02
    np.testing.assert_array_equal(first, permutation(0, 1000, "shuffle", 1))


def test_keys_that_tie_stay_in_their_order():
    keys = np.random.default_rng(0).integers(0, 300, 1000).astype(np.uint64)
    assert stable_order(keys).tolist() == sorted(range(1000), key=keys.tolist().__getitem__)


def test_permutation_puts_every_row_everywhere_equally_often():
    counts = np.zeros((5, 5))
    for seed in range(2000):
        counts[np.arange(5), permutation(seed, 5, "split")] += 1
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, "1"])
def test_a_seed_that_is_not_a_64_bit_number_is_refused(seed):
    with pytest.raises(UsageError, match="integer from 0"):
        Noise(Backend("numpy"), seed)
