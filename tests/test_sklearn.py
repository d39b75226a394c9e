"""minivae.sklearn: scikit-learn's own checks, its tools around the estimators, and figures against its PCA."""

import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.utils.estimator_checks import parametrize_with_checks

from minivae.sklearn import VAE, VAEDetector

QUICK = {"latent_dim": 2, "hidden": (8,), "epochs": 2, "importance": 5, "random_state": 0}
UNIT = {"likelihood": "bernoulli", "scale": "minmax"}
ESTIMATORS = [VAE(**QUICK), VAE(**QUICK, **UNIT), VAEDetector(**QUICK), VAEDetector(**QUICK, **UNIT)]
REASON = "noise and batches depend on a row's number: to repeat or remove one moves the others (see test_weights.py)"
EXPECTED = {"check_sample_weight_equivalence_on_dense_data": REASON}


@pytest.mark.filterwarnings("ignore::minivae.errors.UsageWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda estimator: EXPECTED)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
